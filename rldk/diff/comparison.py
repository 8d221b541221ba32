"""Two runs, from wherever they are kept, to what they do not have in common."""

from __future__ import annotations

import importlib
import math
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from rldk.diff import series as numbers
from rldk.diff.result import Alert, Diff, Metric, Run, Steps, labelled
from rldk.diff.setup import Setup, differences, setup_of
from rldk.diff.words import summary
from rldk.errors import MissingDependencyError, SettingError, SourceError
from rldk.health.rules import built_in
from rldk.history import histories
from rldk.redact import redact_text
from rldk.report.judging import judged
from rldk.sources import is_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from rldk.history import History
    from rldk.report.story import Story
    from rldk.rows import Places

PHASES: Final = ("train", "eval")
FORMATS: Final = (".png", ".svg", ".pdf")
"""The endings of the names of plots."""
_NAMES_SHOWN: Final = 20
_TIMES: Final = frozenset({"s", "ms"})


class Told(NamedTuple):
    """All that is known of one run."""

    run: Run
    story: Story
    setup: Setup


def diff(
    a: str | Path,
    b: str | Path | None = None,
    *,
    rtol: float = 1e-6,
    atol: float = 0.0,
    metrics: Sequence[str] | None = None,
    runs: tuple[str | None, str | None] = (None, None),
    adapter_hints: tuple[str | None, str | None] = (None, None),
    field_map: Mapping[str, str] | None = None,
    plot: str | Path | None = None,
    watch: Callable[[str, int, int], None] = lambda *_: None,
) -> Diff:
    """Compare two runs metric by metric, in what they were told, and in how well they are.

    Two numbers are the same where `|a - b| <= max(atol, rtol * max(|a|, |b|))`; missing, zero and NaN are
    three things. Training and evaluation are compared apart. Of a run that was started again, what led to
    its present state is looked at.

    Args:
        a: The first run, as `rldk.ingest.ingest_runs` takes it.
        b: The second; by default it is in `a`, too.
        rtol: The relative tolerance; 1e-6 forgives the last digits of a float32.
        atol: The absolute tolerance, in the unit of the metric.
        metrics: Only these, in which `*` and `?` stand for any text.
        runs: Which run of `a` and which of `b`, by id or a pattern, where a source holds several.
        adapter_hints: Names of their adapters.
        field_map: Raw name to canonical name, for what the catalog does not know.
        plot: A file, .png, .svg or .pdf, in which to draw the metrics that are furthest apart.
        watch: Called before each source of a run is read, with the source, its number from 0, and how many
            there are.

    Returns:
        What they do not have in common; `is_same` tells whether that is nothing.

    Raises:
        UnknownSourceError: No adapter recognises a source.
        SourceError: A source cannot be read, holds no number, or more than one run.
        SettingError: A tolerance is none, no run or metric is one that was asked for, or the plot's name has
            another ending.
        MissingDependencyError: There is to be a plot, and matplotlib is not installed.
        TargetError: The plot cannot be written.
    """
    drawing = None if plot is None else _drawing(Path(plot))
    told = read(a, b, runs=runs, adapter_hints=adapter_hints, field_map=field_map, watch=watch)
    found = compare(*told, rtol=rtol, atol=atol, metrics=metrics)
    if drawing is not None and plot is not None:
        drawing.draw(found, *told, Path(plot))
    return found


def _drawing(path: Path) -> ModuleType:
    """The module that draws; before anything is read it is known whether it can."""
    if path.suffix not in FORMATS:
        raise SettingError("plot", str(path), f"a name that ends in one of {', '.join(FORMATS)}")
    try:
        return importlib.import_module("rldk.diff.plot")
    except ImportError as error:
        raise MissingDependencyError("a plot", "matplotlib", "report") from error


