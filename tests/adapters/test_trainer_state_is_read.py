"""A trainer_state.json, a checkpoint or an output folder gives the log of the run, entry by entry."""

from __future__ import annotations

import json
import math

import pytest

from rldk.adapters.trainer_state import TrainerStateAdapter
from rldk.errors import SourceError

REAL = ["trainer_state_1.16.0_grpo_beta.json", "trainer_state_1.12.0_ppo.json"]


def state(*history, **fields):
    """The text of a state, as transformers writes it: sorted keys, bare NaN."""
    told = {"global_step": len(history), "is_world_process_zero": True, "log_history": list(history)}
    return json.dumps(told | {"stateful_callbacks": {}} | fields, indent=2, sort_keys=True)


def saved(folder, steps, **fields):
    """A checkpoint whose log has an entry for each step."""
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(
        state(*({"loss": 1 / n, "step": n} for n in range(1, steps + 1)), **fields)
    )


@pytest.mark.parametrize("name", REAL)
def test_every_entry_of_a_real_run_is_an_event(sample, told, name):
    """At its step, with the keys as they stand; evaluations too."""
    path = sample(name)
    history = json.loads(path.read_text())["log_history"]
    expected = [(entry.pop("step"), entry) for entry in history]
    adapter = TrainerStateAdapter(str(path))
    assert adapter.can_handle()
    events = list(adapter.events())
    assert repr(told(events)) == repr(expected)
    assert [event.seq for event in events] == list(range(len(events)))
    assert {event.is_raw for event in events} == {True}
    assert adapter.problems == []


def test_nan_and_infinity_are_numbers_and_none_is_missing(tmp_path, told):
    """They stand bare in the file, as Python writes them."""
    path = tmp_path / "trainer_state.json"
    path.write_text(state({"loss": math.nan, "kl": -math.inf, "x": None, "step": 1}))
    ((step, metrics),) = told(TrainerStateAdapter(str(path)).events())
    assert (step, repr(metrics)) == (1, "{'kl': -inf, 'loss': nan}")


def test_the_newest_checkpoint_tells_the_whole_run(tmp_path, told):
    """Its log is that of all before it; 100 is newer than 20."""
    saved(tmp_path / "out" / "checkpoint-20", 2)
    saved(tmp_path / "out" / "checkpoint-100", 3)
    adapter = TrainerStateAdapter(str(tmp_path / "out"))
    events = list(adapter.events())
    assert [step for step, _ in told(events)] == [1, 2, 3]
    assert {event.run_id for event in events} == {"out"}


def test_a_torn_checkpoint_is_passed_over(tmp_path, told):
    """The process was killed while it saved; the one before is read, and it is told."""
    saved(tmp_path / "out" / "checkpoint-2", 2)
    saved(tmp_path / "out" / "checkpoint-3", 3)
    torn = tmp_path / "out" / "checkpoint-3" / "trainer_state.json"
    torn.write_text(torn.read_text()[:-2])
    adapter = TrainerStateAdapter(str(tmp_path / "out"))
    assert [step for step, _ in told(adapter.events())] == [1, 2]
    assert "checkpoint-3" in adapter.problems[0]


def test_the_state_saved_at_the_end_is_preferred(tmp_path, told):
    """It alone has the summary; but not where a later training left newer checkpoints beside it."""
    saved(tmp_path / "out" / "checkpoint-2", 2)
    path = tmp_path / "out" / "trainer_state.json"
    path.write_text(state({"loss": 1.0, "step": 1}, {"train_loss": 0.5, "train_runtime": 9.0, "step": 2}))
    events = list(TrainerStateAdapter(str(tmp_path / "out")).events())
    assert told(events)[-1] == (2, {"train_loss": 0.5, "train_runtime": 9.0})
    assert (events[-1].kind, events[-1].model_info["status"]) == ("end", "FINISHED")
    saved(tmp_path / "out" / "checkpoint-7", 7)
    assert len(told(TrainerStateAdapter(str(tmp_path / "out")).events())) == 7


def test_a_checkpoint_tells_the_run_that_rldk_recorded(tmp_path):
    """RLDK's callback leaves its id in every checkpoint; without it the output folder's name counts."""
    saved(tmp_path / "out" / "checkpoint-1", 1)
    record = {"rldk": {"args": {}, "attributes": {"run_id": "r-1"}}}
    saved(tmp_path / "out" / "checkpoint-2", 2, stateful_callbacks=record)
    ids = [
        next(iter(TrainerStateAdapter(str(tmp_path / "out" / name)).events())).run_id
        for name in ("checkpoint-1", "checkpoint-2")
    ]
    assert ids == ["out", "r-1"]


def test_a_log_alone_is_read(tmp_path, told):
    """Some save `trainer.state.log_history`, a list."""
    path = tmp_path / "log.json"
    path.write_text(json.dumps([{"loss": 1.0, "step": 5}, {"loss": 0.5, "step": 10}]))
    adapter = TrainerStateAdapter(str(path))
    assert adapter.can_handle()
    assert told(adapter.events()) == [(5, {"loss": 1.0}), (10, {"loss": 0.5})]


def test_what_is_no_entry_is_counted(tmp_path, told):
    """Entries that are no objects or have no step, and values that are no numbers."""
    path = tmp_path / "trainer_state.json"
    path.write_text(state(3, {"loss": 1.0}, {"loss": 1.0, "note": "x", "step": 1}))
    adapter = TrainerStateAdapter(str(path))
    assert told(adapter.events()) == [(1, {"loss": 1.0})]
    assert len(adapter.problems) == 3


@pytest.mark.parametrize("end", [0, 1, 100, -1])
def test_a_torn_file_alone_is_an_error(tmp_path, end):
    """It says which file."""
    path = tmp_path / "trainer_state.json"
    path.write_text(state({"loss": 1.0, "step": 1})[:end])
    with pytest.raises(SourceError, match=r"trainer_state\.json"):
        list(TrainerStateAdapter(str(path)).events())
