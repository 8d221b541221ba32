"""tokens_in and tokens_out follow from what the trainer counts, or stay missing."""

from __future__ import annotations

import pytest

from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback
from rldk.integrations.trl.tokens import TokenCounter

ONE_LOG = {"num_tokens": 88.0, "completions/mean_length": 16.0}
GRPO = {"generation_batch_size": 4, "logging_steps": 1}


def test_what_trains_on_given_text_read_the_difference():
    """The sum so far gives the tokens since the last log."""
    counter = TokenCounter("SFT", {}, is_resumed=True)
    assert [counter.count({"num_tokens": total}) for total in (10.0, 25.0)] == [
        {"tokens_in": 10},
        {"tokens_in": 15},
    ]


def test_a_generation_is_split_into_prompts_and_completions():
    """Mean length times number is what was written, the rest what was read."""
    counter = TokenCounter("GRPO", GRPO, is_resumed=False)
    assert counter.count(ONE_LOG) == {
        "tokens_in": 24,
        "tokens_out": 64,
    }


@pytest.mark.parametrize(
    ("args", "is_resumed"),
    [(GRPO, True), (GRPO | {"logging_steps": 10}, False), ({"logging_steps": 1}, False)],
)
def test_what_does_not_follow_stays_missing(args, is_resumed):
    """After a resume, with several generations in a log, or of an unknown size, nothing is guessed."""
    counter = TokenCounter("GRPO", args, is_resumed=is_resumed)
    assert counter.count(ONE_LOG) == {}


def test_a_step_without_a_generation_counts_nothing():
    """GRPO with num_iterations above 1 generates only now and then."""
    assert TokenCounter("GRPO", GRPO, is_resumed=False).count({"loss": 1.0}) == {}


@pytest.mark.real
def test_the_counts_of_a_real_run_are_those_of_its_texts(make_trainer, tmp_path):
    """Every prompt has two words, and every completion the four tokens that it may have at most."""
    callback = RLDKCallback(output_dir=tmp_path / "rldk")
    make_trainer("GRPO", [callback]).train()
    table = ingest_runs(callback.journal_path)
    assert table["tokens_in"].tolist() == [4, 4, 4]
    assert (table["tokens_out"] <= 8).all()
    assert (table["tokens_in"] + table["tokens_out"]).cumsum().tolist() == table["tokens_total"].tolist()
