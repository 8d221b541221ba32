"""A table that `rldk ingest` wrote is read as what it is: CSV, JSONL, Parquet, and a folder of Parquet."""

from __future__ import annotations

import gzip
import math
import sys

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rldk import event as event_json
from rldk.adapters.metrics_table import MetricsTableAdapter
from rldk.cli import app
from rldk.errors import MissingDependencyError, SourceError
from rldk.event import Event
from rldk.ingest import ingest_runs
from rldk.schema import DTYPES, LEADING_METRICS, SEGMENT, conformed

FORMS = ("csv", "jsonl", "parquet")
FACTS = [name for name in (*DTYPES, SEGMENT.name) if name not in LEADING_METRICS]

names = st.one_of(
    st.sampled_from(["loss", "reward_mean", "mine/ä", "a;b;c", 'a "quoted", name', "two\nlines", *FACTS]),
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=9),
)
numbers = st.one_of(st.floats(), st.integers(-(2**53), 2**53), st.sampled_from([-0.0, 5e-324, 1.8e308]))
counts = st.integers(0, 2**63 - 1)
wholes = st.integers(-(2**63) + 1, 2**63 - 1)


@st.composite
def journals(draw):
    """The lines of several runs, which may have started several times, in any order."""
    runs = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    shas = st.one_of(st.none(), st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=7))

    @st.composite
    def events(draw):
        sha = draw(shas)
        info = {"run_id": draw(st.sampled_from(runs)), "phase": draw(st.sampled_from(["train", "eval"]))}
        info |= {"segment": draw(st.integers(0, 2))} | ({} if sha is None else {"git_sha": sha})
        return Event(
            time=0.0,
            step=draw(st.one_of(st.integers(0, 5), wholes)),
            wall_time=draw(st.floats(-1e12, 1e300)),
            metrics=draw(st.dictionaries(names, numbers, max_size=4)),
            rng=draw(st.dictionaries(st.just("seed"), wholes)),
            data_slice=draw(st.dictionaries(st.sampled_from(["tokens_in", "tokens_out"]), counts)),
            model_info=info,
            notes=[],
        )

    return draw(st.lists(events(), min_size=1, max_size=8))


def told(table):
    """Everything of a table that can differ: the columns with their dtypes and values, exactly.

    A column without any value says nothing, and does not come back.
    """
    kept = [name for name in table if name in DTYPES or name == SEGMENT.name or table[name].notna().any()]
    return {name: (str(table[name].dtype), repr(table[name].tolist())) for name in kept}


