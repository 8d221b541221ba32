"""How does a standing look on a terminal of some width and height? Lines of text, as many as fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rich.text import Text

from rldk import catalog
from rldk.report.status import span
from rldk.tail.glyphs import BROKEN, clean, number, signed, sparkline
from rldk.tail.resources import told as told_resources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rldk.tail.delivery import Lag
    from rldk.tail.standing import Row, Standing
    from rldk.tail.state import Alert

_WIDE: Final = 116
_LABEL: Final = 11
_NUMBER: Final = 10
_LONGEST_NAME: Final = 30
_WIDEST_FACTS: Final = 72
_SHORTEST_SPARK: Final = 6
_LONGEST_SPARK: Final = 60
_FEWEST_ROWS: Final = 3
_TEN: Final = 10
_INDENT: Final = 2
_ASCII: Final = str.maketrans({"·": "-", "…": ".", "°": " "})
_LEVELS: Final = {"ok": "green", "warning": "yellow", "critical": "bold red", "info": "cyan"}
_LIVES: Final = {
    "waiting": ("yellow", "waiting"),
    "running": ("green", "running"),
    "silent": ("yellow", "silent"),
    "stale": ("bold red", "not running"),
    "ended": ("green", "ended"),
}
_ENDS: Final = {"FAILED": "bold red", "KILLED": "bold red", "FINISHED": "green"}


class Size(NamedTuple):
    """What a terminal has room for, and whether it knows no more than ASCII."""

    width: int
    height: int
    is_plain: bool = False


def lines(told: Standing, size: Size) -> list[Text]:
    """Draw a standing: no line is wider than the terminal, and there are no more than it has."""
    size = size._replace(width=max(size.width, 20), height=max(size.height, 4))
    head = list(_head(told, size))
    room = size.height - len(head)
    if size.width >= _WIDE:
        drawn = [*head, *_side_by_side(told, size, room)]
    else:
        below = _facts(told, size._replace(height=max(room - _FEWEST_ROWS - 3, 3)))
        above = _table(told, size._replace(height=room - len(below) - 1))
        drawn = [*head, *above, *([Text()] if below else []), *below]
    for line in drawn:
        line.truncate(size.width, overflow="crop" if size.is_plain else "ellipsis")
        if size.is_plain:
            line.plain = line.plain.translate(_ASCII).encode("ascii", "replace").decode()
    return drawn[: size.height]


def _side_by_side(told: Standing, size: Size, room: int) -> Iterator[Text]:
    left_width = max(size.width * 3 // 5, size.width - _WIDEST_FACTS)
    left = _table(told, size._replace(width=left_width, height=room))
    right = _facts(told, size._replace(width=size.width - left_width - 3, height=room), is_tall=True)
    bar = "|" if size.is_plain else "│"
    for place in range(max(len(left), len(right))):
        line = Text().append_text(left[place]) if place < len(left) else Text()
        line.truncate(left_width, pad=True)
        line.append(f" {bar} ", style="dim")
        line.append_text(right[place] if place < len(right) else Text())
        yield line


def _head(told: Standing, size: Size) -> Iterator[Text]:
    state = told.state
    style, word = _LIVES[told.life]
    if told.life == "ended":
        style, word = _ENDS.get(state.status, "yellow"), state.status.lower()
    dot = "*" if size.is_plain else "●"
    left = Text.assemble(
        (clean(state.run_id or "no run so far", is_plain=size.is_plain), "bold"),
        "  ",
        (clean(state.trainer), "cyan"),
    )
    right = Text.assemble((f"{dot} {clean(word)}", style))
    if told.life in {"silent", "stale"}:
        right.append(f", last event {span(told.age_s)} ago", style="dim")
    yield _apart(left, right, size.width)
    yield _progress(told, size)
    if told.trouble:
        yield Text(clean(told.trouble), style="yellow")
    yield Text()


def _apart(left: Text, right: Text, width: int) -> Text:
    line = left.copy()
    line.truncate(max(width - right.cell_len - 1, 8), overflow="ellipsis")
    line.append(" " * max(width - line.cell_len - right.cell_len, 1))
    return line.append_text(right)


def _progress(told: Standing, size: Size) -> Text:
    state, total = told.state, told.state.max_steps
    where = f"step {state.step:,}" + (f" of {total:,}" if total else "")
    facts = [f"{span(told.elapsed_s)} elapsed", *([_pace(state.steps_per_s)] if state.steps_per_s else [])]
    if told.life in {"running", "silent"} and state.left_s is not None:
        facts.append(f"{span(state.left_s)} left")
    end = Text("  ".join(facts), style="dim")
    line = Text(where)
    if total:
        share = min(state.step / total, 1.0)
        bar = max(size.width - line.cell_len - end.cell_len - 12, 8)
        full = round(bar * share)
        on, off = ("#", "-") if size.is_plain else ("━", "─")
        line.append("  ")
        line.append(on * full, style="cyan").append(off * (bar - full), style="dim")
        line.append(f" {share:4.0%}", style="bold")
    line.append(" " * max(size.width - line.cell_len - end.cell_len, 2))
    return line.append_text(end)


def _pace(steps_per_s: float) -> str:
    if steps_per_s >= 1:
        return f"{steps_per_s:.3g} steps/s"
    seconds = 1 / steps_per_s
    return f"{f'{seconds:.2g} s' if seconds < _TEN else span(seconds)} a step"


def _table(told: Standing, size: Size) -> list[Text]:
    """The metrics; where not all fit, the evaluations keep a quarter of the room, or what training leaves."""
    room = max(size.height - 1, 1)
    rows = told.rows
    if not rows:
        which = "no metric is called so, so far" if told.state.traces else "no metric so far"
        return [Text(which, style="dim")]
    if len(rows) > room:
        rows = _chosen(rows, max(room - 1, 1))
    columns = _Columns.of(rows, size)
    sections = dict.fromkeys(row.section for row in rows)
    has_headings = len(rows) + sum(map(bool, sections)) <= room
    firing = {
        name for alert in told.state.alerts if alert.rule in told.health.firing for name in alert.metrics
    }
    drawn = [
        Text(f"{'metric':<{columns.name}}{'last':>{_NUMBER}}{'change':>{_NUMBER + 1}}   trend", style="dim")
    ]
    for section in sections:
        drawn += [Text(section, style="dim italic")] if section and has_headings else []
        drawn += [_row(row, columns, told, row.bare in firing) for row in rows if row.section == section]
    more = len(told.rows) - len(rows)
    return drawn if not more else [*drawn, Text(f"and {more:,} more; --metrics chooses", style="dim")]


class _Columns(NamedTuple):
    """How wide the names and the sparklines are."""

    name: int
    spark: int
    is_plain: bool

    @classmethod
    def of(cls, rows: list[Row], size: Size) -> _Columns:
        widest = max(Text(clean(row.name)).cell_len for row in rows)
        most = max(size.width - 2 * _NUMBER - _SHORTEST_SPARK - 4, 8)
        name = min(max(widest, 6), _LONGEST_NAME, most)
        return cls(name, min(max(size.width - name - 2 * _NUMBER - 4, 0), _LONGEST_SPARK), size.is_plain)


def _chosen(rows: list[Row], room: int) -> list[Row]:
    trained = [row for row in rows if row.name == row.bare]
    evaluated = [row for row in rows if row.name != row.bare]
    fewest = min(max(room // 4, 1), len(evaluated))
    share = max(fewest, room - len(trained))
    return [*trained[: room - share], *evaluated[:share]]


def _row(row: Row, columns: _Columns, told: Standing, is_firing: bool) -> Text:  # noqa: FBT001  # it is what is drawn
    trace, is_plain = row.trace, columns.is_plain
    name = Text(clean(row.name, is_plain=is_plain))
    name.truncate(columns.name, overflow="crop" if is_plain else "ellipsis", pad=True)
    line = Text().append(name.plain, style="yellow" if is_firing else "default")
    is_broken = trace.last.value - trace.last.value != 0
    line.append(f"{number(trace.last.value):>{_NUMBER}}", style="bold red" if is_broken else "bold")
    change = trace.change
    line.append(
        f"{'' if change is None else signed(change):>{_NUMBER + 1}}   ", style=_tint(row.bare, change)
    )
    first, last = told.state.first_step, told.state.step
    for block in sparkline(trace.points(), first, last, columns.spark, is_plain=is_plain):
        line.append(block, style="bold red" if block == BROKEN else "yellow" if is_firing else "cyan")
    return line


def _tint(name: str, change: float | None) -> str:
    metric = catalog.named(name)
    if metric is None or not metric.good or not change or change != change:  # noqa: PLR0124  # NaN
        return "dim"
    return "green" if (change > 0) == (metric.good == "up") else "red"


def _facts(told: Standing, size: Size, *, is_tall: bool = False) -> list[Text]:
    """Health, alerts, delivery and resources, the most urgent first."""
    parts = [
        _labelled(label, told_of_it, size, is_wrapped=is_tall)
        for label, told_of_it in (
            ("health", [_verdict(told), *_blindness(told)]),
            ("alerts", [_alert(alert) for alert in reversed(told.state.alerts)]),
            ("delivery", [_lag(lag) for lag in told.lags]),
            ("resources", [Text(line) for line in told_resources(told.state.resources)]),
            ("journal", list(_unreadable(told))),
        )
    ]
    parts = [part for part in parts if part]
    if is_tall:
        parts = [[*part, Text()] for part in parts]
    return _fitted(parts, size.height)


def _unreadable(told: Standing) -> Iterator[Text]:
    if told.state.unreadable:
        yield Text(f"{told.state.unreadable:,} lines hold no event", style="yellow")


def _fitted(parts: list[list[Text]], room: int) -> list[Text]:
    """Give each part its first line, then all of them further ones in turn, as long as there is room."""
    shares = [min(1, len(part)) for part in parts]
    while sum(shares) < room and any(share < len(part) for share, part in zip(shares, parts, strict=True)):
        for place, part in enumerate(parts):
            if sum(shares) < room and shares[place] < len(part):
                shares[place] += 1
    return [line for share, part in zip(shares, parts, strict=True) for line in part[:share]][:room]


def _labelled(label: str, told: Iterable[Text], size: Size, *, is_wrapped: bool = False) -> list[Text]:
    drawn: list[Text] = []
    for line in told:
        for part in _wrapped(line, max(size.width - _LABEL, 8)) if is_wrapped else [line]:
            head = Text().append(f"{'' if drawn else label:<{_LABEL}}", style="cyan")
            drawn.append(head.append_text(part))
    return drawn


def _wrapped(line: Text, width: int) -> list[Text]:
    """Break a line between words; what is broken off is indented."""
    parts: list[Text] = []
    while line.cell_len > width:
        cut = line.plain.rfind(" ", _INDENT + 1, width + 1)
        cut = width if cut < 0 else cut
        head, line = line.divide([cut])
        line = Text(" " * _INDENT).append_text(line[1:] if line.plain.startswith(" ") else line)
        parts.append(head)
    return [*parts, line]


def _verdict(told: Standing) -> Text:
    health = told.health
    line = Text().append(clean(health.verdict), style=_LEVELS.get(health.verdict, "dim"))
    if health.firing:
        line.append(f"  firing: {clean(', '.join(health.firing))}", style="default")
    return line


def _blindness(told: Standing) -> Iterator[Text]:
    health = told.health
    if health.unavailable:
        names = clean(", ".join(health.unavailable))
        yield Text(f"{len(health.unavailable)} of {health.rules} rules cannot judge: {names}", style="dim")


def _alert(alert: Alert) -> Text:
    style = "green" if alert.is_over else _LEVELS.get(alert.severity, "yellow")
    word = "over" if alert.is_over else clean(alert.severity)
    return Text.assemble((f"{alert.step:>6} ", "dim"), (f"{word:<9}", style), clean(alert.message))


def _lag(lag: Lag) -> Text:
    line = Text.assemble((f"{clean(lag.tracker):<8}", "bold"))
    if lag.events == 0:
        line.append("has everything" + (", closed" if lag.is_closed else ""), style="green")
    elif lag.seconds is None:
        line.append(f"has nothing so far, {lag.events:,} events wait", style="yellow")
    else:
        style = "yellow" if lag.seconds > 60 else "default"  # noqa: PLR2004  # a minute is no batch any more
        noun = "event" if lag.events == 1 else "events"
        line.append(f"{lag.events:,} {noun}, {span(lag.seconds)} behind", style=style)
    if lag.rejected:
        line.append(f", {lag.rejected:,} refused", style="red")
    return line.append(f"  run {clean(lag.run)}", style="dim") if lag.run else line
