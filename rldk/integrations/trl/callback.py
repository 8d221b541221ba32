"""What a trainer's callbacks tell the recorder."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from rldk import bridge, identity, settings
from rldk.bridge import Target
from rldk.cursor import CursorFile
from rldk.errors import JournalLockedError, RLDKError, SettingError
from rldk.health.limits import limits
from rldk.health.rule_files import rules_with
from rldk.integrations.trl import run as run_facts
from rldk.integrations.trl.boundary import guarded, tried
from rldk.integrations.trl.ending import ProcessEnd
from rldk.integrations.trl.evaluation import KnowsEvaluation
from rldk.integrations.trl.opening import Opening, Start
from rldk.integrations.trl.stopping import Stop
from rldk.integrations.trl.watch import Wanted, Watch
from rldk.journal import SUFFIX, Journal
from rldk.recorder import Recorder
from rldk.redact import logger
from rldk.report import closing, status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from transformers import TrainerControl, TrainerState, TrainingArguments

    from rldk.bridge import Sink
    from rldk.delivery import DeliveryReport
    from rldk.event import Event
    from rldk.health.rule import Rule, Severity
    from rldk.recorder import Run
    from rldk.settings import Settings

_logger = logger(__name__)

_HASTY_S: Final = 2.0
_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}


class RLDKCallback(KnowsEvaluation):
    """Records a training run: to a journal first, from there to the trackers.

    Add it to any TRL trainer, beside `wandb.init` or `mlflow.start_run`. Only the main process
    records. Nothing that it does can fail or hold up training.

    Args:
        output_dir: Folder of the journal, `{run_id}_events.jsonl`; by default `rldk` in the
            trainer's own `output_dir`.
        log_interval: Log one readable line of the run's state every so many steps, through logging at
            level INFO; 0 for none.
        jsonl_log_interval: Record a training step only when this many steps have passed since the
            last one recorded, or when a rule has something to say of it: they judge each log.
            Evaluations are always recorded.
        enable_jsonl_logging: Keep the journal. Without it, it lives in a temporary folder for as
            long as the trackers need it.
        alert_thresholds: Your own limits, on top of the rules; an event beyond one gets a note, and the
            first of them an alert. `kl_divergence`, `clip_fraction`, `gradient_norm`, `reward_std`: of
            that metric; `loss_spike`: of the loss, as a multiple of the median of the 20 points before;
            `memory_usage`: of the fraction of its memory that a device, or without one the host, uses.
        rules: Health rules of your own, or files of them (TOML), beside RLDK's; see docs/health.md.
        on_alert: Called with each alert event, on the thread that found it, mostly the training's
            own, so it must not take long; what it raises is logged.
        stop_on: End the training at the first alert of this severity or a worse one: a checkpoint is
            saved, the run recorded as FAILED, and a post-mortem written. PPO never looks whether it
            should stop; there `rldk.errors.TrainingStoppedError` is raised. All processes must set it alike.
        enable_reports: Write the run's table, alerts, final report and page beside the journal when it
            ends, and give them to the trackers.
        run_id: Id of the run; by default that of the active W&B run, else of the active MLflow run,
            else of the run whose checkpoint is resumed, else `run_name` made unique, else a fresh
            one. Made safe as a file name.
        enable_resource_monitoring: Sample the process, its host and its GPUs every 15 seconds
            (`RLDK_RESOURCE_INTERVAL_S`).
        enable_checkpoint_analysis: Read the weights of each saved checkpoint in the background: norm,
            non-finite numbers, change from the previous and the first one, layers that explode or die.
        measure_missing: Measure what the trainer leaves out where a hook can: the gradient norm of PPO.
        per_rank: Let each of the other processes of a distributed training keep a journal of its
            own, `{run_id}.rank{n}.jsonl`, with its resources and the time of its steps. All
            processes must set it alike.
        trackers: `"auto"` for the trackers that have an active run; or names, such as
            `["mlflow", "wandb"]`, of which those without an active run open one; or None.

    Attributes:
        errors: How often RLDK itself failed; such failures are logged and never reach the trainer.
        journal_path: The journal; None until training begins.
        run_id: The run's id; the given one, or None, until training begins.
        reports: What each tracker got; complete when training has ended.

    Raises:
        SettingError: A parameter's value cannot be used.
        UnknownBridgeError: A tracker's name is not known.
        MissingDependencyError: A named tracker's library is not installed.
    """

    def __init__(  # noqa: PLR0913  # its public parameters, keyword-only
        self,
        output_dir: str | Path | None = None,
        *,
        log_interval: int = 10,
        jsonl_log_interval: int = 1,
        enable_jsonl_logging: bool = True,
        alert_thresholds: Mapping[str, float] | None = None,
        rules: Rule | str | Path | Iterable[Rule | str | Path] | None = None,
        on_alert: Callable[[Event], None] | None = None,
        stop_on: Severity | None = None,
        enable_reports: bool = True,
        run_id: str | None = None,
        enable_resource_monitoring: bool = True,
        enable_checkpoint_analysis: bool = True,
        measure_missing: bool = True,
        per_rank: bool = False,
        trackers: Literal["auto"] | Iterable[str] | None = "auto",
    ) -> None:
        super().__init__()
        if run_id is not None and not isinstance(run_id, str):
            raise SettingError("run_id", run_id, "a text, or None")
        self.run_id = run_id
        self.errors = 0
        self.journal_path: Path | None = None
        self.reports: list[DeliveryReport] = []
        self._given_run_id = run_id
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._log_interval = _interval("log_interval", log_interval, least=0)
        self._every_steps = _interval("jsonl_log_interval", jsonl_log_interval, least=1)
        self._keeps_journal = enable_jsonl_logging
        self._rules = [*rules_with(rules), *limits(alert_thresholds)]
        self._on_alert = on_alert
        self._stop = Stop(stop_on)
        self._reports = enable_reports
        self._per_rank = per_rank
        self._trackers = _checked_trackers(trackers)
        self._settings = settings.from_environment()
        self._recorder: Recorder | None = None
        self._ending: Recorder | None = None
        self._wanted = Wanted(
            enable_resource_monitoring,
            enable_checkpoint_analysis,
            measure_missing,
            self._settings.resource_interval_s,
        )
        self._opening = Opening(self._rules, self._wanted)
        self._watch: Watch | None = None
        self._end_of_process = ProcessEnd(self._exit, self._hurry)
        self._evaluated: str | None = None
        self._told_step, self._since = 0, (0, 0.0)
        self._step = 0
        self._is_training = False

    @guarded
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Settle which run this is and begin to record."""
        del control
        self._end("FAILED" if self._is_training else "FINISHED")  # an earlier train() raised
        self._is_training = True
        self._stop.begin(args)
        if state.is_world_process_zero or self._per_rank:
            self._begin(args, state, together=self._per_rank)
            if self._watch is not None:
                self._watch.train(kwargs.get("model"), kwargs.get("optimizer"))
        self._between_steps(evaluation=args.eval_on_start)

    @guarded
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        """Record the log. A subclass may add to `logs` before it calls this."""
        del kwargs
        try:
            if logs and state.is_world_process_zero:
                self._record(args, state, logs)
        finally:
            if self._is_training:
                self._stop.settle(args, control)

    def _record(self, args: TrainingArguments, state: TrainerState, logs: dict[str, Any]) -> None:
        if self._recorder is None and not self._is_training:
            self._begin(args, state)  # evaluate() outside train(); on_evaluate ends it
        if self._recorder is None or self._watch is None:
            return
        self._step = self._watch.step = state.global_step
        tokens = self._watch.tokens(logs)
        events = self._recorder.log(self._step, self._watch.completed(logs), tokens)
        self._say(self._recorder, events, state.max_steps)

    @guarded
    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """End an evaluation outside training here: nothing tells of the end of its process."""
        del args, state, control, kwargs
        self._between_steps()  # another data set may follow
        if self._recorder is not None and not self._is_training:
            self._evaluated = self.run_id
            self._end("FINISHED")

    @guarded
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """On the other processes, which log nothing of their own, record the time of the step."""
        del args, kwargs
        self._between_steps(evaluation=control.should_evaluate)
        if self._recorder is not None and not state.is_world_process_zero:
            self._step = state.global_step
            if self._watch is not None:
                self._watch.step = self._step
            self._recorder.lap(state.global_step)

    @guarded
    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Record the checkpoint that was just saved.

        Raises:
            TrainingStoppedError: An alert has ended the training, of a trainer that does not stop otherwise.
        """
        del control, kwargs
        if self._watch is not None:
            self._watch.saved(state.global_step)
        if self._stop.must_raise(args):
            self._end("FAILED")
            raise self._stop.error(self.run_id)

    @guarded
    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Deliver what is left, within the deadline."""
        del args, control, kwargs
        self._step = state.global_step
        if self._end_of_process.was_terminated:
            self._end("KILLED")
        else:
            self._end("FAILED" if self._stop.stopped_by else "FINISHED")

    def _begin(self, args: TrainingArguments, state: TrainerState, *, together: bool = False) -> None:
        is_main = state.is_world_process_zero
        settle = run_facts.settle_together if together else run_facts.settle
        who, attached = settle(args, state, self._given_run_id, self._evaluated, counter=self)
        self._evaluated = None
        record = run_facts.recalled(state) if who.continues is None else {}
        suffix = SUFFIX if is_main else f".rank{args.process_index}.jsonl"
        who, journal = _journal_of(who, self._folder(args), suffix, self._settings)
        sinks = self._sinks(attached, journal.path) if is_main else []
        self.run_id, self.journal_path, self._step = who.run_id, journal.path, state.global_step
        recorder = self._recorder = self._opened(journal, run_facts.describe(args, who), sinks, record)
        run_facts.remember(state, run_id=who.run_id, segment=recorder.segment, began=recorder.began)
        self._watch = Watch(recorder, self._wanted, args, state.global_step)
        self._told_step, self._since = state.global_step, (state.global_step, time.monotonic())
        self._end_of_process.watch()
        begun = who, recorder.run, journal.path, sinks, attached, state.global_step, state.max_steps
        self._opening.say(Start(*begun, self._is_training, self._trackers == "auto"))

    def _opened(self, journal: Journal, run: Run, sinks: list[Sink], record: Mapping[str, Any]) -> Recorder:
        try:
            recorder = Recorder(
                journal,
                run,
                settings=self._settings,
                rules=self._rules,
                on_alert=self._hear,
                every_steps=self._every_steps,
                first_segment=record.get("segment", -1) + 1,
                began=record.get("began"),
            )
            recorder.begin(self._step, sinks, is_training=self._is_training)
        except RLDKError:
            journal.close()  # or this process could not open it again
            raise
        return recorder

    def _folder(self, args: TrainingArguments) -> Path:
        if not self._keeps_journal:
            return Path(tempfile.mkdtemp(prefix="rldk-"))
        # The script may change its folder while the journal is open
        return (self._output_dir or Path(args.output_dir) / "rldk").absolute()

    def _sinks(self, attached: Mapping[str, Sink], journal: Path) -> list[Sink]:
        if self._trackers == "auto":
            return list(attached.values())
        sinks = (attached.get(name) or self._own_sink(name, journal) for name in self._trackers)
        return [sink for sink in sinks if sink is not None]

    def _own_sink(self, name: str, journal: Path) -> Sink | None:
        """A sink on a run of its own: the one that the journal went into before, where there is one."""
        saved = CursorFile(journal, name).load()
        where = saved.target if saved else Target()
        target = msgspec.structs.replace(where, patience_s=self._settings.close_deadline_s)
        return tried(f"prepare a run of {name}", lambda: bridge.sink(name).create(target), self)

    def _say(self, recorder: Recorder, events: list[Event], max_steps: int) -> None:
        for event in events:
            is_due = self._log_interval and event.step - self._told_step >= self._log_interval
            if event.phase == "train" and is_due:
                self._told_step = event.step
                said = status.line(
                    event.step,
                    event.metrics,
                    trainer=recorder.run.trainer,
                    total=max_steps,
                    since_step=self._since[0],
                    elapsed_s=time.monotonic() - self._since[1],
                    firing=recorder.monitor.firing,
                )
                _logger.info("%s", said)

    def _hear(self, alert: Event) -> None:
        """Say an alert, and let the user's own function have it. On any thread."""
        told = alert.model_info["alert"]
        level = _LEVELS[told["severity"]] if told["state"] == "firing" else logging.INFO
        _logger.log(level, "step %d: %s", alert.step, alert.notes[0])
        self._stop.hear(alert)
        if self._on_alert is not None:
            tried("call on_alert", partial(self._on_alert, alert), self)

    @guarded
    def _exit(self, status: str) -> None:
        """The process ends without `on_train_end`: training raised, or only evaluate() was called."""
        self._end(status if self._is_training else "FINISHED", is_exit=self._is_training)

    def _hurry(self) -> None:
        if self._ending is not None:
            self._ending.hurry()

    def _end(self, status: str, *, is_exit: bool = False) -> None:
        recorder = self._ending = self._recorder
        self._recorder = None
        self._is_training = False
        if recorder is None:
            return
        with self._end_of_process.closing():
            watch, self._watch = self._watch, None
            if watch is not None:
                is_hasty = status == "KILLED" or is_exit
                watch.stop(_HASTY_S if is_hasty else self._settings.close_deadline_s)
            stopped_by, teller = self._stop.stopped_by, closing if self._reports else None
            self.reports = recorder.end(
                status, self._step, is_exit=is_exit, stopped_by=stopped_by, teller=teller
            )
            if not self._keeps_journal:
                self._drop_journal(recorder.journal.path)

    def _drop_journal(self, path: Path) -> None:
        if all(report.waiting == 0 for report in self.reports):
            shutil.rmtree(path.parent)
        else:
            _logger.warning("%s is kept, for it holds what did not arrive", path)


def _journal_of(
    who: identity.Identity, folder: Path, suffix: str, settings: Settings
) -> tuple[identity.Identity, Journal]:
    """Open the run's journal; where another process is writing it, this is another run."""

    def opened(run_id: str) -> Journal:
        path = folder / f"{run_id}{suffix}"
        return Journal(path, fsync=settings.fsync, fsync_interval_s=settings.fsync_interval_s)

    try:
        return who, opened(who.run_id)
    except JournalLockedError as error:
        other = who._replace(run_id=identity.another(who.run_id))
        _logger.warning("%s; this run is called %s", error, other.run_id)
        return other, opened(other.run_id)


def _interval(name: str, value: int, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SettingError(name, value, f"a whole number of steps, at least {least}")
    return value


def _checked_trackers(trackers: Literal["auto"] | Iterable[str] | None) -> Literal["auto"] | tuple[str, ...]:
    if trackers is None or trackers == "auto":
        return trackers or ()
    names = (trackers,) if isinstance(trackers, str) else tuple(dict.fromkeys(trackers))
    for name in names:
        bridge.sink(name).create()
    return names
