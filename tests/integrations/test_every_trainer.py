"""Each of TRL's eight trainers is recorded whole, with every metric that it logs under a known name."""

from __future__ import annotations

import math

import pytest

from rldk import catalog
from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback
from rldk.journal import read

pytestmark = pytest.mark.real

TRAINERS = ["PPO", "GRPO", "RLOO", "DPO", "OnlineDPO", "KTO", "Reward", "SFT"]


class Listener(RLDKCallback):
    """Keeps a copy of what the trainer logged."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.heard = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Keep a copy, then record."""
        before = dict(logs)
        super().on_log(args, state, control, logs=logs, **kwargs)
        assert logs == before or repr(logs) == repr(before), "the shared log was changed"
        self.heard.append(before)


@pytest.fixture(params=TRAINERS)
def trained(request, make_trainer, tmp_path):
    """Train with one of the trainers; gives its name, the trainer and the callback."""
    callback = Listener(output_dir=tmp_path / "rldk")
    trainer = make_trainer(request.param, [callback])
    trainer.train()
    return request.param, trainer, callback


def test_a_real_run_is_recorded_whole(trained):
    """Every step, the trainer's name, each number that it logged, and the end are in the journal."""
    name, trainer, callback = trained
    events = [entry.event for entry in read(callback.journal_path)]
    table = ingest_runs(callback.journal_path)
    assert callback.errors == 0
    assert (events[0].model_info["trainer"], events[-1].model_info["status"]) == (name, "FINISHED")
    assert table["step"].tolist() == list(range(1, trainer.state.global_step + 1))
    assert table["lr"].notna().all()
    unknown = {key for logs in callback.heard for key in logs if catalog.find(key, name) is None}
    assert unknown == set()
    logged = [v for logs in callback.heard for k, v in logs.items() if v is not None and k != "epoch"]
    kept = [v for e in events if e.kind in {"metrics", "end"} for k, v in e.metrics.items() if k != "epoch"]
    assert set(map(repr, logged)) <= set(map(repr, kept))


def test_ppo_gets_the_gradient_norm_that_it_does_not_log(make_trainer, tmp_path):
    """A hook before the optimizer's step measures it; switched off, it stays missing."""
    callback = RLDKCallback(output_dir=tmp_path / "a")
    make_trainer("PPO", [callback]).train()
    norms = ingest_runs(callback.journal_path)["grad_norm"]
    assert norms.notna().all()
    assert all(math.isfinite(norm) and norm > 0 for norm in norms)
    callback = RLDKCallback(output_dir=tmp_path / "b", measure_missing=False)
    make_trainer("PPO", [callback]).train()
    assert ingest_runs(callback.journal_path)["grad_norm"].isna().all()


def test_the_measured_gradient_norm_is_the_one_that_others_log(make_trainer):
    """On a trainer that logs a norm, the hook measures the same."""
    from transformers import TrainerCallback

    from rldk.integrations.trl.measures import GradientNorm

    measured = []

    class Both(TrainerCallback):
        """Measures beside the trainer."""

        def on_train_begin(self, args, state, control, optimizer=None, **kwargs):
            """Hook into the optimizer."""
            self.norm = GradientNorm(optimizer)

        def on_log(self, args, state, control, logs=None, **kwargs):
            """Compare."""
            if "grad_norm" in logs:
                measured.append((self.norm.take(), logs["grad_norm"]))

    make_trainer("SFT", [Both()], max_grad_norm=1e9).train()
    assert len(measured) == 3
    assert all(ours == pytest.approx(theirs, rel=1e-4) for ours, theirs in measured)


@pytest.mark.parametrize("name", ["GRPO", "DPO", "SFT"])
def test_evaluation_is_recorded_apart(make_trainer, tmp_path, name):
    """Rows of phase eval stand beside those of the same step in training, each once."""
    callback = RLDKCallback(output_dir=tmp_path / "rldk")
    make_trainer(name, [callback], eval_rows=4, eval_strategy="steps", eval_steps=2, max_steps=4).train()
    table = ingest_runs(callback.journal_path)
    rows = list(zip(table["step"], table["phase"], strict=True))
    assert rows == [(1, "train"), (2, "train"), (2, "eval"), (3, "train"), (4, "train"), (4, "eval")]
    assert table.loc[table["phase"] == "eval", "loss"].notna().all()


def test_gradient_accumulation_is_one_row_an_optimizer_step(make_trainer, tmp_path):
    """The step of the table is the optimizer's."""
    callback = RLDKCallback(output_dir=tmp_path / "rldk")
    make_trainer("SFT", [callback], gradient_accumulation_steps=2, max_steps=2).train()
    assert ingest_runs(callback.journal_path)["step"].tolist() == [1, 2]


def test_a_hidden_divergence_is_seen(make_trainer, tmp_path):
    """The loss that transformers logs is 0.0 while everything else is NaN: the note says so."""
    import torch

    callback = RLDKCallback(output_dir=tmp_path / "rldk")
    trainer = make_trainer("SFT", [callback])
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))
    trainer.train()
    first = next(e.event for e in read(callback.journal_path) if e.event.kind == "metrics")
    assert first.metrics["loss"] == 0.0
    assert math.isnan(first.metrics["grad_norm"])
    assert any("hides a divergence" in note for note in first.notes)


def test_several_trainers_in_one_process_keep_apart(make_trainer, tmp_path):
    """Two callbacks, two trainers, interleaved: each journal has its own run."""
    first, second = RLDKCallback(output_dir=tmp_path), RLDKCallback(output_dir=tmp_path)
    one, two = make_trainer("SFT", [first]), make_trainer("DPO", [second])
    one.train()
    two.train()
    trainers = [next(read(c.journal_path)).event.model_info["trainer"] for c in (first, second)]
    assert trainers == ["SFT", "DPO"]
    assert len(ingest_runs(first.journal_path)) == len(ingest_runs(second.journal_path)) == 3
