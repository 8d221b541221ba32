"""A table that a cluster reads lazily is the one that a process reads at once."""

from __future__ import annotations

import pickle
import sys

import pandas as pd
import pytest

from rldk.adapters.trl import TRLAdapter
from rldk.errors import MissingDependencyError, SettingError, SourceError, UnknownSourceError
from rldk.ingest import ingest_runs
from rldk.schema import validate

pytestmark = pytest.mark.real


def same(lazy, table, client):
    """Compare what the cluster computes with a table, rows in the order of their key."""
    computed = client.compute(lazy).result()
    key = ["run_id", "step", "phase", *(["segment"] if "segment" in table.columns else [])]
    ordered = [each.sort_values(key).reset_index(drop=True) for each in (computed, table)]
    pd.testing.assert_frame_equal(*ordered)


def test_two_hundred_runs(tmp_path, write_run, cluster):
    """One partition each, of one schema, though some runs have metrics that others lack."""
    for number in range(200):
        write_run(tmp_path, f"run-{number:03}", extra=["late"] if number % 7 == 0 else [])
    with cluster.as_current():
        lazy = ingest_runs(tmp_path, engine="dask")
    assert lazy.npartitions == 200
    table = ingest_runs(tmp_path)
    assert lazy.dtypes.astype(str).to_dict() == table.dtypes.astype(str).to_dict()
    same(lazy, table, cluster)
    assert {
        str(part.dtypes.to_dict()) for part in cluster.gather(cluster.compute(lazy.to_delayed()[:9]))
    } == {str(table.dtypes.to_dict())}
    mean = cluster.compute(lazy["reward_mean"].mean()).result()
    assert mean == pytest.approx(table["reward_mean"].mean())


def test_attributes_are_told_in_the_meta(tmp_path, write_log):
    """Trainers, units, unknown names and problems."""
    write_log(tmp_path / "a.jsonl", reward_std=0.1, mine=1.0)
    lazy = ingest_runs(tmp_path / "a.jsonl", engine="dask")
    attrs, expected = lazy._meta.attrs, ingest_runs(tmp_path / "a.jsonl").attrs
    assert attrs == expected


def test_parts_of_one_run_are_one_partition(tmp_path, write_run, cluster):
    """As when a journal was cut in two."""
    path = write_run(tmp_path, "whole", steps=6)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]))
    (tmp_path / "rest_events.jsonl").write_bytes(b"".join(lines[4:]))
    write_run(tmp_path, "other")
    with cluster.as_current():
        lazy = ingest_runs(tmp_path, engine="dask")
    assert lazy.npartitions == 2
    same(lazy, ingest_runs(tmp_path), cluster)


@pytest.mark.parametrize("attempts", ["latest", "all"])
def test_runs_that_resumed_one_another_are_joined(tmp_path, write_run, cluster, attempts):
    """They are in one partition, whatever order they are given in."""
    paths = [
        write_run(tmp_path, "c", start=4, continues="b"),
        write_run(tmp_path, "a"),
        write_run(tmp_path, "z"),
        write_run(tmp_path, "b", start=2, continues="a"),
    ]
    with cluster.as_current():
        lazy = ingest_runs(paths, engine="dask", join=True, attempts=attempts)
    assert lazy.npartitions == 2
    same(lazy, ingest_runs(paths, join=True, attempts=attempts), cluster)


def test_runs_of_others_that_are_called_alike_keep_apart(tmp_path, write_log, cluster):
    """They get the same names as in one process."""
    paths = [write_log(tmp_path / name / "out.jsonl", rows) for name, rows in (("x", 2), ("y", 3), ("z", 4))]
    with cluster.as_current():
        lazy = ingest_runs(paths, engine="dask", field_map={"kl": "kl_mean"})
    same(lazy, ingest_runs(paths, field_map={"kl": "kl_mean"}), cluster)


def test_attributes_of_runs_that_are_called_alike_are_the_same(tmp_path, write_log, write_run, cluster):
    """Trainers by the names in the table, and the notes on names; a real run keeps its name."""
    paths = [
        write_log(tmp_path / "x" / "out.jsonl", 2),
        write_log(tmp_path / "y" / "out.jsonl", 3, **{"objective/kl": 0.1, "policy/approxkl_avg": 0.2}),
        write_log(tmp_path / "z" / "out-2.jsonl", 4),
        write_run(tmp_path / "own", "out"),
    ]
    with cluster.as_current():
        lazy = ingest_runs(paths, engine="dask")
    table = ingest_runs(paths)
    assert lazy._meta.attrs == table.attrs
    assert len([problem for problem in table.attrs["problems"] if "is called out too" in problem]) == 2
    same(lazy, table, cluster)


def test_runs_that_all_resumed_one_are_told(tmp_path, write_run):
    """As pandas has it: they are left apart."""
    write_run(tmp_path, "a")
    for run_id in ("b", "c"):
        write_run(tmp_path, run_id, start=2, continues="a")
    lazy, table = (ingest_runs(tmp_path, engine=engine, join=True) for engine in ("dask", "pandas"))
    assert lazy._meta.attrs == table.attrs
    assert table.attrs["problems"]


def test_one_source_that_cannot_be_read_stops_no_other(tmp_path, write_run, cluster):
    """It is told."""
    good = write_run(tmp_path, "good")
    bad = tmp_path / "bad_events.jsonl"
    bad.write_text("garbage\n")
    with cluster.as_current():
        lazy = ingest_runs([bad, good], engine="dask")
        with pytest.raises(SourceError, match="bad_events"):
            ingest_runs(bad, engine="dask")
    same(lazy, ingest_runs([bad, good]), cluster)
    assert [problem for problem in lazy._meta.attrs["problems"] if "bad_events" in problem]


def test_a_source_that_is_gone_when_it_is_read_is_named(tmp_path, write_run, cluster):
    """The error of a worker reaches the caller whole."""
    path = write_run(tmp_path, "r")
    with cluster.as_current():
        lazy = ingest_runs(path, engine="dask")
    path.unlink()
    with pytest.raises(SourceError, match="there is no such file"):
        cluster.compute(lazy).result()


def test_the_schema_holds_without_runs_and_is_valid(tmp_path, write_run):
    """What a cluster computes is a TrainingMetrics table."""
    write_run(tmp_path, "r")
    validate(ingest_runs(tmp_path, engine="dask").compute(scheduler="sync"))


def test_misuse(tmp_path, write_run, monkeypatch):
    """An engine that is none, attempts that are none, no Dask."""
    path = write_run(tmp_path, "r")
    with pytest.raises(SettingError, match="pandas or dask"):
        ingest_runs(path, engine="spark")
    with pytest.raises(SettingError, match="latest or all"):
        ingest_runs(path, engine="dask", attempts="some")
    monkeypatch.setitem(sys.modules, "dask.dataframe", None)
    with pytest.raises(MissingDependencyError, match=r"rldk\[dask\]"):
        ingest_runs(path, engine="dask")


def test_errors_travel_between_processes():
    """With their sentence and their facts."""
    unknown = UnknownSourceError("s", ["a"], "r", "m")
    for error in (SourceError("s", "r", "m"), unknown, SettingError("a", 1, "b")):
        back = pickle.loads(pickle.dumps(error))  # noqa: S301  # of our own making
        assert (type(back), str(back), back.__dict__) == (type(error), str(error), error.__dict__)
    assert TRLAdapter("x").name == "trl"
