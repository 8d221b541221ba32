"""Rules are heard when something changes, say what they cannot see, and never stand in a run's way."""

from __future__ import annotations

import logging
import math
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rldk import catalog, journal
from rldk import event as event_json
from rldk.health.limits import LIMITS, limits
from rldk.health.monitor import Monitor, facts
from rldk.health.rule import LEVELS, Persistence, Rule, Verdict, firing, ok, units
from rldk.health.rules import built_in
from rldk.recorder import Recorder, Run
from rldk.settings import Settings
from tests.health._events import begin, event, heard, line

SEVERITIES = {0: None, 1: "info", 2: "warning", 3: "critical"}


class Told(Rule):
    """Finds a point as bad as `loss` says: 0 for well, else 1 to 3."""

    name = "told"
    title = "Told"
    reads = units(loss="1")
    advice = "do something"
    source = "here"

    def __init__(self, hits=1, points=1, cooldown=1, **attributes):
        self.persistence = Persistence(hits, points)
        self.cooldown = cooldown
        vars(self).update(attributes)

    def judge(self, window):
        """Say what the loss says."""
        level = int(window.current["loss"])
        return firing(SEVERITIES[level], f"loss is {level}", loss=level) if level else ok()


class Judging(Told):
    """Judges by a function."""

    def __init__(self, judge, **attributes):
        super().__init__(**attributes)
        self._judge = judge

    def judge(self, window):
        """Call it."""
        return self._judge(window)


def spoken(levels, *, rule):
    """What is heard of points that are so bad, at steps 1, 2, ..."""
    monitor = Monitor([rule])
    points = [event(step, {"loss": float(level)}) for step, level in enumerate(levels, 1)]
    return [(step, state, severity) for _, state, severity, step in heard(monitor, [begin(), *points])]


def test_one_alert_begins_and_one_ends_it():
    """However long it lasts between."""
    assert spoken([0, 2, 2, 2, 2, 0, 0], rule=Told()) == [(2, "firing", "warning"), (6, "ok", "warning")]


def test_it_takes_so_many_bad_points_of_the_last():
    """Two of four: not one, not two that are five apart."""
    rule = Told(2, 4)
    assert spoken([2, 0, 0, 0, 2, 0, 0, 0], rule=rule) == []
    assert spoken([2, 0, 0, 2], rule=rule) == [(4, "firing", "warning")]


def test_it_is_over_when_none_of_the_last_points_was_bad():
    """A good point, or a bad one now and then, neither ends an alert nor begins another."""
    assert spoken([2, 2, 0, 0, 2, 0, 0, 0, 0], rule=Told(2, 3)) == [
        (2, "firing", "warning"),
        (8, "ok", "warning"),
    ]


def test_an_alert_tells_since_when():
    """Of the first bad point, not of that which made it last."""
    monitor = Monitor([Told(2, 3)])
    changes = [
        change
        for step, level in enumerate([0, 2, 0, 2], 1)
        for change in monitor.take(event(step, {"loss": level}))
    ]
    assert [(change.step, change.since_step) for change in changes] == [(4, 2)]
    assert changes[0].message == "Told: loss is 2"
    (over,) = [c for step in (5, 6, 7) for c in monitor.take(event(step, {"loss": 0}))]
    assert over.message == "Told: over since step 7; it was warning since step 2"
    assert over.level == 0


def test_what_gets_worse_is_said_and_what_gets_better_is_not():
    """Until it is over."""
    assert spoken([1, 2, 3, 2, 1, 3, 0], rule=Told()) == [
        (1, "firing", "info"),
        (2, "firing", "warning"),
        (3, "firing", "critical"),
        (7, "ok", "critical"),
    ]


def test_it_gets_worse_only_when_that_lasts():
    """One critical point among warnings is a warning."""
    assert spoken([2, 2, 3, 2, 2], rule=Told(2, 3)) == [(2, "firing", "warning")]
    assert spoken([2, 2, 3, 3], rule=Told(2, 3)) == [(2, "firing", "warning"), (4, "firing", "critical")]


