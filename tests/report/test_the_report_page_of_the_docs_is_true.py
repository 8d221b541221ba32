"""docs/report.md tells every field of the two JSON files, with its type and meaning."""

from __future__ import annotations

import re
from pathlib import Path

from rldk.report.documents import as_json, final_report
from rldk.report.story import Story
from tests.report._page import tables
from tests.report._runs import eventful

PAGE = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")


def test_every_field_is_told_with_type_and_meaning():
    """Part by part; where this fails, correct the page."""
    for part, rows in tables().items():
        section = PAGE.partition(f"### {part.__name__}\n")[2].partition("\n### ")[0]
        found = [tuple(row[2:-2].split(" | ")) for row in section.splitlines() if row.startswith("| `")]
        assert found == rows, part.__name__
        assert part.__doc__.strip() in section


def test_no_other_part_is_told():
    """Of those that have a heading of their own."""
    assert re.findall(r"^### (\w+)$", PAGE, re.MULTILINE) == [part.__name__ for part in tables()]


def test_the_example_runs(tmp_path, monkeypatch):
    """It finds what it looks for."""
    monkeypatch.chdir(tmp_path)
    Path("report").mkdir()
    Path("report/abc123_final_report.json").write_bytes(as_json(final_report(Story.of(eventful()))))
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        exec(block, names)  # noqa: S102  # the page is ours
    assert (names["verdict"], names["best"]["step"]) == ("critical", 12)
