"""What does a trainer log? One file, one metric a line."""

from __future__ import annotations

import os
import time
import weakref
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from transformers import TrainerCallback

from rldk import catalog, files
from rldk.adapters import long_format
from rldk.adapters.long_format import OLD_PPO_KEYS, SHORT_NAMES, Line
from rldk.errors import EventFormatError
from rldk.integrations.trl import run as run_facts
from rldk.integrations.trl.boundary import guarded
from rldk.normalize import normalize, units
from rldk.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

    from transformers import TrainerControl, TrainerState, TrainingArguments

    from rldk.normalize import Numbers

_TAIL_BYTES: Final = 2**20
_LINE_BEGINS: Final = b'{"time":'


class EventWriterCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
    """Writes what a trainer logs to one file, one metric a line.

    The file is appended to, and may hold many runs. `ingest_runs` reads it. Only the main process
    writes. Nothing that it does can fail training.

    Each line has `time`, `step`, `name`, `value`, `run_id`, `tags` and `meta`; what they mean,
    `rldk.adapters.long_format` tells. The names are `kl`, `reward_mean`, `reward_std`, `entropy`,
    `grad_norm_policy`, `clip_frac`, `loss`, `lr`, and the catalog's for every other metric. PPO's
    `kl` is that of a whole sequence and not of a token, as its `meta.unit` says.

    Args:
        event_log_path: The file; folders that are missing are made.
        run_id: Id of the run; by default that of the active W&B run, else of the active MLflow run,
            else, where training resumes, that of the checkpoint or else of the file's last line, else
            `run_name` made unique, else a fresh one. Made safe as a file name.
        tags: What to say of the run in every line.

    Attributes:
        errors: How often RLDK itself failed; such failures are logged and never reach the trainer.
        run_id: The run's id; the given one, or None, until training begins.
    """

    def __init__(
        self, event_log_path: str | Path, run_id: str | None = None, tags: Mapping[str, object] | None = None
    ) -> None:
        super().__init__()
        self.event_log_path = Path(event_log_path)
        self.run_id = run_id
        self.errors = 0
        self._given_run_id = run_id
        self._tags = redact(msgspec.to_builtins(dict(tags or {}), str_keys=True, enc_hook=str))
        self._file: _AppendedFile | None = None
        self._about: dict[str, Any] = {}
        self._args: Mapping[str, Any] = {}
        self._is_training = False

    @guarded
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Settle which run this is and open the file."""
        del control, kwargs
        self._close()
        if state.is_world_process_zero:
            self._begin(args, state)
            self._is_training = True

    @guarded
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        """Write the log. A subclass may add to `logs` before it calls this."""
        del control, kwargs
        if not logs or not state.is_world_process_zero:
            return
        if not self._about:
            self._begin(args, state)  # evaluate() outside train()
        self._write(state.global_step, logs)
        if not self._is_training:
            self._close_file()

    @guarded
    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Close the file."""
        del args, state, control, kwargs
        self._close()

    def _begin(self, args: TrainingArguments, state: TrainerState) -> None:
        last = _as_line(self._open().last)
        resumed = last.run_id if last is not None and state.global_step else None
        who, _ = run_facts.settle(args, state, self._given_run_id, resumed, counter=self)
        self.run_id = who.run_id
        run_facts.remember(state, **(run_facts.recalled(state) | {"run_id": who.run_id}))
        continues = last is not None and last.run_id == self.run_id
        self._args = vars(args)
        self._about = {
            "source": "trl",
            "trainer": run_facts.trainer_name(args),
            "segment": last.segment + 1 if last is not None and continues else 0,
        }

    def _write(self, step: int, logs: Mapping[str, Any]) -> None:
        now = round(time.time(), 3)
        for name, value, meta in measured(logs, self._about["trainer"], self._args, _trl()):
            line = Line(
                time=now,
                step=step,
                name=name,
                value=value,
                run_id=self.run_id or "",
                tags=self._tags,
                meta=redact(self._about | meta),
            )
            self._append(long_format.encode(line))

    def _append(self, line: bytes) -> None:
        try:
            self._open().append(line)
        except OSError:
            self._close_file()  # the next line opens it again, which cuts off what was torn
            raise

    def _open(self) -> _AppendedFile:
        if self._file is None:
            self._file = _AppendedFile(self.event_log_path)
        return self._file

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _close(self) -> None:
        self._is_training = False
        self._about = {}
        self._close_file()


def measured(
    logs: Mapping[str, Any], trainer: str, args: Mapping[str, Any], trl: str = ""
) -> Iterator[tuple[str, int | float, dict[str, str]]]:
    """Give each number of a log its name in the long format, and tell in `meta` what it is."""
    told = normalize(logs, trainer, args, trl)
    parts: tuple[tuple[str, Numbers, dict[str, str]], ...] = (
        ("train", told.train, {"phase": "train"}),
        ("eval", told.eval, {"phase": "eval"}),
        ("summary", told.summary, {"phase": "train", "kind": "end"}),
    )
    for part, numbers, place in parts:
        names = _names(numbers)
        for key, value in numbers.items():
            metric, name = names[key]
            raw = told.raw_names.get((part, key), "")
            about = {"raw_name": raw, "metric": metric, "unit": _unit(metric, raw, trainer, trl)}
            yield name, value, place | {k: v for k, v in about.items() if v}


def _names(numbers: Numbers) -> dict[str, tuple[str, str]]:
    """Metric and short name of each key; no name is given twice in one log."""
    metrics = {key: OLD_PPO_KEYS.get(key, key) for key in numbers}
    metrics = {key: key if metric in numbers else metric for key, metric in metrics.items()}
    found: dict[str, str] = {}
    for metric in metrics.values():
        short = SHORT_NAMES.get(metric, metric)
        found[metric] = metric if short in found.values() else short
    return {key: (metric, found[metric]) for key, metric in metrics.items()}


def _unit(metric: str, raw: str, trainer: str, trl: str) -> str:
    match = catalog.find(raw.removeprefix("eval_"), trainer, trl)
    return match.metric.unit if match is not None else units(trainer, trl).get(metric, "")


@cache
def _trl() -> str:
    try:
        return metadata.version("trl")
    except metadata.PackageNotFoundError:
        return ""


def _as_line(text: bytes) -> Line | None:
    try:
        return long_format.decode(text)
    except EventFormatError:
        return None


class _AppendedFile:
    """A file of lines, open for appending; a last line that a crash tore is cut off on opening.

    Attributes:
        last: The last whole line when the file was opened; empty where there is none.
    """

    def __init__(self, path: Path) -> None:
        files.make_folder(path.parent)
        self._file = files.append(path)
        self.close = weakref.finalize(self, self._file.close)  # also where training raised
        self.last = _repair(self._file)

    def append(self, line: bytes) -> None:
        """Write one line, in one write.

        Raises:
            OSError: The disk is full or gone.
        """
        rest = line + b"\n"
        while rest:  # a nearly full disk takes a part and refuses the next
            rest = rest[self._file.write(rest) :]


def _repair(file: BinaryIO) -> bytes:
    """End the file with a whole line, and give that line."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _TAIL_BYTES, 0))
    whole, _, torn = file.read(_TAIL_BYTES).rpartition(b"\n")
    last = whole.rpartition(b"\n")[2]
    if not torn:
        return last
    if _as_line(torn) or not (torn.startswith(_LINE_BEGINS) or _as_line(last)):
        file.write(b"\n")  # whole but for its newline, or not ours to cut
        return torn
    file.truncate(size - len(torn))
    return last
