"""How are two runs drawn beside each other: a small plot for each metric that parts. Needs matplotlib."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from rldk.errors import TargetError
from rldk.report import numbers
from rldk.report.documents import main_panels

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from rldk.diff.comparison import Told
    from rldk.diff.result import Diff, Metric
    from rldk.report.story import Series
    from rldk.rows import Values

COLOURS: Final = ("#0072b2", "#d55e00")
"""Blue and vermilion of Okabe and Ito, which nobody takes for each other."""

_MOST: Final = 9
_COLUMNS: Final = 3
_WIDTH, _HEIGHT = 3.9, 2.4  # inches, of one plot
_HEAD: Final = 0.95
_LETTERS: Final = 172
_LINES: Final = 3
_STRETCHES: Final = 300
_MANY: Final = 60
_STEEP: Final = 1e3
_HUGE: Final = 1e100
_TINY: Final = 1e-100
_NAME: Final = 34
_STYLE: Final[dict[str, Any]] = {
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#666666",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "rldk",
}


def draw(found: Diff, a: Told, b: Told, path: Path) -> None:
    """Draw the metrics that are furthest apart, up to nine; where none parts, the run's main ones.

    Each plot marks the first step at which the two part, and what is not finite. Of more than 60 points the
    running median is drawn over them.

    Args:
        found: What `rldk.diff.compare` found.
        a: The first run.
        b: The second run.
        path: The file; its ending says which format.

    Raises:
        TargetError: It cannot be written.
    """
    metrics = _chosen(found, a, b)
    columns = min(_COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    size = (max(_WIDTH * columns, 2 * _WIDTH), _HEIGHT * rows + _HEAD)
    with style.context(["default", _STYLE]):
        room = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - _HEAD / size[1]), h_pad=0.1, w_pad=0.1)
        figure = Figure(figsize=size, dpi=150, layout=room)
        panels = figure.subplots(rows, columns, squeeze=False)
        for metric, axes in zip(metrics, panels.flat, strict=False):
            _panel(axes, metric, a, b)
        for axes in panels.flat[len(metrics) :]:
            axes.set_axis_off()
        figure.supxlabel("step", fontsize=8.5)
        _head(figure, found, size)
        try:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise TargetError(str(path), str(error), "choose a file that can be written") from error


def _chosen(found: Diff, a: Told, b: Told) -> list[Metric]:
    if found.parted:
        return _distinct(found.parted, a, b)[:_MOST]
    there = {metric.name: metric for metric in found.metrics if metric.phase == "train"}
    main = [there[name] for panel in main_panels(a.story) for name in panel if name in there]
    return (main or found.metrics)[:_MOST]


def _distinct(metrics: list[Metric], a: Told, b: Told) -> list[Metric]:
    """Leave out what looks like another one: with a single reward its component is the whole."""
    drawn: dict[bytes, Metric] = {}
    for metric in metrics:
        series = [each.story.series(metric.name, metric.phase) for each in (a, b)]
        look = b"".join(part.tobytes() for one in series for part in (one.steps, one.values))
        drawn[look] = min(drawn.get(look, metric), metric, key=lambda one: len(one.name))
    return list(drawn.values())


def _head(figure: Figure, found: Diff, size: tuple[float, float]) -> None:
    """Write which line is which run, and the summary below."""
    signs = [Line2D([], [], color=colour, linewidth=2) for colour in COLOURS]
    names = [f"{letter}  {_short(run.run_id)}" for letter, run in zip("AB", (found.a, found.b), strict=True)]
    figure.legend(
        signs,
        names,
        loc="upper left",
        bbox_to_anchor=(0.005, 1.0),
        ncols=2,
        frameon=False,
        fontsize=10.5,
    )
    letters = round(_LETTERS * size[0] / (_WIDTH * _COLUMNS))
    lines = textwrap.wrap(found.summary, letters, max_lines=_LINES, placeholder=" ...")
    top = 1 - 0.36 / size[1]
    figure.text(0.012, top, "\n".join(lines), va="top", fontsize=8.5, color="#333333", linespacing=1.35)


def _short(name: str) -> str:
    """Cut the middle out of a long name."""
    half = (_NAME - 3) // 2
    return name if len(name) <= _NAME else f"{name[:half]}...{name[-half:]}"


def _panel(axes: Axes, metric: Metric, a: Told, b: Told) -> None:
    series = [each.story.series(metric.name, metric.phase) for each in (a, b)]
    for one, colour, order in zip(series, COLOURS, (3, 4), strict=True):
        _line(axes, one, colour, order)
    axes.set_title(_short(metric.label))
    axes.set_ylabel("" if metric.unit in {"", "1"} else metric.unit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=True))
    _scale(axes, [one.values for one in series])
    for one, colour in zip(series, COLOURS, strict=True):
        _broken(axes, one, colour)
    if metric.first is not None:
        axes.axvline(metric.first.step, color="#444444", linewidth=0.9, linestyle=(0, (4, 2)), zorder=2)
        _label(axes, metric)


def _label(axes: Axes, metric: Metric) -> None:
    """Say above the plot where the two part, on the side of the mark that has room."""
    if metric.first is None:
        return
    low, high = axes.get_xlim()
    is_late = metric.first.step > (low + high) / 2
    axes.annotate(
        f"parts at {metric.first.step}",
        (metric.first.step, 1.0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-3 if is_late else 3, -1),
        textcoords="offset points",
        ha="right" if is_late else "left",
        va="top",
        fontsize=7.5,
        color="#444444",
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        zorder=8,
    )


def _line(axes: Axes, series: Series, colour: str, order: int) -> None:
    finite = np.isfinite(series.values)
    x, y = series.steps[finite], _drawable(series.values[finite])
    if not len(y):
        return
    if series.phase == "eval" or len(y) <= _MANY:
        axes.plot(x, y, color=colour, linewidth=1.4, marker="o", markersize=2.4, alpha=0.9, zorder=order)
        return
    kept = numbers.thinned(x, y, _STRETCHES)
    axes.plot(x[kept], y[kept], color=colour, linewidth=0.6, alpha=0.35, zorder=order)
    axes.plot(*numbers.running_median(x, y), color=colour, linewidth=1.7, zorder=order + 2)


def _drawable(values: Values) -> Values:
    """Bring numbers at the ends of the floats to where matplotlib can reckon with them."""
    return np.where(np.abs(values) < _TINY, 0.0, np.clip(values, -_HUGE, _HUGE))


def _broken(axes: Axes, series: Series, colour: str) -> None:
    """Mark what is not finite at the edge: NaN with a cross below, the infinities with arrows."""
    for is_there, height, marker in (
        (np.isnan(series.values), 0.03, "x"),
        (np.isposinf(series.values), 0.97, "^"),
        (np.isneginf(series.values), 0.03, "v"),
    ):
        x = series.steps[is_there]
        if not len(x):  # matplotlib has no place for a line without points, and lays nothing out then
            continue
        axes.plot(
            x,
            np.full(len(x), height),
            linestyle="none",
            marker=marker,
            markersize=4.5,
            color=colour,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            zorder=9,
        )


def _scale(axes: Axes, values: list[Values]) -> None:
    """Take a logarithm where a few numbers would press all others flat."""
    finite = np.concatenate([_drawable(each[np.isfinite(each)]) for each in values])
    if len(finite) and finite.min() > 0 and finite.max() / np.quantile(finite, 0.05) > _STEEP:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = axes.get_ylim()
    is_log = axes.get_yscale() == "log"  # room for what is said at the top
    axes.set_ylim(low, high * (high / low) ** 0.12 if is_log else high + (high - low) * 0.08)
