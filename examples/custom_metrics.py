"""Metrics of your own: by rldk.log from anywhere, and by a subclass that looks at the trainer's log.

python examples/custom_metrics.py [FOLDER]
"""

from typing import Any

import tiny
from transformers import TrainerControl, TrainerState, TrainingArguments
from trl import GRPOConfig, GRPOTrainer

import rldk
from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback


def reward(completions: list[str], **_: object) -> list[float]:
    """Score the completions, and tell how varied they are."""
    words = " ".join(completions).split()
    rldk.log({"distinct_words": len(set(words)), "style/repeats": 1 - len(set(words)) / max(len(words), 1)})
    return tiny.reward(completions)


class WithRewardPerToken(RLDKCallback):
    """Adds what follows from the trainer's own log."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        """Add the metric, then record."""
        if logs and "reward" in logs:
            logs["reward_per_token"] = logs["reward"] / logs["completions/mean_length"]
        super().on_log(args, state, control, logs=logs, **kwargs)


folder = tiny.folder()
model, tokenizer = tiny.model(folder)
callback = WithRewardPerToken(output_dir=folder / "rldk")
GRPOTrainer(
    model=model,
    reward_funcs=reward,
    args=GRPOConfig(output_dir=str(folder / "out"), **tiny.GRPO),
    train_dataset=tiny.prompts(),
    processing_class=tokenizer,
    callbacks=[callback],
).train()

columns = ["step", "reward_mean", "reward_per_token", "distinct_words", "style/repeats"]
print(ingest_runs(callback.journal_path)[columns].dropna().tail(8).round(4).to_string(index=False))
print(f"\nA rule about them: examples/custom_rule.py.   Their plots: {folder}/rldk/*_report.html")
