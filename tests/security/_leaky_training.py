"""A training that is told secrets wherever it can be told anything, and fails in the end.

Run as a program. The secrets come in a JSON file, for the trackers themselves would record a command line.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import trl
import wandb
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback

import rldk
from rldk.health.rule import Rule, firing
from rldk.integrations.trl import EventWriterCallback, RLDKCallback

TOLD = json.loads(Path(sys.argv[1]).read_text())
FORMS, PLACES, NAMED = TOLD["forms"], TOLD["places"], TOLD["named"]


@dataclass
class SFTConfig(trl.SFTConfig):
    """The user's own, with more fields."""

    reward_api_key: str = ""
    dataset_path: str = ""
    launched_by: list[str] = field(default_factory=list)
    judge: dict[str, Any] = field(default_factory=dict)
    friends: dict[str, str] = field(default_factory=dict)
    notebook: Any = None


class Careless(Rule):
    """A rule of the user's that tells all it knows."""

    name = "careless"
    title = f"Careless with {FORMS['stripe']}"
    advice = PLACES["a URL's password"]
    source = PLACES["a signed URL"]

    def judge(self, window):
        """Say too much."""
        del window
        return firing("warning", PLACES["a bearer header"], **{FORMS["npm"]: 1.0, "seen": FORMS["pypi"]})

    def notes(self, verdict):
        """Say it again."""
        del verdict
        return [PLACES["an exception"], FORMS["slack"]]


class Broken(Careless):
    """A rule that fails, and tells why."""

    name = "broken"

    def judge(self, window):
        """Fail."""
        del window
        raise RuntimeError(PLACES["a database's password"])


class Recorder(RLDKCallback):
    """Logs metrics of its own, whose names hold what they should not."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Add to the log."""
        if logs is not None:
            logs[f"judge/{FORMS['jwt']}"] = 1.0
            logs[PLACES["a signature of Azure"]] = 2.0
            logs[f"text {FORMS['twilio']}"] = "no number"
            logs["pad_token_frac"] = 0.25
        super().on_log(args, state, control, logs=logs, **kwargs)


class Failing(TrainerCallback):
    """Ends the training with an error that tells too much."""

    def on_step_end(self, args, state, control, **kwargs):
        """Fail at the fourth step."""
        del args, control, kwargs
        rldk.log({f"mine/{FORMS['groq']}": 3.0})
        if state.global_step >= 4:
            raise RuntimeError(f"{PLACES['a password with a slash']} {FORMS['databricks']}")


def on_alert(event):
    """Fail, and tell with what."""
    raise RuntimeError(f"{PLACES['a webhook of Slack']} refused {event.notes}")


def arguments(folder):
    """The trainer's arguments."""
    return SFTConfig(
        output_dir=str(folder / "out"),
        run_name=f"sft-{FORMS['hugging face']}",
        hub_token=FORMS["wandb v1"],
        hub_model_id="acme/policy",
        max_steps=9,
        logging_steps=1,
        save_strategy="no",
        per_device_train_batch_size=2,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
        max_length=32,
        reward_api_key=NAMED["reward_api_key"],
        dataset_path=PLACES["an access signature of Azure"],
        launched_by=["train.py", "--api-key", NAMED["option"], PLACES["a command line"]],
        judge={
            "headers": {"Authorization": NAMED["header"]},
            "nested": json.dumps({"password": NAMED["json"], "inner": json.dumps({"token": NAMED["inner"]})}),
            FORMS["google"]: {"x": PLACES["a service account"]},
            "places": list(PLACES.values()),
            "forms": list(FORMS.values()),
            "raw": FORMS["sendgrid"].encode(),
            "path": Path("/data") / FORMS["telegram"],
        },
        friends=TOLD["friends"],
        notebook=type("Notebook", (), {"__repr__": lambda _: PLACES["a data class"]})(),
    )


def train(folder):
    """Train in every home at once."""
    model = AutoModelForCausalLM.from_pretrained(TOLD["model"])
    model.config.api_key = NAMED["model_config"]
    common = {"rules": [Careless(), Broken(), TOLD["rules"]]}
    recorder = Recorder(folder / "rldk", on_alert=on_alert, **common)
    lines = EventWriterCallback(
        folder / "rldk" / "lines.jsonl", tags={"hub_token": NAMED["tag"], "who": FORMS["replicate"]}
    )
    trainer = trl.SFTTrainer(
        model,
        args=arguments(folder),
        train_dataset=Dataset.from_dict({"text": ["good bad yes", "left right no"] * 10}),
        processing_class=PreTrainedTokenizerFast.from_pretrained(TOLD["model"]),
        callbacks=[recorder, lines, Failing()],
    )
    trainer.remove_callback(PrinterCallback)  # which prints each log, as it is
    sys.excepthook = lambda *_: None  # what Python itself prints of the error is the script's own
    trainer.train()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    for name in ("rldk", "rldk_mlflow", "rldk_wandb"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    wandb.init(project="p", mode="offline")
    mlflow.set_experiment("e")
    mlflow.start_run()
    train(Path.cwd())
