"""How are the events of a trackio run read back?"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from rldk.bridge import PREFIX, RunFacts, event_from_tracker, raw_event, run_events
from rldk.errors import SourceError
from rldk_trackio.database import Database, is_trackio
from rldk_trackio.sink import NAME, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rldk.bridge import Adapter
    from rldk.event import Event
    from rldk_trackio.database import Row

_SPELLED: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class TrackioAdapter:
    """A reader of `<project>.db#<run id>`, or of all the runs of `<project>.db`."""

    name: ClassVar[str] = NAME

    def __init__(self, source: str) -> None:
        self.problems: list[str] = []
        self._source = str(source)
        path, mark, run_id = self._source.rpartition("#")
        self._path, self._run_id = (Path(path), run_id) if mark else (Path(self._source), "")

    def can_handle(self) -> bool:
        """Whether the source is a database with trackio's tables, or a run in one."""
        return is_trackio(self._path)

    def runs(self) -> list[str]:
        """Name the source of each run, in the order in which they began.

        Raises:
            SourceError: It cannot be read.
        """
        return (
            [self._source]
            if self._run_id
            else [f"{self._path}#{each}" for each in self._database().run_ids()]
        )

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read a run's events in the order of their time; RLDK's, and what others have logged beside them.

        Raises:
            SourceError: It cannot be read, holds no such run, or several.
        """
        del repeats  # trackio holds no row twice
        run_id = self._only()
        rows, config = self._database().rows(run_id), self._database().config(run_id)
        if not rows:
            raise SourceError(self._source, "there is no such run", "check its id")
        facts = self._facts(run_id, rows, config)
        is_raw = f"{PREFIX}raw" in config or f"{PREFIX}run_id" not in config
        first, *later = run_events(facts)
        told = _told(rows, config, self._path.stem, is_raw=is_raw)
        first = msgspec.structs.replace(first, model_info=first.model_info | told)
        found = sorted([*later, *self._measured(rows, facts)], key=lambda event: event.time)
        yield from (first, *found)
        if status := config.get(f"{PREFIX}status"):
            last = found[-1] if found else first
            end = round(last.time + 0.001, 3)
            yield raw_event(facts, {}, seq=last.seq + 1, step=last.step, time=end, status=status)

    def files(self, into: Path) -> list[Path]:
        """Copy the files of the artifacts that the run has logged.

        Raises:
            SourceError: It cannot be read, holds no such run, or several.
        """
        for file in self._database().files(self._only()):
            path = PurePosixPath(file.path)
            if path.is_absolute() or ".." in path.parts or not file.blob.is_file():
                self.problems.append(f"{file.path} is not on this machine, and was left out")
                continue
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.blob, into / path)
        return sorted(into.iterdir())

    def _database(self) -> Database:
        return Database(self._path, self._source)

    def _only(self) -> str:
        found = [self._run_id] if self._run_id else self._database().run_ids()
        if len(found) != 1:
            raise SourceError(
                self._source, f"it holds {len(found)} runs", "give one, as <project>.db#<run id>"
            )
        return found[0]

    def _facts(self, run_id: str, rows: list[Row], config: dict[str, Any]) -> RunFacts:
        began = min(_time(row) for row in rows)
        tags = {k.removeprefix(PREFIX): str(v) for k, v in config.items() if k.startswith(PREFIX)}
        try:
            return RunFacts.from_tags({"run_id": run_id, "began": str(began)} | tags)
        except ValueError as error:
            reason = f"an rldk/ entry of its config was edited: {error}"
            raise SourceError(self._source, reason, "correct the entry") from error

    def _measured(self, rows: list[Row], facts: RunFacts) -> Iterator[Event]:
        left_out: Counter[str] = Counter()
        for number, row in enumerate(rows):
            numbers = {
                name: value for name, said in row.metrics.items() if (value := _number(said)) is not None
            }
            left_out.update(row.metrics.keys() - numbers.keys())
            whose, _, rest = row.log_id.partition(":")
            if whose == OURS:
                seq = rest.rpartition(":")[2]
                event = event_from_tracker(
                    numbers,
                    facts=facts,
                    seq=int(seq) if seq.isdecimal() else number,
                    step=row.step,
                    time=_time(row),
                )
                if event is not None:
                    yield event
            elif numbers:
                time = max(_time(row), facts.began)
                yield raw_event(facts, numbers, seq=number, step=row.step, time=time)
        if left_out:
            named = ", ".join(f"{name} ({count})" for name, count in left_out.most_common(5))
            self.problems.append(f"{left_out.total()} values are no numbers and were skipped: {named}")


def _told(rows: list[Row], config: dict[str, Any], project: str, *, is_raw: bool) -> dict[str, Any]:
    """What the run's first event tells beside its facts."""
    others = {k: v for k, v in config.items() if not k.startswith((PREFIX, "_"))}
    told = {"config": others, "name": rows[0].run_name, "project": project, "raw": is_raw}
    told["args"] = config.get(f"{PREFIX}args")
    return {name: value for name, value in told.items() if value}


def _time(row: Row) -> float:
    return round(datetime.fromisoformat(row.timestamp).timestamp(), 3)


def _number(said: object) -> float | None:
    if isinstance(said, int | float):
        return int(said) if isinstance(said, bool) else said
    return _SPELLED.get(said) if isinstance(said, str) else None


if TYPE_CHECKING:
    _conforms: type[Adapter] = TrackioAdapter
