"""A training's arguments are read from files, runs and checkpoints, and nothing that is read is run."""

from __future__ import annotations

import json
import os
import pickle
import zipfile

import pytest

from rldk.doctor import saved_args
from rldk.doctor.configuration import configured
from rldk.errors import RLDKError, SettingError, SourceError
from tests.cli._tail_runs import Writer


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("grpo.yaml", "beta: 0.0\nlogging_steps: 5\nreport_to: [wandb]\nmax_steps: 70\n"),
        ("grpo.json", '{"beta": 0.0, "logging_steps": 5, "report_to": ["wandb"], "max_steps": 70}'),
        ("grpo.toml", 'beta = 0.0\nlogging_steps = 5\nreport_to = ["wandb"]\nmax_steps = 70\n'),
    ],
)
def test_files_of_arguments(tmp_path, name, text):
    """YAML as TRL's command takes it, JSON, TOML; what is typed goes before."""
    path = tmp_path / name
    path.write_text(text)
    known = configured(str(path), "grpo", ["beta=0.5", "eval_strategy=steps"])
    expected = {
        "beta": 0.5,
        "logging_steps": 5,
        "report_to": ["wandb"],
        "max_steps": 70,
        "eval_strategy": "steps",
    }
    assert (known.trainer, known.args, known.max_steps) == ("GRPO", expected, 70)
    assert not known.is_whole


def test_a_run_tells_all(tmp_path):
    """A journal holds the trainer and its arguments; max_steps may be typed anew."""
    writer = Writer(tmp_path, trainer="DPO", beta=0.1, max_steps=50)
    writer.journal.close()
    known = configured(str(writer.path), None, [])
    assert (known.trainer, known.max_steps, known.is_whole) == ("DPO", 50, True)
    assert configured(str(writer.path), None, ["max_steps=9"]).max_steps == 9


def test_a_trainer_state_is_a_run(tmp_path):
    """It is JSON, and yet no file of arguments."""
    path = tmp_path / "trainer_state.json"
    logs = [{"step": 1, "loss": 1.0, "rewards/chosen": 0.1, "rewards/rejected": 0.0, "rewards/margins": 0.1,
             "rewards/accuracies": 1.0, "logps/chosen": -1.0}]  # fmt: skip
    path.write_text(json.dumps({"log_history": logs, "global_step": 1, "max_steps": 10}))
    assert configured(str(path), "DPO", []).trainer == "DPO"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, None, ["beta=0"]), "--trainer=None cannot be used; give one of PPO, GRPO"),
        ((None, "A2C", []), "--trainer='A2C' cannot be used"),
        ((None, "GRPO", ["beta"]), "--set='beta' cannot be used; give NAME=VALUE"),
        ((None, "GRPO", ["max_steps=1.5"]), "--set max_steps=1.5 cannot be used; give a whole number"),
        ((None, "GRPO", ["max_steps=true"]), "--set max_steps=True cannot be used; give a whole number"),
        ((None, "GRPO", ["max_steps=many"]), "--set max_steps='many' cannot be used; give a whole number"),
    ],
)
def test_misuse_is_told(given, said):
    """In one sentence, with what to give."""
    with pytest.raises(SettingError) as error:
        configured(*given)
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["[1, 2", "\xff\x00"])
def test_a_broken_file_cannot_be_read(tmp_path, text):
    """Exit code 3."""
    path = tmp_path / "args.json"
    path.write_text(text)
    with pytest.raises(SourceError):
        configured(str(path), "GRPO", [])


