"""In a container or a job, the host's memory is what its control group may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rldk.health.cgroups import MemoryLimits, Usage

MIB = 2**20
TOTAL = 1000 * MIB
V1 = "memory:{path}", "cgroup cgroup rw,memory"
V2 = ":{path}", "cgroup2 cgroup2 rw"


@pytest.fixture
def process(tmp_path):
    """Make the /proc folder of a process in a group; `root` is the group that the mount shows."""

    def make(kind, path, root="/"):
        name, filesystem = kind
        proc = tmp_path / "proc"
        proc.mkdir()
        number = 0 if kind is V2 else 9
        (proc / "cgroup").write_text(f"12:cpu,cpuacct:/other\n{number}:{name.format(path=path)}\n")
        mount = tmp_path / "a folder"
        mount.mkdir()
        where = str(mount).replace(" ", "\\040")
        (proc / "mountinfo").write_text(
            f"22 1 0:5 / /proc rw - proc proc rw\n31 22 0:28 {root} {where} rw shared:9 - {filesystem}\n"
        )
        return proc, mount

    return make


def v1(folder, limit, used, cache=0):
    """Write the files of version 1."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {cache}\n")


def v2(folder, limit, used, cache=0):
    """Write the files of version 2."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n")


@pytest.mark.parametrize(("kind", "write"), [(V1, v1), (V2, v2)])
def test_the_groups_limit_counts_without_the_cache(process, kind, write):
    """What the kernel can drop does not fill the group."""
    proc, mount = process(kind, "/job")
    write(mount / "job", 200 * MIB, 150 * MIB, cache=100 * MIB)
    assert MemoryLimits(proc).tightest(TOTAL) == Usage(50 * MIB, 200 * MIB)


@pytest.mark.parametrize(("kind", "write"), [(V1, v1), (V2, v2)])
def test_a_containers_group_is_the_mounted_one(process, kind, write):
    """Its name is that of the host, where the mount begins at it."""
    proc, mount = process(kind, "/docker/0a1b", root="/docker/0a1b")
    write(mount, 200 * MIB, 20 * MIB)
    assert MemoryLimits(proc).tightest(TOTAL) == Usage(20 * MIB, 200 * MIB)


@pytest.mark.parametrize("path", ["/", "/../other", "/elsewhere"])
def test_a_group_that_cannot_be_seen_is_judged_by_what_can(process, path):
    """A group namespace shows "/" for its own root, and ".." for what is outside."""
    proc, mount = process(V2, path, root="/" if path == "/" else "/pod")
    v2(mount, 200 * MIB, 20 * MIB)
    assert MemoryLimits(proc).tightest(TOTAL) == Usage(20 * MIB, 200 * MIB)


def test_of_several_limits_the_one_nearest_to_be_reached_counts(process):
    """The job's, when a step's own is far: others in the job use its memory, too."""
    proc, mount = process(V2, "/job/step/task")
    v2(mount / "job", 400 * MIB, 390 * MIB)
    v2(mount / "job" / "step", 300 * MIB, 30 * MIB)
    v2(mount / "job" / "step" / "task", "max", 30 * MIB)
    assert MemoryLimits(proc).tightest(TOTAL) == Usage(390 * MIB, 400 * MIB)


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096), str(TOTAL), "0", "what"])
def test_a_limit_that_limits_nothing_is_none(process, limit):
    """The kernel's two words for it, and the machine's whole memory."""
    proc, mount = process(V2, "/job")
    v2(mount / "job", limit, MIB)
    assert MemoryLimits(proc).tightest(TOTAL) is None


def test_a_limit_that_changes_is_seen(process):
    """A container can be resized while it runs; a group that is gone has none."""
    proc, mount = process(V2, "/job")
    v2(mount / "job", 100 * MIB, MIB)
    limits = MemoryLimits(proc)
    v2(mount / "job", 200 * MIB, MIB)
    assert limits.tightest(TOTAL) == Usage(MIB, 200 * MIB)
    (mount / "job" / "memory.current").unlink()
    assert limits.tightest(TOTAL) is None


def test_without_proc_there_is_no_limit(tmp_path):
    """As on a Mac, or in a sandbox."""
    assert MemoryLimits(tmp_path / "proc").tightest(TOTAL) is None


def test_a_real_group_is_found():
    """A process that the kernel has put into a group with a limit sees that one."""
    group = Path("/sys/fs/cgroup/memory" if Path("/sys/fs/cgroup/memory").is_dir() else "/sys/fs/cgroup")
    group /= f"rldk-test-{os.getpid()}"
    limit = "memory.limit_in_bytes" if group.parent.name == "memory" else "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(600 * MIB))
    except OSError:
        group.rmdir() if group.is_dir() else None
        pytest.skip("this machine lets nobody make a memory control group here")
    program = f"""if True:
        import os, pathlib
        pathlib.Path({str(group)!r}, "cgroup.procs").write_text(str(os.getpid()))
        from rldk.health.host import Host
        block = bytearray(b"x") * (200 * 2**20)
        told = Host(pathlib.Path("/")).sample()
        print(told["host_memory_used_bytes"], told["host_memory_used_frac"])
    """
    try:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    finally:
        group.rmdir()
    used, frac = map(float, done.stdout.split())
    assert 200 * MIB < used < 400 * MIB
    assert frac == pytest.approx(used / (600 * MIB), abs=1e-4)
    assert psutil.virtual_memory().total > 600 * MIB
