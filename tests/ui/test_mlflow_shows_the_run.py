"""In MLflow's own pages a run that RLDK recorded is found, read and judged: looked at with a real browser."""

from __future__ import annotations

import importlib.util
import re
import shutil

import pytest

from tests.ui.conftest import NAME, STEPS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HAS_DRIVER = importlib.util.find_spec("playwright") is not None
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
    pytest.mark.skipif(not HAS_DRIVER, reason="no Playwright is installed: pip install playwright"),
]

TRAINING = "?workflowType=machine_learning"  # MLflow 3 has other pages for agents
PATIENCE_MS = 60_000  # a page of MLflow's is five megabytes of script, and the machine may be busy
STEPS_OF_A_CHART = """card => {
    const data = card.querySelector(".js-plotly-plot").data[0];
    return [Array.from(data.x), Array.from(data.y)];
}"""


class Watched:
    """A page, and what went wrong on it.

    Attributes:
        page: Playwright's page.
        troubles: Scripts that failed, and requests about runs that were refused.
    """

    def __init__(self, page, experiment):
        self.page = page
        self.experiment = experiment
        self.troubles = []
        self.watch(page)

    def watch(self, page):
        """Note what goes wrong on this page, too."""
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", self._hear)
        page.on("response", self._see)

    def _hear(self, message):
        """A page of ours is shown from a blob; what it is told there is about us."""
        if message.type in {"error", "warning"} and message.location["url"].startswith("blob:"):
            self.troubles.append(message.text)

    def _see(self, response):
        if response.status >= 400 and re.search(r"/runs|/metrics|artifact", response.url):
            self.troubles.append(f"{response.status} {response.url}")

    def open(self, path):
        """Go to a page of the experiment."""
        self.page.goto(f"{self.experiment}/{path}{TRAINING}")
        return self.page


@pytest.fixture(scope="module")
def context(screenshots):
    """A browser's profile for all of this file's tests, for MLflow's scripts are large."""
    with screenshots.browser() as chromium, screenshots.profile(chromium) as profile:
        yield profile


@pytest.fixture
def ui(context, recorded):
    """An empty page, with what goes wrong on it; at the end nothing has."""
    watched = Watched(context.new_page(), recorded.experiment)
    yield watched
    for page in context.pages:
        page.close()
    assert watched.troubles == []


def test_the_experiment_lists_the_run_under_its_name(ui):
    """With its status, where one looks first; and the link leads to it."""
    page = ui.open("runs")
    page.get_by_role("link", name=NAME, exact=True).click()
    page.get_by_role("heading", name=NAME).wait_for()


def test_charts_are_grouped_by_section(ui, recorded):
    """A section for each name but for its last part, which is the chart's title; no metric is left out."""
    page = ui.open(f"runs/{recorded.run_id}/model-metrics")
    page.get_by_role("figure").filter(has_text="rldk/system").wait_for()
    headings = "\n".join(page.get_by_role("figure").all_inner_texts())
    sections = {name: int(count) for name, count in re.findall(r"^(.+)\n\((\d+)\)$", headings, re.MULTILINE)}
    expected = {}
    for name in recorded.client.get_run(recorded.run_id).data.metrics:
        section = name.rpartition("/")[0]
        expected[section] = expected.get(section, 0) + 1
    assert {name: count for name, count in sections.items() if count} == expected
    assert {"rldk", "rldk/eval", "rldk/health", "rldk/system", "rldk/checkpoint", "rldk/alert"} <= set(
        expected
    )


@pytest.mark.parametrize(
    ("metric", "steps"),
    [
        ("rldk/kl_mean", list(range(1, STEPS + 1))),
        ("rldk/eval/reward_mean", list(range(2, STEPS + 1, 2))),
        ("rldk/checkpoint/norm", [4, 8, 12]),
    ],
)
def test_charts_are_over_the_trainer_s_steps(ui, recorded, metric, steps):
    """The axis is called Step, and each point is where the trainer had it, with its value."""
    page = ui.open(f"runs/{recorded.run_id}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill(f"{metric}$")
    card = page.get_by_test_id("experiment-view-compare-runs-card")
    card.locator(".xtitle", has_text=re.compile("^Step$")).wait_for()
    assert card.count() == 1
    card.get_by_text(metric.rpartition("/")[2], exact=True).first.wait_for()
    history = recorded.client.get_metric_history(recorded.run_id, metric)
    values = [point.value for point in sorted(history, key=lambda point: point.step)]
    assert card.evaluate(STEPS_OF_A_CHART) == [steps, pytest.approx(values, rel=1e-9)]


def test_the_overview_tells_the_verdict(ui, recorded):
    """As tags, by which runs are searched, and in the description, as formatted text."""
    page = ui.open(f"runs/{recorded.run_id}")
    page.get_by_text("RLDK health: warning").wait_for()
    rules = page.get_by_role("listitem").filter(has_text="limit_kl_divergence")
    assert rules.locator("strong").first.inner_text() == "warning"
    assert "**" not in page.get_by_test_id("note-editor-preview-content").inner_text()
    for tag in ("rldk.health", "rldk.alert.limit_kl_divergence", "rldk.trainer", "rldk.run_id"):
        page.get_by_text(tag, exact=True).first.wait_for()


def test_tags_are_few(recorded):
    """A dozen would hide the verdict: what RLDK needs for itself is one tag a start, and four more."""
    tags = {name for name in recorded.client.get_run(recorded.run_id).data.tags if name.startswith("rldk.")}
    told = {name for name in tags if name.startswith("rldk.alert.")}
    assert tags - told - {"rldk.git_sha"} == {
        *("rldk.run_id", "rldk.trainer", "rldk.seed", "rldk.health"),
        *("rldk.segment.0", "rldk.began", "rldk.schema", "rldk.health_at"),
    }


def test_the_description_leads_to_the_report(ui, recorded):
    """One click opens it among the artifacts, rendered, still among the pages for trainings."""
    page = ui.open(f"runs/{recorded.run_id}")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open the report").click()
    report = opened.value
    ui.watch(report)
    inside = report.frame_locator("iframe")
    for heading in ("What to do next", "Plots", "Alerts", "Checkpoints"):
        inside.get_by_role("heading", name=heading, exact=True).wait_for()
    assert inside.locator("svg").count() > 3
    report.get_by_role("link", name="Runs", exact=True).first.wait_for()


def test_the_table_is_previewed_with_its_header(ui, recorded):
    """The artifacts are one folder: the journal and what was made of it; the table shows its columns."""
    page = ui.open(f"runs/{recorded.run_id}/artifacts/rldk")
    stem = recorded.journal.name.removesuffix("_events.jsonl")
    files = ("alerts.json", "events.jsonl", "final_report.json", "report.html")
    for name in (*(f"{stem}_{file}" for file in files), "run_0.json"):
        page.get_by_text(name, exact=True).wait_for()
    page.get_by_text(f"{stem}_metrics.csv", exact=True).click()
    page.get_by_role("cell", name="train", exact=True).first.wait_for()
    columns = page.get_by_role("columnheader").all_inner_texts()
    assert columns[:5] == ["step", "phase", "reward_mean", "reward_std", "kl_mean"]
