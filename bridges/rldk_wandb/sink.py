"""How do events reach a W&B run: one row each, beside what others log in the same run."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from weakref import WeakKeyDictionary

from rldk.bridge import PREFIX, Home, Target, run_tags, tracker_metrics
from rldk.errors import MissingDependencyError, SinkClosedError, SinkLostError
from rldk_wandb import files, held, names, own, server, speech
from rldk_wandb.address import SCHEME, Address, parsed
from rldk_wandb.names import SEQ, STEP, TIME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import wandb

    from rldk.bridge import Probed, Receipt
    from rldk.event import Event

RAW: Final = "raw"
TAG: Final = "tags/"

_handed_over: WeakKeyDictionary[wandb.Run, float] = WeakKeyDictionary()
"""Time of the last event that each open run of this process was given: its wandb-core will write it."""


class WandbSink:
    """A run of W&B, the one that is active or one of our own.

    The rows are logged without `step=`, as the rows of transformers are: W&B's `_step` counts the rows
    of all who log to the run. (Someone who does pass `step=` in the same run loses rows to any logger
    that does not: https://github.com/wandb/wandb/issues/6554.)

    What others have logged elsewhere keeps its names here. Of its tags, those without a value or with
    the value `true` become W&B's tags, which are names only, and those with one become config, as
    `tags/<name>`; its name, notes and tags are given to a run of our own, never to somebody else's.
    """

    name: ClassVar[str] = "wandb"
    losses: ClassVar[tuple[str, ...]] = (
        "A float without a fraction reads back as an integer of the same value: 4.0 as 4.",
        "An integer beyond 64 bits reads back as the nearest float, or as an infinity.",
        "Negative zero reads back as zero.",
        "True and False read back as 1 and 0.",
        "NaN and the infinities read back from the config as their names.",
        "Notes are not kept.",
        "Of data_slice only numbers are kept, and of rng only the seed.",
        "Of an alert only its rule and its level are read back; the summary has its text, to 2000 letters.",
        "The verdict on the run's health is in the summary, and is not read back.",
        "Of model_info only run_id, git_sha, phase and segment are kept, and the trainer once.",
        "An event without a number is not kept, but for the run's beginning, which is kept once.",
        "KILLED reads back as FAILED.",
        "The last 15 seconds before wandb-core is killed are missing until the next start or `rldk sync`.",
    )

    def __init__(self, run: wandb.Run | None = None, target: Target = Target()) -> None:  # noqa: B008  # it is immutable
        self.tracker_run_id: str | None = target.run_id if run is None else str(run.id)
        self._run = run
        self._target = target
        self._owned = run is None
        self._defined: set[str] = set()
        self._logged: set[float] = set()
        self._spoken_until = 0.0
        self._step = 0
        self._are_files_logged = False
        self._is_report_shown = False

    @classmethod
    def attach(cls) -> Self | None:
        """Take `wandb.run`; None where there is none, or where W&B is disabled."""
        run = getattr(sys.modules.get("wandb"), "run", None)
        if run is None or getattr(run, "disabled", False):
            return None
        return cls(run)

    @classmethod
    def create(cls, target: Target = Target()) -> Self:  # noqa: B008  # it is immutable
        """Prepare a sink that opens a run of its own, or goes on with the target's.

        Raises:
            MissingDependencyError: wandb is not installed.
        """
        spec = find_spec("wandb")
        # The folder wandb/ that every run leaves behind is importable too, as a package without code.
        if spec is None or spec.origin is None:
            raise MissingDependencyError("The W&B sink", "wandb", "wandb")
        return cls(target=target)

    @classmethod
    def probe(cls) -> Iterator[Probed]:
        """Try whether the tracker that is configured works, for `rldk doctor`."""
        from rldk_wandb import probe

        return probe.probe()

    @classmethod
    def kept(cls, name: str, value: float) -> tuple[str, float]:
        """Tell what the adapter gives back of a number: any name, and the number as W&B writes it."""
        return name, names.kept(value)

    @classmethod
    def holds(cls, target: Target) -> bool | None:
        """Ask whether the server, or this disk, still has a run.

        Of an offline run whose folder is gone nobody can tell: it may have been cleaned up after it was sent.
        """
        source = target.source or ""
        if not source.startswith(SCHEME):
            return True if Path(source).is_dir() else None
        address = parsed(source)
        return None if address is None else server.knows(address)

    def open(self, run: Event) -> Home:
        """Open the run if it is our own, and write the run's facts into its config."""
        if self._run is None:
            self._run = own.start(run, self._target)
        self.tracker_run_id = str(self._run.id)
        with self._told_apart(self._run) as opened:
            opened.config.update(_config(run), allow_val_change=True)
            for axis in (STEP, SEQ):
                opened.define_metric(axis, hidden=True)
            return _home(opened)

    def settle(self, receipt: Receipt | None) -> float:
        """Look on disk, or ask the server, for RLDK's last row in the run.

        What this process has handed to a wandb-core that lives is held. Runs in W&B's shared mode,
        where several processes write, cannot be looked into: there the receipt is believed.

        An alert goes the way of its row into an offline run's file, and is written again with it. A
        server gets it at once, long before the row: of what was handed over it is not sent twice.
        """
        run = self._opened()
        found = self._held(run, receipt)
        handed_over = 0.0 if run.offline else max(self._spoken_until, receipt.at if receipt else 0.0)
        self._spoken_until = max(found, handed_over)
        return found

    def _held(self, run: wandb.Run, receipt: Receipt | None) -> float:
        if run in _handed_over:
            return _handed_over[run]
        if run.settings.mode == "shared":
            return receipt.at if receipt else 0.0
        return held.on_disk(run, receipt) if run.offline else held.on_server(run, receipt)

    def send(self, events: Sequence[Event]) -> None:
        """Log a row for each event, and send its alert; a batch that broke off goes on where it did.

        Raises:
            SinkClosedError: Somebody has finished their run, or their wandb-core has died.
            SinkLostError: The wandb-core of our own run has died.
        """
        with self._told_apart(self._opened()) as run:
            for event in events:
                if event.time not in self._logged:
                    self._take(run, event)
                    self._logged.add(event.time)
                    self._step = event.step
                    _handed_over[run] = event.time
        self._logged.clear()

    def close(self, status: str | None, artifacts: Sequence[Path], *, is_exit: bool = False) -> None:
        """Log files and folders as one artifact, show the report, and finish the run if it is our own.

        The artifact has the same name at each start of the run, so that a resumed run's is its next version.

        Any other run wandb itself ends with the process, and with the exit code that it has. A run of our
        own is finished without a status too, for nothing else makes sure that W&B has all of it; then it
        counts as preempted, which is what W&B calls a run that will go on elsewhere.
        """
        del is_exit
        if self._run is None:
            return
        with self._told_apart(self._run) as run:
            try:
                there = [path for path in artifacts if path.exists()]
                self._are_files_logged = self._are_files_logged or files.log(run, there)
                self._is_report_shown = self._is_report_shown or speech.show_report(run, there, self._step)
            finally:
                if self._owned:
                    own.finish(run, status)

    def _opened(self) -> wandb.Run:
        if self._run is None:
            raise SinkLostError("the W&B run is not open")
        return self._run

    @contextmanager
    def _told_apart(self, run: wandb.Run) -> Iterator[wandb.Run]:
        from wandb.errors import UsageError

        try:
            yield run
        except UsageError as error:
            reason = (
                f"W&B takes no more data ({error}) The rest is in the journal; finish the run after training"
            )
            raise SinkClosedError(reason) from error
        except own.deaths() as error:
            raise self._lost(run) from error

    def _lost(self, run: wandb.Run) -> SinkLostError | SinkClosedError:
        """Clear away what wandb-core left behind when it died; a run of somebody else's stays dead."""
        if not self._owned:
            return SinkClosedError(
                f"wandb-core has died, killed or out of memory, and with it W&B run {run.id}, which this "
                "process has open; the rest is in the journal"
            )
        self._run = None
        self._defined.clear()
        self._logged.clear()
        self._are_files_logged = self._is_report_shown = False
        own.forget(run)
        return SinkLostError(f"wandb-core has died, killed or out of memory; W&B run {run.id} is opened anew")

    def _take(self, run: wandb.Run, event: Event) -> None:
        if event.kind == "run":
            run.config.update(_config(event), allow_val_change=True)
        elif event.is_raw and event.kind == "end":  # what a summary says beside the rows, not one more row
            run.summary.update({names.escape_raw(k): names.spelled(v) for k, v in event.metrics.items()})
        else:
            if event.kind in {"alert", "end"}:
                self._tell_health(run, event)
            self._log(run, event)  # last: by its row is known what the run holds

    def _tell_health(self, run: wandb.Run, event: Event) -> None:
        if event.time > self._spoken_until:
            speech.alert(run, event)
            self._spoken_until = event.time
        if said := speech.summary(event):
            run.summary.update(said)

    def _log(self, run: wandb.Run, event: Event) -> None:
        spell = names.escape_raw if event.is_raw else names.escape
        numbers = {spell(name): names.sayable(value) for name, value in tracker_metrics(event).items()}
        if not numbers:
            return
        for name in () if event.is_raw and not self._owned else numbers.keys() - self._defined:
            # By its exact name, never by a glob: transformers defines "*", and of two globs that match a
            # name wandb-core takes any: it ranges over a Go map.
            # https://github.com/wandb/wandb/blob/main/core/internal/runmetric/runmetric.go
            run.define_metric(name, step_metric=STEP, step_sync=False)
            self._defined.add(name)
        run.log({STEP: event.step, SEQ: event.seq, TIME: event.time} | numbers)


def _config(run: Event) -> dict[str, Any]:
    """What the config tells of a segment: RLDK's facts, and what others had written elsewhere."""
    told = run.model_info
    facts: dict[str, Any] = {f"{PREFIX}{key}": value for key, value in run_tags(run).items()}
    # With report_to="wandb" transformers has put the same arguments into the config already.
    if "args" in told and "wandb" not in (told.get("report_to") or ()):
        facts[f"{PREFIX}args"] = told["args"]
    if run.is_raw:
        facts[f"{PREFIX}{RAW}"] = True
    config, tags = told.get("config") or {}, told.get("tags") or {}
    plain = set(own.tag_names({name: value for name, value in tags.items() if not value}))
    valued = {f"{TAG}{name}": value for name, value in tags.items() if name not in plain}
    kept: dict[str, Any] = names.spelled(config | valued)
    return kept | facts


def _home(run: wandb.Run) -> Home:
    run_id = str(run.id)
    if run.offline:  # then run.url prints a warning at every look
        return Home("wandb", run_id, str(Path(run.settings.sync_dir).absolute()))
    return Home("wandb", run_id, str(Address(run.entity, run.project, run_id)), run.url)


if TYPE_CHECKING:
    from rldk.bridge import Sink

    _conforms: type[Sink] = WandbSink
