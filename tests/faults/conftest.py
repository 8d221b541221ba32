"""What the tests of faults share: trackers to hurt, the cure, and the table of what came of it."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rldk.cli import app
from rldk.cursor import Cursor, CursorFile
from rldk.delivery import DeliveryReport
from rldk.journal import last_event
from rldk.verify import verify
from rldk_wandb import fragments
from rldk_wandb.names import SEQ, TIME
from rldk_wandb.offline import WandbFile
from tests.bridges._wandb_runs import forget_wandb, offline_in
from tests.faults import _table
from tests.faults._life import DEADLINE_S, FAST, RUN_ID, SLACK_S, is_complete
from tests.faults._proxy import Proxy
from tests.faults._table import TABLE

FAST_ENVIRONMENT = {
    "RLDK_LINGER_S": str(FAST.linger_s),
    "RLDK_RETRY_FIRST_S": str(FAST.retry_first_s),
    "RLDK_RETRY_MOST_S": str(FAST.retry_most_s),
    "RLDK_CLOSE_DEADLINE_S": str(FAST.close_deadline_s),
    "RLDK_TERM_DEADLINE_S": str(FAST.term_deadline_s),
}


def pytest_configure(config):
    """Begin the table."""
    config.stash[TABLE] = []


def pytest_terminal_summary(terminalreporter, config):
    """Show the table of faults, so that CI's log has it."""
    if outcomes := config.stash.get(TABLE, []):
        terminalreporter.section("faults: events at the end of training, and points after rldk sync")
        for line in _table.lines(outcomes):
            terminalreporter.write_line(line)


@pytest.fixture
def tell(request):
    """Add a line to the table of faults."""

    def add(report, end_s, counts=None, fault=None):
        name = fault or _table.title(request.node.name)
        request.config.stash[TABLE].append(_table.outcome(name, report, end_s, counts or {}))

    return add


@pytest.fixture
def made_whole(tell):
    """Check that a run that has ended cost no event and little time; send what is missing; compare."""

    def check(life, *trackers, deadline_s=DEADLINE_S):
        assert is_complete(life.path, life.logged)
        reports = life.reports or [left(life.path, tracker) for tracker in trackers]
        assert reports
        for report in reports:
            counts = synced(life.path, report.tracker)
            tell(report, life.end_s, counts)
            assert not counts
        assert life.end_s < deadline_s + SLACK_S

    return check


def left(path, tracker):
    """What a delivery that was killed would have reported: what its cursor says."""
    seq = (CursorFile(path, tracker).load() or Cursor(journal=0.0)).seq
    waiting = last_event(path).seq - seq
    return DeliveryReport(tracker, None, seq + 1, rejected=0, waiting=waiting, is_closed=False, reasons=())


def synced(path, tracker):
    """Run `rldk sync`, and give the points that the tracker lacks, repeats or has altered then."""
    done = CliRunner().invoke(app, ["sync", str(path), "--to", tracker])
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(app, ["sync", str(path), "--to", tracker])
    assert "has it already" in again.output
    source = CursorFile(path, tracker).load().source
    verdict = verify(str(path), source)
    assert verdict.points > 0
    counts = sum(verdict.counts.values(), start=Counter())
    if Path(source).is_dir():
        counts["repeated"] += repeated_rows(Path(source))
    return +counts


def repeated_rows(folder):
    """Count the rows that an offline W&B run holds once too often, which the adapter passes over."""
    files = fragments.of_run(folder.parent, RUN_ID)
    times = Counter(round(row[TIME], 3) for file in files for row in WandbFile(file).rows(with_key=SEQ))
    return times.total() - len(times)


@pytest.fixture(scope="session")
def faults_server(tmp_path_factory, empty_mlflow_db, serve_mlflow):
    """The address of a real MLflow server."""
    folder = tmp_path_factory.mktemp("faults-mlflow")
    shutil.copy(empty_mlflow_db, folder / "mlflow.db")
    with serve_mlflow(folder / "mlflow.db") as address:
        yield address


@pytest.fixture
def impatient(monkeypatch):
    """Deliveries here and in children have short pauses and a short deadline."""
    for name, value in FAST_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def mlflow_through_proxy(impatient, tmp_path, monkeypatch):
    """Have MLflow use a server through a proxy that can do wrong."""
    opened = []

    def through(upstream):
        proxy = Proxy(upstream)
        proxy.up()
        opened.append(proxy)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        return proxy

    yield through
    for proxy in opened:
        proxy.heal()
        proxy.down()


@pytest.fixture
def proxy(mlflow_through_proxy, faults_server, tmp_path, monkeypatch):
    """The proxy before a healthy server, on which each test has an experiment of its own."""
    import mlflow

    mlflow.MlflowClient(faults_server).create_experiment(tmp_path.name)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    return mlflow_through_proxy(faults_server)


@pytest.fixture
def wandb_offline(impatient, tmp_path, monkeypatch):
    """W&B is offline and writes below tmp_path only, here and in children."""
    for name, value in offline_in(tmp_path).items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_NAME", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    forget_wandb()
    yield
    forget_wandb()
