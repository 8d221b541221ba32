"""The page is one file without script or network, whatever the run is called, and of bounded size."""

from __future__ import annotations

import math
import re
import sys
import threading
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from rldk.bridge import Home
from rldk.delivery import DeliveryReport
from rldk.report.documents import final_report
from rldk.report.page import page
from rldk.report.story import Story
from rldk.testing import runs as hostile
from tests.report._runs import HEALTH, alert, event, eventful, recorded

EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>&amp;$\\frac{1}{0}$"
VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Notes what a page consists of, and whether each element that begins ends."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = set(), [], [], []

    def handle_starttag(self, tag, attrs):
        """An element begins."""
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """An element without content."""
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        """An element ends."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """A text."""
        self.text.append(data)


def written(events, **given):
    """The page of a run."""
    story = Story.of(events)
    return page(story, final_report(story, **given)).decode()


def read(html):
    """What a page consists of."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader


def is_harmless(html):
    """No script, nothing that is loaded, no handler; links go to the web alone."""
    reader = read(html)
    assert not reader.tags & {"script", "img", "link", "iframe", "object", "embed", "base", "form", "image"}
    for name, value in reader.attributes:
        assert not name.startswith("on")
        assert name != "src"
        if name == "href":
            assert value.startswith(("#", "https://", "http://"))
    styles = "".join(re.findall(r"<style>.*?</style>", html, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    return reader


def test_a_hostile_run_is_harmless():
    """In its id, its facts, its metrics, its alerts, its checkpoints and its trackers."""
    health = {"verdict": "ok", "firing": [], "rules": [{**HEALTH["rules"][0], "title": EVIL, "reason": EVIL}]}
    events = [
        event("run", 0, run=EVIL, trainer=EVIL, name=EVIL, versions={EVIL: EVIL}),
        event("metrics", 1, {EVIL: 1.0, "loss": 2.0, f"reward_components/{EVIL}_mean": 1.0}, run=EVIL),
        event("metrics", 1, {f"{EVIL}/loss": 1.0}, run=EVIL, phase="eval"),
        event("resource", 1, {EVIL: 1.0}, run=EVIL),
        event(
            "checkpoint",
            1,
            {"files": 1},
            run=EVIL,
            checkpoint=EVIL,
            analysis={"findings": [{"message": EVIL}]},
        ),
        alert(
            1,
            run=EVIL,
            rule=EVIL,
            title=EVIL,
            message=EVIL,
            evidence={EVIL: EVIL},
            metrics=[EVIL],
            advice=EVIL,
        ),
        alert(1, run=EVIL, rule="x", source=f"javascript:{EVIL}", severity="<b>"),
        event("end", 1, run=EVIL, status=EVIL, stopped_by=EVIL, health=health),
    ]
    deliveries = [DeliveryReport(EVIL, Home(EVIL, EVIL, EVIL, f"javascript:{EVIL}"), 1, 1, 1, False, (EVIL,))]  # noqa: FBT003
    reader = is_harmless(written(events, deliveries=deliveries))
    assert EVIL in "".join(reader.text)


@settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow])
@given(hostile.runs() | hostile.wide_runs())
def test_any_run_has_a_page(events):
    """Whatever was logged, the page is well-formed, and matplotlib has nothing to warn of."""
    is_harmless(written(events))


@pytest.mark.parametrize(
    "values",
    [
        [math.nan] * 5,
        [math.inf, -math.inf, math.nan],
        [0.0] * 5,
        [1e308, -1e308, 1e308],
        [5e-324, 1e308, 1.0, 1.0],
        [1e-300, 1e300, 1.0, 2.0, 3.0],
        [-1.0, 1e9, 0.0, 3.0, 2.0],
        [7.0],
        [1e15 + 1, 1e15 + 2, 1e15 + 3],
        [10**400, -(10**400), 1],
    ],
)
def test_odd_numbers_are_drawn(values):
    """NaN alone, numbers at the end of the floats, one point."""
    steps = [2**60 + i for i in range(len(values))] if values == [7.0] else range(len(values))
    events = [event("metrics", step, {"loss": value}) for step, value in zip(steps, values, strict=True)]
    assert "<svg" in written([*events, alert(1, metrics=["loss"])])


