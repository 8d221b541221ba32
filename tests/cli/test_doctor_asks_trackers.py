"""Trackers are tried for real, within a limit of time, and nothing of it stays behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rldk import bridge
from rldk.doctor.probes import cause, probe
from tests.cli._doctor_servers import answering, hanging

KEY = "0123456789abcdef0123456789abcdef01234567"
EXPERIMENT = "rldk-doctor"
TRACE = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    raise\n'
READ_ONLY = "/proc/self"  # where not even root can make a file


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Ask a tracker in this environment, in an empty folder; gives what is found, by what was looked at.

    With a limit of time it is asked in a process of its own, as the command does.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DISABLED", "WANDB_BASE_URL", "WANDB_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)

    def ask(name, limit_s=None, **environment):
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        found = list(bridge.sink(name).probe() if limit_s is None else probe([name], limit_s))
        return {each.what: each for each in found}

    return ask


def active_runs(condition=""):
    """Names of the active runs of doctor's experiment that fulfil a condition; before them, its own state."""
    from mlflow import MlflowClient

    client = MlflowClient()
    (there,) = client.search_experiments(3, filter_string=f"name = '{EXPERIMENT}'")
    runs = client.search_runs([there.experiment_id], condition)
    return there.lifecycle_stage, [each.info.run_name for each in runs]


def test_a_real_mlflow_server_takes_a_run(asked, mlflow_server):
    """A run, a number and a file are made and deleted; twice, for the experiment is deleted in between."""
    for limit_s in (120.0, None):
        found = asked("mlflow", limit_s, MLFLOW_TRACKING_URI=mlflow_server)
        assert {each.what: each.state for each in found.values()} == dict.fromkeys(
            ("tracking URI", "reach", "write", "files", "deletion"), "ok"
        )
        assert found["deletion"].told == "the run is deleted again (mlflow gc forgets it for good)"
    assert active_runs() == ("deleted", [])


def test_what_a_probe_that_is_killed_leaves_is_deleted_by_the_next(asked, mlflow_server):
    """It has not said that anything was deleted, either."""
    code = """if True:
        import os
        from rldk import bridge
        for each in bridge.sink("mlflow").probe():
            print(each.told, flush=True)
            if each.what == "files":
                os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "deleted again (" in done.stdout) == (-9, False), done.stderr
    assert active_runs("attributes.status = 'RUNNING'") == ("active", [EXPERIMENT])
    found = asked("mlflow", MLFLOW_TRACKING_URI=mlflow_server)
    assert "the run is deleted again, and 1 that earlier probes had left" in found["deletion"].told
    assert active_runs() == ("deleted", [])


def test_what_a_probe_fails_of_is_told(asked, tmp_path):
    """The exception, though SQLAlchemy ends with its statement and a link."""
    (tmp_path / "m.db").write_text("broken" * 200)
    found = asked("mlflow", 60.0, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/m.db")
    assert found["probe"].told.endswith("(sqlite3.DatabaseError) file is not a database")


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ("a warning\nit is asked for too much\n", "it is asked for too much"),
        (TRACE + "KeyError: 1\n\nWhile that:\n\n" + TRACE + "x.E: (y) no\n  at 3\n(see z)\n", "x.E: (y) no"),
        (TRACE, "raise"),
        ("", ""),
    ],
)
def test_the_cause_is_the_exceptions_own_line(errors, told):
    """Of the last traceback, where there is one."""
    assert cause(errors) == told


def test_probes_at_work_leave_each_other_alone(asked, mlflow_server):
    """Neither deletes the other's run, nor the experiment under it."""
    first = bridge.sink("mlflow").probe()
    told = [next(each for each in first if each.what == "write")]
    second = asked("mlflow", MLFLOW_TRACKING_URI=mlflow_server)
    assert active_runs("attributes.status = 'RUNNING'") == ("active", [EXPERIMENT])
    told += first
    assert {each.state for each in [*told, *second.values()]} == {"ok"}
    assert active_runs() == ("deleted", [])


def test_an_experiment_of_somebody_else_stays(asked, mlflow_server):
    """With its runs: where users may make no experiments, somebody has made this one for them."""
    from mlflow import MlflowClient

    asked("mlflow", MLFLOW_TRACKING_URI=mlflow_server)
    client = MlflowClient()
    (there,) = client.search_experiments(3, filter_string=f"name = '{EXPERIMENT}'")
    client.restore_experiment(there.experiment_id)
    client.delete_experiment_tag(there.experiment_id, "rldk.doctor")
    client.create_run(there.experiment_id, run_name="mine")
    try:
        asked("mlflow", MLFLOW_TRACKING_URI=mlflow_server)
        assert active_runs() == ("active", ["mine"])
    finally:
        client.set_experiment_tag(there.experiment_id, "rldk.doctor", "made by rldk doctor")
        client.delete_experiment(there.experiment_id)


