"""Files of the long format become the table, whoever wrote them and whatever they leave out."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rldk import catalog
from rldk.adapters import long_format
from rldk.adapters.long_format import Line
from rldk.adapters.trl import TRLAdapter
from rldk.errors import SourceError
from rldk.ingest import ingest_runs


@pytest.fixture
def write(tmp_path):
    """Write lines, given as text or as dicts, to a file; gives its path."""

    def make(*lines, name="run.jsonl"):
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path = tmp_path / name
        path.write_text("".join(f"{text}\n" for text in texts))
        return path

    return make


def line(name="kl", value=0.5, step=1, **more):
    """A line with only what it must have, and more."""
    return {"step": step, "name": name, "value": value} | more


def test_the_guides_names_become_the_tables_columns(write):
    """A line needs no more than step, name and value."""
    names = ("kl", "entropy", "grad_norm_policy", "reward_mean", "clip_frac", "lr", "loss")
    table = ingest_runs(write(*(line(name, i) for i, name in enumerate(names))))
    columns = ["kl_mean", "entropy_mean", "grad_norm", "reward_mean", "clip_frac", "lr", "loss"]
    assert table[columns].iloc[0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert len(table) == 1


def test_a_name_that_nobody_knows_is_kept(write):
    """It is a column of its own."""
    assert ingest_runs(write(line("my/metric", 3)))["my/metric"].tolist() == [3]


@pytest.mark.parametrize(
    ("meta", "column"),
    [
        ({"metric": "kl_seq_mean", "raw_name": "kl", "trainer": "GRPO"}, "kl_seq_mean"),
        ({"raw_name": "kl", "trainer": "GRPO"}, "kl_mean"),
        ({"raw_name": "objective/kl", "trainer": "PPO"}, "kl_seq_mean"),
        ({"raw_name": "objective/kl"}, "kl_seq_mean"),
        ({"raw_name": "ppo/policy/kl_mean"}, "kl_mean"),
        ({"raw_name": "something else"}, "kl_mean"),
        ({"raw_name": 7, "metric": None, "trainer": []}, "kl_mean"),
        (None, "kl_mean"),
        ("text", "kl_mean"),
    ],
)
def test_meta_tells_which_quantity_a_short_name_is(write, meta, column):
    """Its metric comes first, then what the catalog knows of its raw name, then the short name."""
    assert ingest_runs(write(line(meta=meta)))[column].tolist() == [0.5]


@pytest.mark.parametrize(
    ("raw", "column"),
    [
        ("ppo/rewards/mean", "reward_mean"),
        ("ppo/policy/entropy", "entropy_mean"),
        ("ppo/policy/clipfrac", "clip_frac"),
        ("ppo/policy/grad_norm", "grad_norm"),
        ("learning_rate", "lr"),
    ],
)
def test_raw_keys_as_names_are_known(write, raw, column):
    """A file that carries the trainer's own keys is read as well."""
    assert ingest_runs(write(line(raw)))[column].tolist() == [0.5]


@pytest.mark.parametrize("value", ["NaN", "nan", float("nan")])
def test_nan_is_a_value(write, value):
    """In quotes, and bare as Python's json writes it."""
    (cell,) = ingest_runs(write(line(value=value)))["kl_mean"]
    assert math.isnan(cell)


@pytest.mark.parametrize("value", ["-Infinity", "-inf", float("-inf")])
def test_an_infinity_is_a_value(write, value):
    """The same."""
    assert ingest_runs(write(line(value=value)))["kl_mean"].tolist() == [-math.inf]


def test_null_is_missing(write):
    """Nobody measured it; that is no error either."""
    table = ingest_runs(write(line("loss"), line(value=None)))
    assert table["kl_mean"].isna().all()
    assert table.attrs["problems"] == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "truncated"),
        ("not json", "malformed"),
        ('{"step": 1, "name": "kl"}', "missing required field"),
        (line(step="one"), r"\$.step"),
        (line(step=1.5), "step 1.5 is no whole number"),
        (line(value="high"), "value 'high' is no number"),
        (line(value=True), "value of type bool is no number"),
        (line(value=[1]), "value of type list is no number"),
        ("[" * 5000 + '"name" "value"', "."),
    ],
)
def test_a_malformed_line_is_skipped_and_counted(write, bad, reason):
    """The others are read, and the first bad line is told by its number and its reason."""
    source = write(line(step=1), bad, line(step=2))
    adapter = TRLAdapter(source)
    assert len(list(adapter.events())) == 2
    (problem,) = adapter.problems
    assert "1 lines are no events, the first is line 2" in problem
    with pytest.raises(SourceError, match=reason):
        list(TRLAdapter(write(bad, name="bad.jsonl")).events())