def test_a_run_without_metrics_has_a_page():
    """It says so."""
    assert "No metric was recorded." in written([event("run", 0)])


def test_the_page_tells_what_happened():
    """Verdict, advice, alerts, every rule with its reason, checkpoints and trackers."""
    home = Home("mlflow", "1", "sqlite:///x#runs/1", "https://me:hunter22@mlflow.example/1")
    deliveries = [DeliveryReport("mlflow", home, 1234, 2, 3, False, ("no route",))]  # noqa: FBT003
    html = written(eventful(), deliveries=deliveries)
    text = " ".join(read(html).text)
    for said in (
        "critical",
        "lower the learning rate",
        "KL drift: it is critical at step 8",
        "0.83",
        "1,234",
    ):
        assert said in text
    for said in (
        "on-policy: nothing can be clipped",
        "Of other trainers, and not asked: Value loss",
        "no route",
    ):
        assert said in text
    for said in ("out/checkpoint-12", "7 are NaN", "nats/token", "kl_drift@6", "gpu0 60 %"):
        assert said in text
    assert "hunter22" not in html
    assert 'href="https://arxiv.org/abs/1707.06347"' in html


def test_the_same_run_has_the_same_page():
    """Also when it is drawn by several threads at once, and the training has its own matplotlib style."""
    import matplotlib as mpl

    first, made = written(recorded("1.16.0_sft_nanloss")), []
    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "red", "font.size": 40}):
        threads = [
            threading.Thread(target=lambda: made.append(written(recorded("1.16.0_sft_nanloss"))))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert mpl.rcParams["font.size"] == 40
    assert made == [first] * 3
    assert "matplotlib.pyplot" not in sys.modules or "pyplot" not in first


def test_without_matplotlib_the_page_has_everything_else(monkeypatch):
    """And says what is to be installed."""
    monkeypatch.setitem(sys.modules, "rldk.report.plots", None)
    html = written(eventful())
    assert "<svg" not in html
    assert "pip install &#x27;rldk[report]&#x27;" in html
    assert "Main metrics" in html


def test_colours_are_those_of_the_page():
    """So that plots are right in light and dark, and no colour of matplotlib's is left."""
    html = written(eventful())
    svgs = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert not re.findall(r"#[0-9a-fA-F]{6}", svgs)
    style = html.partition("<style>")[2].partition("</style>")[0]
    for name in set(re.findall(r"var\(--([\w-]+)\)", svgs)):
        assert style.count(f"--{name}:") == 3, name  # light, dark and print
    ids = re.findall(r'\bid="([^"]*)"', svgs)
    assert len(set(re.findall(r'(?<=<clipPath id=")[^"]*', svgs))) == len(re.findall("<clipPath", svgs))
    assert all(f'id="{used}"' in svgs for used in re.findall(r"(?:url\(|href=\")#([^)\"]*)", svgs))
    assert ids


def test_a_long_run_and_a_wide_one_have_a_page_of_bounded_size():
    """8,000 points, and 300 metrics: a spike of one point is drawn all the same."""
    rng = np.random.default_rng(0)
    wide = {f"own_{i}": 1.0 for i in range(300)}
    events = [
        event("metrics", step, {"loss": float(rng.normal())} | (wide if step < 9 else {}))
        for step in range(8000)
    ]
    events[5432] = event("metrics", 5432, {"loss": 100.0})
    html = written([event("run", 0, trainer="SFT"), *events])
    assert len(html) < 1_500_000
    assert "8,000 points" in html
    assert "own_299" in html
    story = Story.of(events)
    assert 100.0 in drawn(story.series("loss"))


def drawn(series):
    """The values that are left of a long series."""
    from rldk.report import numbers, plots

    return series.values[numbers.thinned(series.steps, series.values, plots.STRETCHES)]
