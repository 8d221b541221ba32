"""A training process without a trainer, whose callback is called by hand: it ends as a training ends."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import TrainerState, TrainingArguments

from rldk.integrations.trl import RLDKCallback
from tests.faults._life import RUN_ID, Life, serve

if TYPE_CHECKING:
    from rldk.delivery import DeliveryReport
    from rldk.recorder import Recorder


class ByHand(Life):
    """A `Life` that the callback records; it begins anew at step 0."""

    def __init__(self, folder: Path, trackers: list[str]) -> None:
        self.logged = []
        self.end_s = math.nan
        self._callback = RLDKCallback(
            folder, run_id=RUN_ID, trackers=trackers, enable_resource_monitoring=False, log_interval=0
        )
        self._args = TrainingArguments(output_dir=str(folder.parent / "out"), use_cpu=True, report_to=[])
        self._state = TrainerState(global_step=0, max_steps=10**6)
        self._callback.on_train_begin(self._args, self._state, None)

    @property
    def _recorder(self) -> Recorder:
        return self._callback._recorder

    @property
    def reports(self) -> list[DeliveryReport]:
        """What the deliveries reported at the end."""
        return self._callback.reports

    def log(self, count: int = 1) -> None:
        """Log so many steps more."""
        for _ in range(count):
            self._state.global_step += 1
            logs = {"loss": 1 / self._state.global_step, "reward": 0.5}
            self._callback.on_log(self._args, self._state, None, logs=logs)

    def end(self, status: str = "FINISHED") -> None:
        """End as a training does."""
        del status
        self._callback.on_train_end(self._args, self._state, None)


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    serve(ByHand(Path(sys.argv[1]), sys.argv[2:]))