def write(events, folder, form, attempts="latest"):
    """Have the command write the table of some events: the file."""
    journal, path = folder / "j_events.jsonl", folder / f"t.{form}"
    journal.write_bytes(b"".join(event_json.encode(event) + b"\n" for event in events))
    words = ["ingest", str(journal), "-o", str(path), "--attempts", attempts]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return journal, path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("attempts", ["latest", "all"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(events=journals())
def test_what_is_written_is_what_is_read(tmp_path, form, attempts, events):
    """Dtypes, missing and broken values, every digit of a number, names, runs and their starts."""
    journal, path = write(events, tmp_path, form, attempts)
    back = ingest_runs(path, attempts=attempts)
    assert back.attrs["adapter"] == "metrics_table"
    assert told(back) == told(ingest_runs(journal, attempts=attempts))
    assert back.attrs["problems"] == []


def row(**fields):
    """An event of a usual run."""
    usual = {"step": 1, "wall_time": 0.5, "metrics": {}, "rng": {}, "data_slice": {}, "notes": []}
    return Event(**(usual | {"model_info": {"run_id": "r"}} | fields))


@pytest.fixture
def parts(tmp_path):
    """A folder of Parquet files as a data set has them: a run in each."""
    folder = tmp_path / "set"
    folder.mkdir()
    for run_id in ("a", "b"):
        info = {"run_id": run_id, "git_sha": "abc", "phase": "eval"}
        events = [row(step=step, metrics={run_id: math.nan}, model_info=info) for step in range(3)]
        write(events, tmp_path, "parquet")[1].rename(folder / f"part-{run_id}.parquet")
    return folder


def test_a_folder_of_parts_is_one_source(parts):
    """Each file is named; what begins with `_` or `.` is no data."""
    (parts / "_metadata.parquet").write_bytes(b"PAR1 and more")
    (parts / ".part-c.parquet").write_bytes(b"half a file")
    (parts / "README").write_text("x")
    table = ingest_runs(parts)
    assert table.attrs["problems"] == []
    assert table["run_id"].tolist() == ["a"] * 3 + ["b"] * 3
    assert (table["phase"] == "eval").all()
    assert table["a"].isna().tolist() == [False] * 3 + [True] * 3
    adapter = MetricsTableAdapter(str(parts))
    assert adapter.runs() == [str(parts / f"part-{run_id}.parquet") for run_id in "ab"]
    assert adapter.files(parts) == [parts / "part-a.parquet", parts / "part-b.parquet"]
    assert [event.run_id for event in adapter.events()] == ["a"] * 4 + ["b"] * 4


def test_a_run_may_be_in_several_parts(parts, tmp_path):
    """Read as a whole it begins once, and its times go on."""
    more = [row(step=9, model_info={"run_id": "a", "phase": "eval"})]
    write(more, tmp_path, "parquet")[1].rename(parts / "part-a2.parquet")
    of_a = [event for event in MetricsTableAdapter(str(parts)).events() if event.run_id == "a"]
    assert [event.kind for event in of_a] == ["run", *["metrics"] * 4]
    assert [event.time for event in of_a] == sorted({event.time for event in of_a})
    assert (ingest_runs(parts)["run_id"] == "a").sum() == 4


def test_a_part_that_is_damaged_stops_no_other(parts):
    """It is told of."""
    whole = (parts / "part-a.parquet").read_bytes()
    (parts / "part-a.parquet").write_bytes(whole[: len(whole) // 2])
    pq.write_table(pa.table({"step": [1], "loss": [0.5]}), parts / "part-c.parquet")
    table = ingest_runs(parts)
    assert set(table["run_id"]) == {"b"}
    assert "part-a.parquet: it is cut off" in table.attrs["problems"][0]
    assert "part-c.parquet: it lacks phase" in table.attrs["problems"][1]
    adapter = MetricsTableAdapter(str(parts))
    assert {event.run_id for event in adapter.events()} == {"b"}
    assert len(adapter.problems) == 2


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_it_may_be_compressed_and_called_anything(tmp_path, form, pack):
    """The content tells what it is."""
    _, path = write([row(metrics={"loss": -0.0, "x": math.inf})], tmp_path, form)
    (tmp_path / "packed").write_bytes(pack(path.read_bytes()))
    assert told(ingest_runs(tmp_path / "packed")) == told(ingest_runs(path))


@pytest.mark.parametrize("delimiter", ["\t", ";"])
def test_a_spreadsheet_may_have_saved_it(tmp_path, delimiter):
    """With another delimiter, a mark at the beginning, and other line ends."""
    _, path = write([row(metrics={"loss": 0.5}), row(step=2)], tmp_path, "csv")
    text = path.read_text().replace(",", delimiter).replace("\n", "\r\n")
    (tmp_path / "s.csv").write_bytes(text.encode("utf-8-sig"))
    assert told(ingest_runs(tmp_path / "s.csv")) == told(ingest_runs(path))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_pandas_may_have_saved_it(tmp_path, suffix):
    """With its index. What pandas takes for missing is missing then."""
    journal, _ = write([row(metrics={"loss": 0.5}), row(step=2), row(step=3)], tmp_path, "csv")
    table = ingest_runs(journal)[lambda t: t["step"] != 2]
    path = tmp_path / f"pandas.{suffix}"
    table.to_csv(path) if suffix == "csv" else table.to_parquet(path)
    assert told(ingest_runs(path)) == told(table)


@pytest.mark.parametrize("form", FORMS)
def test_a_metric_may_be_called_like_an_index_of_pandas(tmp_path, form):
    """Only what pandas itself says in the file is its index."""
    metrics = {"__index_level_0__": 0.5, "__index_level_1__": math.nan, " ": 1.0}
    journal, path = write([row(metrics=metrics)], tmp_path, form)
    assert told(ingest_runs(path)) == told(ingest_runs(journal))


def test_an_index_of_pandas_may_lie_beside_such_a_metric(tmp_path):
    """Each is what it is; words of others under pandas' key say nothing."""
    journal, _ = write([row(metrics={"__index_level_1__": 0.5}), row(step=2)], tmp_path, "csv")
    table = ingest_runs(journal).set_axis([7, 9])
    table.to_parquet(tmp_path / "pandas.parquet")
    assert "__index_level_0__" in pq.read_schema(tmp_path / "pandas.parquet").names
    assert told(ingest_runs(tmp_path / "pandas.parquet")) == told(table)
    for words in (b"{", b'{"index_columns": 5}', b'{"index_columns": [{}, 5]}', b"\xff"):
        odd = pq.read_table(tmp_path / "pandas.parquet").replace_schema_metadata({b"pandas": words})
        pq.write_table(odd, tmp_path / "odd.parquet")
        assert ingest_runs(tmp_path / "odd.parquet")["__index_level_0__"].tolist() == [7.0, 9.0]


def test_a_folder_of_too_many_parts_is_refused(parts, monkeypatch):
    """None of them is left out in silence; what is no part of the table does not count."""
    for number in range(3):
        (parts / f"README-{number}").write_text("x")
    monkeypatch.setattr("rldk.adapters.metrics_table._MOST_FILES", 2)
    assert set(ingest_runs(parts)["run_id"]) == {"a", "b"}
    monkeypatch.setattr("rldk.adapters.metrics_table._MOST_FILES", 1)
    assert MetricsTableAdapter(str(parts)).can_handle()
    with pytest.raises(SourceError, match=r"more than 1 \.parquet files are in it"):
        MetricsTableAdapter(str(parts)).runs()


def test_nobody_knows_the_time(tmp_path):
    """As in a table that was put together by hand: it comes back as NaN."""
    table = conformed(pd.DataFrame({"step": [1, 2], "phase": "train", "run_id": "r", "loss": [0.5, 1.0]}))
    for name in FACTS:
        assert name in table or name == SEGMENT.name
    table.to_csv(tmp_path / "t.csv", index=False)
    assert told(ingest_runs(tmp_path / "t.csv")) == told(table)


def test_rows_of_an_earlier_start_are_kept_with_all_attempts(tmp_path):
    """The latest attempt of what was written with all is that of the journal."""
    of = lambda segment: {"run_id": "r", "phase": "train", "segment": segment}  # noqa: E731  # short
    events = [row(step=step, metrics={"loss": 1.0}, model_info=of(0)) for step in (1, 2, 3, 4)]
    events += [row(kind="run", step=2, model_info=of(1))]
    events += [row(step=step, metrics={"loss": 2.0}, model_info=of(1)) for step in (3, 4)]
    journal, path = write(events, tmp_path, "csv", "all")
    assert len(ingest_runs(path, attempts="all")) == 6
    assert told(ingest_runs(path)) == told(ingest_runs(journal))


GOOD = {"step": 1, "phase": "train", "wall_time": 0.5, "run_id": "r", "loss": 0.5}


def test_lines_that_are_no_rows_are_counted(tmp_path):
    """And values that are no numbers."""
    bad = ["{", "[]", '{"step": 1}', '{"step": 1.5, "phase": "train", "run_id": "r"}', ""]
    lines = [msgspec.json.encode(GOOD).decode(), *bad, msgspec.json.encode(GOOD | {"x": "text"}).decode()]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    adapter = MetricsTableAdapter(str(tmp_path / "t.jsonl"))
    assert adapter.can_handle()
    assert len(list(adapter.events())) == 3
    assert "2 lines are no JSON objects and were skipped, the first is line 2" in adapter.problems[0]
    assert [problem.split(": ", 1)[1] for problem in adapter.problems[1:]] == [
        "2 rows have no step, phase or run_id and were skipped, the first is line 4",
        "1 values are no numbers and were skipped: x (1)",
    ]


def test_a_table_that_is_cut_off_gives_its_whole_rows(tmp_path):
    """The half row is told of."""
    _, path = write([row(step=step, metrics={"loss": 0.5}) for step in (1, 2)], tmp_path, "csv")
    path.write_text(path.read_text()[:-9])
    table = ingest_runs(path)
    assert table["step"].tolist() == [1]
    assert "fewer cells than the header" in table.attrs["problems"][0]


HEADER = ",".join(DTYPES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{HEADER},x,x\n1\n", "columns are there twice: x"),
        (f"{HEADER}\n", "no row of it has a step"),
        (f"{HEADER}\n{',' * (len(DTYPES) - 1)}\n", "rows have no step, phase or run_id"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path, text, said):
    """And what to give instead."""
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SourceError, match=said):
        list(MetricsTableAdapter(str(tmp_path / "t.csv")).events())


def test_parquet_with_two_columns_of_one_name_says_so(tmp_path):
    """No reader can tell them apart."""
    _, path = write([row(metrics={"loss": 0.5})], tmp_path, "parquet")
    table = pq.read_table(path)
    pq.write_table(table.append_column("loss", table["loss"]), path)
    with pytest.raises(SourceError, match="several of its columns have one name: loss"):
        ingest_runs(path)


@pytest.mark.parametrize(
    "line",
    [
        {name: value for name, value in GOOD.items() if name != "run_id"},
        GOOD | {"phase": "warm-up"},
        GOOD | {"wall_time": "soon"},
        GOOD | {"step": "one"},
    ],
)
def test_a_log_that_only_looks_alike_is_left_to_others(tmp_path, line):
    """All four keys must say what a table's say."""
    (tmp_path / "t.jsonl").write_bytes(msgspec.json.encode(line) + b"\n")
    assert not MetricsTableAdapter(str(tmp_path / "t.jsonl")).can_handle()


def test_every_column_must_be_there(tmp_path):
    """A table of somebody else may have most of them."""
    (tmp_path / "t.csv").write_text(HEADER.replace("git_sha", "sha") + "\n")
    assert not MetricsTableAdapter(str(tmp_path / "t.csv")).can_handle()


def test_without_pyarrow_it_says_what_to_install(parts, monkeypatch):
    """The folder is still known to be one of Parquet files."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for source in (parts, parts / "part-a.parquet"):
        adapter = MetricsTableAdapter(str(source))
        assert adapter.can_handle()
        with pytest.raises(MissingDependencyError, match=r"rldk\[parquet\]"):
            list(adapter.events())


def test_a_folder_with_journals_is_read_as_journals(parts):
    """A table that lies beside them tells nothing new."""
    (parts / "r_events.jsonl").write_bytes(event_json.encode(row()) + b"\n")
    assert ingest_runs(parts).attrs["adapter"] == "trl"
