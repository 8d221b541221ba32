"""Which plots does the page have: of metrics and of resources, with what happened marked on them."""

from __future__ import annotations

import importlib
import os.path
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from rldk import catalog
from rldk.errors import MissingDependencyError
from rldk.report import documents, numbers
from rldk.report.html import esc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rldk.report.story import Episode, Series, Story

_MOST_LINES: Final = 5
_MOST_SPANS: Final = 200
_MOST_EVALUATIONS: Final = 6
_RESOURCES: Final = (
    ("GPU memory in use", "fraction", ("gpu{}_memory_used_frac",)),
    ("GPU utilisation", "%", ("gpu{}_util_percent",)),
    ("Memory and disk in use", "fraction", ("host_memory_used_frac", "disk_used_frac")),
    ("CPU", "%", ("process_cpu_percent", "host_cpu_percent")),
    ("Memory of the process", "GiB", ("process_rss_bytes",)),
    ("GPU power", "W", ("gpu{}_power_w",)),
    ("GPU temperature", "°C", ("gpu{}_temperature_c",)),
)
_GIB: Final = 2**30
_HOUR_S: Final = 3600.0
_MINUTE_S: Final = 60.0
_COMMON: Final = re.compile(r"(.+)[_/]", re.DOTALL)


class Drawn(NamedTuple):
    """The plots, as HTML, or why there are none."""

    figures: list[str]
    reason: str = ""


class _Key(NamedTuple):
    """What the key of a plot says of one line."""

    name: str
    colour: str
    is_eval: bool = False


def of_metrics(story: Story) -> Drawn:
    """Draw the main metrics of a run, training and evaluation together."""
    plots = _drawing()
    if isinstance(plots, str):
        return Drawn([], plots)
    panels = documents.main_panels(story)
    evaluated = documents.main_evaluations(story)
    shown = {name for panel in panels for name in panel}
    panels += [(name,) for name in evaluated if documents.of_set(name) not in shown][:_MOST_EVALUATIONS]
    return Drawn([_of_panel(plots, story, panel, evaluated, f"m{i}") for i, panel in enumerate(panels)])


def _of_panel(
    plots: Any,  # noqa: ANN401  # the module, which needs an optional library
    story: Story,
    panel: Sequence[str],
    evaluated: Sequence[str],
    name: str,
) -> str:
    there = [(story.series(each), False) for each in panel]
    there += [
        (story.series(each, "eval"), True) for each in evaluated if {each, documents.of_set(each)} & {*panel}
    ]
    measured = [(series, is_eval) for series, is_eval in there if len(series.values)][:_MOST_LINES]
    keys = _keys(plots, measured)
    lines = [
        plots.Line(series.steps, series.values, key.colour, key.is_eval)
        for key, (series, _) in zip(keys, measured, strict=True)
    ]
    unit = measured[0][0].unit
    marks = plots.Marks(
        _spans(plots, story, panel),
        [checkpoint.step for checkpoint in story.checkpoints],
        [start.step for start in story.resumes],
    )
    shown_unit = "value" if unit in {"", "1"} else unit
    svg = plots.plot(lines, unit=shown_unit, axis="step", limits=story.span, marks=marks, name=name)
    many = max((int(np.isfinite(s.values).sum()) for s, is_eval in measured if not is_eval), default=0)
    said = [_meaning(panel)] + (
        [f"{many:,} points, medians of {numbers.width_of(many)}."] if many > plots.MANY else []
    )
    return _figure(_title(panel), keys, svg, " ".join(filter(None, said)))


def _keys(plots: Any, measured: Sequence[tuple[Series, bool]]) -> list[_Key]:  # noqa: ANN401  # the same
    """Give each line its colour; where there are several, evaluation has that of training."""
    trained = {series.name: i for i, (series, is_eval) in enumerate(measured) if not is_eval}
    keys = []
    for place, (series, is_eval) in enumerate(measured):
        same = trained.get(series.name) if is_eval and len(trained) > 1 else None
        keys.append(_Key(series.name, plots.SERIES[place if same is None else same], is_eval))
    return keys