def test_what_comes_back_soon_is_not_said_again():
    """But what is worse is, and so is what still lasts when the cooldown is over."""
    rule = Told(cooldown=4)
    assert spoken([2, 0, 2, 0, 2, 0], rule=rule) == [
        (1, "firing", "warning"),
        (2, "ok", "warning"),
        (5, "firing", "warning"),
        (6, "ok", "warning"),
    ]
    assert spoken([2, 0, 3], rule=rule)[-1] == (3, "firing", "critical")
    assert spoken([2, 0, 2, 2, 2, 2], rule=rule)[2:] == [(5, "firing", "warning")]


def test_what_fires_is_told_even_if_it_is_not_said_again():
    """The cooldown quiets alerts, not the state."""
    monitor = Monitor([Told(cooldown=10)])
    heard(monitor, [begin(), *(event(step, {"loss": level}) for step, level in enumerate([3, 0, 3], 1))])
    assert monitor.firing == ["told"]
    assert monitor.verdict == "critical"
    assert line(monitor, "told")["alerts"] == 1


def test_a_change_is_one_event_of_the_journal(tmp_path):
    """After the event that gave rise to it; with everything that the contract promises."""
    alerts = []
    log = journal.Journal(tmp_path / "r_events.jsonl")
    settings_ = Settings()
    recorder = Recorder(
        log, Run(run_id="r", trainer="SFT"), settings=settings_, rules=[Told()], on_alert=alerts.append
    )
    recorder.begin(0, [])
    for step, level in enumerate([0, 2, 2, 3, 3, 0, 0], 1):
        recorder.emit("metrics", step, {"loss": level})
    recorder.end("FINISHED", 7)
    events = [entry.event for entry in journal.read(tmp_path / "r_events.jsonl")]
    said = [each for each in events if each.kind == "alert"]
    assert said == alerts
    assert [(each.step, each.metrics) for each in said] == [
        (2, {"told": 2}),
        (4, {"told": 3}),
        (6, {"told": 0}),
    ]
    assert [events[each.seq - 1].step for each in said] == [2, 4, 6]
    assert [each.notes for each in events if each.kind == "metrics" and each.notes] == [
        ["Told: loss is 2"],
        ["Told: loss is 3"],
    ]
    assert said[0].model_info["alert"] == {
        "rule": "told",
        "title": "Told",
        "state": "firing",
        "severity": "warning",
        "message": "Told: loss is 2",
        "evidence": {"loss": 2},
        "metrics": ["loss"],
        "since_step": 2,
        "advice": "do something",
        "source": "here",
        "verdict": "warning",
        "firing": ["told"],
    }
    over = said[2].model_info["alert"]
    assert (over["state"], over["severity"], over["verdict"], over["firing"]) == ("ok", "critical", "ok", [])
    health = events[-1].model_info["health"]
    assert (health["verdict"], health["firing"]) == ("critical", [])
    (told,) = health["rules"]
    assert (told["alerts"], told["first_step"], told["last_step"], told["points"]) == (2, 2, 5, 7)


@pytest.mark.parametrize(
    ("trainer", "told", "name", "reason"),
    [
        ("GRPO", {"args": {"beta": 0.0}}, "kl_drift", "beta is 0, so GRPO measures no KL to a reference"),
        ("GRPO", {"args": {"beta": 0.0}}, "kl_negative", "beta is 0, so no KL to a reference is measured"),
        ("RLOO", {"config": {"beta": "0"}}, "kl_drift", "beta is 0, so RLOO measures no KL to a reference"),
        (
            "GRPO",
            {"args": {"num_iterations": 1, "gradient_accumulation_steps": 4, "steps_per_generation": 4}},
            "clip_fraction",
            "training is on-policy: each batch of samples is used once, so that no ratio is clipped",
        ),
        ("SFT", {}, "kl_drift", "it is about GRPO, RLOO, and this trainer is SFT"),
        ("SFT", {}, "overfitting", "no evaluation has logged loss"),
        ("SFT", {}, "memory_creep", "host_memory_used_frac was not measured"),
        ("SFT", {}, "checkpoint_nonfinite", "nonfinite_count was not measured"),
        ("PPO", {}, "grad_norm_spike", "grad_norm was not logged"),
        ("GRPO", {}, "zero_variance_groups", "the run does not tell num_generations, the size of a group"),
        ("SFT", {}, "fp16_overflow", "fp16 is not on"),
    ],
)
def test_a_rule_that_cannot_judge_says_why(trainer, told, name, reason):
    """In a run whose logs hold what it needs not."""
    monitor = Monitor(built_in())
    heard(monitor, [begin(trainer, **told), *(event(step, {"loss": 1.0}) for step in range(1, 41))])
    assert line(monitor, name)["state"] == "unavailable"
    assert line(monitor, name)["reason"].startswith(reason)
    assert line(monitor, name)["points"] == 0


