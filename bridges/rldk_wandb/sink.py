"""How do events reach a W&B run: one row each, beside what others log in the same run."""

from __future__ import annotations

import inspect
import os
import re
import sys
import time
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from rldk.bridge import PREFIX, Home, run_tags, tracker_metrics
from rldk.errors import MissingDependencyError, RLDKError, SinkClosedError
from rldk.event import as_float
from rldk_wandb.offline import WandbFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import wandb

    from rldk.event import Event

STEP: Final = f"{PREFIX}step"
SEQ: Final = f"{PREFIX}seq"
TIME: Final = "_timestamp"  # W&B's own key; it keeps the value that a row brings

_PATIENCE_S: Final = 20.0  # the defaults are 90 s for init, and for finish no limit at all
_GLANCE_S: Final = 0.01

# A name that ends in * is a glob to define_metric, and one with * inside is refused. All others
# survive: dots, spaces, control characters, 300 letters.
_UNSAYABLE: Final = re.compile(r"\*|_(?=x[0-9A-F]{4})")
_ESCAPED: Final = re.compile(r"_x([0-9A-F]{4})_")
_NOT_IN_ARTIFACT_NAMES: Final = re.compile(r"[^\w.-]", re.ASCII)
_NOT_IN_RUN_IDS: Final = re.compile(r"[:;,#?/']")
_LONGEST_ARTIFACT_NAME: Final = 128
_INT64: Final = range(-(2**63), 2**63)


def escape(name: str) -> str:
    """Spell a metric name so that W&B keeps it; `a*` becomes `a_x002A_`, as OOXML writes it."""
    return _UNSAYABLE.sub(lambda match: f"_x{ord(match[0]):04X}_", name)