def _spans(plots: Any, story: Story, panel: Sequence[str]) -> list[Any]:  # noqa: ANN401  # the same
    """The alerts that speak of these metrics."""
    told = [each for each in story.episodes if any(each.is_about(name) for name in panel)]
    return [
        plots.Span(
            float(each.first.step),
            story.span[1] if each.until_step is None else float(each.until_step),
            each.number,
            each.severity,
        )
        for each in told[:_MOST_SPANS]
    ]


def _title(panel: Sequence[str]) -> str:
    """What the names of a plot's metrics begin with together; all of them, where that is nothing."""
    if all(name.startswith(panel[0]) for name in panel):
        return panel[0]
    common = _COMMON.match(os.path.commonprefix(list(panel)))  # noqa: RUF071  # characters are what is meant
    return common[1] if common else ", ".join(panel)


def _meaning(panel: Sequence[str]) -> str:
    metric = catalog.named(panel[0])
    return metric.meaning if metric is not None and len(panel) == 1 else ""


def of_resources(story: Story) -> Drawn:
    """Draw what was used of the machine, over time."""
    plots = _drawing()
    if isinstance(plots, str):
        return Drawn([], plots)
    longest = max((_last(samples.times) for samples in story.resources.values()), default=0.0)
    length, axis = (_HOUR_S, "hours") if longest > 2 * _HOUR_S else (_MINUTE_S, "minutes")
    told = []
    for number, (title, unit, patterns) in enumerate(_RESOURCES):
        names = [name for pattern in patterns for name in _spelled(pattern) if name in story.resources]
        keys = [_Key(name, plots.SERIES[place]) for place, name in enumerate(names)]
        lines = [_line(plots, story, key, length, _GIB if unit == "GiB" else 1) for key in keys]
        if lines:
            limits = (0.0, longest / length or 1.0)
            about = [each for each in story.episodes if any(each.is_about(name) for name in names)]
            svg = plots.plot(
                lines,
                unit=unit,
                axis=f"{axis} since the run began",
                limits=limits,
                marks=plots.Marks([_moment(plots, each, length) for each in about[:_MOST_SPANS]]),
                name=f"r{number}",
            )
            told.append(_figure(title, keys, svg, ""))
    return Drawn(told)


def _moment(plots: Any, episode: Episode, length: float) -> Any:  # noqa: ANN401  # the same
    at = episode.first.wall_time / length
    return plots.Span(at, at, episode.number, episode.severity)


def _line(plots: Any, story: Story, key: _Key, length: float, size: float) -> Any:  # noqa: ANN401  # the same
    samples = story.resources[key.name]
    timed = np.isfinite(samples.times)
    return plots.Line(samples.times[timed] / length, samples.values[timed] / size, key.colour)


def _last(times: Any) -> float:  # noqa: ANN401  # an array
    known_times = times[np.isfinite(times)]
    return float(known_times.max()) if len(known_times) else 0.0


def _spelled(pattern: str) -> list[str]:
    return [pattern.format(gpu) for gpu in range(_MOST_LINES)] if "{}" in pattern else [pattern]


def _figure(title: str, keys: Sequence[_Key], svg: str, said: str) -> str:
    signs = "".join(
        f'<span><i class="{key.colour}{" eval" if key.is_eval else ""}"></i>{esc(key.name)}'
        f"{' (evaluation)' if key.is_eval else ''}</span>"
        for key in keys
    )
    key = f'<div class="key">{signs}</div>' if len(keys) > 1 or any(key.is_eval for key in keys) else ""
    foot = f'<p class="soft small">{esc(said)}</p>\n' if said else ""
    return f"<figure>\n<figcaption><h3>{esc(title)}</h3>{key}</figcaption>\n{svg}\n{foot}</figure>\n"


def _drawing() -> Any:  # noqa: ANN401  # the module that draws, or the reason why there is none
    try:
        return importlib.import_module("rldk.report.plots")
    except ImportError:
        return str(MissingDependencyError("a plot", "matplotlib", "report"))
