"""Users write rules in TOML, change RLDK's own there, and bring rules in Python."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rldk.errors import RuleError
from rldk.event import Event
from rldk.health.monitor import Monitor, facts
from rldk.health.rule import Persistence, Rule, firing, ok, units
from rldk.health.rule_files import load, rules_with
from rldk.health.rules import built_in

EXAMPLE = Path(__file__).parents[2] / "examples" / "rules.toml"


def event(step, metrics, kind="metrics", phase="train", **told):
    """An event of a run."""
    rest = {"wall_time": 0.0, "rng": {}, "data_slice": {}, "notes": []}
    return Event(kind=kind, step=step, metrics=metrics, model_info={"phase": phase, **told}, **rest)


def begin(**told):
    """The event that begins a run of GRPO."""
    return event(0, {}, "run", **({"trainer": "GRPOTrainer", "args": {"beta": 0.04}} | told))


@pytest.fixture
def write(tmp_path):
    """Write a file of rules."""

    def written(text, name="rules.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return written


@pytest.fixture
def one(write):
    """A monitor that asks the one rule of a text, in a run of GRPO, and what is heard of it."""

    def made(text, **told):
        monitor = Monitor(load(write(f'[[rule]]\nname = "mine"\n{text}')).rules)
        monitor.take(begin(**told))
        return monitor

    return made


def line(monitor):
    """What the report says of the rule."""
    return monitor.summary()["rules"][-1]


def why_refused(path):
    """What the error says, less the folder."""
    with pytest.raises(RuleError) as error:
        load(path)
    return str(error.value).replace(f"{path.parent}/", "")


def test_the_example_names_what_goes_wrong():
    """Rules of examples/rules.toml, in a run whose completions grow while nothing is earned."""
    monitor = Monitor(rules_with(EXAMPLE))
    monitor.take(begin())
    heard = []
    for step in range(10, 310, 10):
        length = 100.0 if step <= 150 else 400.0
        metrics = {"reward_mean": 0.01, "completion_len_mean": length, "judge_score": 1.0, "kl_mean": 0.01}
        heard += monitor.take(event(step, metrics | ({"judge_score": math.nan} if step == 60 else {})))
    told = [facts(change, monitor) for change in heard if change.state == "firing"]
    assert [(each["rule"], each["severity"], each["since_step"]) for each in told] == [
        ("nonfinite", "warning", 60),
        ("judge_broken", "critical", 60),
        ("long_and_bad", "critical", 180),
        ("length_creep", "info", 180),
    ]
    assert told[2]["message"] == "Long and bad: completions have 400 tokens now, and earn 0.01"
    assert told[2]["evidence"] == {
        "median(reward_mean, 5)": 0.01,
        "median(completion_len_mean, 5)": 400.0,
        "baseline(completion_len_mean)": 100.0,
    }
    assert told[2]["metrics"] == ["reward_mean", "completion_len_mean"]
    assert told[2]["advice"] == "read the longest samples, and stop if they ramble"
    assert told[2]["source"] == "rules.toml"


def test_the_example_changes_rldks_own_rules():
    """One is gone and one is heard otherwise; what it judges stays the same."""
    rules = {rule.name: rule for rule in rules_with(str(EXAMPLE))}
    own = {rule.name: rule for rule in built_in()}
    assert set(own) - set(rules) == {"kl_negative"}
    assert rules["length_creep"].persistence == Persistence(5, 5)
    assert rules["length_creep"].reads == own["length_creep"].reads
    assert own["length_creep"].persistence == Persistence(3, 5)
    assert list(rules)[-1] == "eval_falls_behind"


def test_without_anything_rldks_own_rules_are_asked():
    """No file, no change."""
    names = [rule.name for rule in built_in()]
    assert [rule.name for rule in rules_with()] == [rule.name for rule in rules_with([])] == names


def test_a_rule_speaks_as_its_keys_say(one):
    """Severity, persistence, title and the sentence of condition and operands."""
    text = 'when = "loss > 1 and grad_norm < 2"\nfor = "2 of 3"\nseverity = "info"\ntitle = "So\\n so"'
    monitor = one(text)
    heard = [monitor.take(event(step, {"loss": 5.0, "grad_norm": 1.0})) for step in (1, 2, 3)]
    assert [len(changes) for changes in heard] == [0, 1, 0]
    assert heard[1][0].severity == "info"
    expected = "So so: loss is 5, grad_norm is 1, which is loss > 1 and grad_norm < 2"
    assert heard[1][0].message == expected


def test_a_rule_is_about_its_trainers_alone(one):
    """They are known however they are written."""
    monitor = one('when = "loss > 1"\ntrainers = ["grpo", "DPOTrainer"]')
    assert monitor.take(event(1, {"loss": 5.0}))
    other = one('when = "loss > 1"\ntrainers = ["DPOTrainer"]')
    assert not other.take(event(1, {"loss": 5.0}))
    assert line(other)["reason"] == "it is about DPO, and this trainer is GRPO"


def test_another_unit_is_refused_in_the_run(one):
    """A metric of the catalog is meant in the catalog's unit, and one of the user's in the one told."""
    monitor = one('when = "kl_mean > 1 and mine < 1"', units={"kl_mean": "nats/sequence"})
    monitor.take(event(1, {"kl_mean": 5.0, "mine": 0.0}))
    assert line(monitor)["reason"] == "kl_mean is in nats/sequence here, and the rule is made for nats/token"
    told = one('when = "mine > 1"\nunits = { mine = "s" }', units={"mine": "ms"})
    told.take(event(1, {"mine": 5.0}))
    assert line(told)["reason"] == "mine is in ms here, and the rule is made for s"
    guarded = one('when = "not is_nan(kl_mean) and kl_mean > 1"', units={"kl_mean": "nats/sequence"})
    guarded.take(event(1, {"kl_mean": 5.0}))
    assert "the rule is made for nats/token" in line(guarded)["reason"]


def test_a_rule_waits_for_its_warm_up(one):
    """Counted in logged points of each metric whose value it needs."""
    monitor = one('when = "loss > 1"\nwarm_up = 3')
    assert [len(monitor.take(event(step, {"loss": 5.0}))) for step in (10, 20, 30)] == [0, 0, 1]
    guarded = one('when = "missing(loss) or loss > 1"\nwarm_up = 3')
    assert [len(guarded.take(event(step, {"loss": 5.0}))) for step in (10, 20, 30)] == [0, 0, 1]


@pytest.mark.parametrize(
    ("when", "metrics", "reason"),
    [
        ("gone > 1", {"loss": 1.0}, "GRPO does not log gone"),
        ("loss / lr > 1", {"loss": 1.0, "lr": 0.0}, "loss / lr divides by zero"),
        ("median(loss, 5) > 1", {"loss": 1.0}, "loss has 1 points so far, and median(loss, 5) needs 5"),
        ("loss > 1", {"loss": math.nan}, "loss has 0 finite points so far, and the rule needs 1"),
        ('loss > metric("eval:loss")', {"loss": 1.0}, "no evaluation has logged loss"),
        ('arg("gamma") < loss', {"loss": 1.0}, "the run tells no number for its argument gamma"),
    ],
)
def test_what_cannot_be_judged_is_unavailable_and_says_why(one, when, metrics, reason):
    """Neither well nor an error."""
    monitor = one(f"when = '{when}'")
    assert monitor.take(event(1, metrics)) == []
    assert monitor.errors == 0
    assert (line(monitor)["state"], line(monitor)["reason"]) == ("unavailable", reason)


def test_a_metric_that_stays_away_or_breaks_can_be_asked_for(one):
    """`missing` ends with the first log of the metric, `is_nan` tells of the newest log."""
    monitor = one('when = "missing(judge) or is_nan(judge)"\ncooldown = 0')
    values = [{}, {"judge": 1.0}, {"judge": math.nan}, {"judge": 1.0}]
    heard = [monitor.take(event(step, {"loss": 1.0} | more)) for step, more in enumerate(values)]
    states = [[change.state for change in changes] for changes in heard]
    assert states == [["firing"], ["ok"], ["firing"], ["ok"]]
    assert line(monitor)["last_step"] == 2


def test_training_and_evaluation_can_be_compared(one):
    """`eval:` before a name is the evaluation's; `part` says at whose logs a rule is asked."""
    monitor = one('when = \'loss > 2 * metric("train:loss")\'\npart = "eval"')
    monitor.take(event(1, {"loss": 1.0}))
    assert monitor.take(event(1, {"loss": 1.5}, phase="eval")) == []
    (change,) = monitor.take(event(2, {"loss": 2.5}, phase="eval"))
    assert change.verdict.evidence == {"loss": 2.5, "train:loss": 1.0}


