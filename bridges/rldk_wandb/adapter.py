"""How are the events of a W&B run read back: from the `.wandb` file that wandb leaves on disk."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rldk.bridge import PREFIX, RunFacts, event_from_tracker, run_events
from rldk.errors import SourceError
from rldk_wandb.offline import Run, WandbFile, is_wandb_file
from rldk_wandb.sink import SEQ, STEP, TIME, unescape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rldk.event import Event

_ON_SERVER: Final = "wandb://"
_KEYS_SHOWN: Final = 5


class WandbAdapter:
    """A reader of one run's folder, or of one `.wandb` file; wandb need not be installed."""

    name: ClassVar[str] = "wandb"

    def __init__(self, source: str) -> None:
        self.problems: list[str] = []
        self._source = str(source)

    def can_handle(self) -> bool:
        """Whether the source is a `.wandb` file, a folder with one, or names a run on a W&B server."""
        return self._source.startswith(_ON_SERVER) or bool(_files(self._source))

    def events(self) -> Iterator[Event]:
        """Read the run's events in the order in which they were logged, after one that tells of the run.

        Raises:
            SourceError: There is no `.wandb` file, or RLDK recorded nothing in it.
        """
        self.problems.clear()
        if self._source.startswith(_ON_SERVER):
            raise SourceError(self._source, "RLDK does not read W&B servers yet", "give the run's own folder")
        files = _files(self._source)
        if not files:
            raise SourceError(self._source, "it holds no .wandb file", "give wandb/run-<time>-<id>")
        for path in files:
            yield from self._events_of(WandbFile(path))

    def _events_of(self, file: WandbFile) -> Iterator[Event]:
        run = file.run()
        tags = {k.removeprefix(PREFIX): str(v) for k, v in run.config.items() if k.startswith(PREFIX)}
        facts = self._facts(run, tags)
        if run.exit_code is None:
            self.problems.append(
                f"{file.path.name}: the run is still going or was killed; its last rows may be missing"
            )
        events = self._rebuilt(file, facts)
        first = next(events, None)
        if first is None and not tags:
            reason = f"it holds {_contents(file)}, and nothing of RLDK"
            raise SourceError(str(file.path), reason, "give a run that was recorded with RLDK")
        yield from run_events(facts)
        yield from chain([first] if first else [], events)

    def _facts(self, run: Run, tags: dict[str, str]) -> RunFacts:
        fallback = {"run_id": run.run_id, "began": str(round(run.start_time, 3))}
        if "run_id" not in tags:
            self.problems.append("its config lacks rldk/run_id: the id and start of W&B's own run are taken")
        try:
            return RunFacts.from_tags(fallback | tags)
        except ValueError as error:
            self.problems.append(f"its config has an unusable rldk/ entry ({error}): all are passed over")
            return RunFacts.from_tags(fallback)

    def _rebuilt(self, file: WandbFile, facts: RunFacts) -> Iterator[Event]:
        odd: Counter[str] = Counter()
        seen: set[tuple[int, float]] = set()
        for row in file.rows():
            if not {STEP, SEQ} <= row.keys():  # a row of someone else who logs to the same run
                continue
            event = _event(row, facts, odd)
            # A batch whose acknowledgement was lost has been sent again.
            if event is not None and (event.seq, event.time) not in seen:
                seen.add((event.seq, event.time))
                yield event
        told = [*file.damage.sentences(), *(f"{count} {what}" for what, count in (+odd).items())]
        self.problems += [f"{file.path.name}: {sentence}" for sentence in told]


def _files(source: str) -> list[Path]:
    path = Path(source)
    try:
        found = sorted(path.glob("run-*.wandb")) if path.is_dir() else [path]
    except (OSError, ValueError):  # a name that is too long, or not a name at all
        return []
    return [file for file in found if is_wandb_file(file)]


def _event(row: dict[str, Any], facts: RunFacts, odd: Counter[str]) -> Event | None:
    step, seq, time = row[STEP], row[SEQ], row.get(TIME)
    if not (_is_int(step) and _is_int(seq) and isinstance(time, int | float)):
        odd["rows have no usable step, seq or time and were skipped"] += 1
        return None
    shown = {unescape(key): value for key, value in row.items() if key.startswith(PREFIX)}
    measured = {key: value for key, value in shown.items() if value is not None and key not in {STEP, SEQ}}
    numbers = {key: _number(value) for key, value in measured.items() if isinstance(value, int | float)}
    odd["values are no numbers and were skipped"] += len(measured) - len(numbers)
    return event_from_tracker(numbers, facts=facts, seq=seq, step=step, time=round(float(time), 3))


def _number(value: float) -> float:
    return int(value) if isinstance(value, bool) else value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _contents(file: WandbFile) -> str:
    rows, keys = 0, dict[str, None]()
    for row in file.rows():
        rows += 1
        keys |= dict.fromkeys(key for key in row if not key.startswith("_"))
    some = ", ".join(list(keys)[:_KEYS_SHOWN])
    return f"{rows} rows ({some}{', ...' if len(keys) > _KEYS_SHOWN else ''})" if rows else "no rows"


if TYPE_CHECKING:
    from rldk.bridge import Adapter

    _conforms: type[Adapter] = WandbAdapter