def unescape(said: str) -> str:
    """Undo `escape`."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), said)


class WandbSink:
    """A run of W&B, the one that is active or one of our own.

    The rows are logged without `step=`, as the rows of transformers are: W&B's `_step` counts the rows
    of all who log to the run. (Someone who does pass `step=` in the same run loses rows to any logger
    that does not: https://github.com/wandb/wandb/issues/6554.)
    """

    name: ClassVar[str] = "wandb"
    losses: ClassVar[tuple[str, ...]] = (
        "A float without a fraction reads back as an integer of the same value: 4.0 as 4.",
        "An integer beyond 64 bits reads back as the nearest float, or as an infinity.",
        "Negative zero reads back as zero.",
        "True and False read back as 1 and 0.",
        "Notes are not kept.",
        "Of data_slice only numbers are kept, and of rng only the seed.",
        "Of model_info only run_id, git_sha, phase and segment are kept, and the trainer once.",
        "An event without a number is not kept, but for the run's beginning, which is kept once.",
        "Rows of the last 15 seconds are lost where wandb-core is killed: it accepts them before it writes.",
    )

    def __init__(self, run: wandb.Run | None = None) -> None:
        self.tracker_run_id: str | None = None if run is None else str(run.id)
        self._run = run
        self._owned = run is None
        self._defined: set[str] = set()
        self._logged: set[int] = set()

    @classmethod
    def attach(cls) -> Self | None:
        """Take `wandb.run`; None where there is none, or where W&B is disabled."""
        run = getattr(sys.modules.get("wandb"), "run", None)
        if run is None or getattr(run, "disabled", False):
            return None
        return cls(run)

    @classmethod
    def create(cls) -> Self:
        """Prepare a sink that opens a run of its own.

        Raises:
            MissingDependencyError: wandb is not installed.
        """
        spec = find_spec("wandb")
        # The folder wandb/ that every run leaves behind is importable too, as a package without code.
        if spec is None or spec.origin is None:
            raise MissingDependencyError("The W&B sink", "wandb", "wandb")
        return cls()

    def open(self, run: Event) -> Home:
        """Open the run if it is our own, and write the run's facts into its config."""
        if self._run is None:
            self._run = _init(run)
        self.tracker_run_id = str(self._run.id)
        with _final_if_finished():
            self._run.config.update(_config(run), allow_val_change=True)
            for axis in (STEP, SEQ):
                self._run.define_metric(axis, hidden=True)
        return _home(self._run)

    def send(self, events: Sequence[Event]) -> None:
        """Log a row for each event; a batch that broke off goes on where it did.

        Errors other than `SinkClosedError` leave as they are. If wandb-core has died, each call ends
        in a ConnectionResetError and this process cannot get its run back; yet the events are good, so
        they must not be refused: they stay undelivered, counted, and in the journal.
        """
        with _final_if_finished():
            for event in events:
                if event.seq not in self._logged:
                    self._log(self._run, event)
                    self._logged.add(event.seq)
        self._logged.clear()

    def close(self, status: str, artifacts: Sequence[Path], *, is_exit: bool = False) -> None:
        """Log the files as one artifact, and finish the run if it is our own.

        Any other run wandb itself ends with the process, and with the exit code that it has.
        """
        del is_exit
        if self._run is None:
            return
        try:
            if any(path.exists() for path in artifacts):
                with _final_if_finished():
                    _log_files(self._run, artifacts)
        finally:
            if self._owned:
                _finish(self._run, exit_code=0 if status == "FINISHED" else 1)

    def _log(self, run: wandb.Run, event: Event) -> None:
        numbers = {escape(name): _as_kept(value) for name, value in tracker_metrics(event).items()}
        if not numbers:
            return
        for name in numbers.keys() - self._defined:
            # By its exact name, never by a glob: transformers defines "*", and of two globs that match a
            # name wandb-core takes any: it ranges over a Go map.
            # https://github.com/wandb/wandb/blob/main/core/internal/runmetric/runmetric.go
            run.define_metric(name, step_metric=STEP, step_sync=False)
            self._defined.add(name)
        run.log({STEP: event.step, SEQ: event.seq, TIME: event.time} | numbers)


def _as_kept(value: float) -> float:
    """Hand over integers beyond 64 bits as floats, which is all that wandb-core makes of them.

    Past 4300 digits Python itself would refuse to write them.
    """
    return value if not isinstance(value, int) or value in _INT64 else as_float(value)


def _config(run: Event) -> dict[str, Any]:
    config: dict[str, Any] = {f"{PREFIX}{key}": value for key, value in run_tags(run).items()}
    # With report_to="wandb" transformers has put the same arguments into the config already.
    if "args" in run.model_info and "wandb" not in (run.model_info.get("report_to") or ()):
        config[f"{PREFIX}args"] = run.model_info["args"]
    return config


def _init(run: Event) -> wandb.Run:
    import wandb

    _refuse_if_disabled()
    _log_in()
    settings = wandb.Settings(
        init_timeout=_PATIENCE_S,
        finish_timeout=_PATIENCE_S,
        finish_timeout_raises=True,
        console="off",  # what the script prints is not ours to keep
        silent=True,
    )
    with ExitStack() as undo:
        undo.callback(_forget_failed_init)
        opened = wandb.init(
            id=_NOT_IN_RUN_IDS.sub("-", run.run_id),
            name=None if "WANDB_NAME" in os.environ else run.run_id,
            resume="allow",
            reinit="create_new",  # leaves wandb.run alone: it belongs to the training script
            settings=settings,
        )
        undo.pop_all()
    return opened


def _refuse_if_disabled() -> None:
    import wandb

    if wandb.setup().settings.mode == "disabled" or getattr(wandb.run, "disabled", False):
        reason = "W&B is disabled (WANDB_MODE=disabled); enable it, or leave wandb out of the trackers"
        raise SinkClosedError(reason)


def _log_in() -> None:
    """Log in first: without an API key wandb.init would ask at the terminal, which is the script's.

    It also finds out whether the server answers, at no cost; a failing wandb.init costs a restart of
    wandb-core. Before wandb 0.31 one cannot log in without being asked.
    """
    import wandb

    is_online = wandb.setup().settings.mode not in {"offline", "dryrun"}
    is_new = wandb.run is None  # else wandb.login does nothing but warn
    can_be_silent = "prompt" in inspect.signature(wandb.login).parameters
    if is_online and is_new and can_be_silent and not wandb.login(prompt=False, verify=True):
        reason = "W&B has no API key; run `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline"
        raise RLDKError(reason)


def _forget_failed_init() -> None:
    """Restart wandb-core, which holds the id of a run that failed to open for "in use" until its end.

    Other runs of this process live in the same wandb-core: where there is one, the id stays in use.
    """
    import wandb

    if wandb.setup().most_recent_active_run is None:
        wandb.teardown()


@contextmanager
def _final_if_finished() -> Iterator[None]:
    from wandb.errors import UsageError

    try:
        yield
    except UsageError as error:
        reason = f"W&B takes no more data ({error}) The rest is in the journal; finish the run after training"
        raise SinkClosedError(reason) from error


def _home(run: wandb.Run) -> Home:
    run_id = str(run.id)
    if run.offline:  # then run.url prints a warning at every look
        return Home("wandb", run_id, str(Path(run.settings.sync_dir).absolute()))
    return Home("wandb", run_id, f"wandb://{run.entity}/{run.project}/{run_id}", run.url)


def _log_files(run: wandb.Run, files: Sequence[Path]) -> None:
    import wandb

    name = _NOT_IN_ARTIFACT_NAMES.sub("-", f"rldk-{run.id}")[:_LONGEST_ARTIFACT_NAME]
    artifact = wandb.Artifact(name, type="rldk")
    for file in filter(Path.exists, files):
        artifact.add_file(str(file), name=file.name)
    run.log_artifact(artifact)


def _finish(run: wandb.Run, exit_code: int) -> None:
    folder = run.settings.sync_dir
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError as error:
        reason = f"W&B did not take all in {_PATIENCE_S:.0f} s; it is in {folder}: run `wandb sync {folder}`"
        raise SinkClosedError(reason) from error
    if run.offline:
        _await_end(WandbFile(Path(run.settings.sync_file)))


def _await_end(file: WandbFile) -> None:
    """Wait until the run can be read back: finish returns before wandb-core has written its last records."""
    patience = time.monotonic() + _PATIENCE_S
    while file.run().exit_code is None and time.monotonic() < patience:
        time.sleep(_GLANCE_S)


if TYPE_CHECKING:
    from rldk.bridge import Sink

    _conforms: type[Sink] = WandbSink
