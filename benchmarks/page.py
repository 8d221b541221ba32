"""How are results shown: as the Markdown of docs/performance.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.result import Goal, Result, Table

_HUNDREDS: Final = 100

_INTRODUCTION: Final = """\
# Performance

<!-- Written by `make bench`; change benchmarks/ instead. -->

Each figure is taken beside a peer in the same session, in turns, so that the ratios hold even where the
machine is noisy. Do not compare absolute times with another machine's. `make bench` measures all of it
anew and writes this page, which takes about {minutes:.0f} minutes; nothing in the tests depends on speed."""


def page(results: Sequence[Result], machine: Mapping[str, str], minutes: float) -> str:
    """The whole page: the machine, all goals, then each benchmark."""
    told = _table(("", "the machine"), ([name, value] for name, value in machine.items()))
    parts = [_INTRODUCTION.format(minutes=minutes), told, "## Goals", goals(results)]
    return "\n\n".join([*parts, *map(section, results)]) + "\n"


def section(result: Result) -> str:
    """One benchmark: its question, its tables, how it was done."""
    tables = [part for table in result.tables for part in (f"**{table.title}**", _numbers(table))]
    return "\n\n".join([f"## {result.question}", *tables, result.notes, f"(`benchmarks/{result.name}.py`)"])


def goals(results: Iterable[Result]) -> str:
    """What was aimed at and what came out, of all benchmarks."""
    cells = (_goal(goal) for result in results for goal in result.goals)
    return _table(("what", "goal", "measured", ""), cells)


def _goal(goal: Goal) -> list[str]:
    aim = f"{goal.is_to_be} {_number(goal.limit)}"
    return [goal.text, aim, _number(goal.measured), "met" if goal.is_met else "**not met**"]


def _numbers(table: Table) -> str:
    return _table(("", *table.columns), ([row.name, *map(_number, row.figures)] for row in table.rows))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _number(value: float | None) -> str:
    """Three digits, and all of those before the point."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= _HUNDREDS else f"{value:.3g}"