def read(
    a: str | Path,
    b: str | Path | None = None,
    *,
    runs: tuple[str | None, str | None] = (None, None),
    adapter_hints: tuple[str | None, str | None] = (None, None),
    field_map: Mapping[str, str] | None = None,
    watch: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[Told, Told]:
    """Read two runs, for `compare`; see `diff`."""
    asked: dict[str, Any] = {"field_map": field_map, "watch": watch}
    if b is None and runs[0] == runs[1]:
        first, second = _several(a, runs[0], 2, adapter_hint=adapter_hints[0], **asked)
    else:
        (first,) = _several(a, runs[0], 1, adapter_hint=adapter_hints[0], **asked)
        (second,) = _several(a if b is None else b, runs[1], 1, adapter_hint=adapter_hints[1], **asked)
    return _told(first), _told(second)


def _several(source: str | Path, wanted: str | None, count: int, **asked: Any) -> list[History]:  # noqa: ANN401  # as histories takes it
    """Read exactly so many runs of a source.

    Raises:
        SourceError: There are more or fewer.
    """
    found = list(
        islice(histories(source, runs=None if wanted is None else [wanted], **asked), _NAMES_SHOWN + 1)
    )
    if len(found) == count:
        return found
    names = ", ".join(each.run_id for each in found[:_NAMES_SHOWN])
    shown = "1 run" if len(found) == 1 else f"{len(found)} runs"
    how_many = f"{_NAMES_SHOWN} runs and more" if len(found) > _NAMES_SHOWN else shown
    remedy = (
        "name the second run" if len(found) < count else "choose with --runs ID, once for each of the two"
    )
    raise SourceError(str(source), f"it holds {how_many} ({names}), not {count}", remedy)


def _told(history: History) -> Told:
    """Tell of a run, judged by RLDK's own rules whatever was judged while it ran: both alike."""
    events = (event for event in history.events() if event.kind != "alert")
    story, health = judged(events, built_in(), history.run_id)
    if not any(story.names.values()):
        reason, remedy = f"run {history.run_id} holds no metric", "give a run that logged some"
        raise SourceError(history.source, reason, remedy)
    steps = story.steps()
    alerts = [Alert(rule=one.rule, severity=one.severity, step=one.first.step) for one in story.episodes]
    run = Run(
        run_id=redact_text(history.run_id),
        source=redact_text(history.source),
        trainer=history.trainer,
        status=str(story.end.model_info.get("status") or "") if story.end is not None else "",
        steps=len(steps),
        first_step=int(steps[0]) if len(steps) else None,
        last_step=int(steps[-1]) if len(steps) else None,
        verdict=str(health["verdict"]),
        alerts=alerts,
        problems=[*history.problems],
    )
    return Told(run, story, setup_of(history.events(), history.trainer))


def compare(
    a: Told, b: Told, *, rtol: float = 1e-6, atol: float = 0.0, metrics: Sequence[str] | None = None
) -> Diff:
    """Compare two runs that were read; see `diff`."""
    for name, value in (("--rtol", rtol), ("--atol", atol)):
        if not 0 <= value < math.inf:
            raise SettingError(name, value, "a number from 0 on")
    tolerance = numbers.Tolerance(rtol, atol)
    names = {phase: _names(a, b, phase, metrics) for phase in PHASES}
    if metrics and not any(each.any for each in names.values()):
        there = ", ".join([*a.story.names["train"], *a.story.names["eval"]][:_NAMES_SHOWN])
        raise SettingError("--metrics", ",".join(metrics), f"some of {there}")
    both = [_compared(a, b, name, phase, tolerance) for phase in PHASES for name in names[phase].both]
    found = differences(a.setup, b.setup)
    result = Diff(
        a=a.run,
        b=b.run,
        summary="",
        rtol=rtol,
        atol=atol,
        metrics=sorted(both, key=_rank),
        only_a=[labelled(name, phase) for phase in PHASES for name in names[phase].only_a],
        only_b=[labelled(name, phase) for phase in PHASES for name in names[phase].only_b],
        steps={phase: _steps(_rows(a, phase), _rows(b, phase)) for phase in PHASES if names[phase].any},
        settings=found.settings,
        settings_only_a=found.only_a,
        settings_only_b=found.only_b,
        told_settings=(bool(a.setup.settings), bool(b.setup.settings)),
    )
    return msgspec.structs.replace(result, summary=summary(result))


class _Names(NamedTuple):
    """The metrics of one phase."""

    both: list[str]
    only_a: list[str]
    only_b: list[str]

    @property
    def any(self) -> bool:
        """Whether there are some."""
        return bool(self.both or self.only_a or self.only_b)


def _names(a: Told, b: Told, phase: str, asked: Sequence[str] | None) -> _Names:
    mine, theirs = (
        [
            name
            for name in each.story.names[phase]
            if is_wanted(name, asked) or is_wanted(labelled(name, phase), asked)
        ]
        for each in (a, b)
    )
    return _Names(
        [name for name in mine if name in set(theirs)],
        [name for name in mine if name not in set(theirs)],
        [name for name in theirs if name not in set(mine)],
    )


def _rows(told: Told, phase: str) -> Places:
    table = told.story.table
    steps: Places = table["step"].to_numpy()[(table["phase"] == phase).to_numpy(dtype=bool)]
    return np.unique(steps)


def _steps(a: Places, b: Places) -> Steps:
    only_a, only_b = np.setdiff1d(a, b), np.setdiff1d(b, a)
    alone = [int(each[0]) for each in (only_a, only_b) if len(each)]
    return Steps(
        both=len(np.intersect1d(a, b)),
        only_a=len(only_a),
        only_b=len(only_b),
        first_only=min(alone, default=None),
    )


def _compared(a: Told, b: Told, name: str, phase: str, tolerance: numbers.Tolerance) -> Metric:
    mine, theirs = a.story.series(name, phase), b.story.series(name, phase)
    rows = _rows(a, phase), _rows(b, phase)
    found = numbers.partings(mine, theirs, np.intersect1d(*rows), tolerance)
    unit, last = mine.unit, int(min(rows[0][-1], rows[1][-1]))
    return Metric(
        name=name,
        phase=phase,
        unit=unit,
        is_timing=unit in _TIMES or unit.endswith("/s"),
        points=found.points,
        differing=found.differing,
        first=found.first,
        largest=found.largest,
        end=numbers.end(mine, theirs, last, tolerance),
        nonfinite_a=int((~np.isfinite(mine.values)).sum()),
        nonfinite_b=int((~np.isfinite(theirs.values)).sum()),
        last_a=numbers.last_of(mine, last),
        last_b=numbers.last_of(theirs, last),
    )


def _rank(metric: Metric) -> tuple[bool, bool, float, str]:
    """What comes before what: what parts, then what is furthest apart in the end; times last."""
    distance = (
        metric.end.standard_errors if metric.end is not None else (math.inf if metric.is_broken else 0.0)
    )
    return metric.is_timing, metric.is_same, -abs(distance or 0.0), metric.label