def test_a_number_of_another_unit_is_not_judged():
    """KL summed over a sequence is no KL per token: the run tells which it is."""
    kls = [event(step, {"kl_mean": 50.0}) for step in range(1, 41)]
    rules = [rule for rule in built_in() if rule.name == "kl_drift"]
    monitor = Monitor(rules)
    assert heard(monitor, [begin("GRPO", units={"kl_mean": "nats/sequence"}), *kls]) == []
    assert line(monitor, "kl_drift")["reason"] == (
        "kl_mean is in nats/sequence here, and the rule is made for nats/token"
    )
    assert heard(Monitor(rules), [begin("GRPO", units={"kl_mean": "nats/token"}), *kls])


def test_warm_up_is_counted_in_logged_points():
    """At steps 10, 20, ... as at 1, 2, ...; and NaN is no point."""
    monitor = Monitor([Told(warm_up=3)])
    points = [(10, math.nan), (20, 2.0), (30, 2.0), (40, math.inf)]
    assert heard(monitor, [begin(), *(event(step, {"loss": value}) for step, value in points)]) == []
    assert line(monitor, "told")["reason"] == "loss has 2 finite points so far, and the rule needs 3"
    assert heard(monitor, [event(50, {"loss": 2.0})]) == [("told", "firing", "warning", 50)]


def a_metric_is_there_for(rule, monitor):
    """Whether the monitor has been told anything that the rule reads."""
    return any(monitor._window.has_logged(name, rule.part) for name in rule.reads)


@pytest.mark.parametrize("trainer", ["", *catalog.own_loop(), "PPO", "GRPO", "DPO", "SFT"])
@pytest.mark.parametrize("metrics", [{}, {"mine": 1.0}, {"loss": math.nan}, {"reward_zero_std_frac": 0.5}])
def test_a_rule_without_data_never_says_ok(trainer, metrics):
    """Whoever trains, and whatever else is logged."""
    rules = [*built_in(), *limits(dict.fromkeys(LIMITS, 1.0))]
    monitor = Monitor(rules)
    heard(monitor, [begin(trainer), *(event(step, metrics) for step in range(1, 30))])
    told = {rule.name: line(monitor, rule.name) for rule in rules}
    for rule in rules:
        if rule.reads and not a_metric_is_there_for(rule, monitor):
            assert told[rule.name]["state"] == "unavailable", rule.name
        if told[rule.name]["state"] == "unavailable":
            assert told[rule.name]["reason"], rule.name
    allowed = {"nonfinite", "stall"} | ({"reward_missing"} if "reward_zero_std_frac" in metrics else set())
    well = {name for name, each in told.items() if each["state"] == "ok"}
    assert well <= (allowed if metrics else {"stall"})


def test_without_data_nothing_is_known():
    """A run of which nothing can be judged is not well: nobody knows."""
    monitor = Monitor(built_in())
    assert monitor.verdict == monitor.summary()["verdict"] == "unknown"
    heard(monitor, [begin()])
    assert monitor.verdict == "unknown"
    heard(monitor, [event(1, {"loss": 1.0})])
    assert monitor.verdict == "ok"


