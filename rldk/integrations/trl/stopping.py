"""When does an alert end the training, and how is it ended in order?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rldk.errors import SettingError, TrainingStoppedError
from rldk.health.rule import LEVELS
from rldk.integrations.trl.run import runs_own_loop
from rldk.redact import logger

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainingArguments

    from rldk.event import Event
    from rldk.health.rule import Severity

_logger = logger(__name__)

_SEVERITIES: Final = tuple(LEVELS)


class Stop:
    """Ends the training once an alert is bad enough: saves a checkpoint first, then stops.

    Trainers that run transformers' loop stop by themselves when they are told to. PPO never looks; there
    `TrainingStoppedError` is raised once the checkpoint is saved.

    Args:
        severity: The least severity that ends a training; None for none.

    Attributes:
        alert: The alert that ends the training; None as long as there is none.

    Raises:
        SettingError: It is no severity.
    """

    def __init__(self, severity: Severity | None) -> None:
        if severity is not None and severity not in _SEVERITIES:
            raise SettingError("stop_on", severity, f"one of {', '.join(_SEVERITIES)}, or None")
        self.alert: Event | None = None
        self._level = None if severity is None else LEVELS[severity]
        self._is_ordered = False

    def begin(self, args: TrainingArguments) -> None:
        """Forget what an earlier training was ended for; say where no good checkpoint may be left by then."""
        self.alert, self._is_ordered = None, False
        if self._level is not None and args.save_total_limit == 1:
            text = (
                "with save_total_limit=1 a broken checkpoint can push out the last good one before %s; set 2"
            )
            _logger.warning(text, "the log that shows it")

    def hear(self, alert: Event) -> None:
        """Remember the first alert that is bad enough. On any thread."""
        if self._level is not None and self.alert is None and max(alert.metrics.values()) >= self._level:
            self.alert = alert

    def settle(self, args: TrainingArguments, control: TrainerControl) -> None:
        """Tell the trainer to stop, where it is time. In all processes alike, at each log.

        The main process decides for all: one that stopped alone would leave the others waiting for ever.
        """
        if self._level is None or self._is_ordered:
            return
        is_due = self.alert is not None
        if args.world_size > 1:
            is_due = _as_the_main_process(is_due)
        if is_due:
            self._order(args, control)

    def _order(self, args: TrainingArguments, control: TrainerControl) -> None:
        self._is_ordered = True
        if args.save_total_limit is not None:  # or the broken checkpoint would push out the last good one
            _logger.warning(
                "checkpoints are all kept from now on, in place of the newest %s", args.save_total_limit
            )
            args.save_total_limit = None
        control.should_save = True
        control.should_training_stop = True
        if self.alert is not None:
            _logger.error("training stops: %s", self.alert.notes[0])

    def must_raise(self, args: TrainingArguments) -> bool:
        """Whether the checkpoint is saved and the trainer will not stop by itself."""
        return self._is_ordered and runs_own_loop(args)

    def error(self, run_id: str | None) -> TrainingStoppedError:
        """The error that ends a training whose trainer listens to nothing else."""
        said = self.alert.notes[0] if self.alert is not None else "another process asked for it"
        return TrainingStoppedError(run_id or "", said)

    @property
    def stopped_by(self) -> str | None:
        """The alert's id where it has ended the training, else None."""
        return f"{name_of(self.alert)}@{self.alert.step}" if self.alert and self._is_ordered else None


def name_of(alert: Event) -> str:
    """The rule of an alert."""
    return next(iter(alert.metrics), "")


def _as_the_main_process(is_due: bool) -> bool:  # noqa: FBT001  # it is what is told
    from accelerate.utils import broadcast_object_list  # noqa: PLC0415  # only several processes need it

    answer: list[Any] = [is_due]
    broadcast_object_list(answer)
    return bool(answer[0])
