"""How does a `trainer_state.json` of transformers give its events: the log that every checkpoint holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from rldk.adapters import limits
from rldk.adapters.json_document import Document, DocumentError
from rldk.adapters.raw import RawRun, Skips, number, whole
from rldk.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rldk.event import Event

_FILE: Final = "trainer_state.json"
_CHECKPOINT: Final = re.compile(r"checkpoint-(\d{1,18})")
_HISTORY: Final = "log_history"
_RECORD: Final = "rldk"
_SUMMARY_MARK: Final = "train_loss"  # transformers logs it once, when training has ended
_CONFIG: Final = (
    "max_steps", "num_train_epochs", "train_batch_size", "logging_steps", "eval_steps", "save_steps"
)  # fmt: skip
_MARKS: Final = (rb'"log_history"', rb'"is_world_process_zero"', rb'"is_hyper_param_search"')


class _State(NamedTuple):
    """What a state says beside its log."""

    path: Path
    step: int
    run_id: str | None
    config: dict[str, Any]


class TrainerStateAdapter:
    """Reads the log of a `trainer_state.json`, of a checkpoint folder, or of a folder of checkpoints.

    A state holds the log from the run's beginning. Of a folder the newest state that is whole is read.
    Each entry of the log is an event at its step, with the keys as they stand, `epoch` among them. The
    file tells no times: events are counted in milliseconds from 1970 on. The log may also be alone in
    the file, a list of entries.

    Args:
        source: Path of the file or the folder.

    Attributes:
        problems: Which states could not be read, and what was skipped.
    """

    name: ClassVar[str] = "trainer_state"

    def __init__(self, source: str | Path) -> None:
        self._source = Path(source)
        self.problems: list[str] = []

    def can_handle(self) -> bool:
        """Whether the file begins as a state does, or the folder or its checkpoints hold a state."""
        try:
            if self._source.is_dir():
                return bool(_states_in(self._source))
        except (OSError, ValueError):
            return False
        head = limits.head(self._source).lstrip(b"\xef\xbb\xbf \t\r\n")
        if head[:1] == b"[":
            return _is_log(self._source)
        return head[:1] == b"{" and any(mark in head for mark in _MARKS)

    def runs(self) -> list[str]:
        """Name the source itself: it is one run.

        Raises:
            SourceError: It holds no state.
        """
        self._found()
        return [str(self._source)]

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read one event for each entry of the log, and one that tells that training has ended.

        Args:
            repeats: Makes no difference: what the source holds twice is always given twice.

        Raises:
            SourceError: No state in it can be read, or its log is empty.
        """
        del repeats  # all that is in it is given anyway
        self.problems.clear()
        state = self._newest()
        skips = Skips(str(state.path))
        run = RawRun(
            state.run_id or _name(state.path), limits.Names(str(state.path)), {"config": state.config}
        )
        is_empty = True
        entry: Any = None
        for place, entry in enumerate(_entries(state.path), start=1):
            for event in _logged(run, entry, f"entry {place}", skips):
                is_empty = False
                yield event
        if isinstance(entry, dict) and _SUMMARY_MARK in entry:
            yield from run.end("FINISHED")
        self.problems += skips.sentences()
        if is_empty:
            reason = "; ".join(["its log_history holds no numbers", *self.problems])
            raise SourceError(str(state.path), reason, "give a later checkpoint")

    def files(self, into: Path) -> list[Path]:
        """Give the state that is read, and no model.

        Raises:
            SourceError: No state in it can be read.
        """
        del into
        return [self._newest().path]

    def _found(self) -> list[Path]:
        try:
            found = _states_in(self._source) if self._source.is_dir() else [self._source]
        except (OSError, ValueError) as error:
            raise SourceError(str(self._source), str(error), "check the path and its permissions") from error
        if not found:
            reason = f"neither it nor a checkpoint in it holds a {_FILE}"
            raise SourceError(str(self._source), reason, "give a checkpoint folder or the output_dir")
        return found

    def _newest(self) -> _State:
        """Find the whole state of the highest step; torn ones are told of."""
        torn: list[str] = []
        found = self._found()
        own = [path for path in found if path.parent == self._source]
        newest = (_first_whole(own, torn), _first_whole((path for path in found if path not in own), torn))
        best = max(filter(None, newest), key=lambda state: state.step, default=None)
        if best is None:
            remedy = "give an older checkpoint, or another source of the run"
            raise SourceError(str(self._source), "; ".join(torn), remedy)
        self.problems += [problem for problem in torn if problem not in self.problems]
        return best


