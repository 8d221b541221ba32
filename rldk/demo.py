"""What does RLDK do? One real training run, recorded everywhere and read back."""

from __future__ import annotations

import logging
import os
import warnings
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.compare import differing_cells
from rldk.errors import JournalError, MissingDependencyError
from rldk.ingest import ingest_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import pandas as pd
    from transformers import (
        PreTrainedTokenizerBase,
        TrainerControl,
        TrainerState,
        TrainingArguments,
    )

    from rldk.delivery import DeliveryReport
    from rldk.integrations.trl import RLDKCallback

WORDS: Final = ("yes", "no", "maybe", "good", "bad", "left", "right", "up", "down", "one", "two", "three")
PROJECT: Final = "rldk-demo"


class DemoRun(NamedTuple):
    """Where the demo's run is, and what each tracker got."""

    run_id: str
    journal: Path
    reports: list[DeliveryReport]

    @property
    def sources(self) -> dict[str, str]:
        """Every home of the run: its name to what `ingest_runs` takes."""
        trackers = {report.tracker: report.home.source for report in self.reports if report.home}
        return {"journal": str(self.journal), **trackers}

    @property
    def incomplete(self) -> list[str]:
        """Trackers that did not get everything, with the reasons."""
        return [
            f"{r.tracker}: {'; '.join(r.reasons) or 'not complete'}"
            for r in self.reports
            if r.home is None or r.waiting or r.rejected or not r.is_closed
        ]


class Readback(NamedTuple):
    """The run as each home gives it back."""

    tables: dict[str, pd.DataFrame]
    differences: dict[str, dict[str, int]]
    """For each home but the journal: column to the count of cells in which it differs from the journal."""

    @property
    def agrees(self) -> bool:
        """Whether every home gives back every value of every step."""
        return not any(count for columns in self.differences.values() for count in columns.values())


def train(
    output: Path,
    *,
    steps: int,
    trackers: Sequence[str],
    on_step: Callable[[int], None],
    tracking_uri: str | None = None,
) -> DemoRun:
    """Train a tiny model with GRPO on this machine's CPU, with an RLDKCallback beside the trackers.

    Args:
        output: Folder for everything that the run writes.
        steps: Optimizer steps, each of which is logged.
        trackers: Which of `mlflow` and `wandb` to open a run in.
        on_step: Called with the number of steps done.
        tracking_uri: The MLflow server to record in; without it, it is a database in `output`.

    Raises:
        MissingDependencyError: TRL or a tracker is not installed.
    """
    for library in ("trl", *trackers):
        if find_spec(library) is None:
            raise MissingDependencyError("the demo", library, extra=library)
    _quiet()
    output.mkdir(parents=True, exist_ok=True)
    model, tokenizer = build_tiny_model(output / "model")
    open_run: dict[str, Callable[[Path], Callable[[], None]]] = {
        "mlflow": partial(_open_mlflow, tracking_uri),
        "wandb": _open_wandb,
    }
    close = [open_run[tracker](output) for tracker in trackers]
    try:
        callback = _train(output, steps, model, tokenizer, on_step)
    finally:
        for each in close:
            each()
    if callback.run_id is None or callback.journal_path is None:
        raise JournalError(output / "journal", "nothing was recorded", "see the error that was logged above")
    return DemoRun(callback.run_id, callback.journal_path, callback.reports)


def read_back(run: DemoRun) -> Readback:
    """Ingest the run from all its homes and compare each with the journal."""
    tables = {name: ingest_runs(source) for name, source in run.sources.items()}
    others = (name for name in tables if name != "journal")
    return Readback(tables, {name: differing_cells(tables["journal"], tables[name]) for name in others})