def test_what_was_well_before_a_resume_to_the_start_is_not_well_now():
    """Nothing is left of what the rule has judged."""
    monitor = Monitor([Told()])
    heard(monitor, [begin(), event(1, {"loss": 1.0})])
    assert line(monitor, "told")["points"] == 1
    heard(monitor, [begin(step=0)])
    assert (line(monitor, "told")["state"], line(monitor, "told")["points"]) == ("unavailable", 0)


def test_to_inform_is_no_judgement():
    """A run with a piece of information is well."""
    monitor = Monitor([Told()])
    heard(monitor, [event(1, {"loss": 1})])
    assert (monitor.verdict, monitor.firing) == ("ok", ["told"])


def test_a_metric_that_is_not_in_an_event_leaves_the_rule_as_it_was():
    """An alert is not over because something else is logged."""
    monitor = Monitor([Told(), *limits({"gradient_norm": 1.0})])
    events = [event(1, {"loss": 2.0, "grad_norm": 5.0}), event(2, {"mine": 1.0}), event(2, {}, phase="eval")]
    assert [name for name, *_ in heard(monitor, [begin(), *events])] == ["told", "limit_gradient_norm"]
    assert monitor.firing == ["told", "limit_gradient_norm"]


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (lambda _: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda _: None, "judge gave None, which is no verdict"),
        (lambda _: Verdict("bad"), "which is no verdict"),
        (lambda _: firing("fatal", "x"), "severity 'fatal' is none of info, warning, critical"),
        (lambda _: Verdict("firing", "x"), "severity None is none of"),
    ],
)
def test_a_rule_that_fails_is_counted_logged_and_unavailable(tmp_path, caplog, judge, said):
    """Its error costs no event, and no other rule its say."""
    log = journal.Journal(tmp_path / "r_events.jsonl")
    rules = [Judging(judge, name="broken"), Told()]
    recorder = Recorder(log, Run(run_id="r", trainer="SFT"), settings=Settings(), rules=rules)
    recorder.begin(0, [])
    with caplog.at_level(logging.ERROR):
        for step in (1, 2, 3):
            recorder.emit("metrics", step, {"loss": 2})
    recorder.end("FINISHED", 3)
    kinds = Counter(entry.event.kind for entry in journal.read(tmp_path / "r_events.jsonl"))
    assert kinds == {"run": 1, "metrics": 3, "alert": 1, "end": 1}
    assert recorder.monitor.errors == 3
    assert len(caplog.records) == 1
    told = line(recorder.monitor, "broken")
    assert told["state"] == "unavailable"
    assert said in told["reason"]
    assert line(recorder.monitor, "told")["state"] == "firing"


@pytest.mark.parametrize("method", ["cannot_apply", "notes"])
def test_any_part_of_a_rule_may_fail(tmp_path, method):
    """Not only its judgement: the run's end is told all the same."""

    def fail(*arguments):
        message = "mine"
        raise RuntimeError(message)

    log = journal.Journal(tmp_path / "r_events.jsonl")
    rule = Told(**{method: fail})
    recorder = Recorder(log, Run(run_id="r", trainer="SFT"), settings=Settings(), rules=[rule])
    recorder.begin(0, [])
    recorder.emit("metrics", 1, {"loss": 2})
    recorder.end("FINISHED", 1)
    events = [entry.event for entry in journal.read(tmp_path / "r_events.jsonl")]
    assert [each.kind for each in events] == ["run", "metrics", "end"]
    (told,) = events[-1].model_info["health"]["rules"]
    assert (told["state"], told["reason"]) == ("unavailable", "the rule failed (RuntimeError: mine)")


def test_evidence_of_any_kind_is_written(make_event):
    """Numbers of NumPy and objects of one's own are no reason to lose an alert."""
    import numpy as np

    told = {
        "a": np.float32(0.5),
        "b": np.int64(3),
        "c": None,
        "d": math.nan,
        "e": SimpleNamespace(),
        "f": True,
    }
    monitor = Monitor([Judging(lambda _: firing("info", "x", **told))])
    (change,) = monitor.take(event(1, {"loss": 1.0}))
    evidence = facts(change, monitor)["evidence"]
    assert {name: evidence[name] for name in "abcf"} == {"a": 0.5, "b": 3, "c": "None", "f": True}
    assert math.isnan(evidence["d"])
    event_json.encode(make_event(kind="alert", model_info={"alert": facts(change, monitor)}))


