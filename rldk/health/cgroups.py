"""Which memory limit does the process's control group set, and how much of it is used?

https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files and, for version 1,
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC: Final = Path("/proc/self")


class Usage(NamedTuple):
    """Bytes that are used, without file caches that the kernel can drop, and of how many."""

    used: int
    limit: int


class _Version(NamedTuple):
    """The files of one version of control groups, and the field of the cache that can be dropped."""

    limit: str
    usage: str
    cache: str


_V1: Final = _Version("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2: Final = _Version("memory.max", "memory.current", "inactive_file")


class MemoryLimits:
    """The limits of the group that a process is in and of those around it, as a container's or a job's.

    Args:
        proc: The process's folder in /proc.
    """

    def __init__(self, proc: Path = _PROC) -> None:
        self._levels = list(_levels(proc))

    def tightest(self, total: int) -> Usage | None:
        """Read the limit that is nearest to being reached.

        Args:
            total: The machine's memory in bytes; a limit that is not below it is none.
        """
        usages = (_usage(folder, version, total) for folder, version in self._levels)
        return max((u for u in usages if u), key=lambda u: u.used / u.limit, default=None)


def _usage(folder: Path, version: _Version, total: int) -> Usage | None:
    try:
        limit = (folder / version.limit).read_text().strip()
        if limit == "max" or not 0 < int(limit) < total:
            return None
        lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        cache = next((int(line[1]) for line in lines if line[0] == version.cache), 0)
        return Usage(max(int((folder / version.usage).read_text()) - cache, 0), int(limit))
    except (OSError, ValueError, IndexError):
        return None


def _levels(proc: Path) -> Iterator[tuple[Path, _Version]]:
    """Each group from the process's own outwards, as far as this mount namespace sees them."""
    try:
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
    except OSError:  # not Linux, or a /proc that is hidden
        return
    for version, group in _memory_groups(groups):
        for root, mount in _mounts(mounts, version):
            inner = _relative(group, root)
            for folder in (mount / inner, *(mount / inner).parents):
                if not folder.is_relative_to(mount):
                    break
                if (folder / version.limit).exists():
                    yield folder, version


def _memory_groups(groups: list[list[str]]) -> Iterator[tuple[_Version, str]]:
    for number, controllers, group in (line for line in groups if len(line) == 3):  # noqa: PLR2004  # id:names:path
        if number == "0" and not controllers:
            yield _V2, group
        elif "memory" in controllers.split(","):
            yield _V1, group


def _mounts(mounts: list[list[str]], version: _Version) -> Iterator[tuple[str, Path]]:
    """Where such groups can be seen, and which group that place shows (proc_pid_mountinfo(5))."""
    for fields in mounts:
        kind, _, options = fields[fields.index("-") + 1 :][:3]
        is_v1 = kind == "cgroup" and "memory" in options.split(",")
        if (kind == "cgroup2") if version is _V2 else is_v1:
            yield fields[3], Path(fields[4].replace("\\040", " "))


def _relative(group: str, root: str) -> str:
    """The group's path below the one that is mounted; the mounted one where it is not below that."""
    inner = group.removeprefix(root.rstrip("/"))
    is_below = inner != group or root == "/"
    return inner.strip("/") if is_below and ".." not in group.split("/") else ""
