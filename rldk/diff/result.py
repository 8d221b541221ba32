"""What a comparison of two runs finds."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

Kind = Literal["value", "not finite", "missing"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """That a health rule fired.

    Attributes:
        rule: Its name.
        severity: The worst that it reached: `info`, `warning` or `critical`.
        step: At which step it fired first.
    """

    rule: str
    severity: str
    step: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two runs.

    Attributes:
        run_id: The run.
        source: Where it was read.
        trainer: Short name of its trainer; empty where nobody knows.
        status: How it ended: FINISHED, FAILED or KILLED; empty where it has not, or nobody knows.
        steps: How many steps of training it logged.
        first_step: The first of them; None where there is none.
        last_step: The last of them.
        verdict: Its health: `ok`, `warning`, `critical` or `unknown`.
        alerts: Which rules fired, in order.
        problems: What of the source could not be read, a sentence each.
    """

    run_id: str
    source: str
    trainer: str
    status: str
    steps: int
    first_step: int | None
    last_step: int | None
    verdict: str
    alerts: list[Alert]
    problems: list[str]


class Parting(msgspec.Struct, frozen=True, kw_only=True):
    """A step at which the two do not have the same.

    Attributes:
        step: The step.
        kind: `value`: two numbers; `not finite`: one of them is NaN or an infinity, or they are different
            ones of these; `missing`: both logged the step, and one of them without this metric.
        a: What the first run measured there; None where it did not measure.
        b: The same of the second.
    """

    step: int
    kind: Kind
    a: float | None
    b: float | None


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How far apart two metrics are in the end: over the last tenth of what both have reached.

    Attributes:
        points_a: How many finite points of the first run it is told from.
        points_b: The same of the second.
        mean_a: Their mean.
        mean_b: The same of the second.
        difference: `mean_b - mean_a`.
        noise: Standard deviation of a single point about its trend, of both runs together (see
            `rldk.health.robust.noise`); None where there are too few points to tell.
        distance: The difference in units of that; infinite where there is none.
        standard_errors: The difference in units of its own standard error.
        is_apart: Whether it is more than 3 standard errors; None where nobody can tell.
    """

    points_a: int
    points_b: int
    mean_a: float
    mean_b: float
    difference: float
    noise: float | None
    distance: float | None
    standard_errors: float | None
    is_apart: bool | None


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One metric that both runs have.

    Attributes:
        name: Canonical name.
        phase: `train` or `eval`.
        unit: Its unit; empty where nobody knows.
        is_timing: Whether it is a time or a speed, which no two runs have in common.
        points: At how many steps both measured it.
        differing: At how many steps they do not have the same.
        first: The first of these; None where there is none.
        largest: The step at which two finite numbers are furthest apart.
        end: How far apart they are in the end; None where one has no finite number there, or no number.
        nonfinite_a: How many NaN and infinities the first run measured.
        nonfinite_b: The same of the second.
        last_a: What the first run measured last, of the steps that both reached; None where nothing.
        last_b: The same of the second.
    """

    name: str
    phase: str
    unit: str
    is_timing: bool
    points: int
    differing: int
    first: Parting | None
    largest: Parting | None
    end: End | None
    nonfinite_a: int
    nonfinite_b: int
    last_a: float | None
    last_b: float | None

    @property
    def label(self) -> str:
        """Its name, with `eval/` before it where it is of evaluations."""
        return labelled(self.name, self.phase)

    @property
    def is_broken(self) -> bool:
        """Whether in the end one of the two measures nothing finite any more."""
        return self.end is None and bool(self.not_finite)

    @property
    def not_finite(self) -> tuple[float, ...]:
        """Of the last numbers of the first and the second those that are NaN or an infinity."""
        last = (self.last_a, self.last_b)
        return tuple(value for value in last if value is not None and not math.isfinite(value))

    @property
    def is_apart(self) -> bool | None:
        """Whether the two are apart in the end; None where nobody can tell."""
        if self.end is not None:
            return self.end.is_apart
        return str(self.last_a) != str(self.last_b) if self.is_broken else None  # NaN is the same as NaN

    @property
    def is_same(self) -> bool:
        """Whether it is the same at each step that both logged."""
        return self.first is None


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """Which steps of one phase the two logged.

    Attributes:
        both: How many both did.
        only_a: How many the first did alone.
        only_b: The same of the second.
        first_only: The first step that one alone logged; None where there is none.
    """

    both: int
    only_a: int
    only_b: int
    first_only: int | None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the two were told or made of, and that is not the same.

    Attributes:
        name: Its name: `seed`, `commit`, `trainer`, `versions.trl`, or an argument's.
        a: What the first run had; unset (and left out of the JSON) where it did not tell.
        b: The same of the second.
        is_place: Whether it only tells where things are written, or how the run is called.
    """

    name: str
    a: Any | UnsetType = UNSET
    b: Any | UnsetType = UNSET
    is_place: bool = False


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """What two runs do not have in common; the first is A, the second B.

    Attributes:
        a: The first run.
        b: The second run.
        summary: The whole in a sentence or a few.
        rtol: The relative tolerance that was asked for.
        atol: The absolute one.
        metrics: What both measured: first what parts, the furthest apart in the end before the others.
        only_a: What the first alone measured, evaluations with `eval/` before the name.
        only_b: The same of the second.
        steps: Which steps they logged, by phase.
        settings: What they were told or made of, and is not the same; secrets are hidden.
        settings_only_a: Names of what the first alone tells.
        settings_only_b: The same of the second.
        told_settings: Whether the first and the second tell of their settings at all.
    """

    a: Run
    b: Run
    summary: str
    rtol: float
    atol: float
    metrics: list[Metric]
    only_a: list[str]
    only_b: list[str]
    steps: dict[str, Steps]
    settings: list[Setting]
    settings_only_a: list[str]
    settings_only_b: list[str]
    told_settings: tuple[bool, bool]

    @property
    def parted(self) -> list[Metric]:
        """The metrics that are not the same, without times and speeds."""
        return [metric for metric in self.metrics if not metric.is_same and not metric.is_timing]

    @property
    def is_same(self) -> bool:
        """Whether both measured the same at the same steps, within the tolerance, times and speeds aside."""
        alone = self.only_a or self.only_b or any(one.only_a or one.only_b for one in self.steps.values())
        return not self.parted and not alone


def labelled(name: str, phase: str) -> str:
    """Call a metric by its name and, of evaluations, its phase."""
    return f"eval/{name}" if phase == "eval" else name
