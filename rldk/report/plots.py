"""How is a plot drawn: numbers to a small SVG in the page's colours. The one place with matplotlib."""

from __future__ import annotations

import io
import math
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import (
    Formatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    SymmetricalLogLocator,
)

from rldk.report import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

    from rldk.rows import Places, Values

# Units are those of the SVG: a plot is as wide as its column in the page, at which one of them is a pixel
_WIDTH: Final = 364
_HEIGHT: Final = 204
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 14, 20, 38
_PER_INCH: Final = 72
_LETTERS: Final = 11

STRETCHES: Final = 300
"""Into how many stretches a line of many points is cut; each shows its least and its greatest."""

_MARKS: Final = 120
MANY: Final = 60
"""A line of more points is drawn thin, with its running median."""
_NEAR: Final = 34.0
"""Marks at the upper edge whose numbers would touch share one; in units."""
_HUGE: Final = 1e100
_TINY: Final = 1e-100
_STEEP: Final = 3.0
_SPIKED: Final = 1.7
"""Powers of ten from nearly the least value, and from the middle, to the greatest: they ask for a log."""

# Any colour that nothing else has: each becomes a variable of the page's style sheet
COLOURS: Final = {
    "ink": "#010101",
    "soft": "#010102",
    "grid": "#010103",
    "series-1": "#010111",
    "series-2": "#010112",
    "series-3": "#010113",
    "series-4": "#010114",
    "series-5": "#010115",
    "info": "#010121",
    "warning": "#010122",
    "critical": "#010123",
}
SERIES: Final = ("series-1", "series-2", "series-3", "series-4", "series-5")

_LOCK: Final = threading.Lock()
_LONG_NUMBER: Final = re.compile(r"(?<![>\d.-])-?\d+\.\d{2,}(?:e-?\d+)?")  # but for the texts
_ID: Final = re.compile(r'(?<=\bid=")([^"]*)(?=")|(?<=url\(#)([^)]*)(?=\))|(?<=xlink:href="#)([^"]*)(?=")')
_NO_TURN: Final = re.compile(r' transform="rotate\(-0 [^)]*\)"')
_GROUP_ID: Final = re.compile(r'<g id="[^"]*"')
_FAMILY: Final = re.compile(r"font-family: [^;\"]*;?\s*|(?<=px) '[^;\"]*")


class Line(NamedTuple):
    """What is drawn of one metric or resource.

    Attributes:
        x: Steps or times, growing, of shape (points,).
        y: Values, of shape (points,); what is not finite is marked at the edge.
        colour: Name of its colour.
        is_eval: Whether it is of evaluations, which are drawn as points.
    """

    x: Places | Values
    y: Values
    colour: str
    is_eval: bool = False


class Span(NamedTuple):
    """From where to where an alert lasted, its number in the table, and its severity."""

    begin: float
    end: float
    number: int
    severity: str


class Marks(NamedTuple):
    """What else happened, at which x."""

    spans: Sequence[Span] = ()
    checkpoints: Sequence[float] = ()
    resumes: Sequence[float] = ()


