"""The run of a script is shared with it, alerts are trackio's, and runs of others can be read."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import msgspec
import pytest
import trackio
from rldk_trackio.adapter import TrackioAdapter
from rldk_trackio.sink import TrackioSink

from rldk import bridge
from rldk.bridge import RunFacts, Target, raw_event, run_events
from rldk.errors import MissingDependencyError, SourceError
from rldk.ingest import ingest_runs
from rldk.journal import Journal, read
from rldk.recorder import Recorder, Run
from rldk.settings import Settings


@pytest.fixture
def make_raw():
    """A run that RLDK has not recorded: what began it, and what it logged."""

    def make(*logs):
        facts = RunFacts(run_id="theirs-1", began=1_763_847_600.0)
        told = {"raw": True, "name": "theirs", "config": {"lr": 0.1}}
        [first] = run_events(facts)
        first = msgspec.structs.replace(first, model_info=first.model_info | told)
        rest = [
            raw_event(facts, metrics, seq=n, step=n * 10, time=facts.began + n)
            for n, metrics in enumerate(logs, start=1)
        ]
        return [first, *rest]

    return make


@pytest.fixture
def project(request):
    """A project of the test's own."""
    return request.node.name[:40]


def record(folder, sink, run_id="r"):
    """Record three steps, of which the last one is broken; gives the delivery's report."""
    run = Run(run_id=run_id, trainer="GRPO", seed=1, facts={"args": {"beta": 0.1}})
    recorder = Recorder(Journal(folder / f"{run_id}_events.jsonl"), run, settings=Settings(linger_s=0))
    recorder.begin(0, [sink])
    for step, loss in enumerate([0.5, 0.25, float("nan")], start=1):
        recorder.log(step, {"loss": loss, "reward": step})
    [report] = recorder.end("FINISHED", 3)
    assert (report.waiting, report.rejected, report.is_closed) == (0, 0, True), report.reasons
    return report


def _journal(folder):
    return [entry.event for entry in read(folder / "r_events.jsonl")]


def test_it_is_found_by_its_entry_points():
    """RLDK knows it by name, and asks its adapter which sources are its own."""
    assert bridge.sink("trackio") is TrackioSink
    assert bridge.adapter("trackio") is TrackioAdapter


def test_a_run_of_its_own(tmp_path, project):
    """The table is the journal's, and the project the target's."""
    report = record(tmp_path, TrackioSink.create(Target(project=project)))
    here, there = ingest_runs(tmp_path / "r_events.jsonl"), ingest_runs(report.home.source)
    assert here.equals(there)
    assert there.attrs["adapter"] == "trackio"
    assert trackio.Api().runs(project)[0].config["rldk/status"] == "FINISHED"


def test_the_scripts_own_run(tmp_path, project):
    """It is taken, shared and left open: its rows and its config stay, and are told apart from RLDK's."""
    run = trackio.init(project=project, name="mine", config={"model": "tiny"}, auto_log_cpu=False)
    run.log({"train/loss": 0.5, "text": "not a number"}, step=1)
    sink = TrackioSink.attach()
    assert sink.tracker_run_id == run.id
    report = record(tmp_path, sink)
    run.log({"train/loss": 0.4}, step=2)
    trackio.finish()
    adapter = TrackioAdapter(report.home.source)
    events = list(adapter.events())
    assert [e.metrics for e in events if e.is_raw and e.metrics] == [{"train/loss": 0.5}, {"train/loss": 0.4}]
    assert events[0].model_info["config"] == {"model": "tiny"}
    assert adapter.problems == ["1 values are no numbers and were skipped: text (1)"]
    here, there = ingest_runs(tmp_path / "r_events.jsonl"), ingest_runs(report.home.source)
    assert here.equals(there)
    assert TrackioSink.attach() is None


def test_alerts_are_trackios(tmp_path, project):
    """With their text and level, once, however often they are sent."""
    sink = TrackioSink.create(Target(project=project))
    record(tmp_path, sink)
    [alert] = trackio.Api().alerts(project)
    assert (alert["title"], alert["level"], alert["step"]) == ("nonfinite", "error", 3)
    assert "loss" in alert["text"]
    sink.send([event for event in _journal(tmp_path) if event.kind == "alert"])
    assert len(trackio.Api().alerts(project)) == 1