def test_a_database_that_is_not_there_is_not_made(asked, tmp_path):
    """The first run would make it; to ask does not."""
    found = asked("mlflow", MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/new.db")
    assert found["write"].state == "ok"
    assert "is made by the first run" in found["write"].told
    assert not (tmp_path / "new.db").exists()


def test_a_read_only_folder_is_a_problem(asked):
    """Neither a database nor W&B's folder can be made there."""
    found = asked("mlflow", MLFLOW_TRACKING_URI=f"sqlite:///{READ_ONLY}/new.db")
    assert found["write"].state == "problem"
    found = asked("wandb", WANDB_DIR=READ_ONLY, WANDB_MODE="offline")
    assert (found["folder"].state, found["folder"].remedy) == (
        "warning",
        "set WANDB_DIR to a folder that can",
    )


def test_a_port_that_refuses_is_a_problem(asked, free_port):
    """With what to do about it; for W&B without a key it is worth no more than a note."""
    found = asked("mlflow", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{free_port}")
    assert (found["reach"].state, "MLFLOW_TRACKING_URI" in found["reach"].remedy) == ("problem", True)
    found = asked("wandb", WANDB_BASE_URL=f"http://127.0.0.1:{free_port}", WANDB_API_KEY=KEY)
    assert (found["reach"].state, "WANDB_MODE=offline" in found["reach"].remedy) == ("warning", True)


def test_a_server_that_never_answers_holds_nobody_up(asked):
    """The limit ends the probe, and what was found before counts."""
    with hanging() as address:
        began = time.monotonic()
        found = asked("wandb", 2.0, WANDB_BASE_URL=address, WANDB_API_KEY=KEY)
        assert time.monotonic() - began < 10
        assert found["time"].state == "problem"
        found = asked("wandb", WANDB_BASE_URL=address, WANDB_API_KEY=KEY)  # its own patience is shorter
        assert "does not answer" in found["reach"].told
        found = asked("mlflow", MLFLOW_TRACKING_URI=address)
        assert found["reach"].state == "problem"


def test_who_may_not_is_told_how_to_log_in(asked):
    """401 is about credentials."""
    with answering(401, {"error_code": "UNAUTHENTICATED", "message": "who are you"}) as (address, _):
        mlflow = asked("mlflow", MLFLOW_TRACKING_URI=address)
        wandb = asked("wandb", WANDB_BASE_URL=address, WANDB_API_KEY=KEY)
    assert "MLFLOW_TRACKING_USERNAME" in mlflow["reach"].remedy
    assert (wandb["login"].state, "wandb login" in wandb["login"].remedy) == ("problem", True)


def test_a_key_is_tried_and_never_shown(asked):
    """The server says whose it is; the key itself is in nothing that is found."""
    with answering(200, {"data": {"viewer": {"username": "ada"}}}) as (address, seen):
        found = asked("wandb", WANDB_BASE_URL=address, WANDB_API_KEY=KEY)
    assert [each.state for each in found.values()] == [*["ok"] * 4, "note"]
    assert "ada" in found["reach"].told
    assert seen[0].startswith("Basic ")
    assert KEY not in str(found)
    assert (found["write"].told, len(seen)) == (
        "not tried: a run would stay there; the server was asked whose the key is, and no more",
        1,
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_key_goes_to_no_other_host(asked, status):
    """A server that sends on is told, with where to; neither the key nor a question goes there."""
    with (
        answering(200, {"data": {"viewer": None}}, host="127.0.0.2") as (other, seen_there),
        answering(status, {}, Location=f"{other}/graphql?token=hidden") as (address, seen),
    ):
        found = asked("wandb", WANDB_BASE_URL=address, WANDB_API_KEY=KEY)
    assert (len(seen), seen_there) == (1, [])
    assert found["login"].state == "ok"
    assert (found["reach"].state, f"HTTP {status} and leads to {other}:" in found["reach"].told) == (
        "warning",
        True,
    )
    assert not [secret for secret in (KEY, "hidden") if secret in str(found)]
    assert f"if {other} is W&B's server" in found["reach"].remedy


@pytest.mark.parametrize("address", ["http://host:port", "http://[::1", "ftp://host", "host"])
def test_what_is_no_address_is_a_problem(asked, address):
    """Nobody is asked."""
    assert asked("wandb", WANDB_BASE_URL=address, WANDB_API_KEY=KEY)["reach"].state == "problem"


def test_where_a_redirect_leads_need_not_be_an_address(asked):
    """It is told all the same."""
    for location, told in (("/login", "leads to http://127.0.0.1"), ("http://[x", "leads to what is given")):
        with answering(302, {}, Location=location) as (address, _):
            assert told in asked("wandb", WANDB_BASE_URL=address)["reach"].told


def test_wandbs_folder_is_tried_with_a_file(asked, tmp_path):
    """Which is gone again."""
    found = asked("wandb", WANDB_MODE="offline")
    assert found["folder"].told == f"{tmp_path} can be written: a file was made there and removed again"
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_found_in_netrc(asked, tmp_path):
    """Where wandb login leaves it."""
    with answering(200, {"data": {"viewer": None}}) as (address, _):
        Path(tmp_path, ".netrc").write_text(f"machine 127.0.0.1\n  login user\n  password {KEY}\n")
        Path(tmp_path, ".netrc").chmod(0o600)
        found = asked("wandb", WANDB_BASE_URL=address)
    assert "does not take the API key" in found["login"].told
    assert KEY not in str(found)


@pytest.mark.parametrize(("mode", "looked_at"), [("offline", {"mode", "folder"}), ("disabled", {"mode"})])
def test_without_a_network_nobody_is_asked(asked, mode, looked_at):
    """In these modes W&B asks no server either."""
    assert set(asked("wandb", WANDB_MODE=mode)) == looked_at


def test_a_tracker_that_nobody_knows_fails_alone(asked):
    """What goes wrong in a probe is a finding, with how to look closer."""
    found = asked("nothing", 60.0)
    assert "no tracker named 'nothing'" in found["probe"].told
    assert found["probe"].remedy == "run: python -m rldk.doctor.child nothing"
