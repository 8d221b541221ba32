"""The checkpoints of real trainers are analysed while they train."""

import os
import warnings

import pytest

from rldk.health.checkpoints import Analyst, is_finite

pytest.importorskip("trl")

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
pytestmark = pytest.mark.real

WORDS = ["good bad", "left right", "up down", "one two"] * 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A two-layer causal model's folder, and its tokenizer."""
    from rldk.demo import build_tiny_model

    return build_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def train(tiny, tmp_path):
    """Train for some steps, saving at each; gives what the analyst told, by step, and the folder."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

    events, analyst = {}, Analyst()

    class Watch(TrainerCallback):
        def on_save(self, args, state, control, **_):
            folder = tmp_path / "out" / f"checkpoint-{state.global_step}"
            analyst.submit(state.global_step, folder, lambda step, *told: events.update({step: told}))

    def run(name, **options):
        common = {
            "output_dir": str(tmp_path / "out"),
            "max_steps": 4,
            "save_strategy": "steps",
            "save_steps": 2,
        }
        common |= {"use_cpu": True, "bf16": False, "report_to": [], "disable_tqdm": True, "seed": 1}
        common |= {"per_device_train_batch_size": 2}
        folder, tokenizer = tiny
        shared = {"processing_class": tokenizer, "callbacks": [Watch()]}
        if name == "SFT":
            args = SFTConfig(max_length=32, **(common | options))
            data = Dataset.from_dict({"text": WORDS})
            trainer = SFTTrainer(folder, args=args, train_dataset=data, **shared)
        else:
            args = GRPOConfig(num_generations=2, max_completion_length=4, **(common | options))
            data = Dataset.from_dict({"prompt": WORDS})
            trainer = GRPOTrainer(
                folder,
                reward_funcs=lambda completions, **_: [float(len(c)) for c in completions],
                args=args,
                train_dataset=data,
                **shared,
            )
        trainer.train()
        assert analyst.finish(60) == []
        return events, trainer.model

    return run


@pytest.mark.parametrize("name", ["SFT", "GRPO"])
def test_a_healthy_run_shows_its_drift_and_no_finding(train, tmp_path, name):
    """Each saved step is told once, with the norm that the model really has."""
    events, model = train(name, learning_rate=1e-3)
    assert list(events) == [2, 4]
    metrics, facts = events[4]
    kept = {id(each): each for each in model.parameters()}.values()
    assert metrics["parameters"] == sum(each.numel() for each in kept)
    norm = sum(float(each.detach().double().norm()) ** 2 for each in kept) ** 0.5
    assert metrics["norm"] == pytest.approx(norm, rel=1e-6)
    assert 0 < metrics["relative_change"] < 0.1
    assert 0.99 < metrics["cosine"] <= 1
    assert metrics["nonfinite_count"] == metrics["exploding_tensors"] == metrics["dead_tensors"] == 0
    assert facts["analysis"]["findings"] == []
    assert is_finite(tmp_path / "out" / "checkpoint-4") is True


def test_a_run_whose_learning_rate_is_nothing_is_found(train):
    """Its checkpoints are the same."""
    events, _ = train("SFT", learning_rate=0.0)
    (finding,) = events[4][1]["analysis"]["findings"]
    assert finding["rule"] == "checkpoint_unchanged"
    assert events[4][0]["relative_change"] == 0


def test_a_run_that_breaks_is_found(train, tmp_path):
    """The weights overflow; the last good checkpoint is the one before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        events, _ = train(
            "SFT", learning_rate=3e38, max_grad_norm=0, warmup_steps=2, max_steps=6, optim="sgd"
        )
    rules = [each["rule"] for each in events[6][1]["analysis"]["findings"]]
    assert "checkpoint_nonfinite" in rules
    assert is_finite(tmp_path / "out" / "checkpoint-6") is False


def test_with_one_checkpoint_kept_the_change_of_the_norm_is_known(train):
    """save_total_limit=1 deletes the previous one before the next is told."""
    events, _ = train("SFT", learning_rate=1e-3, save_total_limit=1)
    analysis = events[4][1]["analysis"]
    assert "no such folder" in analysis["unavailable"]["relative_change"]
    assert analysis["norm_change"] != 0
    assert analysis["findings"] == []
