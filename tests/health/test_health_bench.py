"""The bench of the health rules tells what was missed, and changes of the page only what it measures."""

from __future__ import annotations

import pytest

from benchmarks.health import judge, table
from benchmarks.health.scenario import Scenario
from benchmarks.health.scenarios import FAULTY, HEALTHY
from rldk.health.rules import built_in

BREAKS = 30


@pytest.fixture
def run(make_event):
    """Judge an SFT run of 40 steps whose gradient norm is NaN from some step on, if ever."""

    def make(breaks=None):
        norms = [float("nan") if breaks and step >= breaks else 1.0 for step in range(1, 41)]
        events = [make_event(kind="run", step=0, model_info={"trainer": "SFT"})]
        events += [make_event(step=step, metrics={"grad_norm": norm}) for step, norm in enumerate(norms, 1)]
        return judge.judged("a-run", events)

    return make


@pytest.fixture
def fault():
    """A scenario that the rule for NaN should name."""
    return Scenario("sft_nan", "SFT", "a NaN", ("nonfinite",), BREAKS)


def test_a_fault_that_is_named_is_told_with_its_rule_and_delay(run, fault):
    """Here in the step in which it began."""
    told = table.fault_table([(fault, [run(BREAKS), run(BREAKS)])])
    assert told.splitlines()[-1] == "| SFT: a NaN | 2 of 2 | `nonfinite` (critical) | 0 | - |"


def test_a_fault_that_is_missed_stands_out(run, fault):
    """An alert before the fault does not count as its name."""
    assert "| SFT: a NaN | **0 of 2** |" in table.fault_table([(fault, [run(), run(BREAKS - 10)])])


def test_a_false_alarm_is_counted(run):
    """By source of the runs, and by rule, among the runs in which the rule could judge."""
    runs = [run(), run(BREAKS)]
    assert "| here | 2 | 0 | 0 | 1 | 1 | `nonfinite`: critical (1) |" in table.healthy_table({"here": runs})
    assert "| `nonfinite` | 2 of 2 | 0 | 0 | 1 | 50.0% |" in table.rule_table(runs)


def test_the_rest_of_the_page_stays():
    """Only what is between the marks is new; a page without them is refused."""
    page = f"# Health\n\n{table.BEGIN}\n\nold\n\n{table.END}\n\nReasons.\n"
    renewed = table.put_into(page, "new \\1")
    assert renewed == page.replace("old", "new \\1")
    assert table.put_into(renewed, "new \\1") == renewed
    with pytest.raises(ValueError, match="lacks the lines"):
        table.put_into("# Health\n", "new")


def test_every_scenario_expects_rules_that_exist():
    """No fault waits for a rule of another name, and each name is given once."""
    known = {rule.name for rule in built_in()}
    assert {rule for scenario in FAULTY for rule in scenario.rules} <= known
    names = [scenario.name for scenario in (*HEALTHY, *FAULTY)]
    assert len(names) == len(set(names))
