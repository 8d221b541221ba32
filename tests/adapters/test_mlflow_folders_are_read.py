"""A folder of MLflow's file store, or an export of mlflow-export-import, is read without MLflow."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import mlflow
import pytest
from mlflow.entities import Metric, Param, RunTag

from rldk.bridge import run_tags, tracker_metrics
from rldk.errors import SourceError
from rldk_mlflow.folder import MLflowFolderAdapter

AT = 1700000000000


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A real file store in `mlruns`."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return mlflow.MlflowClient((tmp_path / "mlruns").as_uri())


NAME = 'it\'s a "long" name: it is wrapped by YAML, for it has more than eighty characters in it # ü\u2028'


@pytest.fixture
def run(store, tmp_path):
    """A run with a bit of everything; its folder."""
    experiment = store.create_experiment("exp: #1 ü")
    made = store.create_run(experiment, run_name=NAME, start_time=AT)
    points = [("a/b", 1.5, 1), ("a/b", math.nan, 2), ("c", -math.inf, 2), ("c", -math.inf, 2)]
    metrics = [Metric(key, value, AT + 10 * step, step) for key, value, step in points]
    store.log_batch(made.info.run_id, metrics, [Param("p/q", "two\nlines")], [RunTag("t", "v")])
    store.log_text(made.info.run_id, "x", "folder/file.txt")
    store.set_terminated(made.info.run_id, "FAILED", AT + 99)
    return tmp_path / "mlruns" / experiment / made.info.run_id


def test_a_run_of_the_file_store_is_read(run):
    """NaN and the infinities are exact there, and what was appended twice is there once."""
    adapter = MLflowFolderAdapter(str(run))
    assert adapter.can_handle()
    first, one, two, end = adapter.events()
    told = {key: first.model_info[key] for key in ("config", "tags", "name", "project")}
    assert told == {"config": {"p/q": "two\nlines"}, "tags": {"t": "v"}, "name": NAME, "project": "exp: #1 ü"}
    assert (one.step, one.metrics, one.time) == (1, {"a/b": 1.5}, (AT + 10) / 1000)
    assert (two.step, repr(two.metrics)) == (2, "{'a/b': nan, 'c': -inf}")
    assert end.model_info["status"] == "FAILED"
    assert first.is_raw
    assert [path.name for path in adapter.files(run)] == ["folder"]


def test_all_runs_of_a_store_are_read(run, store):
    """In the order in which they began, and but for those deleted."""
    experiment = run.parent.name
    for start, status in ((AT - 5, "FINISHED"), (AT + 5, "deleted")):
        made = store.create_run(experiment, start_time=start).info.run_id
        store.log_metric(made, "loss", 1.0, timestamp=AT, step=1)
        store.set_terminated(made, "FINISHED") if status != "deleted" else store.delete_run(made)
    for source in (run.parent, run.parent.parent, run.parent.parent.parent):
        adapter = MLflowFolderAdapter(str(source))
        assert adapter.can_handle()
        assert len(adapter.runs()) == 2
        assert adapter.runs()[1] == str(run)
        assert len({event.run_id for event in adapter.events()}) == 2


def test_lines_of_every_age_are_read(run):
    """Two fields have no step; the fourth and fifth name a data set; others are counted."""
    (run / "metrics" / "c").write_text(f"{AT} 0.5\n{AT} 1.5 7 data digest\n{AT} x 1\n{AT} 1 2 3\n{AT} 2.5 8")
    adapter = MLflowFolderAdapter(str(run))
    found = [(event.step, event.metrics["c"]) for event in adapter.events() if "c" in event.metrics]
    assert found == [(0, 0.5), (7, 1.5)]
    assert "3 lines are no points and were skipped, the first is line 3" in adapter.problems[0]


def test_what_rldk_recorded_comes_back_as_its_events(store, tmp_path, make_event):
    """From the tags and names that its sink writes."""
    began = AT / 1000
    begin = make_event(kind="run", step=0, time=began, model_info={"run_id": "r", "trainer": "GRPO"})
    event = make_event(step=3, time=began + 1, wall_time=1.0, metrics={"kl_mean": 0.5})
    made = store.create_run("0", start_time=AT).info.run_id
    for name, value in run_tags(begin).items():
        store.set_tag(made, f"rldk.{name}", value)
    for name, value in tracker_metrics(event).items():
        store.log_metric(made, name, value, timestamp=AT + 1000, step=3)
    found = list(MLflowFolderAdapter(str(tmp_path / "mlruns")).events())
    assert [(e.kind, e.run_id, e.step, e.metrics, e.is_raw) for e in found] == [
        ("run", "r", 0, {}, False),
        ("metrics", "r", 3, {"kl_mean": 0.5}, False),
    ]
    assert found[1].wall_time == 1.0


def test_an_export_is_read(sample):
    """As the real mlflow-export-import wrote it, with its bare NaN."""
    path = sample("mlflow_export_run.json", "out/e7dd/run.json")
    experiment = {"mlflow": {"experiment": {"name": "exim"}}}
    (path.parent.parent / "experiment.json").write_text(json.dumps(experiment))
    for source in (path, path.parent, path.parent.parent):
        adapter = MLflowFolderAdapter(str(source))
        assert adapter.can_handle()
        first, one, two, end = adapter.events()
        assert (first.model_info["name"], first.model_info["project"]) == ("named", "exim")
        assert first.model_info["config"] == {"p": "1"}
        assert repr([one.metrics, two.metrics]) == "[{'a/b': 1.5}, {'a/b': nan, 'c': inf}]"
        assert end.model_info["status"] == "FINISHED"


def test_links_that_lead_out_are_refused(run, tmp_path):
    """Neither a metric, nor a parameter, nor an artifact outside of the run's folder is read."""
    secret = tmp_path / "secret"
    secret.write_text(f"{AT} 1 1\n")
    (run / "metrics" / "stolen").symlink_to(secret)
    (run / "params" / "stolen").symlink_to(secret)
    adapter = MLflowFolderAdapter(str(run))
    events = list(adapter.events())
    assert "stolen" not in events[0].model_info["config"]
    assert not any("stolen" in event.metrics for event in events)
    assert len(adapter.problems) == 2
    for link, target in (("file", secret), ("folder/all", tmp_path)):
        (run / "artifacts" / link).symlink_to(target)
        with pytest.raises(SourceError, match="leads out of the folder"):
            adapter.files(tmp_path)
        (run / "artifacts" / link).unlink()


