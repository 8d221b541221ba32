"""docs/metrics.md says what the catalog says."""

from __future__ import annotations

from rldk import catalog


def test_the_page_is_what_the_catalog_gives(metrics_page):
    """Where this fails, run `python tools/metrics_page.py` and commit the page."""
    assert metrics_page.PAGE.read_text(encoding="utf-8") == metrics_page.page()


def test_the_page_tells_of_every_metric(metrics_page):
    """Each has its name, its unit, its meaning, and each key under which it is logged."""
    page = metrics_page.page()
    for metric in catalog.metrics():
        assert f"| `{metric.name}` | {metric.unit} |" in page
        assert metric.meaning in page
        assert all((line.raw or line.derived or line.measured) in page for line in metric.logged)
