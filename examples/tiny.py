"""What the examples share: the demo's model, made on the spot, prompts, a reward, settings."""

import logging
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback
from transformers.utils import logging as transformers_logging

from rldk.demo import WORDS, build_tiny_model

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
logging.basicConfig(format="%(name)s: %(message)s")
logging.getLogger("rldk").setLevel(logging.INFO)  # RLDK says where it records, and how the run goes
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
torch.set_num_threads(1)  # a model this small is slower on more
PrinterCallback.on_log = lambda *_, **__: None  # its dictionaries would bury what the examples show

TRAINING = {
    "max_steps": 32,
    "logging_steps": 1,
    "save_strategy": "no",
    "per_device_train_batch_size": 8,
    "learning_rate": 5e-3,
    "use_cpu": True,
    "bf16": False,
    "report_to": [],
    "disable_tqdm": True,
    "seed": 42,
}
GRPO = TRAINING | {"num_generations": 4, "num_iterations": 2, "max_completion_length": 12, "beta": 0.04}


@cache
def folder() -> Path:
    """Where the example writes: the folder of its first argument, or a temporary one."""
    given = [word for word in sys.argv[1:] if not word.startswith("-")]
    made = Path(given[0] if given else tempfile.mkdtemp(prefix="rldk-example-")).absolute()
    made.mkdir(parents=True, exist_ok=True)
    return made


def model(at: Path) -> tuple[str, PreTrainedTokenizerBase]:
    """A causal language model of two layers and fifteen words, saved in a folder, and its tokenizer."""
    return build_tiny_model(at / "model")


def prompts() -> Dataset:
    """Two words each."""
    return Dataset.from_dict({"prompt": [f"{one} {other}" for one in WORDS for other in WORDS]})


def preferences() -> Dataset:
    """Prompts with a better answer and a worse one."""
    asked = prompts()["prompt"]
    answers = {"chosen": [" good yes"] * len(asked), "rejected": [" bad"] * len(asked)}
    return Dataset.from_dict({"prompt": asked, **answers})


def reward(completions: list[str], **_: object) -> list[float]:
    """Score each completion by the share of its words that are `good`."""
    return [text.split().count("good") / max(len(text.split()), 1) for text in completions]