def test_whole_folders_that_are_links_out_are_refused(run, tmp_path):
    """Of artifacts, metrics and params; and the file of an export."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "stolen").write_text(f"{AT} 1 1\n")
    for kind in ("artifacts", "params"):
        (run / kind).rename(tmp_path / f"old-{kind}")
        (run / kind).symlink_to(elsewhere)
    adapter = MLflowFolderAdapter(str(run))
    assert "stolen" not in next(iter(adapter.events())).model_info.get("config", {})
    with pytest.raises(SourceError, match="artifacts is a link that leads out of the folder"):
        adapter.files(tmp_path)


def test_an_export_that_is_a_link_out_is_none(sample, tmp_path):
    """Its file is somebody else's."""
    elsewhere = sample("mlflow_export_run.json", "elsewhere/run.json")
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "run.json").symlink_to(elsewhere)
    assert not MLflowFolderAdapter(str(tmp_path / "out")).can_handle()


def test_links_in_an_export_that_lead_out_are_refused(sample, tmp_path):
    """Neither an artifact nor a whole run's folder outside of the export is read."""
    sample("mlflow_export_run.json", "out/a/run.json")
    elsewhere = sample("mlflow_export_run.json", "elsewhere/run.json")
    (tmp_path / "out" / "b").symlink_to(elsewhere.parent)
    (tmp_path / "out" / "a" / "artifacts" / "inner").mkdir(parents=True)
    (tmp_path / "out" / "a" / "artifacts" / "inner" / "up").symlink_to("../../../../elsewhere/run.json")
    adapter = MLflowFolderAdapter(str(tmp_path / "out"))
    assert adapter.runs() == [str(tmp_path / "out" / "a")]
    with pytest.raises(SourceError, match="inner/up is a link that leads out of the folder"):
        adapter.files(tmp_path)


def test_names_in_an_export_are_no_paths(sample, tmp_path):
    """They may look like some that lead out."""
    path = sample("mlflow_export_run.json", "out/a/run.json")
    path.write_text(path.read_text().replace('"a/b"', '"../../../etc/passwd"'))
    events = list(MLflowFolderAdapter(str(tmp_path / "out")).events())
    assert "../../../etc/passwd" in {name for event in events for name in event.metrics}
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out"]


@pytest.mark.parametrize("text", ["", "{", '{"mlflow": {}}', '{"mlflow": ' + "[" * 100_000, "{}", "\0" * 99])
def test_a_bad_export_is_an_error(tmp_path, text):
    """It names the file's folder."""
    (tmp_path / "run.json").write_text(text)
    adapter = MLflowFolderAdapter(str(tmp_path))
    adapter.can_handle()
    with pytest.raises(SourceError, match=tmp_path.name):
        list(adapter.events())


def test_a_run_that_cannot_be_read_stops_no_other(sample, tmp_path):
    """It is told of."""
    sample("mlflow_export_run.json", "a/run.json")
    sample("mlflow_export_run.json", "b/run.json").write_text('{"mlflow": {"info"')
    adapter = MLflowFolderAdapter(str(tmp_path))
    assert len(list(adapter.events())) == 4
    assert f"{tmp_path}/b" in adapter.problems[0]


def test_mlflow_is_not_imported(run):
    """It need not be installed."""
    program = (
        "import sys; from rldk_mlflow.folder import MLflowFolderAdapter as A; "
        f"assert len(list(A({str(run)!r}).events())) == 4; assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