def test_resources_and_checkpoints_have_rules_too(one):
    """Their events are parts of the run like any other."""
    monitor = one('when = "gpu0_temperature_c > 90"\npart = "resource"')
    assert monitor.take(event(1, {"gpu0_temperature_c": 95.0}, "resource"))
    checkpoint = one('when = "relative_change < 1e-6"\npart = "checkpoint"')
    assert checkpoint.take(event(1, {"relative_change": 0.0}, "checkpoint"))


def test_the_time_of_a_step_is_known_without_the_trainers_help(one):
    """`seconds_per_step` is what RLDK times from log to log."""
    monitor = one('when = "seconds_per_step > 10"')
    first = event(1, {"loss": 1.0})
    later = Event(
        **{name: getattr(first, name) for name in first.__struct_fields__} | {"step": 2, "time": 60.0}
    )
    assert monitor.take(first) == []
    assert line(monitor)["state"] == "unavailable"
    assert monitor.take(later)[0].verdict.evidence == {"seconds_per_step": 60.0}


def test_a_message_tells_the_newest_numbers_and_what_is_not_there(one):
    """A metric of the message need not be one of the condition's."""
    said = "{{loss}} {loss:+.2f}, {lr}, {reward_components/f_mean:.0%}, {gone}"
    monitor = one(f'when = "loss > 1"\nmessage = "{said}"')
    monitor.take(event(0, {"lr": 1.25e-6}))
    (change,) = monitor.take(event(1, {"loss": 5.0, "reward_components/f_mean": 0.5}))
    assert change.message == "Mine: {loss} +5.00, 1.25e-06, 50%, (not logged)"


