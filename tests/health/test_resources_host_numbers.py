"""What the process and its machine use is measured rightly; what cannot be measured is absent, alone."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import msgspec
import psutil
import pytest

from rldk.health import host
from rldk.health.host import Host
from rldk.health.rates import Rates
from rldk.health.resources import UNITS
from tests.health._nvml import Clock

MIB = 2**20
cpu_times = psutil.cpu_times
HOST_NAMES = {name for name in UNITS if not name.startswith("gpu")}
RATES = {name for name in HOST_NAMES if name.endswith(("percent", "per_s"))}

BURNS = """
import json, os, pathlib, psutil, sys, time
from rldk.health.host import Host

folder = pathlib.Path(sys.argv[1])
host = Host(folder)
before, began, cpu, disk = host.sample(), time.monotonic(), time.process_time(), psutil.disk_io_counters()
block = bytearray(b"x") * (150 * 2**20)
with (folder / "file").open("wb") as file:
    file.write(block[: 32 * 2**20])
    os.fsync(file.fileno())
while time.process_time() - cpu < 0.5:
    pass
spent, passed, wrote = time.process_time() - cpu, time.monotonic() - began, psutil.disk_io_counters()
after, now, free = host.sample(), psutil.virtual_memory(), psutil.disk_usage(str(folder)).free
print(json.dumps({
    "before": before, "after": after, "spent": spent, "passed": passed, "free": free,
    "wrote": wrote.write_bytes - disk.write_bytes if wrote else None,
}))
"""


@pytest.fixture(scope="module")
def burnt(tmp_path_factory):
    """What a real process that burns CPU, memory and disk measures, and what it knows of itself."""
    command = [sys.executable, "-c", BURNS, str(tmp_path_factory.mktemp("burn"))]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    return msgspec.json.decode(done.stdout)


def test_the_processor_time_of_the_process(burnt):
    """In percent of one core."""
    expected = 100 * burnt["spent"] / burnt["passed"]
    assert burnt["after"]["process_cpu_percent"] == pytest.approx(expected, rel=0.35)


def test_the_machines_processors(burnt):
    """In percent of all cores: at least what the process used of them."""
    least = burnt["after"]["process_cpu_percent"] / psutil.cpu_count()
    assert 0.6 * least <= burnt["after"]["host_cpu_percent"] <= 100


def test_the_memory_of_the_process(burnt):
    """The block that it took is in it."""
    grown = burnt["after"]["process_rss_bytes"] - burnt["before"]["process_rss_bytes"]
    assert 140 * MIB < grown < 250 * MIB


def test_the_memory_of_the_host(burnt):
    """More than that of the process, and less than all."""
    told = burnt["after"]
    assert told["host_memory_used_bytes"] > 150 * MIB
    assert 0 < told["host_memory_used_frac"] < 1


def test_the_disk(burnt):
    """What is free, and what was written to it."""
    told = burnt["after"]
    assert told["disk_free_bytes"] == pytest.approx(burnt["free"], rel=0.05)
    assert 0 <= told["disk_used_frac"] <= 1
    if burnt["wrote"]:
        rate = burnt["wrote"] / burnt["passed"]
        assert told["disk_write_bytes_per_s"] == pytest.approx(rate, rel=0.5)


def test_rates_need_two_samples(burnt):
    """The first one has none of them, rather than 0."""
    assert RATES & burnt["before"].keys() == set()
    assert burnt["before"].keys() <= HOST_NAMES


def test_the_names_are_those_of_the_contract(burnt):
    """All of them, where the machine counts disks and networks."""
    assert burnt["after"].keys() <= HOST_NAMES
    if sys.platform == "linux" and Path("/proc/diskstats").exists() and psutil.net_io_counters():
        assert burnt["after"].keys() == HOST_NAMES


def refuse(error):
    """Make a function that raises it, whatever it is given."""

    def refused(*_, **__):
        raise error

    return refused


@pytest.mark.parametrize(
    ("function", "error", "lost"),
    [
        ("Process.cpu_times", psutil.AccessDenied(), {"process_cpu_percent"}),
        ("Process.memory_info", psutil.NoSuchProcess(1), {"process_rss_bytes"}),
        ("cpu_times", PermissionError(), {"host_cpu_percent"}),
        ("virtual_memory", KeyError(b"MemTotal:"), {"host_memory_used_bytes", "host_memory_used_frac"}),
        ("disk_usage", OSError("stale file handle"), {"disk_used_frac", "disk_free_bytes"}),
        ("disk_io_counters", NotImplementedError(), {"disk_read_bytes_per_s", "disk_write_bytes_per_s"}),
        ("net_io_counters", FileNotFoundError(), {"net_received_bytes_per_s", "net_sent_bytes_per_s"}),
    ],
)
def test_a_call_that_fails_loses_its_own_numbers(monkeypatch, tmp_path, caplog, function, error, lost):
    """All others are measured; nobody is told above the level of debugging, and there once."""
    full = two_samples(Host(tmp_path))
    monkeypatch.setattr(f"psutil.{function}", refuse(error))
    with caplog.at_level(logging.DEBUG, logger="rldk"):
        told = two_samples(Host(tmp_path))
    assert told.keys() == full.keys() - lost
    ours = [record for record in caplog.records if record.name.startswith("rldk")]  # others have threads
    assert [record.levelno for record in ours] == [logging.DEBUG]


def two_samples(measured):
    """The second of two, which has rates."""
    measured.sample()
    began = sum(cpu_times())
    while sum(cpu_times()) - began < 0.05:  # the kernel counts processor time in hundredths
        pass
    return measured.sample()


def test_counters_that_a_container_does_not_have_are_absent(monkeypatch, tmp_path):
    """There psutil gives None, and no network cards."""
    monkeypatch.setattr(psutil, "disk_io_counters", lambda **_: None)
    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: {})
    told = two_samples(Host(tmp_path))
    assert not [name for name in told if name.endswith("per_s")]


def test_a_folder_that_is_not_there_yet_is_on_the_disk_of_the_nearest_that_is(tmp_path, monkeypatch):
    """And it stays the same one when the script changes its folder."""
    monkeypatch.chdir(tmp_path)
    measured = Host(Path("not") / "yet")
    monkeypatch.chdir("/")
    assert measured._folder == tmp_path / "not" / "yet"
    assert measured.sample()["disk_free_bytes"] > 0


class Card(NamedTuple):
    """What a network card counts."""

    bytes_recv: int
    bytes_sent: int


@pytest.mark.parametrize(
    ("real", "counted"), [(["eth0", "eth1"], 300), ([], 300 + 7000)], ids=["host", "container"]
)
def test_the_network_is_what_leaves_the_machine(monkeypatch, tmp_path, real, counted):
    """Not the loopback, nor a bond or a bridge that counts the real cards' bytes again."""
    for name in real:
        (tmp_path / name / "device").mkdir(parents=True)
    monkeypatch.setattr(host, "_INTERFACES", tmp_path)
    bytes_of = {"lo": 90_000, "eth0": 100, "eth1": 200, "bond0": 7000}
    told = network_samples(monkeypatch, [dict.fromkeys(bytes_of, 0), bytes_of])
    assert told[1] == {"net_received_bytes_per_s": counted, "net_sent_bytes_per_s": counted}