def saved(path, obj):
    """Write what torch.save writes around a pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("training_args/data.pkl", pickle.dumps(obj))
    return path


@pytest.mark.real
def test_a_checkpoints_arguments_are_read(tmp_path):
    """As a real trainer saves them: the class tells the trainer, its state how long it trains."""
    import torch
    from trl import GRPOConfig

    args = GRPOConfig(
        str(tmp_path), use_cpu=True, bf16=False, beta=0.25, eval_strategy="steps", eval_steps=7, report_to=[]
    )
    torch.save(args, tmp_path / saved_args.NAME)
    (tmp_path / "trainer_state.json").write_text('{"max_steps": 123}')
    known = configured(str(tmp_path), None, [])
    told = {name: known.args[name] for name in ("beta", "eval_strategy", "eval_steps", "num_generations")}
    assert told == {"beta": 0.25, "eval_strategy": "steps", "eval_steps": 7, "num_generations": 8}
    assert (known.trainer, known.max_steps, known.is_whole) == ("GRPO", 123, True)


class GRPOConfig:
    """Its name tells the trainer."""


class Evil:
    """Asks the one who reads it to run something."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(
    ("given", "max_steps"),
    [
        ([], 500),
        (["beta=0.1"], 500),
        (["num_train_epochs=100"], None),
        (["per_device_train_batch_size=1"], None),
        (["max_steps=0.5e4"], 5000),
        (["max_steps=70", "num_train_epochs=2"], 70),
        (["max_steps=-1"], None),
    ],
)
def test_the_horizon_follows_what_is_typed(tmp_path, given, max_steps):
    """How long a checkpoint was trained says nothing of other epochs, or another batch."""
    args = GRPOConfig()
    args.max_steps, args.num_train_epochs = -1, 3
    saved(tmp_path / saved_args.NAME, args)
    (tmp_path / "trainer_state.json").write_text('{"max_steps": 500}')
    known = configured(str(tmp_path), None, given)
    assert (known.max_steps, known.trainer) == (max_steps, "GRPO")


def test_steps_go_before_epochs(tmp_path):
    """As they do in the trainer."""
    args = GRPOConfig()
    args.max_steps = 500
    saved(tmp_path / saved_args.NAME, args)
    assert configured(str(tmp_path), None, ["num_train_epochs=100"]).max_steps == 500


def test_a_pickle_runs_nothing(tmp_path):
    """What it asks for is neither run nor imported."""
    path = saved(tmp_path / saved_args.NAME, Evil(tmp_path / "ran"))
    with pytest.raises(SourceError, match="holds no arguments"):
        saved_args.read(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04junk", b"\x80\x04K\x01."])
def test_a_damaged_pickle_is_told(tmp_path, content):
    """Whatever it holds, the error is one of RLDK's."""
    path = tmp_path / saved_args.NAME
    path.write_bytes(content)
    with pytest.raises(RLDKError):
        saved_args.read(path)


def test_a_pickle_that_names_without_end_is_refused(tmp_path):
    """Memory is bounded."""
    names = b"".join(b"ca\nb%d\n0" % number for number in range(2000))
    with zipfile.ZipFile(tmp_path / saved_args.NAME, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + names + b"N.")
    with pytest.raises(SourceError, match="names too much"):
        saved_args.read(tmp_path / saved_args.NAME)


class Arguments:
    """Stands for a trainer's."""


def nested(times, members):
    """Lists in which each holds the one below many times; they are few, and stand for many."""
    made = ["x"]
    for _ in range(times):
        made = [made] * members
    return made


@pytest.mark.timeout(20)
def test_few_lists_that_stand_for_many_are_refused(tmp_path):
    """A file of some hundred bytes that takes forever, or all memory, to be written out."""
    args = Arguments()
    args.deep = nested(7, 40)
    path = saved(tmp_path / saved_args.NAME, args)
    assert path.stat().st_size < 1000
    with pytest.raises(SourceError, match="hold more than 100,000 values"):
        saved_args.read(path)


def test_what_is_packed_is_refused(tmp_path):
    """torch.save packs nothing; what is packed may unpack to anything."""
    with zipfile.ZipFile(tmp_path / saved_args.NAME, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a/data.pkl", bytes(1000))
    with pytest.raises(SourceError, match="is packed"):
        saved_args.read(tmp_path / saved_args.NAME)