def _first_whole(paths: Iterable[Path], torn: list[str]) -> _State | None:
    for path in paths:
        try:
            return _state(path)
        except (SourceError, DocumentError, *limits.DAMAGE) as error:
            torn.append(f"{path}: passed over, for it cannot be read: {error}")
    return None


def _states_in(folder: Path) -> list[Path]:
    """The folder's own state, which is written when training ends, and its checkpoints', the newest first."""
    numbered = ((_CHECKPOINT.fullmatch(path.name), path) for path in folder.iterdir())
    checkpoints = sorted(((int(found[1]), path) for found, path in numbered if found), reverse=True)
    paths = [folder / _FILE, *(path / _FILE for _, path in checkpoints)]
    return [path for path in paths if path.is_file()]


def _number(path: Path) -> int | None:
    found = _CHECKPOINT.fullmatch(path.parent.name)
    return int(found[1]) if found else None


def _name(path: Path) -> str:
    """Name the run of a state that does not tell: as its output folder, or as the file is called."""
    known = path.resolve()
    if known.name != _FILE:
        return known.name.removesuffix(".gz").removesuffix(".json")
    folder = known.parent.parent if _number(known) is not None else known.parent
    return folder.name or _RECORD


def _state(path: Path) -> _State:
    """Read a state to its end, but for its log."""
    told: dict[str, Any] = {}
    steps = 0
    with limits.opened(path) as file:
        document = Document(file)
        if document.opening() == "[":
            steps = sum(1 for _ in document.elements())
        else:
            for key in document.keys():  # noqa: SIM118  # it is no dict
                if key == _HISTORY and document.opening() == "[":
                    steps = sum(1 for _ in document.elements())
                else:
                    told[key] = document.value()
        document.end()
    config = {key: told[key] for key in _CONFIG if told.get(key) is not None}
    return _State(path, whole(told.get("global_step")) or steps, _recorded_id(told), config)


def _recorded_id(told: dict[str, Any]) -> str | None:
    """The run's id, where RLDK's callback has left it in the state: see rldk/integrations/trl/run.py."""
    found: Any = told.get("stateful_callbacks")
    for key in (_RECORD, "attributes", "run_id"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) and found else None


def _entries(path: Path) -> Iterator[Any]:
    with limits.opened(path) as file:
        document = Document(file)
        if document.opening() == "[":
            yield from document.elements()
            return
        for key in document.keys():  # noqa: SIM118  # it is no dict
            if key == _HISTORY and document.opening() == "[":
                yield from document.elements()
                return
            document.value()


def _logged(run: RawRun, entry: object, place: str, skips: Skips) -> list[Event]:
    if not isinstance(entry, dict):
        skips.place("entries of the log are no objects and", place)
        return []
    step = whole(entry.get("step"))
    if step is None:
        skips.place("entries of the log have no step and", place)
        return []
    numbers: dict[str, int | float] = {}
    for key, value in entry.items():
        read = number(value)
        if read is not None:
            numbers[key] = read
        elif value is not None:
            skips.value(key)
    numbers.pop("step", None)
    return run.log(step, numbers) if numbers else []


def _is_log(path: Path) -> bool:
    """Whether a file is a list whose first element is an entry of a log."""
    try:
        with limits.opened(path) as file:
            first = next(Document(file).elements(), None)
    except (SourceError, DocumentError, *limits.DAMAGE):
        return False
    return isinstance(first, dict) and whole(first.get("step")) is not None


if TYPE_CHECKING:
    from rldk.bridge import Adapter

    _conforms: type[Adapter] = TrainerStateAdapter