def test_runs_in_one_file_are_rows_of_their_own(write):
    """The run_id tells them apart, also where their lines alternate."""
    table = ingest_runs(write(*(line(value=i, step=i // 2, run_id="ab"[i % 2]) for i in range(6))))
    assert table[["run_id", "step", "kl_mean"]].to_numpy().tolist() == [
        ["a", 0, 0],
        ["a", 1, 2],
        ["a", 2, 4],
        ["b", 0, 1],
        ["b", 1, 3],
        ["b", 2, 5],
    ]


def test_a_file_without_run_ids_is_one_run_named_after_it(write):
    """So that two such files in a folder stay two runs."""
    write(line(), name="b.jsonl")
    source = write(line(), name="a_events.jsonl").parent
    assert ingest_runs(source)["run_id"].tolist() == ["a", "b"]


def test_wall_time_counts_from_the_runs_first_line(write):
    """As seconds or as an ISO date."""
    times = (100.5, 102, "1970-01-01T00:01:45+00:00")
    table = ingest_runs(write(*(line(step=i, time=time) for i, time in enumerate(times))))
    assert table["wall_time"].tolist() == [0.0, 1.5, 4.5]


@pytest.mark.parametrize("time", [None, "yesterday", [], float("nan"), "9" * 30])
def test_without_a_time_nobody_knows_the_wall_time(write, time):
    """It is not 0, and the row stands."""
    assert math.isnan(ingest_runs(write(line(time=time)))["wall_time"][0])


def test_evaluation_is_a_row_of_its_own(write):
    """Whether meta says it, or the name begins with eval_."""
    table = ingest_runs(write(line("loss"), line("loss", 2, meta={"phase": "eval"}), line("eval_lr", 3)))
    assert table["phase"].tolist() == ["train", "eval"]
    assert table.loc[1, ["loss", "lr"]].tolist() == [2, 3]


def test_later_segments_supersede_the_steps_that_they_repeat(write):
    """A resumed run's row holds nothing of the attempt that was lost."""
    again = {"segment": 1}
    table = ingest_runs(write(line("loss", 1), line("kl", 1), line("loss", 2, meta=again)))
    assert table["loss"].tolist() == [2]
    assert table["kl_mean"].isna().all()


def test_what_belongs_to_no_step_makes_no_row(write):
    """The summary that ends training is an event of kind end."""
    source = write(line("loss"), line("train_runtime", 9, meta={"kind": "end"}))
    assert "train_runtime" not in ingest_runs(source).columns
    assert [event.kind for event in TRLAdapter(source).events()] == ["metrics", "end"]


def test_tags_come_along(write):
    """What the user said of the run is in every event's model_info."""
    (event,) = TRLAdapter(write(line(tags={"team": "a"}))).events()
    assert event.model_info["tags"] == {"team": "a"}


def test_lines_of_one_log_are_one_event(write):
    """And the events are numbered within their run."""
    lines = [line(name, step=step, time=step) for step in (1, 2) for name in ("kl", "loss")]
    events = list(TRLAdapter(write(*lines)).events())
    assert [(e.seq, e.step, set(e.metrics)) for e in events] == [
        (0, 1, {"kl_mean", "loss"}),
        (1, 2, {"kl_mean", "loss"}),
    ]


def test_a_line_that_is_still_being_written_is_left_for_later(write):
    """It is told, for a run that was killed looks the same."""
    source = write(line())
    with source.open("a") as file:
        file.write('{"step": 2, "name": "k')
    table = ingest_runs(source)
    assert table["step"].tolist() == [1]
    assert [problem for problem in table.attrs["problems"] if "ends inside line 2" in problem]


numbers = st.floats() | st.integers()
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(
    value=numbers,
    name=words,
    step=st.integers(0, 10**9),
    time=st.floats(0, 10**10),
    tags=st.dictionaries(words, words),
)
def test_every_line_that_is_written_is_read_back(value, name, step, time, tags):
    """NaN, infinities and integers of any size included, and it is strict JSON."""
    line = Line(time=time, step=step, name=name, value=value, run_id="r", tags=tags, meta={"raw_name": name})
    text = long_format.encode(line)
    json.loads(text, parse_constant=pytest.fail)
    assert repr(long_format.decode(text)) == repr(line)


def test_no_name_map_says_what_the_catalog_says():
    """A key of a TRL that RLDK supports is in the catalog and nowhere else."""
    assert [key for key in long_format.OLD_PPO_KEYS if catalog.find(key, "PPO")] == []