def plot(
    lines: Sequence[Line],
    *,
    unit: str,
    axis: str,
    limits: tuple[float, float],
    marks: Marks = Marks(),  # noqa: B008  # it is immutable
    name: str,
) -> str:
    """Draw lines that share a unit.

    Args:
        lines: The lines.
        unit: Their unit, at the upright axis.
        axis: What the other axis counts.
        limits: From where to where it goes.
        marks: What else happened.
        name: A name that no other plot of the page has; of letters and digits.

    Returns:
        An `svg` element.
    """
    with _settings():
        figure = Figure(figsize=(_WIDTH / _PER_INCH, _HEIGHT / _PER_INCH), dpi=_PER_INCH)
        FigureCanvasSVG(figure)
        axes = figure.add_axes(
            (
                _LEFT / _WIDTH,
                _BOTTOM / _HEIGHT,
                (_WIDTH - _LEFT - _RIGHT) / _WIDTH,
                (_HEIGHT - _TOP - _BOTTOM) / _HEIGHT,
            )
        )
        for line in lines:
            _draw(axes, line)
        _scale(axes, lines, limits)
        _label(axes, unit, axis)
        for line in lines:
            _draw_broken(axes, line)
        _draw_marks(axes, marks, limits)
        out = io.StringIO()
        figure.savefig(
            out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return _of_the_page(out.getvalue(), name)


@contextmanager
def _settings() -> Iterator[None]:
    """Matplotlib's own settings, whatever the training has made of them; they are global."""
    ours: dict[str, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "rldk",
        "font.size": _LETTERS,
        "text.color": COLOURS["ink"],
        "axes.edgecolor": COLOURS["soft"],
        "axes.labelcolor": COLOURS["ink"],
        "axes.formatter.use_mathtext": False,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "savefig.dpi": _PER_INCH,
        "xtick.color": COLOURS["soft"],
        "ytick.color": COLOURS["soft"],
        "xtick.labelcolor": COLOURS["ink"],
        "ytick.labelcolor": COLOURS["ink"],
        "grid.color": COLOURS["grid"],
        "grid.linewidth": 0.6,
    }
    with _LOCK, style.context(["default", ours]):
        yield


def _draw(axes: Axes, line: Line) -> None:
    finite = np.isfinite(line.y)
    x, y = line.x[finite], _drawable(line.y[finite])
    colour = COLOURS[line.colour]
    if not len(y):
        return
    chosen = numbers.thinned(x, y, STRETCHES)
    if line.is_eval:
        axes.plot(x[chosen], y[chosen], color=colour, linewidth=0.8, linestyle=(0, (1, 2)), zorder=3)
        axes.plot(
            x[chosen],
            y[chosen],
            linestyle="none",
            marker="o",
            markersize=4,
            zorder=4,
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=1.2,
        )
    elif len(y) > MANY:
        axes.plot(x[chosen], y[chosen], color=colour, linewidth=0.7, alpha=0.45, zorder=2)
        at, medians = numbers.running_median(x, y)
        axes.plot(at, medians, color=colour, linewidth=1.6, zorder=3)
    else:
        axes.plot(x, y, color=colour, linewidth=1.4, marker="o", markersize=2.2, zorder=3)


def _drawable(y: Values) -> Values:
    """Bring numbers at the end of the floats to where matplotlib can reckon with them."""
    sizes = np.abs(y)
    return np.where(y == 0, 0.0, np.copysign(np.clip(sizes, _TINY, _HUGE), y))


def _draw_broken(axes: Axes, line: Line) -> None:
    """Mark what is not finite at the edge: NaN with a cross below, the infinities with arrows."""
    for broken, height, marker in (
        (np.isnan(line.y), 0.035, "x"),
        (np.isposinf(line.y), 0.965, "^"),
        (np.isneginf(line.y), 0.035, "v"),
    ):
        x = _spread(line.x[broken].astype(np.float64), axes.get_xlim())
        if len(x):
            axes.plot(
                x,
                np.full(len(x), height),
                linestyle="none",
                marker=marker,
                markersize=5,
                zorder=5,
                color=COLOURS["critical"],
                markeredgewidth=1.2,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )


def _spread(x: Values, limits: tuple[float, float]) -> Values:
    """Leave out marks that others hide."""
    place = np.floor((x - limits[0]) / (limits[1] - limits[0]) * _MARKS)
    return x[np.unique(place, return_index=True)[1]]


def _scale(axes: Axes, lines: Sequence[Line], limits: tuple[float, float]) -> None:
    low, high = limits
    room = max((high - low) * 0.015, max(abs(low), abs(high)) * 1e-9) or 0.5
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(_Plain())
    axes.xaxis.set_minor_locator(NullLocator())
    kind = _kind([line.y for line in lines])
    if kind == "log":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
    elif kind == "symlog":
        axes.set_yscale("symlog", linthresh=_threshold([line.y for line in lines]))
        axes.yaxis.set_major_locator(SymmetricalLogLocator(transform=axes.yaxis.get_transform()))
        axes.yaxis.get_major_locator().set_params(numticks=6)  # type: ignore[call-arg]
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(_Plain())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(NullLocator())


def _kind(values: Sequence[Values]) -> str:
    """Choose linear, log, or, where values are zero or negative, log with a linear middle."""
    finite = _drawable(np.concatenate([np.empty(0), *(y[np.isfinite(y)] for y in values)]))
    sizes = np.abs(finite[finite != 0])
    if len(sizes) < 3:  # noqa: PLR2004  # two points span nothing
        return "linear"
    greatest, low, middle = np.log10([sizes.max(), *np.quantile(sizes, [0.05, 0.5])])
    if greatest - low < _STEEP or greatest - middle < _SPIKED:
        return "linear"
    return "log" if bool((finite > 0).all()) else "symlog"


def _threshold(values: Sequence[Values]) -> float:
    finite = np.concatenate([y[np.isfinite(y) & (y != 0)] for y in values])
    return float(10.0 ** np.floor(np.log10(np.median(np.abs(_drawable(finite))))))


def _label(axes: Axes, unit: str, axis: str) -> None:
    axes.grid(visible=True, axis="y")
    axes.set_axisbelow(True)
    axes.tick_params(length=3, width=0.8, pad=3)
    axes.set_xlabel(axis, labelpad=3, parse_math=False)
    axes.figure.text(
        8 / _WIDTH,
        0.5 + (_BOTTOM - _TOP) / _HEIGHT / 2,
        unit,
        rotation=90,
        ha="center",
        va="center",
        parse_math=False,
    )


def _draw_marks(axes: Axes, marks: Marks, limits: tuple[float, float]) -> None:
    edge = axes.get_xaxis_transform()
    for x in _spread(np.array(marks.resumes, dtype=np.float64), axes.get_xlim()):
        axes.axvline(x, color=COLOURS["soft"], linewidth=1.0, linestyle=(0, (1, 2)), zorder=1)
    ticks = _spread(np.array(marks.checkpoints, dtype=np.float64), axes.get_xlim())
    if len(ticks):
        axes.plot(
            ticks,
            np.zeros(len(ticks)),
            linestyle="none",
            marker="D",
            markersize=3.5,
            markeredgewidth=0,
            color=COLOURS["ink"],
            transform=edge,
            clip_on=False,
            zorder=6,
        )
    for span in marks.spans:
        colour = COLOURS[span.severity]
        if span.end > span.begin:
            axes.axvspan(span.begin, span.end, color=colour, alpha=0.12, linewidth=0, zorder=0)
        axes.axvline(span.begin, color=colour, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)
    for x, label, severity in _numbers(marks.spans, limits):
        axes.text(
            x,
            1.03,
            label,
            transform=edge,
            ha="center",
            va="bottom",
            fontsize=10,
            fontweight="bold",
            color=COLOURS[severity],
            parse_math=False,
        )


def _numbers(spans: Sequence[Span], limits: tuple[float, float]) -> list[tuple[float, str, str]]:
    """Number the alerts above the plot; those too near to each other share a label."""
    unit = (limits[1] - limits[0] or 1.0) / (_WIDTH - _LEFT - _RIGHT)
    groups: list[list[Span]] = []
    for span in sorted(spans):
        if groups and span.begin - groups[-1][0].begin < _NEAR * unit:
            groups[-1].append(span)
        else:
            groups.append([span])
    told = []
    for group in groups:
        label = str(group[0].number) if len(group) == 1 else f"{group[0].number} +{len(group) - 1}"
        worst = max((span.severity for span in group), key=("info", "warning", "critical").index)
        told.append((group[0].begin, label, worst))
    return told


class _Plain(Formatter):
    """Writes the numbers at an axis short and apart: 20k, 0.002, 1e-6."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Write one of them."""
        del pos
        return self.format_ticks([x])[0]

    def format_ticks(self, values: Any) -> list[str]:  # noqa: ANN401  # as in matplotlib's own class
        """Write all of them, with as many digits as tell them apart."""
        for digits in range(1, 8):
            told = [_short(value, digits) for value in values]
            if len(set(told)) == len(told) and all(
                math.isclose(
                    _long(text), value, rel_tol=1e-6, abs_tol=1e-12 * max(map(abs, values), default=1)
                )
                for text, value in zip(told, values, strict=True)
            ):
                break
        return told if len(values) else []


def _short(value: float, digits: int) -> str:
    size = abs(value)
    if not size:
        return "0"
    for least, most, letter in ((1e9, 1e12, "G"), (1e6, 1e9, "M"), (1e4, 1e6, "k")):
        if least <= size < most:
            return f"{value / {'G': 1e9, 'M': 1e6, 'k': 1e3}[letter]:.{digits + 2}g}{letter}"
    if 1e-3 <= size < 1e4:  # noqa: PLR2004  # beyond, an exponent is shorter
        decimals = max(digits - 1 - math.floor(math.log10(size)), 0)
        return f"{value:.{decimals}f}".rstrip("0").rstrip(".") if decimals else f"{value:.0f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def _long(text: str) -> float:
    factor = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1])
    return float(text[:-1]) * factor if factor else float(text)


def _of_the_page(svg: str, name: str) -> str:
    """Make matplotlib's file a part of the page: its colours, letters and ids; no more digits than show."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<svg [^>]*>", f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">', svg, count=1)
    svg = _GROUP_ID.sub("<g", svg)
    svg = _ID.sub(lambda found: f"{name}-{next(filter(None, found.groups()))}", svg)
    svg = _FAMILY.sub("", svg).replace("font: ", "font-size: ")
    svg = _NO_TURN.sub("", svg)
    svg = _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.1f}", svg)
    svg = svg.replace("xlink:href", "href")
    for colour, hexed in COLOURS.items():
        svg = svg.replace(hexed, f"var(--{colour})")
    return re.sub(r"\n\s*", "\n", svg).strip()
