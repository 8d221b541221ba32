"""Is the trainer evaluating, so that what the user's own code logs belongs there?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rldk.errors import MissingDependencyError
from rldk.integrations.trl.boundary import guarded

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise MissingDependencyError("rldk.integrations.trl", "transformers", "trl") from error

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from rldk.recorder import Recorder


class KnowsEvaluation(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
    """A callback that tells its recorder when an evaluation comes.

    No hook tells of its beginning, and who comes later in the list of callbacks may order one, or call it
    off. Its first hook comes after its first batch, so what is given between two steps waits until then.

    Attributes:
        errors: How often RLDK itself failed.
    """

    errors: int
    _recorder: Recorder | None

    @guarded
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Learn that the trainer trains, also where an evaluation that was expected did not come."""
        del args, state, control, kwargs
        if self._recorder is not None:
            self._recorder.inbox.phase = "train"

    @guarded
    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Learn whether the trainer evaluates next."""
        del args, state, kwargs
        self._between_steps(evaluation=control.should_evaluate)

    @guarded
    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Learn that the trainer evaluates, whoever had it do so."""
        del args, state, control, kwargs
        if self._recorder is not None and self._recorder.inbox.phase != "eval":
            self._recorder.inbox.evaluates()

    def _between_steps(self, *, evaluation: bool = False) -> None:
        """Have what `rldk.log` is given now belong to the evaluation that is expected, or may still come."""
        if self._recorder is not None:
            self._recorder.inbox.phase = "eval" if evaluation else None
