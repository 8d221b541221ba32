"""Runs on a server are read by their name or by the address of their page, and whole projects, too."""

from __future__ import annotations

import time

import pytest
import wandb

from rldk.errors import SourceError
from rldk_wandb import server
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.address import Address, parsed
from tests._wandb_backend import API_KEY, ENTITY, PROJECT
from tests.bridges._wandb_runs import forget_wandb

pytestmark = pytest.mark.real

RUN = Address("team", "garden", "tulip")


@pytest.fixture
def runs(wandb_backend):
    """Three runs in one project, logged one after the other."""
    for name in ("first", "second", "third"):
        with wandb.init(id=name, name=f"the {name}") as run:
            run.define_metric("loss", step_metric="train/step")
            run.log({"loss": 0.5, "train/step": 70})
    forget_wandb()
    return wandb_backend


@pytest.mark.parametrize(
    "tail", ["", "/", "/overview", "/files/output.log", "?nw=nwuser&k=v", "/workspace#top"]
)
@pytest.mark.parametrize(
    "host", ["https://wandb.ai", "http://localhost:8080", "https://me:secret@wandb.my.org"]
)
def test_pages_of_runs(host, tail):
    """The page of a run, on any host, under any of its tabs, is that run."""
    found = parsed(f"{host}/team/garden/runs/tulip{tail}")
    assert found._replace(origin="") == RUN
    assert parsed(str(found)) == found
    assert "secret" not in str(found)


@pytest.mark.parametrize("tail", ["", "/workspace", "/runs", "/table?nw=x"])
def test_pages_of_projects(tail):
    """The page of a project is all its runs."""
    assert parsed(f"https://wandb.ai/team/garden{tail}")[:3] == ("team", "garden", "")
    assert parsed("wandb://team/garden") == Address("team", "garden")


@pytest.mark.parametrize(
    "source",
    [
        "http://localhost:5000/#/experiments/1/runs/0123456789abcdef",
        "http://localhost:5000/#/experiments/1",
        "https://host/mlflow/#/experiments/1/runs/0123456789abcdef",
        "https://host/ml/experiments/1/runs/0123456789abcdef",
        "https://host/mlflow/experiments",
        "https://host/data/runs.csv",
        "https://github.com/huggingface/trl",
        "https://host",
        "https://host:port/a/b/runs/c",
        "https://[host/a/b/runs/c",
        "ftp://host/a/b/runs/c",
        "sqlite:///a/b/runs/c",
    ],
)
def test_addresses_of_others(source):
    """MLflow's pages, and files on the web, are left alone."""
    assert parsed(source) is None
    assert not WandbAdapter(source).can_handle()


@pytest.mark.parametrize(
    ("page", "configured", "is_foreign"),
    [
        ("https://wandb.ai", None, False),
        ("https://forge.coreweave.com/wandb", None, False),
        ("https://my-team.wandb.ai", "https://wandb.my.org", False),
        ("https://wandb.my.org", None, True),
        ("https://wandb.my.org", "https://wandb.my.org/api/", False),
        ("https://wandb.my.org:443", "https://wandb.my.org", False),
        ("https://my.org", "https://api.my.org", False),
        ("https://app.my.org", "https://api.my.org", False),
        ("https://wandb.my.org", "https://elsewhere", True),
        ("https://wandb.my.org", "https://host:port", True),
        ("http://localhost:8081", "http://localhost:8080", True),
        ("https://wandb.ai.my.org", None, True),
        ("https://notwandb.ai", None, True),
        ("https://wandb.ai@my.org", None, True),
    ],
)
def test_whose_page_it_is(monkeypatch, tmp_path, page, configured, is_foreign):
    """W&B's cloud and the server that wandb is configured for are trusted; of others no page is a project."""
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    if configured:
        monkeypatch.setenv("WANDB_BASE_URL", configured)
    run = parsed(f"{page}/team/garden/runs/tulip")
    assert (run.is_foreign, parsed(str(run))) == (is_foreign, run)
    assert (parsed(f"{page}/team/garden") is None) == is_foreign