def build_tiny_model(folder: Path) -> tuple[str, PreTrainedTokenizerBase]:
    """Make a two-layer causal model and a word tokenizer on the spot; nothing is downloaded.

    Returns:
        The model's folder, for TRL loads the reference model from there, and the tokenizer.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    vocabulary = {word: i for i, word in enumerate(("<pad>", "<eos>", "<unk>", *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106  # a word of the vocabulary
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",  # noqa: S106  # a word of the vocabulary
        eos_token="<eos>",  # noqa: S106  # a word of the vocabulary
        unk_token="<unk>",  # noqa: S106  # a word of the vocabulary
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder), tokenizer


def share_of_good(completions: list[str], **_: object) -> list[float]:
    """Reward: the share of the words that are `good`."""
    return [text.split().count("good") / max(len(text.split()), 1) for text in completions]


def brevity(completions: list[str], **_: object) -> list[float]:
    """Reward: up to 0.2 for a short answer."""
    return [0.2 * (1 - min(len(text.split()), 16) / 16) for text in completions]


def _train(
    output: Path, steps: int, model: str, tokenizer: PreTrainedTokenizerBase, on_step: Callable[[int], None]
) -> RLDKCallback:
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from rldk.integrations.trl import RLDKCallback

    class GainPerKL(RLDKCallback):
        """Adds a metric of its own: the reward gained for each nat of KL, which is 0/0 at first."""

        first_reward: float | None = None

        def on_log(
            self,
            args: TrainingArguments,
            state: TrainerState,
            control: TrainerControl,
            logs: dict[str, Any] | None = None,
            **kwargs: object,
        ) -> None:
            """Add the metric, then record."""
            if logs and "reward" in logs and "kl" in logs:
                if self.first_reward is None:
                    self.first_reward = logs["reward"]
                logs["reward_gain_per_kl"] = _ratio(logs["reward"] - self.first_reward, logs["kl"])
            super().on_log(args, state, control, logs=logs, **kwargs)

    class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
        """Tells how far training is."""

        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
        ) -> None:
            """Tell the step."""
            del args, control, kwargs
            on_step(state.global_step)

    prompts = Dataset.from_dict({"prompt": [f"{a} {b}" for a in WORDS for b in WORDS]})
    callback = GainPerKL(output_dir=output / "journal")
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[share_of_good, brevity],
        args=GRPOConfig(
            output_dir=str(output / "trainer"),
            max_steps=steps,
            logging_steps=1,
            eval_strategy="steps",
            eval_steps=max(steps // 2, 1),
            save_strategy="no",
            per_device_train_batch_size=8,
            per_device_eval_batch_size=8,
            num_generations=4,
            num_iterations=2,
            max_completion_length=16,
            learning_rate=5e-3,
            beta=0.01,
            seed=42,
            use_cpu=True,
            bf16=False,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=prompts,
        eval_dataset=prompts.select(range(8)),
        processing_class=tokenizer,
        callbacks=[callback, Progress()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return callback


def _ratio(gain: float, kl: float) -> float:
    if kl:
        return gain / kl
    return float("nan") if gain == 0 else float("inf") if gain > 0 else float("-inf")


def _open_wandb(output: Path) -> Callable[[], None]:
    import wandb

    run = wandb.init(project=PROJECT, dir=str(output), mode="offline", settings=wandb.Settings(silent=True))
    return run.finish  # type: ignore[no-any-return]  # wandb is not typed here


def _open_mlflow(tracking_uri: str | None, output: Path) -> Callable[[], None]:
    import mlflow

    mlflow.set_tracking_uri(tracking_uri or f"sqlite:///{(output / 'mlflow.db').resolve()}")
    if tracking_uri is None and mlflow.get_experiment_by_name(PROJECT) is None:
        mlflow.create_experiment(PROJECT, artifact_location=(output / "mlartifacts").resolve().as_uri())
    mlflow.set_experiment(PROJECT)
    mlflow.start_run()
    return mlflow.end_run  # type: ignore[no-any-return]  # mlflow is not typed here


def _quiet(loggers: Iterable[str] = ("alembic", "mlflow", "httpx")) -> None:
    """The demo's own words should be read; MLflow and W&B say a lot."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    for name in loggers:
        logging.getLogger(name).setLevel(logging.WARNING)
