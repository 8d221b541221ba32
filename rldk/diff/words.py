"""The comparison of two runs in a sentence or a few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rldk.diff.result import Diff, Metric

_NAMED: Final = 4
_SCHEDULED: Final = frozenset({"lr", "epoch"})
"""What a run is told rather than what it measures."""


def summary(found: Diff) -> str:
    """Say in what the two were set up otherwise, where they part, and how far apart they are in the end."""
    told = [_setup(found), *_measured(found)]
    if (found.a.verdict, found.b.verdict) != ("ok", "ok"):
        told.append(f"health: {found.a.verdict} and {found.b.verdict}")
    return "; ".join(filter(None, told))


def _setup(found: Diff) -> str:
    facts = [one.name for one in found.settings if not one.is_place]
    if not all(found.told_settings):
        silent = [name for name, told in zip("AB", found.told_settings, strict=True) if not told]
        beside = f", other {listed(facts)}" if facts else ""
        return f"{' and '.join(silent)} {'tell' if len(silent) > 1 else 'tells'} no config{beside}"
    return f"same config but for {listed(facts)}" if facts else "same config"


def _measured(found: Diff) -> Iterable[str]:
    compared = [metric for metric in found.metrics if not metric.is_timing]
    parted = found.parted
    if not compared:
        yield "no metric is in both"
    elif not parted:
        yield f"{_counted(len(compared), 'metric')} agree at each of {_counted(_most(compared), 'step')}"
    else:
        yield _first(parted)
        yield f"{len(parted)} of {_counted(len(compared), 'metric')} differ"
        yield _in_the_end(parted)
    for name, alone in (("A", found.only_a), ("B", found.only_b)):
        if alone:
            yield f"only {name} has {listed(alone)}"
    for phase, steps in found.steps.items():
        lone = [(name, count) for name, count in (("A", steps.only_a), ("B", steps.only_b)) if count]
        of_phase = " of evaluation" if phase == "eval" else ""
        if lone:
            who = " and ".join(f"{_counted(count, 'step')} only in {name}" for name, count in lone)
            yield f"{who}{of_phase}, from step {steps.first_only}"


def _first(parted: Sequence[Metric]) -> str:
    measured = [metric for metric in parted if metric.name not in _SCHEDULED]
    step, there = _earliest(parted)
    told = f"they part first at step {step} in {_named(there)}"
    if measured and not any(metric in measured for metric in there):
        step, there = _earliest(measured)
        told += f", then at step {step} in {_named(there)}"
    return told


def _earliest(parted: Sequence[Metric]) -> tuple[int, list[Metric]]:
    at = [(metric.first.step, metric) for metric in parted if metric.first is not None]
    step = min(each for each, _ in at)
    return step, [metric for each, metric in at if each == step]


def _named(metrics: Sequence[Metric]) -> str:
    first = metrics[0].first
    values = f" ({', '.join(pair(first.a, first.b))})" if len(metrics) == 1 and first is not None else ""
    return listed([metric.label for metric in metrics]) + values


def _in_the_end(parted: Sequence[Metric]) -> str:
    apart = [metric for metric in parted if metric.is_apart]
    if apart:
        return f"apart in the end: {listed([metric.label for metric in apart])}"
    judged = [metric for metric in parted if metric.is_apart is not None]
    return "none is apart in the end beyond its noise" if judged else ""


def _most(metrics: Iterable[Metric]) -> int:
    return max(metric.points for metric in metrics)


def pair(a: float | None, b: float | None) -> tuple[str, str]:
    """Spell two numbers in as few digits as tell them apart, at least 4."""
    told = number(a), number(b)
    for digits in (6, 9, 17):
        if told[0] != told[1] or a == b:
            break
        told = number(a, digits), number(b, digits)
    return told


def number(value: float | None, digits: int = 4) -> str:
    """Spell a number; what was not measured is `missing`."""
    return "missing" if value is None else f"{value:.{digits}g}"


def listed(names: Sequence[str]) -> str:
    """Name a few, and count the others."""
    more = len(names) - _NAMED
    if more > 1:
        return f"{', '.join(names[:_NAMED])} and {more} more"
    return ", ".join(names)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