@pytest.mark.parametrize("folder", ["config", "here/wandb"])
def test_the_server_of_a_login(monkeypatch, tmp_path, folder):
    """What `wandb login --host` has noted counts as configured; a file that says nothing does not."""
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "here"))
    settings = tmp_path / folder / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nbase_url = https://wandb.my.org\n")
    assert parsed("https://wandb.my.org/team/garden")
    settings.write_text("base_url")
    assert parsed("https://wandb.my.org/team/garden") is None


@pytest.mark.parametrize("page", ["huggingface/trl", "some/page/workspace", "team/garden/runs/tulip"])
def test_another_server_gets_no_request_and_no_key(wandb_backend, monkeypatch, page):
    """A page on any other host is nobody's project, and a run there is refused before anything is asked."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    forget_wandb()
    adapter = WandbAdapter(f"{wandb_backend.url}/{page}")
    assert adapter.can_handle() == ("/runs/" in page)
    for read in (adapter.runs, lambda: list(adapter.events())):
        with pytest.raises(SourceError) as caught:
            read()
        is_told = f"set WANDB_BASE_URL={wandb_backend.url} to read from this server" in str(caught.value)
        assert is_told == ("/runs/" in page)
    assert (wandb_backend.operations, wandb_backend.unknown) == ([], [])


def test_a_page_is_read_from_its_own_host(runs):
    """Where wandb is configured for it, with the axes that were defined, at full length."""
    adapter = WandbAdapter(f"{runs.url}/{ENTITY}/{PROJECT}/runs/first/overview?nw=me")
    assert adapter.runs() == [f"{runs.url}/{ENTITY}/{PROJECT}/runs/first"]
    assert adapter.inputs() == []
    first, row, _ = adapter.events()
    assert (first.model_info["name"], row.step, row.metrics) == ("the first", 70, {"loss": 0.5})
    assert adapter.problems == []


@pytest.mark.parametrize("form", ["wandb://{0}/{1}", "{2}/{0}/{1}", "{2}/{0}/{1}/workspace?nw=me"])
def test_a_project_is_its_runs(runs, monkeypatch, form):
    """All of them, in the order in which they began, however many pages the server needs."""
    monkeypatch.setattr(server, "_RUNS_PAGE", 2)
    found = WandbAdapter(form.format(ENTITY, PROJECT, runs.url)).runs()
    assert [source.rpartition("/")[2] for source in found] == ["first", "second", "third"]
    assert [next(WandbAdapter(source).events()).run_id for source in found] == ["first", "second", "third"]
    assert runs.unknown == []


def test_a_project_is_no_run(wandb_backend):
    """To read it as one is an error that says how a run is named."""
    with pytest.raises(SourceError, match="it is a project; give one of its runs, as wandb://a/b/"):
        next(WandbAdapter("wandb://a/b").events())
    assert wandb_backend.operations == []


@pytest.mark.usefixtures("wandb_backend")
def test_a_project_that_is_not_there():
    """An unknown project is an error that says what to check."""
    with pytest.raises(SourceError, match=r"nobody/nothing: .*; check the name, the API key"):
        WandbAdapter("wandb://nobody/nothing").runs()


@pytest.mark.parametrize("fault", ["down", "401"])
@pytest.mark.parametrize("read", [lambda a: a.runs(), lambda a: list(a.events())], ids=["project", "run"])
def test_no_answer(wandb_backend, monkeypatch, fault, read):
    """A server that is down or refuses the key is an error, soon, that tells no secret."""
    monkeypatch.setattr(server, "_PATIENCE_S", 2)
    if fault == "down":
        wandb_backend.down()
    else:
        wandb_backend.faults.answer("graphql", 401)
    name = f"{ENTITY}/{PROJECT}" + ("" if "runs" in read.__code__.co_names else "/first")
    began = time.monotonic()
    with pytest.raises(SourceError, match="check the name, the API key and WANDB_BASE_URL") as caught:
        read(WandbAdapter(f"{wandb_backend.url}/{name}".replace("/first", "/runs/first")))
    assert time.monotonic() - began < 30
    assert API_KEY not in str(caught.value)
