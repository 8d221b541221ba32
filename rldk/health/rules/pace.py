"""Does the run get on?"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from rldk.health.robust import median
from rldk.health.rule import Evidence, Persistence, Rule, Verdict, firing, ok, units
from rldk.health.window import SECONDS_PER_STEP

if TYPE_CHECKING:
    from rldk.health.window import Window

_BASELINE: Final = 10
_RECENT: Final = 5
_TIMES: Final = 3.0
_LEAST_S: Final = 0.5
_HANG_TIMES: Final = 20.0
_HANG_LEAST_S: Final = 900.0


class SlowSteps(Rule):
    """Steps take a multiple of the time that they took.

    What they take is `step_time` where the trainer logs it, else the seconds from log to log by the steps
    between them, in which evaluations and checkpoints count.
    """

    name = "stall"
    title = "Steps have become slow"
    looks_at = ("step_time", SECONDS_PER_STEP)
    persistence = Persistence(3, 5)
    cooldown = 30
    meaning = (
        "something beside the model takes the time: data, rewards, a full disk, a throttled or shared device"
    )
    advice = (
        "look at the resources (throttling, memory, disk), the reward function's own time, and who "
        "else uses the machine"
    )
    source = "comparison with the run's own first ten points"

    def cannot_apply(self, window: Window) -> str:
        """It needs some steps to compare with."""
        count = len(window.series(_name(window)))
        return (
            ""
            if count >= _BASELINE + _RECENT
            else f"there are {count} timed steps so far, and the rule needs {_BASELINE + _RECENT}"
        )

    def judge(self, window: Window) -> Verdict:
        """The median of the last 5 is three times that of the first 10, and half a second above."""
        name = _name(window)
        series = window.series(name)
        now, before = median(series.last(_RECENT)), series.start(_BASELINE)
        told = f"a step takes {now:.3g} s, {before:.3g} s at the start"
        evidence: Evidence = {
            "recent_median_s": now,
            "baseline_median_s": before,
            "times": _TIMES,
            "measured": name,
        }
        is_bad = now >= _TIMES * before and now >= before + _LEAST_S
        return firing("warning", told, **evidence) if is_bad else ok(told, **evidence)


def _name(window: Window) -> str:
    return "step_time" if window.has_logged("step_time") else SECONDS_PER_STEP


class Hang(Rule):
    """No step has been logged for a multiple of the usual time; seen by the monitor of resources."""

    name = "hang"
    title = "No progress"
    reads = units(process_cpu_percent="percent of one core")
    part = "resource"
    persistence = Persistence(1, 1)
    cooldown = 100
    meaning = (
        "a step does not end: a deadlock of processes, a reward or generation server that does not answer"
    )
    advice = "see where the processes are (py-spy dump --pid), and whether all of them live"
    source = "comparison with the run's own time from log to log"

    def judge(self, window: Window) -> Verdict:
        """Nothing for twenty times the usual time of a log, and 15 minutes."""
        points = window.series(SECONDS_PER_STEP).last_points(_BASELINE)
        if window.logged_at is None or len(points) < 2:  # noqa: PLR2004  # a time from log to log needs two
            return ok("no steps so far")
        steps = median([b.step - a.step for a, b in itertools.pairwise(points)])
        usual = median([point.value for point in points]) * max(steps, 1)
        silent = window.time - window.logged_at
        told = f"nothing was logged for {silent:.0f} s; usual are {usual:.3g} s"
        limit = max(_HANG_TIMES * usual, _HANG_LEAST_S)
        evidence: Evidence = {"silent_s": silent, "usual_s": usual, "limit_s": limit}
        return firing("warning", told, **evidence) if silent > limit else ok(told, **evidence)