def test_a_network_card_that_comes_or_goes_gives_no_rate(monkeypatch):
    """Its counter would look like a burst; the next sample has one again."""
    counts = [{"eth7": 0}, {"eth7": 10}, {"eth7": 20, "tun9": 10**12}, {"eth7": 30, "tun9": 10**12}]
    told = network_samples(monkeypatch, counts)
    assert [sample.get("net_sent_bytes_per_s") for sample in told] == [None, 10, None, 10]


def network_samples(monkeypatch, counts):
    """Sample the network alone, a second apart."""
    clock = Clock()
    measured = Host(Path("/"), clock)
    told = []
    for each in counts:
        cards = {name: Card(total, total) for name, total in each.items()}
        monkeypatch.setattr(psutil, "net_io_counters", lambda cards=cards, **_: cards)
        told.append(measured._network())
        clock.now += 1
    return told


def test_a_counter_that_steps_back_gives_no_rate():
    """It was reset: what was counted before is not known."""
    clock = Clock()
    rates = Rates(clock)
    told = []
    for total in (100, 150, 20, 60):
        told.append(rates.of("bytes", total))
        clock.now += 5
    assert told == [None, 10, None, 8]


def test_no_time_no_rate():
    """Two readings at one moment, as after a clock that stood still, are not divided by nothing."""
    rates = Rates(Clock())
    assert rates.of("bytes", 1) is None
    assert rates.of("bytes", 10**9) is None


def test_a_machine_that_slept_has_no_burst(monkeypatch, tmp_path):
    """The wall clock leaps on waking; the rates go by the monotonic one, which slept as well."""
    clock = Clock()
    monkeypatch.setattr("time.time", lambda: 10**12)
    monkeypatch.setattr(psutil, "disk_io_counters", lambda **_: SimpleNamespace(read_bytes=0, write_bytes=0))
    measured = Host(tmp_path, clock)
    measured.sample()
    later = SimpleNamespace(read_bytes=3000, write_bytes=0)
    monkeypatch.setattr(psutil, "disk_io_counters", lambda **_: later)
    clock.now += 15
    assert measured.sample()["disk_read_bytes_per_s"] == 200
