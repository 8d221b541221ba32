"""What is logged: the log of a GRPO step, with as many metrics as wanted, and a journal full of them."""

from __future__ import annotations

import math
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rldk.journal import Journal
from rldk.recorder import Recorder, Run
from rldk.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL: Final = 20
_NAMES: Final = (
    *("loss", "grad_norm", "learning_rate", "num_tokens", "epoch", "step_time"),
    *("completions/mean_length", "completions/min_length", "completions/max_length"),
    *("completions/clipped_ratio", "completions/mean_terminated_length"),
    *("rewards/accuracy/mean", "rewards/accuracy/std", "reward", "reward_std", "frac_reward_zero_std"),
    *("kl", "entropy", "clip_ratio/low_mean", "clip_ratio/high_mean"),
)


def names(size: int = USUAL) -> tuple[str, ...]:
    """The keys of a log: 20 that TRL's GRPOTrainer has, then rewards of more and more functions."""
    more = (f"rewards/function_{i // 2}/{('mean', 'std')[i % 2]}" for i in range(size - USUAL))
    return (*_NAMES, *more)[:size]


def log(step: int, keys: tuple[str, ...] = _NAMES) -> dict[str, float]:
    """What a trainer logs after a step; the numbers need all their digits, and are never the same."""
    return {key: 0.001 + abs(math.sin(step + 7 * i)) for i, key in enumerate(keys)}


def write_journal(path: Path, steps: int) -> Path:
    """Record a run of so many steps of 20 metrics, and end it."""
    settings = Settings()
    recorder = Recorder(Journal(path), Run(run_id=path.stem, trainer="GRPO"), settings=settings)
    recorder.begin(0, [])
    for step in range(1, steps + 1):
        recorder.emit("metrics", step, log(step))
    recorder.end("FINISHED", steps)
    return path


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder that is gone afterwards; `TMPDIR` tells on which disk."""
    with tempfile.TemporaryDirectory(prefix="rldk-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()
