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
    """A callback that tells its recorder when an evaluation comes: no hook does, only the end has one.

    Attributes:
        errors: How often RLDK itself failed.
    """

    errors: int
    _recorder: Recorder | None

    @guarded
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Learn that the trainer trains, also where another callback has called the evaluation off."""
        del args, state, control, kwargs
        self._expect(evaluation=False)

    @guarded
    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Learn whether the trainer evaluates next."""
        del args, state, kwargs
        self._expect(evaluation=control.should_evaluate)

    def _expect(self, *, evaluation: bool) -> None:
        """Have what `rldk.log` is given from now on belong to the evaluation, or to training again."""
        if self._recorder is not None:
            self._recorder.inbox.phase = "eval" if evaluation else "train"