@pytest.mark.parametrize(
    "message",
    [
        "{loss.real}",
        "{loss[0]}",
        "{}",
        "{0}",
        "{loss!r}",
        "{loss:{lr}}",
        "{loss:>1000}",
        "{loss:.999f}",
        "{",
        "{loss:d}",
    ],
)
def test_a_message_holds_plain_numbers_alone(write, message):
    """No attribute, no subscript, no conversion, no width."""
    told = why_refused(write(f'[[rule]]\nname = "mine"\nwhen = "loss > 1"\nmessage = "{message}"'))
    assert told.startswith("rules.toml, rule 'mine', message: ")
    assert "allowed are {metric} and {metric:.3g}" in told


GOOD = '[[rule]]\nname = "mine"\nwhen = "loss > 1"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rule = 1", "rules.toml: Expected `array`, got `int` - at `rule`"),
        ("[[rules]]\nname = 'mine'", "rules.toml: Expected `object`, got `array` - at `rules`"),
        ("rule = [1]", "rule number 1: it is no table"),
        ("[[rul]]", "rules.toml, keys: 'rul' is not known; did you mean rule? Allowed are rule, rules"),
        ("[[rule]]\nwhen = 'loss > 1'", "rule number 1: Object missing required field `name`"),
        ("[[rule]]\nname = 'mine'", "rule 'mine': Object missing required field `when`"),
        (f"{GOOD}cooldwon = 1", "rule 'mine', keys: 'cooldwon' is not known; did you mean cooldown?"),
        (f"{GOOD}cooldown = '1'", "rule 'mine': Expected `int`, got `str` - at `cooldown`"),
        (f"{GOOD}cooldown = -1", "rule 'mine': Expected `int` >= 0 - at `cooldown`"),
        (f"{GOOD}warm_up = 0", "rule 'mine': Expected `int` >= 1 - at `warm_up`"),
        (f"{GOOD}severity = 'fatal'", "severity: 'fatal' is not known; allowed are info, warning, critical"),
        (f"{GOOD}part = 'test'", "part: 'test' is not known; "),
        (f"{GOOD}for = '6 of 5'", "rule 'mine': for is '6 of 5'; give how many of how many"),
        (f"{GOOD}for = 'always'", "rule 'mine': for is 'always'"),
        (f"{GOOD}units = {{ lr = '1' }}", "units: 'lr' is not known; allowed are loss"),
        (
            "[[rule]]\nname='mine'\nwhen='is_nan(x)'\nunits={x='s'}",
            "units: the condition needs no metric's value",
        ),
        (f"{GOOD}units = {{ loss = 'nats' }}", "units: loss is in 1, as the catalog has it, and not in nats"),
        (GOOD + GOOD, "rules.toml: two rules are called mine"),
        (GOOD.replace("mine", "kl_drift"), "rules.toml: one of RLDK's own rules is called kl_drift; "),
        (GOOD.replace("mine", "limit_x"), "names that begin with limit_ are those of alert_thresholds"),
        (GOOD.replace("mine", "My rule"), "rule 'My rule': its name is 'My rule'; give one in snake_case"),
        (GOOD.replace("loss >", "loss.x >"), "rule 'mine', when: attributes cannot be used"),
        ("[rules.kl_drfit]\nenabled = false", "'kl_drfit' is not known; did you mean kl_drift? Allowed are"),
        (
            "[rules.kl_drift]\nenable = false",
            "[rules.kl_drift], keys: 'enable' is not known; did you mean en",
        ),
        ("[rules.kl_drift]\nenabled = 'no'", "[rules.kl_drift]: Expected `bool | null`, got `str`"),
        ("[rules.kl_drift]\nseverity = 'none'", "[rules.kl_drift], severity: 'none' is not known"),
        ("rules.kl_drift = 1", "[rules.kl_drift]: it is no table"),
        ("[[rule", "rules.toml: it is no TOML"),
        ("a = " + "[" * 5000, "rules.toml: it is no TOML"),
        ("#" * (2**20 + 1), "rules.toml: it has 1048577 bytes"),
    ],
)
def test_a_fault_is_told_with_its_place_and_what_is_allowed(write, text, told):
    """File, rule and key, and the nearest name."""
    assert told in why_refused(write(text))


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    """A missing file, a folder, bytes that are no text."""
    assert "cannot be read (No such file or directory)" in why_refused(tmp_path / "none.toml")
    assert "cannot be read (Is a directory)" in why_refused(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert "it is no TOML" in why_refused(tmp_path / "bytes.toml")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=80) | st.text(max_size=60).map(lambda text: f'{GOOD}message = """{text}"""'))
