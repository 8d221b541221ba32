import math
import subprocess
import sys

import msgspec
import pytest

from benchmarks import page
from benchmarks.result import Goal, Result, Row, Table
from benchmarks.runner import NAMES, PAGE

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def quick_results(tmp_path_factory):
    """What `python -m benchmarks --quick` finds, by name."""
    found = tmp_path_factory.mktemp("benchmarks") / "found.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(found)]
    subprocess.run(command, cwd=PAGE.parents[1], check=True, timeout=280)
    return {result.name: result for result in msgspec.json.decode(found.read_bytes(), type=list[Result])}


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_runs_and_yields_finite_figures(quick_results, name):
    """Each benchmark measures something; how fast it was is nobody's business here."""
    result = quick_results[name]
    figures = [figure for table in result.tables for row in table.rows for figure in row.figures]
    assert all(table.rows for table in result.tables)
    assert figures
    assert all(math.isfinite(figure) for figure in figures if figure is not None)
    assert all(math.isfinite(goal.measured) for goal in result.goals)


def test_the_page_is_of_full_size_only(tmp_path):
    """A quick look never touches docs/performance.md."""
    before = PAGE.read_bytes() if PAGE.exists() else None
    command = [sys.executable, "-m", "benchmarks", "--quick", "--write", "--json", str(tmp_path / "no")]
    refused = subprocess.run(command, cwd=PAGE.parents[1], capture_output=True, text=True, check=False)
    assert refused.returncode
    assert "full size" in refused.stderr
    assert (PAGE.read_bytes() if PAGE.exists() else None) == before


def test_a_benchmark_measured_anew_takes_the_place_of_its_old_section():
    """With its goals; all others stay as they are."""
    table = Table("T", ("s",), (Row("ours", (1.5,)),))
    result = Result("journal_io", "How now?", (table,), (Goal("as fast", "over", 2, 3.5),), "- Notes.")
    before = PAGE.read_text()
    after = page.renewed(before, [result], "today", NAMES)
    assert after.count("(`benchmarks/journal_io.py`, measured today)") == 1
    assert "| journal_io | as fast | over 2 | 3.5 | met |" in after
    assert page.renewed(after, [result], "today", NAMES) == after
    kept = [part for part in before.split("\n## ") if "benchmarks/on_log.py" in part]
    assert kept
    assert all(part.strip() in after for part in kept)