def test_training_that_goes_back_forgets_what_came_after():
    """A `run` event at step 20: the points beyond it are superseded, and what is judged is what is left."""
    seen = []
    rule = Judging(lambda window: seen.append(window.series("loss").last(512)) or ok())
    monitor = Monitor([rule])
    first = [event(step, {"loss": float(step)}) for step in range(10, 60, 10)]
    heard(monitor, [begin(), *first, begin(step=20), event(30, {"loss": 0.5})])
    assert seen[-1] == [10.0, 20.0, 0.5]


def test_bad_points_that_are_superseded_do_not_count():
    """One bad point after the resume is one, whatever came of the segment before."""
    monitor = Monitor([Told(3, 5)])
    bad = [event(step, {"loss": 2.0}) for step in (11, 12)]
    assert heard(monitor, [begin(), *bad, begin(step=10), event(11, {"loss": 2.0})]) == []
    assert heard(monitor, [event(12, {"loss": 2.0}), event(13, {"loss": 2.0})]) == [
        ("told", "firing", "warning", 13)
    ]


def test_an_alert_of_what_is_superseded_is_over_with_the_first_good_point():
    """NaN at step 12, training goes on from step 10 with another seed: it is well again, and said to be."""
    monitor = Monitor([Told(1, 3)])
    assert heard(monitor, [begin(), event(12, {"loss": 3.0})]) == [("told", "firing", "critical", 12)]
    assert heard(monitor, [begin(step=10), event(11, {"loss": 0.0})]) == [("told", "ok", "critical", 11)]
    assert (monitor.verdict, monitor.summary()["verdict"]) == ("ok", "ok")
    assert monitor.summary()["rules"][0]["alerts"] == 0


def test_what_is_critical_is_told_again_after_a_resume():
    """Training goes on from a checkpoint that holds the NaN: whoever waits for an alert hears of it again."""
    monitor = Monitor([Told(1, 3)])
    bad = {"loss": 3.0}
    assert heard(monitor, [begin(), event(12, bad), event(13, bad)]) == [("told", "firing", "critical", 12)]
    assert heard(monitor, [begin(step=13), event(14, bad)]) == [("told", "firing", "critical", 14)]
    assert heard(monitor, [event(15, bad)]) == []


def test_an_evaluation_outside_training_supersedes_nothing():
    """It begins at step 0, and says that no training goes on."""
    seen = []
    rule = Judging(lambda window: seen.append(len(window.series("loss"))) or ok())
    monitor = Monitor([rule])
    points = [event(step, {"loss": 1.0}) for step in range(1, 6)]
    heard(monitor, [begin(), *points, begin(step=0, outside_training=True), event(6, {"loss": 1.0})])
    assert seen[-1] == 6


def test_a_pause_between_two_starts_is_no_hang():
    """A run that goes on after a week has not hung for a week."""
    monitor = Monitor(built_in())
    points = [event(step, {"loss": 1.0}) for step in range(1, 31)]
    week = 7 * 24 * 3600.0
    sample = event(30, {"process_cpu_percent": 1.0}, "resource", time=week + 5)
    assert heard(monitor, [begin(), *points, begin(step=30), sample]) == []


def test_events_of_other_processes_are_not_judged():
    """Each has its own monitor; the run's is that of the main one."""
    monitor = Monitor([Told()])
    assert heard(monitor, [begin(), event(1, {"loss": 3.0}, rank=1)]) == []
    assert line(monitor, "told")["points"] == 0


ODD = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, -1e308, 1e-320, 10**400, -(10**400)]),
    st.floats(allow_nan=True),
    st.floats(0, 1),
    st.integers(),
)
NAMES = sorted(
    {name for rule in built_in() for name in (*rule.reads, *rule.looks_at) if not name.startswith("gpu")}
    | {"gpu0_memory_used_frac", "mine"}
)