def test_random_files_are_read_or_refused(write, text):
    """Nothing but a RuleError comes of them."""
    try:
        load(write(text.encode("utf-8", "replace").decode()))
    except RuleError as error:
        assert str(error)  # noqa: PT017  # whether it comes is left open


def test_a_name_that_is_nearly_one_of_the_catalogs_is_told_once(write, caplog):
    """It may be the user's own, so that it is no error; a key of TRL's is put right, too."""
    text = '[[rule]]\nname = "mine"\nwhen = "kl_maen > 1 and kl_maen < 3 and loss > 1 and my_own > 1"\n'
    text += '[[rule]]\nname = "other"\nwhen = \'metric("objective/kl") > 1\''
    with caplog.at_level(logging.WARNING, logger="rldk"):
        load(write(text))
    told = [record.getMessage().partition("rule ")[2] for record in caplog.records]
    assert told == [
        "mine reads kl_maen, which the catalog of metrics does not have; did you mean kl_mean?",
        "other reads objective/kl, which the catalog of metrics does not have; did you mean kl_seq_mean?",
    ]


def test_a_changed_rule_fires_at_the_severity_that_is_wanted(write):
    """Whatever the rule itself finds; nothing else is changed."""
    monitor = Monitor(rules_with(write('[rules.nonfinite]\nseverity = "info"\n')))
    monitor.take(begin())
    (change,) = [each for each in monitor.take(event(1, {"loss": math.nan})) if each.rule.name == "nonfinite"]
    assert (change.severity, change.message) == ("info", "Non-finite values: loss is nan")


