"""How are the events of a W&B run read back: from the files that wandb leaves on disk, or from a server."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import msgspec

from rldk.bridge import PREFIX, RunFacts, event_from_tracker, raw_event, run_events
from rldk.errors import SourceError
from rldk_wandb import files, fragments
from rldk_wandb.address import SCHEME, Address, parsed
from rldk_wandb.blocks import is_wandb_file
from rldk_wandb.disk import DiskRun
from rldk_wandb.names import SEQ, STEP, TIME, is_whole, number, unescape
from rldk_wandb.raw import RESERVED, RawRows, flattened, merged
from rldk_wandb.server import ServedRun, runs_of
from rldk_wandb.sink import RAW, TAG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rldk.event import Event
    from rldk_wandb.offline import Run

_KEYS_SHOWN: Final = 5


class _Reader(Protocol):
    """One run, on disk or on a server."""

    def run(self) -> Run: ...
    def ours(self) -> Iterator[dict[str, Any]]: ...
    def theirs(self) -> Iterator[dict[str, Any]]: ...
    def summary(self) -> dict[str, Any]: ...
    def problems(self) -> list[str]: ...
    def recounted(self) -> str: ...


class WandbAdapter:
    """A reader of W&B runs.

    A run's own folder stands for all its fragments beside it: wandb begins another folder each time that
    the run is opened. A `.wandb` file is only itself, and a folder of run folders is all their runs. For
    these wandb need not be installed; it must be for a run on a server, `wandb://<entity>/<project>/<id>`
    or the address of its page in the browser. The same without the run is all runs of the project.
    """

    name: ClassVar[str] = "wandb"

    def __init__(self, source: str) -> None:
        self.problems: list[str] = []
        self._source = str(source)
        self._address = parsed(self._source)

    def can_handle(self) -> bool:
        """Whether the source is a `.wandb` file, a folder with one, or the address of runs on a server."""
        return self._is_served() or bool(_files(self._source))

    def _is_served(self) -> bool:
        return self._address is not None or self._source.startswith(SCHEME)

    def runs(self) -> list[str]:
        """Name the first folder of each run, in the order in which they began; a file names itself.

        Raises:
            SourceError: There is no `.wandb` file; or the server does not answer, or knows no such project.
            MissingDependencyError: The runs are on a server, and wandb is not installed.
        """
        if self._is_served():
            address = self._served()
            return [str(address)] if address.run_id else [str(run) for run in runs_of(address)]
        return list(self._groups())

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read the run's events in the order of their time, after one that tells of the run.

        Args:
            repeats: Give the rows that the run holds more than once as often as it holds them.

        Raises:
            SourceError: There is no `.wandb` file, or those of several runs; or the server does not
                answer, or knows no such run.
            MissingDependencyError: The run is on a server, and wandb is not installed.
        """
        self.problems.clear()
        yield from _Reading(self._reader(), self.problems, repeats=repeats).events()

    def files(self, into: Path) -> list[Path]:
        """Copy W&B's own files of the run, and the artifacts that it logged, as far as they are on this disk.

        Raises:
            SourceError: There is no `.wandb` file, or the run is on a server.
        """
        self.problems.clear()
        if self._is_served():
            reason, remedy = "the files of a run on a server are not fetched", "give the run's own folder"
            raise SourceError(str(self._served()), reason, remedy)
        found = self._only()
        fetched, missing = files.fetch(found, DiskRun(found).run().artifacts, into)
        self.problems += missing
        return fetched

    def inputs(self) -> list[Path]:
        """Name every file on this disk that `events` reads, which change when the run does.

        Returns:
            The `.wandb` files of all fragments of the run; none for a run on a server.

        Raises:
            SourceError: There is no `.wandb` file, or those of several runs.
        """
        return [] if self._is_served() else list(self._only())

    def _reader(self) -> _Reader:
        if not self._is_served():
            return DiskRun(self._only())
        address = self._served()
        if not address.run_id:
            raise SourceError(
                str(address), "it is a project", f"give one of its runs, as {address.of('<id>')}"
            )
        return ServedRun(address)

    def _served(self) -> Address:
        if self._address is None:
            raise SourceError(self._source, "it names no run", "give wandb://<entity>/<project>/<id>")
        if self._address.is_foreign:
            origin = self._address.origin
            reason = f"{origin} is not the server that wandb is configured for, and is not given its API key"
            remedy = f"set WANDB_BASE_URL={origin} to read from this server"
            raise SourceError(str(self._address), reason, remedy)
        return self._address

    def _only(self) -> list[Path]:
        groups = self._groups()
        if len(groups) > 1:
            reason = f"it holds {len(groups)} runs"
            raise SourceError(self._source, reason, f"give one of them, such as {next(iter(groups))}")
        return next(iter(groups.values()))

    def _groups(self) -> dict[str, list[Path]]:
        """Each run's source and files."""
        found = _files(self._source)
        if not found:
            raise SourceError(self._source, "it holds no .wandb file", "give wandb/run-<time>-<id>")
        if Path(self._source).is_file():
            return {self._source: found}
        runs: dict[str, list[Path]] = {}
        for file in sorted(found, key=fragments.began):
            if not any(file in group for group in runs.values()):
                group = fragments.beside(file) or [file]
                is_alone = len(list(file.parent.glob("run-*.wandb"))) == 1
                runs[str(group[0].parent if is_alone else file)] = group if is_alone else [file]
        return runs


def _files(source: str) -> list[Path]:
    path = Path(source)
    try:
        found = fragments.in_folder(path.resolve()) if path.is_dir() else [path]
    except (OSError, ValueError):  # a name that is too long, or not a name at all
        return []
    return [file for file in found if is_wandb_file(file)]