@st.composite
def runs(draw):
    """Runs of odd numbers: a few values in turn, for many steps, with resumes in between."""
    trainer = draw(st.sampled_from(["", "PPO", "GRPO", "RLOO", "DPO", "KTO", "SFT", "Reward", "OnlineDPO"]))
    args = draw(
        st.dictionaries(
            st.sampled_from(["num_generations", "beta", "cliprange", "response_length", "fp16"]),
            st.one_of(st.none(), st.booleans(), st.integers(1, 16), st.text(max_size=3), st.lists(st.none())),
        )
    )
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True))
    values = {name.rpartition(":")[2]: draw(st.lists(ODD, min_size=1, max_size=4)) for name in names}
    kind = draw(st.sampled_from(["metrics", "metrics", "resource", "checkpoint"]))
    phase = draw(st.sampled_from(["train", "train", "eval"]))
    events = [begin(trainer, args=args)]
    steps, resumed = draw(st.integers(1, 60)), draw(st.integers(1, 90))
    for step in range(1, steps):
        metrics = {name: each[step % len(each)] for name, each in values.items()}
        events.append(
            event(step, metrics, kind if step % 3 else "metrics", phase=phase if step % 5 else "train")
        )
        if step == resumed:
            events.append(begin(trainer, step=step // 2))
    return events


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(runs())
def test_whatever_the_numbers_no_rule_fails_and_the_same_is_said_again(events):
    """NaN, infinities, integers beyond the floats, one value for ever: and each change is one."""
    rules = [*built_in(), *limits(dict.fromkeys(LIMITS, 1.0))]
    monitor, again = Monitor(rules), Monitor(rules)
    changes = [change for each in events for change in monitor.take(each)]
    assert monitor.errors == 0
    repeated = [change for each in events for change in again.take(each)]
    assert [repr(change) for change in repeated] == [repr(change) for change in changes]
    assert repr(again.summary()) == repr(monitor.summary())
    for change in changes:
        event_json.encode(event(change.step, {}, "alert", alert=facts(change, monitor)))
    assert_lawful(changes, monitor.summary(), resumes=sum(each.kind == "run" for each in events) - 1)


def assert_lawful(changes, summary, *, resumes=0):
    """A rule that is over had fired; one that fires again without an end has got worse, or is told anew.

    It is told anew once after each resume, and may be less bad then: what it was is superseded.
    """
    told, retold = {}, Counter()
    for change in changes:
        before = told.get(change.rule.name, 0)
        retold[change.rule.name] += change.state == "firing" and change.level <= before
        assert change.state == "firing" or before > 0
        assert change.since_step <= change.step or change.state == "ok"
        told[change.rule.name] = change.level
    assert max(retold.values(), default=0) <= resumes
    for each in summary["rules"]:
        assert each["state"] in {"ok", "firing", "unavailable"}
        assert (each["state"] == "firing") == (each["rule"] in summary["firing"])
        alerts = sum(c.rule.name == each["rule"] and c.level > 0 for c in changes)
        assert each["alerts"] <= alerts if resumes else each["alerts"] == alerts
        assert each["state"] != "ok" or each["points"] > 0
        assert each["reason"] or each["state"] != "unavailable"


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 5), st.integers(0, 4), st.integers(1, 12))
def test_the_laws_of_speech(levels, hits, more, cooldown):
    """For any points, persistence and cooldown: what is said follows from the last points alone."""
    rule = Told(hits, hits + more, cooldown)
    monitor = Monitor([rule])
    level = 0
    for step, _ in enumerate(levels, 1):
        changes = monitor.take(event(step, {"loss": float(levels[step - 1])}))
        last = levels[max(step - hits - more, 0) : step]
        lasting = max((each for each in LEVELS.values() if sum(x >= each for x in last) >= hits), default=0)
        level = lasting or min(level, max(last))
        assert (monitor.firing == ["told"]) == (level > 0)
        assert len(changes) <= 1
        for change in changes:
            assert change.level in {0, level}
            assert change.state == "firing" or not any(last)
