"""`pip install rldk` alone reads, checks and reports; one sentence says what brings the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rldk


@pytest.fixture(scope="module")
def bare(environment):
    """The environment without extras."""
    return environment()


def test_it_is_bare(bare, tmp_path):
    """Else the tests below would prove nothing."""
    heavy = ("torch", "transformers", "trl", "mlflow", "wandb", "matplotlib", "pyarrow", "dask", "zstandard")
    found = f"from importlib.util import find_spec; print([n for n in {heavy} if find_spec(n)])"
    assert bare.run("-c", found, cwd=tmp_path).stdout == "[]\n"


def test_it_tells_its_version(bare, tmp_path):
    """From its own files, not from those of this tree."""
    where = bare.run("-c", "import rldk; print(rldk.__file__)", cwd=tmp_path).stdout
    assert Path(where.strip()).is_relative_to(bare.folder)
    assert bare.rldk("--version", cwd=tmp_path).stdout.strip() == rldk.__version__


def test_it_reads_a_journal(bare, runs, tmp_path):
    """And writes the table."""
    done = bare.rldk("ingest", runs.journal, "-o", "table.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 31


@pytest.mark.parametrize("home", ["in_wandb", "in_mlflow"])
def test_it_reads_what_trackers_hold(bare, home, request, tmp_path):
    """An offline W&B folder without wandb, MLflow's database without MLflow."""
    done = bare.rldk("ingest", request.getfixturevalue(home), "-o", "table.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 31


def test_it_checks_a_run(bare, runs, tmp_path):
    """The rules need no library."""
    done = bare.rldk("check", runs.journal, cwd=tmp_path)
    assert done.returncode in {0, 1}, done.stderr
    assert "30 logs to step 30" in done.stdout


def test_its_report_says_what_plots_need(bare, runs, tmp_path):
    """The page is there, with the sentence in the place of the plots."""
    done = bare.rldk("report", runs.journal, "-o", "reports", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [page] = (tmp_path / "reports").glob("*_report.html")
    assert "needs matplotlib, which is not installed" in page.read_text()
    assert "rldk[report]" in page.read_text()


LACKING = [
    ("mlflow", "sync JOURNAL --to mlflow"),
    ("mlflow", "ingest http://127.0.0.1:1/#/experiments/1/runs/0a1b2c"),
    ("postgresql", "ingest postgresql://user@127.0.0.1:1/mlflow"),
    ("wandb", "sync JOURNAL --to wandb"),
    ("wandb", "ingest https://wandb.ai/team/project/runs/abc123"),
    ("parquet", "ingest JOURNAL -o table.parquet"),
    ("parquet", "ingest PARQUET"),
    ("s3", "ingest JOURNAL -o s3://bucket/runs"),
    ("dask", "ingest JOURNAL -o folder --scheduler tcp://127.0.0.1:1"),
    ("zstd", "ingest COMPRESSED"),
    ("report", "diff JOURNAL JOURNAL --plot plot.png"),
    ("trl", "demo"),
]


@pytest.mark.parametrize(("extra", "words"), LACKING, ids=lambda text: text.split()[0])
def test_a_missing_extra_is_one_sentence(bare, runs, tmp_path, extra, words):
    """On stderr, with the command that brings what is missing, and no trace."""
    (tmp_path / "run.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd\x04\x00")
    (tmp_path / "run.parquet").write_bytes(b"PAR1" + bytes(16) + b"PAR1")
    stands = {"JOURNAL": runs.journal, "COMPRESSED": "run.jsonl.zst", "PARQUET": "run.parquet"}
    done = bare.rldk(*(stands.get(word, word) for word in words.split()), cwd=tmp_path)
    assert done.returncode in {2, 3}
    [line] = done.stderr.splitlines()
    assert line.startswith("rldk: ")
    named = re.search(r"which is not installed; run: pip install 'rldk\[([\w,]+)\]'", line)
    assert named, line
    assert extra in named[1].split(",")


IN_PYTHON = {
    "trl": "from rldk.integrations.trl import RLDKCallback",
    "dask": "from rldk.ingest import ingest_runs; ingest_runs('JOURNAL', engine='dask')",
    "testing": "import rldk.testing.conformance",
}


@pytest.mark.parametrize("extra", IN_PYTHON)
def test_a_missing_extra_is_told_in_python_too(bare, runs, tmp_path, extra):
    """It is an ImportError, whose last line says what to install."""
    done = bare.run("-c", IN_PYTHON[extra].replace("JOURNAL", str(runs.journal)), cwd=tmp_path)
    assert done.returncode == 1
    assert f"run: pip install 'rldk[{extra}" in done.stderr.splitlines()[-1]
