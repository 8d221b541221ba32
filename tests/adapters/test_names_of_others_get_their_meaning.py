"""What others have logged gets canonical names by the catalog, for the trainer whose keys they are."""

from __future__ import annotations

import json

import pytest

from rldk.canonical import Renamer, nearest
from rldk.event import Event
from rldk.ingest import ingest_runs


def state(tmp_path, *entries):
    """A trainer_state.json with this history."""
    path = tmp_path / "out" / "trainer_state.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"global_step": 9, "log_history": list(entries)}))
    return path


def raw(run_id="r", **metrics):
    """A raw event."""
    info = {"run_id": run_id, "raw": True}
    return Event(step=1, wall_time=0.0, metrics=metrics, rng={}, data_slice={}, model_info=info, notes=[])


GRPO = {
    "reward": 1.0,
    "reward_std": 0.5,
    "kl": 0.1,
    "completions/mean_length": 9.0,
    "grad_norm": 2.0,
    "step": 1,
}


def test_the_trainer_is_found_by_its_keys(tmp_path):
    """GRPO's kl is a mean over tokens, PPO's a sum over a sequence: the names tell them apart."""
    grpo = ingest_runs(state(tmp_path / "a", GRPO))
    ppo = {"objective/kl": 3.0, "objective/rlhf_reward": 1.0, "policy/clipfrac_avg": 0.1, "step": 1}
    table = ingest_runs(state(tmp_path / "b", ppo))
    assert (list(grpo.attrs["trainers"].values()), list(table.attrs["trainers"].values())) == (
        ["GRPO"],
        ["PPO"],
    )
    assert grpo["kl_mean"].tolist() == [0.1]
    assert table["kl_seq_mean"].tolist() == [3.0]
    assert (grpo.attrs["units"]["kl_mean"], table.attrs["units"]["kl_seq_mean"]) == (
        "nats/token",
        "nats/sequence",
    )


@pytest.mark.parametrize("prefix", ["", "train/", "train."])
def test_a_trackers_prefix_is_taken_off(prefix):
    """As transformers' callbacks put it on for W&B and TensorBoard."""
    logs = {f"{prefix}reward": 1.0, f"{prefix}kl": 0.5, "eval/reward": 2.0, "train/global_step": 7}
    renamer = Renamer()
    assert not renamer.take(raw(**logs))
    train, evaluated = renamer.rest()
    assert train.metrics == {"reward_mean": 1.0, "kl_mean": 0.5}
    assert (evaluated.phase, evaluated.metrics) == ("eval", {"reward_mean": 2.0})


def test_names_that_rldk_gave_in_a_tracker_are_taken_back(tmp_path):
    """As they stand in an export of a run that it recorded; canonical names are known, too."""
    logs = {"rldk/kl_mean": 0.5, "rldk/eval/loss": 2.0, "rldk/step": 7, "rldk/data/rows": 3}
    logs |= {"reward_mean": 1.0}
    table = ingest_runs(state(tmp_path, {"step": 7} | logs))
    assert (table["kl_mean"][0], table["reward_mean"][0], table["loss"][1]) == (0.5, 1.0, 2.0)
    assert table["phase"].tolist() == ["train", "eval"]
    assert set(table.attrs["unknown"]) <= {"rldk/data/rows", "step"}


def test_a_field_map_goes_before_the_catalog(tmp_path):
    """The user knows what their own names mean."""
    path = state(tmp_path, GRPO | {"my_divergence": 0.7})
    table = ingest_runs(path, field_map={"my_divergence": "kl_mean"})
    assert table["kl_mean"].tolist() == [0.7]
    assert table.attrs["unknown"] == {}


def test_names_that_are_not_known_are_told_with_what_to_give(tmp_path, caplog):
    """They are kept; the message holds the nearest canonical name and the option."""
    table = ingest_runs(state(tmp_path, GRPO | {"gradnorm": 1.0, "my_kl": 0.2}))
    assert table["gradnorm"].tolist() == [1.0]
    assert table.attrs["unknown"] == {"gradnorm": 1, "my_kl": 1}
    assert "--field-map gradnorm=grad_norm" in caplog.text
    assert "--field-map my_kl=kl_mean" in caplog.text


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ent", "entropy_mean"),
        ("mean_reward", "reward_mean"),
        ("gradnorm", "grad_norm"),
        ("policy/my_kl", "kl_mean"),
    ],
)
def test_the_nearest_name_is_a_canonical_one(name, meant):
    """As people abbreviate."""
    assert nearest(name)[0] == meant


def test_runs_of_several_sources_are_one_table(tmp_path):
    """Each row tells its run; a source among several that cannot be read is told and stops no other."""
    one, two = state(tmp_path / "one", GRPO), state(tmp_path / "two", GRPO)
    broken = tmp_path / "broken_events.jsonl"
    broken.write_text("garbage\n")
    table = ingest_runs([one.parent, broken, two.parent])
    assert table["run_id"].tolist() == ["out", "out-2"]
    assert "broken_events.jsonl" in str(table.attrs["problems"])
