"""Each extra brings all that what it is for needs: nothing is used that was only there by chance."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import boto3
import pytest

from tests.release.conftest import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
DEVELOPERS = {"all", "dev", "docs"}
"""Unions of the others, and tools that the tests themselves use."""

TRIED_BELOW = {"mlflow", "wandb", "postgresql", "s3"}
BEFORE = """
import sys
from pathlib import Path
from rldk.cli import app
from rldk.ingest import ingest_runs
journal = Path(sys.argv[1])
def rldk(*words):
    app([str(word) for word in words], standalone_mode=False)
"""
WORKS = {
    "report": """
rldk("report", journal, "-o", "out")
[page] = Path("out").glob("*_report.html")
assert "<svg" in page.read_text() and "not installed" not in page.read_text()
""",
    "parquet": """
rldk("ingest", journal, "-o", "table.parquet")
assert len(ingest_runs("table.parquet")) == 30
""",
    "zstd": """
import zstandard
Path("run.jsonl.zst").write_bytes(zstandard.compress(journal.read_bytes()))
assert len(ingest_runs("run.jsonl.zst")) == 30
""",
    "dask": """
assert len(ingest_runs(journal, engine="dask").compute(scheduler="synchronous")) == 30
""",
    "gpu": """
import pynvml
from rldk.health import gpus
""",
    "testing": """
from rldk.testing.conformance import BridgeConformance
from rldk.testing import law, runs
""",
    "trl": """
from rldk.integrations.trl import EventWriterCallback, RLDKCallback, create_ppo_trainer
from trl import GRPOTrainer
RLDKCallback(output_dir="out")
""",
}


def test_every_extra_is_tried():
    """A new one does not slip through."""
    assert WORKS.keys() | TRIED_BELOW == EXTRAS.keys() - DEVELOPERS


@pytest.mark.parametrize("extra", WORKS)
def test_it_works_with_this_extra_alone(environment, runs, tmp_path, extra):
    """What the extra is for, in an environment that holds nothing else."""
    done = environment(extra).run("-c", BEFORE + WORKS[extra], str(runs.journal), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_trackers_are_synced_with_their_extras_alone(in_mlflow, in_wandb):
    """The fixtures have done it: with `mlflow` into a database, with `wandb` into a folder."""
    assert in_mlflow.is_file()
    assert list(in_wandb.glob("*.wandb"))


def test_postgresql_is_spoken_to(environment, tmp_path):
    """The driver is there: what fails is the server, which is not."""
    done = environment("mlflow", "postgresql").rldk("ingest", "postgresql://u@127.0.0.1:1/d", cwd=tmp_path)
    assert done.returncode == 3
    assert "refused" in done.stderr
    assert "not installed" not in done.stderr


def test_s3_is_written_and_read(environment, runs, tmp_path, free_port):
    """A data set in a bucket of moto's server."""
    server = f"http://127.0.0.1:{free_port}"
    told = {"AWS_ENDPOINT_URL": server, "AWS_DEFAULT_REGION": "us-east-1"}
    told |= {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(free_port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as moto:
        try:
            keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
            boto3.client("s3", endpoint_url=server, **keys).create_bucket(
                Bucket="the-runs"
            )  # it tries for a while
            place = environment("s3")
            done = place.rldk("ingest", runs.journal, "-o", "s3://the-runs/runs", cwd=tmp_path, **told)
            assert done.returncode == 0, done.stderr
            read = "import fsspec; print(len(fsspec.filesystem('s3').glob('the-runs/runs/part-*.parquet')))"
            assert place.run("-c", read, cwd=tmp_path, **told).stdout == "1\n"
        finally:
            moto.terminate()


def test_s3_names_its_extra_where_only_parquet_is(environment, runs, tmp_path):
    """What is missing is told by the place that is asked for."""
    done = environment("parquet").rldk("ingest", runs.journal, "-o", "s3://the-runs/runs", cwd=tmp_path)
    assert done.stderr == (
        "rldk: a data set in S3 needs s3fs, which is not installed; run: pip install 'rldk[s3]'\n"
    )


def test_all_is_every_extra_for_users():
    """`rldk[all]` leaves nothing out."""
    [line] = EXTRAS["all"]
    named = set(line.removeprefix("rldk[").removesuffix("]").split(","))
    assert named == EXTRAS.keys() - DEVELOPERS - {"testing"}