class _Reading:
    """One reading of one run, from its first event to its last."""

    def __init__(self, reader: _Reader, problems: list[str], *, repeats: bool) -> None:
        self._reader = reader
        self._repeats = repeats
        self._problems = problems
        self._run = reader.run()
        tags = {k.removeprefix(PREFIX): str(v) for k, v in self._run.config.items() if k.startswith(PREFIX)}
        self._is_ours = "run_id" in tags
        self._is_raw = not self._is_ours or f"{PREFIX}{RAW}" in self._run.config
        self._facts = self._read_facts(tags)
        self._theirs = RawRows(self._run, self._facts)
        self._odd: Counter[str] = Counter()

    def events(self) -> Iterator[Event]:
        begun, *resumed = run_events(self._facts)
        ours = heapq.merge([self._told(begun), *resumed], self._ours(), key=lambda event: event.time)
        last: Event | None = None
        for last in merged(ours, self._theirs.events(self._reader.theirs())):  # the last one is meant
            yield last
        if last is not None and self._run.has_ended and not self._run.is_preempted:
            yield self._end(last)
        self._problems += [*self._reader.problems(), *self._skipped()]

    def _read_facts(self, tags: dict[str, str]) -> RunFacts:
        fallback = {"run_id": self._run.run_id, "began": str(round(self._run.start_time, 3))}
        try:
            return RunFacts.from_tags(fallback | tags)
        except ValueError as error:
            self._problems.append(f"its config has an unusable rldk/ entry ({error}): all are passed over")
            return RunFacts.from_tags(fallback)

    def _told(self, begun: Event) -> Event:
        """Add to the run's first event what else W&B tells of the run."""
        run = self._run
        others = {k: v for k, v in run.config.items() if not k.startswith(PREFIX) and k != "_wandb"}
        tags = dict.fromkeys(run.tags, "")
        if self._is_ours:
            tags |= {k.removeprefix(TAG): v for k, v in others.items() if k.startswith(TAG)}
            others = {k: v for k, v in others.items() if not k.startswith(TAG)}
        told = {
            "config": others,
            "tags": tags,
            "name": run.name,
            "notes": run.notes,
            "project": run.project,
            "args": run.config.get(f"{PREFIX}args"),
            "raw": self._is_raw,
        }
        known = {key: value for key, value in told.items() if value}
        return msgspec.structs.replace(begun, model_info=begun.model_info | known)

    def _ours(self) -> Iterator[Event]:
        seen: set[float] = set()
        latest = -math.inf
        for row in self._reader.ours():
            event = _event(row, self._facts, self._odd)
            # A copied fragment, or rows of an RLDK that did not look what had arrived.
            if event is None or (event.time in seen and not self._repeats):
                continue
            seen.add(event.time)
            if event.time < latest and not self._repeats:
                self._odd["rows are older than the one before them and were skipped"] += 1
                continue
            latest = event.time
            if event.is_raw:
                self._theirs.last |= event.metrics
            yield event

    def _end(self, last: Event) -> Event:
        """The event that tells how the run ended, and what its summary holds that no row does."""
        said = {unescape(k) if self._is_ours else k: v for k, v in flattened(self._reader.summary()).items()}
        numbers = {name: number(value) for name, value in sorted(said.items()) if name not in RESERVED}
        metrics = {
            name: value
            for name, value in numbers.items()
            if value is not None and not _is_own(name) and not _same(self._theirs.last.get(name), value)
        }
        status = "FAILED" if self._run.exit_code else "FINISHED"
        time = round(last.time + 0.001, 3)
        seq = last.seq + 1
        return raw_event(self._facts, metrics, seq=seq, step=last.step, time=time, status=status)

    def _skipped(self) -> list[str]:
        told = [f"{count} {what}" for what, count in (+self._odd).items()]
        if self._theirs.is_counted and (recounted := self._reader.recounted()):
            told.append(recounted)
        keys = self._theirs.skipped
        if keys:
            some = ", ".join(f"{key} ({count})" for key, count in keys.most_common(_KEYS_SHOWN))
            more = f", and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
            told.append(f"{keys.total()} values of others are no numbers and were skipped: {some}{more}")
        return [f"{self._run.run_id}: {sentence}" for sentence in told]


def _event(row: dict[str, Any], facts: RunFacts, odd: Counter[str]) -> Event | None:
    step, seq, time = row.get(STEP), row[SEQ], row.get(TIME)
    if not (is_whole(step) and is_whole(seq) and isinstance(time, int | float)):
        odd["rows have no usable step, seq or time and were skipped"] += 1
        return None
    measured = {key: value for key, value in row.items() if value is not None and key not in _AXES}
    shown = {key: value for key, value in measured.items() if key.startswith(PREFIX)} or measured
    numbers = {
        unescape(key): _number(value) for key, value in shown.items() if isinstance(value, int | float)
    }
    odd["values are no numbers and were skipped"] += len(shown) - len(numbers)
    at = round(float(time), 3)
    if shown is measured and numbers and not any(key.startswith(PREFIX) for key in measured):
        return raw_event(facts, numbers, seq=seq, step=int(step or 0), time=at)
    return event_from_tracker(numbers, facts=facts, seq=seq, step=int(step or 0), time=at)


_AXES: Final = {STEP, SEQ} | RESERVED


def _number(value: float) -> float:
    return int(value) if isinstance(value, bool) else value


def _is_own(name: str) -> bool:
    return name.startswith(PREFIX) or name.partition(".")[0] in RESERVED


def _same(one: float | None, other: float) -> bool:
    return one is not None and (one == other or (math.isnan(one) and math.isnan(other)))


if TYPE_CHECKING:
    from rldk.bridge import Adapter

    _conforms: type[Adapter] = WandbAdapter
