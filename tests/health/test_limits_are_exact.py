"""alert_thresholds: what is beyond a user's limit is noted, what is at it is not, and no baseline matters."""

from __future__ import annotations

import math

import pytest

from rldk import journal
from rldk.errors import SettingError
from rldk.health.limits import LIMITS, limits
from rldk.health.monitor import Monitor
from rldk.integrations.trl import RLDKCallback
from rldk.recorder import Recorder, Run
from rldk.settings import Settings
from tests.health._events import begin, event, heard, line

CASES = [
    ("kl_divergence", 0.1, "kl_mean", "metrics", "High KL divergence detected"),
    ("kl_divergence", 20.0, "kl_seq_mean", "metrics", "High KL divergence detected"),
    ("clip_fraction", 0.2, "clip_frac", "metrics", "High clipping fraction detected"),
    ("gradient_norm", 1.0, "grad_norm", "metrics", "Large gradient norm detected"),
    ("reward_std", 0.5, "reward_std", "metrics", "High reward standard deviation detected"),
    ("memory_usage", 0.9, "host_memory_used_frac", "resource", "High memory usage detected"),
    ("memory_usage", 0.9, "gpu3_memory_used_frac", "resource", "High memory usage detected"),
]


def noted(monitor, events):
    """The notes of each event in turn, and whether it changed anything."""
    told = []
    for each in events:
        changes = monitor.take(each)
        told.append((list(monitor.notes), [change.state for change in changes]))
    return told


@pytest.mark.parametrize(("name", "limit", "metric", "kind", "sentence"), CASES)
def test_beyond_the_limit_is_noted_at_each_event_and_alerted_once(name, limit, metric, kind, sentence):
    """At the first point, without a warm-up; the very limit is allowed; the first point within ends it."""
    monitor = Monitor(limits({name: limit}))
    monitor.take(begin("GRPO"))
    beyond = math.nextafter(limit, math.inf)
    values = [beyond, beyond, limit, limit, math.inf]
    told = noted(monitor, [event(step, {metric: each}, kind) for step, each in enumerate(values, 1)])
    assert told == [
        ([sentence], ["firing"]),
        ([sentence], []),
        ([], ["ok"]),
        ([], []),
        ([sentence], []),  # the cooldown quiets the alert, not the note
    ]


@pytest.mark.parametrize(("name", "limit", "metric", "kind", "sentence"), CASES)
def test_nan_is_beyond_no_limit(name, limit, metric, kind, sentence):
    """That it broke is another rule's to say."""
    monitor = Monitor(limits({name: limit}))
    assert noted(monitor, [begin(), event(1, {metric: math.nan}, kind)])[-1] == ([], [])


def test_the_alert_tells_the_number_and_the_limit():
    """And whose limit it is."""
    monitor = Monitor(limits({"kl_divergence": 0.1}))
    (change,) = monitor.take(event(7, {"kl_mean": 0.25}))
    assert change.message == "High KL divergence: kl_mean is 0.25, above your limit of 0.1"
    assert change.severity == "warning"
    assert change.verdict.evidence == {"kl_mean": 0.25, "limit": 0.1}
    assert change.rule.source == "alert_thresholds"


def test_the_note_is_in_the_event_of_the_same_step(tmp_path):
    """And the alert comes right after it, in the journal."""
    path = tmp_path / "r_events.jsonl"
    rules = limits({"kl_divergence": 0.1, "clip_fraction": 0.2, "gradient_norm": 1.0})
    recorder = Recorder(
        journal.Journal(path), Run(run_id="r", trainer="GRPO"), settings=Settings(), rules=rules
    )
    recorder.begin(0, [])
    high = {"kl_mean": 0.2, "clip_frac": 0.3, "grad_norm": 2.0}
    for step, metrics in enumerate([{"kl_mean": 0.05}, high, high, {"kl_mean": 0.05}], 1):
        recorder.emit("metrics", step, metrics)
    recorder.end("FINISHED", 4)
    events = [entry.event for entry in journal.read(path)]
    notes = ["High KL divergence detected", "High clipping fraction detected", "Large gradient norm detected"]
    assert [each.notes for each in events if each.kind == "metrics"] == [[], notes, notes, []]
    assert [(each.step, each.metrics) for each in events if each.kind == "alert"] == [
        (2, {"limit_kl_divergence": 2}),
        (2, {"limit_clip_fraction": 2}),
        (2, {"limit_gradient_norm": 2}),
        (4, {"limit_kl_divergence": 0}),
    ]


def test_memory_is_that_of_each_device_and_of_the_host_only_without_one():
    """A full host beside a GPU is no device's memory; each GPU is compared."""
    monitor = Monitor(limits({"memory_usage": 0.9}))
    samples = [
        {"host_memory_used_frac": 0.99, "gpu0_memory_used_frac": 0.5, "gpu1_memory_used_frac": 0.5},
        {"host_memory_used_frac": 0.10, "gpu0_memory_used_frac": 0.5, "gpu1_memory_used_frac": 0.91},
    ]
    told = noted(monitor, [event(step, each, "resource") for step, each in enumerate(samples, 1)])
    assert [notes for notes, _ in told] == [[], ["High memory usage detected"]]
    assert monitor.firing == ["limit_memory_usage"]


