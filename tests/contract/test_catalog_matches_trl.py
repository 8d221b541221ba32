"""The catalog lists what the installed TRL writes: every name, for each trainer, and no other."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from rldk import catalog

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
TRAINERS = ("PPO", "GRPO", "RLOO", "DPO", "KTO", "Reward", "SFT", "OnlineDPO")
LAST_WITH_PPO = (1, 12)

NOT_LOGGED = {
    "objective": "goes to the report of a hyper-parameter search",
    "tokens_per_second": "speed_metrics is given no tokens in an evaluation",
    "test_runtime": "predict() logs nothing",
    "test_samples_per_second": "predict() logs nothing",
    "test_steps_per_second": "predict() logs nothing",
    "test_tokens_per_second": "predict() logs nothing",
}
"""What transformers' trainer writes into a dict of metrics, but not into a log."""

OF_TRANSFORMERS_4 = {"jit_compilation_time"}
"""Of the shared keys, those that depend on the release of transformers instead of TRL's."""


def test_the_catalog_knows_every_name(trl_metrics, trl):
    """What is named here is written by this TRL, and missing in catalog.toml for it."""
    assert trl_metrics.unknown_keys(*trl) == {}


def test_the_catalog_invents_no_name(trl_metrics, trl, transformers):
    """What is named here is in catalog.toml for this TRL, but written by neither it nor transformers."""
    found = trl_metrics.unwritten_keys(trl[0], transformers, trl[1])
    assert {trainer: keys for trainer, keys in found.items() if keys - OF_TRANSFORMERS_4} == {}


def test_the_catalog_knows_what_callbacks_log(trl_metrics, trl):
    """They log through the trainer that they are attached to."""
    assert {
        key for key in trl_metrics.callback_keys(trl[0]) if catalog.find(key, "SFT", trl[1]) is None
    } == set()


def test_the_catalog_knows_what_transformers_logs(trl_metrics, transformers):
    """Its own trainer's names are known for every trainer that runs its loop."""
    written = trl_metrics.transformers_keys(transformers) - NOT_LOGGED.keys()
    assert {"loss", "grad_norm", "runtime", "train_runtime", "train_loss"} <= written
    assert {key for key in written if catalog.find(key, "SFT") is None} == set()


def test_every_trainer_was_read(trl_metrics, trl):
    """TRL has each of the eight, but for PPO after 1.12."""
    release = tuple(map(int, trl[1].split(".")[:2]))
    gone = {"PPO"} if release > LAST_WITH_PPO else set()
    assert {trainer for trainer in TRAINERS if not trl_metrics.trainer_keys(trl[0], trainer)} == gone


def test_the_reader_sees_all_that_was_logged(trl_metrics, trl, transformers):
    """What real trainers of this TRL logged is among the names read from its source."""
    shared = trl_metrics.transformers_keys(transformers)
    for path in RECORDINGS.glob(f"{trl[1]}_*.jsonl"):
        trainer = next(t for t in TRAINERS if t.lower() == path.stem.split("_")[1])
        patterns = [catalog._pattern(key) for key in trl_metrics.trainer_keys(trl[0], trainer) | shared]
        logged = {key for line in path.read_text().splitlines() for key in json.loads(line)["logs"]}
        bare = {key.removeprefix("eval_") for key in logged}
        assert {key for key in bare if not any(pattern.fullmatch(key) for pattern in patterns)} == set()


@pytest.mark.parametrize(
    ("trainer", "module", "old", "new"),
    [
        ("GRPO", "grpo_trainer.py", "completions/mean_length", "completions/mean_words"),
        ("SFT", "sft_trainer.py", "mean_token_accuracy", "token_hits"),
        ("OnlineDPO", "online_dpo_trainer.py", "objective/kl", "objective/kl_sum"),
    ],
)
def test_a_renamed_key_is_reported(trl_metrics, trl, transformers, tmp_path, trainer, module, old, new):
    """In a copy of TRL's source with one key renamed, exactly this key is unknown and the old one gone."""
    copy = tmp_path / "trl"
    shutil.copytree(trl[0], copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob(module):
        path.write_text(path.read_text().replace(f'"{old}"', f'"{new}"'))
    assert trl_metrics.unknown_keys(copy, trl[1]) == {trainer: {new}}
    assert trl_metrics.unwritten_keys(copy, transformers, trl[1])[trainer] - OF_TRANSFORMERS_4 == {old}


def test_trl_is_not_imported(trl_metrics, trl):
    """Reading takes no import, which would need a GPU's libraries and many seconds."""
    before = set(sys.modules)
    trl_metrics.unknown_keys(*trl)
    assert not any(
        name.partition(".")[0] in {"trl", "transformers", "torch"} for name in set(sys.modules) - before
    )