def test_a_run_that_rldk_did_not_record(project, home):
    """Its names become canonical by the catalog."""
    run = trackio.init(project=project, auto_log_cpu=False)
    for step in (1, 2):
        run.log({"train/loss": step / 2, "train/grad_norm": float("inf")}, step=step)
    trackio.finish()
    table = ingest_runs(home / f"{project}.db")
    assert table["loss"].tolist() == [0.5, 1.0]
    assert table["grad_norm"].tolist() == [float("inf")] * 2


def test_a_project_is_all_its_runs(tmp_path, project, home):
    """In the order in which they began; `events` wants one of them."""
    for run_id in ("b", "a"):
        record(tmp_path, TrackioSink.create(Target(project=project)), run_id)
    source = str(home / f"{project}.db")
    assert [run.rpartition("#")[2] for run in TrackioAdapter(source).runs()] == ["b", "a"]
    assert set(ingest_runs(source)["run_id"]) == {"a", "b"}
    with pytest.raises(SourceError, match="it holds 2 runs; give one"):
        list(TrackioAdapter(source).events())
    with pytest.raises(SourceError, match="there is no such run"):
        list(TrackioAdapter(f"{source}#c").events())


def test_a_file_that_would_be_written_elsewhere_is_left_out(tmp_path, project, home):
    """An artifact's path leads out of the folder: nothing is written there."""
    report = record(tmp_path, TrackioSink.create(Target(project=project)))
    (tmp_path / "report.html").write_text("well")
    sink = TrackioSink.create(Target(project=project, run_id="r", source=report.home.source))
    sink.open(next(iter(TrackioAdapter(report.home.source).events())))
    sink.close("FINISHED", [tmp_path / "report.html"])
    with closing(sqlite3.connect(home / f"{project}.db")) as database, database:
        [(manifest,)] = database.execute("SELECT manifest FROM artifact_versions ORDER BY id DESC LIMIT 1")
        changed = json.dumps([entry | {"path": "../out.html"} for entry in json.loads(manifest)])
        database.execute("UPDATE artifact_versions SET manifest = ?", (changed,))
    into = tmp_path / "into"
    into.mkdir()
    adapter = TrackioAdapter(report.home.source)
    assert adapter.files(into) == []
    assert adapter.problems == ["../out.html is not on this machine, and was left out"]
    assert not (tmp_path / "out.html").exists()


def test_a_run_that_others_recorded_elsewhere(tmp_path, project, make_raw):
    """`rldk sync` brings it here: its names, its config and its status come back as they were."""
    events = make_raw({"loss": 0.5, "rldk/looks_like_ours": 1.0}, {"loss": float("nan")})
    sink = TrackioSink.create(Target(project=project))
    home = sink.open(events[0])
    sink.send(events)
    sink.close("FAILED", [])
    read = list(TrackioAdapter(home.source).events())
    assert all(event.is_raw for event in read)
    assert repr([e.metrics for e in read if e.metrics]) == repr([e.metrics for e in events if e.metrics])
    assert [(e.step, e.time) for e in read[1:-1]] == [(e.step, e.time) for e in events[1:]]
    first, last = read[0].model_info, read[-1].model_info
    assert (first["name"], first["config"], last["status"]) == ("theirs", {"lr": 0.1}, "FAILED")


def test_the_doctor_is_told_of_the_folder(home, tmp_path, monkeypatch):
    """One that is a file is none; what is looked at is left as it was."""
    [well] = TrackioSink.probe()
    assert (well.state, well.told) == ("ok", f"{home} can be written")
    (tmp_path / "file").touch()
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "file" / "trackio")
    [ill] = TrackioSink.probe()
    assert (ill.state, ill.remedy) == ("problem", "set TRACKIO_DIR to a folder that can")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_trackio_it_is_said_how_to_install_it(monkeypatch):
    """Not as an extra of RLDK, which has none of this name."""
    monkeypatch.setattr("rldk_trackio.sink.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"run: pip install trackio$"):
        TrackioSink.create()


def test_other_files_are_not_taken_for_trackios(tmp_path):
    """Nor is what is no file."""
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("CREATE TABLE metrics (x)")
    (tmp_path / "text.db").write_text("SQLite")
    assert not any(
        TrackioAdapter(str(tmp_path / name)).can_handle() for name in ("other.db", "text.db", "none.db")
    )
