"""To read a source changes nothing of it, and makes nothing beside it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rldk import event as event_json
from rldk.cli import app
from rldk.errors import RLDKError
from rldk.event import Event
from rldk.ingest import ingest_runs

DATA = Path(__file__).parents[1]


@pytest.fixture
def sources(tmp_path, empty_mlflow_db):
    """A folder of each kind of source that lies on a disk."""
    folder = tmp_path / "theirs"
    for name in ("journal", "tables", "mlruns/0/abc/metrics", "checkpoint-1", "tensorboard", "database"):
        (folder / name).mkdir(parents=True)
    lines = [
        Event(kind=kind, step=step, time=1.0 + step, wall_time=1.0 * step, metrics={"loss": 0.5}, rng={},
              data_slice={}, model_info={"run_id": "r", "phase": "train", "segment": 0}, notes=[])
        for step, kind in enumerate(("run", "metrics", "metrics"))
    ]  # fmt: skip
    torn = b'{"v":1,"kind":"met'  # a writer that died: RLDK itself would cut it off on going on
    written = b"".join(event_json.encode(line) + b"\n" for line in lines) + torn
    (folder / "journal" / "r_events.jsonl").write_bytes(written)
    (folder / "tables" / "x.csv").write_text("step,loss\n1,0.5\n")
    (folder / "tables" / "x.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    (folder / "mlruns" / "0" / "meta.yaml").write_text("experiment_id: '0'\nname: e\n")
    (folder / "mlruns" / "0" / "abc" / "meta.yaml").write_text("run_id: abc\nrun_name: x\nstatus: 3\n")
    (folder / "mlruns" / "0" / "abc" / "metrics" / "loss").write_text("1700000000000 0.5 1\n")
    state = '{"global_step": 1, "log_history": [{"step": 1, "loss": 0.5}]}'
    (folder / "checkpoint-1" / "trainer_state.json").write_text(state)
    shutil.copy(empty_mlflow_db, folder / "database" / "mlflow.db")
    with closing(sqlite3.connect(folder / "database" / "mlflow.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")  # to read which SQLite would make two files beside it
    assert [path.name for path in (folder / "database").iterdir()] == ["mlflow.db"]
    return folder


def state_of(folder):
    """Each path with its bytes, and when and how it was last changed."""
    told = {}
    for path in sorted(folder.rglob("*")):
        info = path.stat()
        told[path] = (info.st_mtime_ns, info.st_ctime_ns, info.st_mode, path.is_file() and path.read_bytes())
    return told


def test_nothing_of_it_changes(sources):
    """By the library: each source alone, and all of them together."""
    before = state_of(sources)
    for folder in sources.iterdir():
        for source in (folder, *folder.iterdir()):
            with suppress(RLDKError):  # some hold no run
                ingest_runs(str(source))
    assert state_of(sources) == before


@pytest.mark.parametrize("command", ["ingest", "check", "explain", "report", "verify"])
def test_no_command_changes_it_either(sources, tmp_path, command, monkeypatch):
    """Not those that write files: they write them elsewhere, where they are asked to."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    before = state_of(sources)
    for source in (sources / "journal" / "r_events.jsonl", sources / "mlruns", sources / "tables" / "x.csv"):
        words = [str(source)] * (2 if command == "verify" else 1)
        words += ["-o", str(tmp_path / "mine")] if command == "report" else []
        done = CliRunner().invoke(app, [command, *words])
        assert done.exit_code in {0, 1, 2, 3}, done.output
    assert state_of(sources) == before
