"""What the tests of many runs share: the runs, a Dask cluster, and an S3 server."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import urllib.request
from urllib.error import URLError

import pytest

from rldk.journal import Journal
from tests.conftest import unused_port

BEGAN = 1763847500.0


@pytest.fixture(scope="session")
def write_run():
    """Write the journal of one run: some steps, an evaluation, numbers that are missing or not finite."""
    from rldk.event import Event

    def write(folder, run_id, *, steps=5, start=0, continues=None, extra=()):
        info = {"run_id": run_id, "git_sha": "abc123", "segment": 0, "trainer": "GRPO"}
        told = {"rng": {"seed": 42}, "data_slice": {"tokens_in": 10}, "notes": []}
        begun = info | ({"continues": continues} if continues else {})
        path = folder / f"{run_id}_events.jsonl"
        with Journal(path) as journal:
            journal.append(
                Event(kind="run", time=BEGAN, step=start, wall_time=0.0, metrics={}, model_info=begun, **told)
            )
            for step in range(start + 1, start + steps + 1):
                metrics = {"reward_mean": step / 7, "loss": (0.5, math.nan, math.inf)[step % 3]}
                metrics |= {name: step / 3 for name in extra if step % 2}
                for phase in ("train", "eval") if step == start + 1 else ("train",):
                    journal.append(
                        Event(
                            seq=2 * step + (phase == "eval"),
                            time=BEGAN + step,
                            step=step,
                            wall_time=float(step),
                            metrics=metrics,
                            model_info=info | {"phase": phase},
                            **told,
                        )
                    )
        return path

    return write


@pytest.fixture
def write_log():
    """Write a flat log of another tool."""

    def write(path, rows=3, **numbers):
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"step": step, "reward": step / 2, "kl": 0.1} | numbers) for step in range(1, rows + 1)
        ]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture(scope="session")
def cluster():
    """A Dask cluster of two processes, and the client that is the default in them."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """The options of a bucket `runs` on a server that speaks S3's language."""
    pytest.importorskip("s3fs")
    port = unused_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    log = (tmp_path_factory.mktemp("s3") / "moto.log").open("wb")
    with log, subprocess.Popen(command, stdout=log, stderr=log, env=os.environ) as server:
        try:
            _wait(address)
            options = {"key": "k3y", "secret": "s3cr3t-value", "client_kwargs": {"endpoint_url": address}}
            import fsspec

            fsspec.filesystem("s3", **options).mkdir("runs")
            yield options
        finally:
            server.terminate()


def _wait(address):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"no S3 server answers at {address}")
