"""A run on a server gets every row once, whatever the network does, and can be read back from there."""

from __future__ import annotations

import threading

import pytest
import wandb

from rldk.bridge import Target
from rldk.errors import SinkClosedError, SourceError
from rldk_wandb import own
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.sink import WandbSink
from tests._wandb_backend import ENTITY, PROJECT
from tests.bridges._wandb_runs import RUN, deliver, event, forget_wandb, go_on, plain, read_back

pytestmark = pytest.mark.real

EVENTS = [event(i, step=10 * i, metrics={"loss": i / 7, "kl_mean": -i}) for i in range(1, 300)]
HOME = f"wandb://{ENTITY}/{PROJECT}/rosy-run"


def seqs(backend):
    """The events that the server has."""
    return [row.get("rldk/seq") for row in backend.rows("rosy-run")]


def test_it_arrives_whole(wandb_backend):
    """Each event is a row, in order, and the run ends as it should."""
    home = deliver(RUN, EVENTS)
    run = wandb_backend.run("rosy-run")
    assert (home.source, home.url) == (HOME, f"{wandb_backend.url}/{ENTITY}/{PROJECT}/runs/rosy-run")
    assert seqs(wandb_backend) == [e.seq for e in EVENTS]
    assert (run.state, run.exit_code, run.config["rldk/run_id"]["value"]) == ("finished", 0, "rosy-run")


@pytest.mark.usefixtures("wandb_backend")
def test_it_comes_back():
    """Read from the server, the events are those that were sent."""
    home = deliver(RUN, EVENTS)
    assert WandbAdapter(home.source).runs() == [HOME]
    assert [plain(e) for e in read_back(home.source)] == [plain(e) for e in EVENTS]


@pytest.mark.usefixtures("wandb_backend")
def test_runs_of_others_come_back():
    """Their rows with their steps and what is not finite, and what the server tells of the run."""
    with wandb.init(id="theirs", name="tulip", tags=["a"], notes="n", config={"lr": 0.5}) as run:
        run.define_metric("train/*", step_metric="train/global_step")
        run.define_metric("exact", step_metric="train/global_step")
        run.log({"exact": float("nan"), "train/global_step": 70, "text": "x"})
        run.summary["best"] = 3
    adapter = WandbAdapter(f"wandb://{ENTITY}/{PROJECT}/theirs")
    first, row, end = adapter.events()
    told = {key: first.model_info[key] for key in ("config", "tags", "name", "notes", "project", "raw")}
    assert told == {
        "config": {"lr": 0.5},
        "tags": {"a": ""},
        "name": "tulip",
        "notes": "n",
        "project": PROJECT,
        "raw": True,
    }
    assert (row.step, repr(row.metrics)) == (70, "{'exact': nan}")
    assert (end.model_info["status"], end.metrics) == ("FINISHED", {"best": 3})
    assert adapter.problems == ["theirs: 1 values of others are no numbers and were skipped: text (1)"]


@pytest.mark.usefixtures("wandb_backend")
def test_what_is_not_there_is_an_error():
    """A run that the server does not know, and what is no address of a run."""
    for name, reason in {HOME: "ould not find run", "wandb://a": "give wandb://<entity>"}.items():
        with pytest.raises(SourceError, match=reason):
            next(WandbAdapter(name).events())


def test_a_target_on_a_server(wandb_backend):
    """A run's address as target: its rows go on, whatever the run's own id, and its name stays."""
    with wandb.init(id="other", project="elsewhere", name="kept") as run:
        run.log({"a": 1})
    home = go_on(RUN, EVENTS[:5], target=Target(source=f"wandb://{ENTITY}/elsewhere/other"))
    assert home.source == f"wandb://{ENTITY}/elsewhere/other"
    assert [row.get("rldk/seq") for row in wandb_backend.rows("other")] == [None, 1, 2, 3, 4, 5]
    assert wandb_backend.run("other").display_name == "kept"


def test_down_at_open(wandb_backend, monkeypatch):
    """A server that is down when the run is opened costs a try; when it is up, the same sink goes on."""
    monkeypatch.setattr(own, "PATIENCE_S", 1.0)
    sink = WandbSink.create()
    wandb_backend.down()
    with pytest.raises(wandb.errors.Error):
        sink.open(RUN)
    wandb_backend.up()
    deliver(RUN, EVENTS, sink)
    assert seqs(wandb_backend) == [e.seq for e in EVENTS]


@pytest.mark.parametrize("fault", ["500", "429", "cut", "down"])
def test_faults_while_it_streams(wandb_backend, fault):
    """What fails for a while arrives once it does not, each row once."""
    sink = WandbSink.create()
    sink.open(RUN)
    sink.send(EVENTS)
    healing = threading.Timer(1.0, wandb_backend.up)
    {
        "500": lambda: wandb_backend.faults.answer("file_stream", 500, times=1),
        "429": lambda: wandb_backend.faults.answer("file_stream", 429, times=1, retry_after_s=1),
        "cut": lambda: wandb_backend.faults.cut("file_stream", times=1),
        "down": wandb_backend.down,
    }[fault]()
    healing.start()
    sink.close("FINISHED", [])
    assert seqs(wandb_backend) == [e.seq for e in EVENTS]


def test_a_server_that_hangs(wandb_backend, monkeypatch):
    """The end is bounded: what the server did not take is on disk, and the error says where."""
    monkeypatch.setattr(own, "PATIENCE_S", 2.0)
    sink = WandbSink.create()
    sink.open(RUN)
    sink.send(EVENTS)
    wandb_backend.faults.hang("file_stream")
    with pytest.raises(SinkClosedError, match=r"run `wandb sync .*wandb/run-"):
        sink.close("FINISHED", [])


def test_closed_without_a_status(wandb_backend):
    """The server is told that the run was preempted, and it can be gone on with."""
    sink = WandbSink.create()
    sink.open(RUN)
    sink.send(EVENTS[:3])
    sink.close(None, [])
    forget_wandb()
    assert wandb_backend.run("rosy-run").exit_code == 1
    go_on(RUN, EVENTS)
    assert seqs(wandb_backend) == [e.seq for e in EVENTS]


def test_it_says_only_that_it_has_logged_in(wandb_backend, capfd, monkeypatch):
    """Where a run is gone on with and the server is asked, W&B tells of the login once, as it always does."""
    go_on(RUN, EVENTS[:5])
    forget_wandb()
    capfd.readouterr()
    monkeypatch.delenv("WANDB_SILENT")
    go_on(RUN, EVENTS)
    forget_wandb()
    said = capfd.readouterr()
    assert said.out == ""
    assert ["credentials" in line or "logged in as" in line for line in said.err.splitlines()] == [True] * 2
    assert seqs(wandb_backend) == [e.seq for e in EVENTS]


def test_a_key_that_is_refused(wandb_backend):
    """Without access the run does not open, and may be tried again."""
    wandb_backend.faults.answer("graphql", 401)
    sink = WandbSink.create()
    with pytest.raises(Exception, match=r"(?i)auth|api key|401"):
        sink.open(RUN)
    wandb_backend.faults.clear()
    deliver(RUN, EVENTS, sink)
    assert seqs(wandb_backend) == [e.seq for e in EVENTS]
