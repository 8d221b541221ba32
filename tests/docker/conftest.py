"""The topology of docker/compose.yaml as processes: PostgreSQL, an S3 store, the bucket's maker, MLflow."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from tests.conftest import unused_port
from tests.docker._compose import Service, project

SECRETS = {
    "POSTGRES_PASSWORD": "p/ss@word:with#signs",
    "S3_ADMIN_SECRET_KEY": "adminkey0adminkey0adminkey0",
    "S3_MLFLOW_SECRET_KEY": "mlflowkey1mlflowkey1mlflowkey1",
}
STEPS = 8
PUBLIC = "mlflow.example.org"


@pytest.fixture(scope="module")
def topology(_postgres_server, tmp_path_factory):
    """Everything but the demo, up and healthy."""
    folder = tmp_path_factory.mktemp("topology")
    file = project(**SECRETS, MLFLOW_PUBLIC_HOST=PUBLIC)
    (folder / "secrets").mkdir()
    for name, secret in file["secrets"].items():
        (folder / "secrets" / name).write_text(SECRETS[secret["environment"]])
    (folder / "s3.json").write_text(file["configs"]["s3_identities"]["content"])
    database, store, server = _database(_postgres_server), unused_port(), unused_port()
    places = {
        "/run/secrets": str(folder / "secrets"),
        "/etc/seaweedfs/s3.json": str(folder / "s3.json"),
        "/data": str(folder / "data"),
        "postgres:5432": database,
        "http://s3:8333": f"http://127.0.0.1:{store}",
        "127.0.0.1:8333": f"127.0.0.1:{store}",
        "-s3.port=8333": f"-s3.port={store}",
        "-ip=s3": "-ip=127.0.0.1",
        "0.0.0.0": "127.0.0.1",  # noqa: S104  # this takes it away
        "--port=5000": f"--port={server}",
        "http://mlflow:5000": f"http://127.0.0.1:{server}",
        "http://127.0.0.1:5000": f"http://127.0.0.1:{server}",
    }
    services = {
        name: Service(definition, places, folder / name / "home")
        for name, definition in file["services"].items()
    }
    up = SimpleNamespace(
        services=services,
        folder=folder,
        store=f"http://127.0.0.1:{store}",
        server=f"http://127.0.0.1:{server}",
        log=folder / "mlflow.log",
        database=database,
    )
    with ExitStack() as stack:
        stack.enter_context(_store(services["s3"], store, folder))
        up.bucket = services["bucket"].run()
        assert up.bucket.returncode == 0, up.bucket.stderr
        up.process = stack.enter_context(_running(services["mlflow"], up.log, "--workers=1"))
        yield up


@pytest.fixture(scope="module")
def demo(topology):
    """The demo's command, with fewer steps, run against it: its journal, its page, and what it printed."""
    done = topology.services["demo"].run(f"--steps={STEPS}")
    assert done.returncode == 0, done.stdout + done.stderr
    [journal] = (topology.folder / "data" / "demo" / "journal").glob("*_events.jsonl")
    [page] = [word for word in done.stdout.split() if word.startswith(f"{topology.server}/#")][:1]
    return SimpleNamespace(journal=journal, page=page, printed=done.stdout)


def _database(postgres):
    """Make what the image makes of POSTGRES_USER, POSTGRES_DB and the password; gives host and port.

    The password is asked for, as there; the other tests' databases stay open to them.
    """
    import psycopg2
    from psycopg2 import sql

    url = urlsplit(postgres.database())
    connection = psycopg2.connect(host=url.hostname, port=url.port, user=url.username, dbname="postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        password = sql.Literal(SECRETS["POSTGRES_PASSWORD"])
        cursor.execute(sql.SQL("CREATE ROLE mlflow LOGIN PASSWORD {}").format(password))
        cursor.execute("CREATE DATABASE mlflow OWNER mlflow")
        rules = "host all mlflow 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust"
        cursor.execute("SHOW hba_file")
        [where] = cursor.fetchone()
        # (COPY's text format would write a line's end as two characters; rows become lines)
        lines = sql.SQL("COPY (SELECT unnest({}::text[])) TO {}")
        cursor.execute(lines.format(sql.Literal(rules.splitlines()), sql.Literal(where)))
        cursor.execute("SELECT pg_reload_conf()")
    connection.close()
    return f"{url.hostname}:{url.port}"


@contextmanager
def _store(service, port, folder):
    """SeaweedFS by the file's command where it is installed; else moto, which is the same S3 to MLflow."""
    (folder / "data").mkdir()
    with _running(*_store_command(service, port, folder), ending=signal.SIGKILL):
        yield


def _store_command(service, port, folder):
    binary = shutil.which("weed", path=service.environment()["PATH"])
    if binary:
        json.loads((folder / "s3.json").read_text())  # it would start without identities, and open to all
        return service, folder / "s3.log", *_ports_of_its_own()
    moto = Service(
        {
            "entrypoint": [sys.executable, "-m", "moto.server"],
            "command": ["-H", "127.0.0.1", "-p", str(port)],
            "healthcheck": {
                "test": ["CMD", "curl", "-fsS", "-o", "/dev/null", f"http://127.0.0.1:{port}/moto-api/"]
            },
        },
        {},
        folder / "moto" / "home",
    )
    return moto, folder / "s3.log"


def _ports_of_its_own():
    kinds = [f"{part}.{kind}" for part in ("master", "volume", "filer") for kind in ("port", "port.grpc")]
    return [f"-{kind}={unused_port()}" for kind in ["s3.port.grpc", *kinds]]


@contextmanager
def _running(service, log, *more, ending=signal.SIGTERM):
    with log.open("wb") as said, service.start(said, *more) as process:
        try:
            deadline = time.monotonic() + 90
            while service.health() != 0:
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.2)
            yield process
        finally:
            process.send_signal(ending)