def test_every_rule_of_rldk_can_be_changed(write):
    """A change keeps all that is not named in it."""
    text = "".join(f"[rules.{rule.name}]\ncooldown = 77\n" for rule in built_in())
    for changed, own in zip(rules_with(write(text)), built_in(), strict=True):
        assert changed.cooldown == 77
        for name in ("name", "title", "part", "reads", "looks_at", "trainers", "warm_up", "persistence"):
            assert getattr(changed, name) == getattr(own, name)
        for name in ("meaning", "advice", "source"):
            assert getattr(changed, name) == getattr(own, name)


def test_of_two_files_the_later_is_heard(write):
    """What only the first one changes stays changed."""
    first = write('[rules.kl_drift]\nseverity = "info"\ncooldown = 3', "a.toml")
    second = write("[rules.kl_drift]\ncooldown = 5", "b.toml")
    (rule,) = [rule for rule in rules_with([first, second]) if rule.name == "kl_drift"]
    assert rule.cooldown == 5
    off = write("[rules.kl_drift]\nenabled = false", "c.toml")
    assert "kl_drift" not in {rule.name for rule in rules_with([first, off])}
    on = write("[rules.kl_drift]\nenabled = true", "d.toml")
    assert "kl_drift" in {rule.name for rule in rules_with([off, on])}


class HotDevice(Rule):
    """A rule of a user's."""

    name = "hot_device"
    title = "The device is hot"
    reads = units(gpu0_temperature_c="")
    part = "resource"

    def judge(self, window):
        """Above 90 degrees."""
        now = window.series("gpu0_temperature_c", "resource").latest
        return firing("warning", f"{now:.0f} degrees") if now > 90 else ok()


def test_rules_in_python_stand_beside_those_of_files(write):
    """Objects, paths and texts of paths, in the order given."""
    rules = rules_with([HotDevice(), write(GOOD)])
    assert [rule.name for rule in rules[-2:]] == ["hot_device", "mine"]
    assert rules_with(HotDevice())[-1].name == "hot_device"


def altered(**attributes):
    """A user's rule with other attributes."""
    rule = HotDevice()
    for name, given_value in attributes.items():
        setattr(rule, name, given_value)
    return rule


class Nameless(Rule):
    """A rule that forgets its name."""

    def judge(self, window):
        """Well."""
        return ok()


@pytest.mark.parametrize(
    ("given_rules", "told"),
    [
        ([HotDevice], "rules[0]: this is the class HotDevice; give an instance, HotDevice()"),
        (HotDevice, "rules[0]: this is the class HotDevice; give an instance, HotDevice()"),
        ([HotDevice(), 3], "rules[1]: a int is no rule; give an instance of a subclass of rldk.health"),
        (3, "rules: 3 is none; give an instance of a subclass of rldk.health.rule.Rule, or the path"),
        ([Nameless()], "rules[0], a Nameless: its name is None; give one in snake_case"),
        ([altered(name="Hot device")], "its name is 'Hot device'; give one in snake_case"),
        ([altered(name="limit_x")], "names that begin with limit_ are those of alert_thresholds"),
        ([altered(title="")], "its title is ''; give one to read"),
        ([altered(part="resources")], "'resources' is not known; did you mean resource?"),
        ([altered(persistence=(3, 5))], "its persistence is (3, 5); give Persistence(3, 5)"),
        ([altered(reads=["loss"])], "its reads are no mapping; give units(loss='1')"),
        ([HotDevice(), HotDevice()], "two rules are called hot_device"),
        ([altered(name="kl_drift")], "one of RLDK's own rules is called kl_drift"),
    ],
)
def test_what_is_no_rule_is_refused_and_told(given_rules, told):
    """A class, a number, a rule without a name, two of one name."""
    with pytest.raises(RuleError) as error:
        rules_with(given_rules)
    assert told in str(error.value)