def test_a_loss_spike_is_measured_by_the_median_of_the_points_before():
    """Twice the median of at most 20 points is allowed, a hair more is not; the first five are not judged."""
    monitor = Monitor(limits({"loss_spike": 2.0}))
    monitor.take(begin())
    early = noted(monitor, [event(step, {"loss": 100.0 if step == 5 else 1.0}) for step in range(1, 6)])
    assert all(told == ([], []) for told in early)
    assert line(monitor, "limit_loss_spike")["state"] == "unavailable"
    at = noted(monitor, [event(6, {"loss": 2.0}), event(7, {"loss": math.nextafter(2.0, 3.0)})])
    assert at == [([], []), (["Loss spike detected"], ["firing"])]


def test_the_usual_loss_is_that_of_the_last_twenty_points():
    """What came before those does not count."""
    monitor = Monitor(limits({"loss_spike": 2.0}))
    monitor.take(begin())
    events = [event(step, {"loss": 10.0 if step <= 30 else 1.0}) for step in range(1, 51)]
    assert all(notes == [] for notes, _ in noted(monitor, events))
    assert noted(monitor, [event(51, {"loss": 2.5})]) == [(["Loss spike detected"], ["firing"])]


@pytest.mark.parametrize(
    ("usual", "within", "beyond"), [(-0.5, 0.0, 0.01), (-0.5, -1.0, 0.2), (0.0, 0.0, 0.1)]
)
def test_a_rise_of_a_loss_below_zero_is_counted_by_its_size(usual, within, beyond):
    """Of -0.5, 2 allows a rise to 0."""
    monitor = Monitor(limits({"loss_spike": 2.0}))
    events = [event(step, {"loss": usual}) for step in range(1, 7)]
    told = noted(monitor, [*events, event(7, {"loss": within}), event(8, {"loss": beyond})])
    assert [notes for notes, _ in told[-2:]] == [[], ["Loss spike detected"]]


def test_an_infinite_loss_is_a_spike_as_soon_as_five_points_are_there():
    """It is in no median, and counts as no point before."""
    monitor = Monitor(limits({"loss_spike": 2.0}))
    events = [event(step, {"loss": 1.0}) for step in range(1, 6)]
    assert noted(monitor, [*events, event(6, {"loss": math.inf})])[-1][0] == ["Loss spike detected"]


def test_a_limit_of_what_is_not_logged_says_so():
    """It is unavailable, and the run is not well for it."""
    monitor = Monitor(limits(dict.fromkeys(LIMITS, 1.0)))
    heard(monitor, [begin(), event(1, {"mine": 1.0}), event(1, {"process_cpu_percent": 1.0}, "resource")])
    told = {each["rule"]: (each["state"], each["reason"]) for each in monitor.summary()["rules"]}
    assert {state for state, _ in told.values()} == {"unavailable"}
    assert told["limit_kl_divergence"][1] == "kl_mean or kl_seq_mean was not logged"
    assert told["limit_memory_usage"][1] == "no sample tells of memory"
    assert monitor.verdict == "unknown"


def test_all_six_names_of_the_guide_are_known():
    """And no other."""
    assert set(LIMITS) == {
        "kl_divergence",
        "clip_fraction",
        "gradient_norm",
        "reward_std",
        "loss_spike",
        "memory_usage",
    }
    assert limits(None) == limits({}) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kl": 0.1}, "alert_thresholds='kl' cannot be used; give one of kl_divergence, clip_fraction"),
        ({"kl_divergence": math.nan}, "alert_thresholds['kl_divergence']=nan cannot be used; give a number"),
        ({"kl_divergence": "0.1"}, "give a number"),
        ({"kl_divergence": None}, "give a number"),
        ({"kl_divergence": True}, "give a number"),
        ({"loss_spike": 0.5}, "a multiple of the usual loss, at least 1"),
        ({"memory_usage": 90}, "a fraction of the memory, 0 to 1"),
        ({"memory_usage": -0.1}, "a fraction of the memory, 0 to 1"),
    ],
)
def test_what_cannot_be_a_limit_is_refused_at_once(given, said):
    """Before training, with what to give instead."""
    with pytest.raises(SettingError) as error:
        limits(given)
    assert said in str(error.value)
    with pytest.raises(SettingError):
        RLDKCallback(alert_thresholds=given)


@pytest.mark.parametrize("limit", [1, 10**400, -1.5, math.inf])
def test_any_number_is_a_limit(limit):
    """Even one that nothing is beyond."""
    monitor = Monitor(limits({"gradient_norm": limit}))
    (notes, _) = noted(monitor, [event(1, {"grad_norm": 5.0})])[0]
    assert bool(notes) == (limit < 5)
    assert monitor.errors == 0
