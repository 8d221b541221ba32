"""How are results shown: as the Markdown of docs/performance.md."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.result import Goal, Result, Table

_HUNDREDS: Final = 100
_GOALS: Final = "## Goals"
_NAME: Final = re.compile(r"^\(`benchmarks/(\w+)\.py`", re.MULTILINE)

_INTRODUCTION: Final = """\
# Performance

<!-- Written by `make bench`; change benchmarks/ instead. -->

Each figure is taken beside a peer in the same session, in turns, so that the ratios hold even where the
machine is noisy. Do not compare absolute times with another machine's. `make bench` measures all of it
anew and writes this page, which takes about {minutes:.0f} minutes; a date behind a section tells that it was
measured later, on such a machine. Nothing in the tests depends on speed."""


def page(results: Sequence[Result], machine: Mapping[str, str], minutes: float) -> str:
    """The whole page: the machine, all goals, then each benchmark."""
    told = _table(("", "the machine"), ([name, value] for name, value in machine.items()))
    parts = [_INTRODUCTION.format(minutes=minutes), told, _GOALS, goals(results)]
    return "\n\n".join([*parts, *map(section, results)]) + "\n"


def renewed(text: str, results: Sequence[Result], date: str, order: Sequence[str]) -> str:
    """Put the results of some benchmarks, measured anew, into a page that has those of others."""
    head, *parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    told = {name[1]: part.strip() for part in parts if (name := _NAME.search(part))}
    told |= {result.name: f"{section(result)[:-1]}, measured {date})" for result in results}
    rows = next(part for part in parts if part.startswith(_GOALS)).strip().splitlines()[4:]
    goal_of = {name: [row for row in rows if row.startswith(f"| {name} |")] for name in order}
    goal_of |= {result.name: goals([result]).splitlines()[2:] for result in results}
    table = [*goals([]).splitlines(), *(row for name in order for row in goal_of[name])]
    sections = [told[name] for name in order if name in told]
    return "\n\n".join([head.strip(), _GOALS, "\n".join(table), *sections]) + "\n"


def section(result: Result) -> str:
    """One benchmark: its question, its tables, how it was done."""
    tables = [part for table in result.tables for part in (f"**{table.title}**", _numbers(table))]
    return "\n\n".join([f"## {result.question}", *tables, result.notes, f"(`benchmarks/{result.name}.py`)"])


def goals(results: Iterable[Result]) -> str:
    """What was aimed at and what came out, of all benchmarks."""
    cells = (_goal(result.name, goal) for result in results for goal in result.goals)
    return _table(("benchmark", "what", "goal", "measured", ""), cells)


def _goal(name: str, goal: Goal) -> list[str]:
    aim = f"{goal.is_to_be} {_number(goal.limit)}"
    return [name, goal.text, aim, _number(goal.measured), "met" if goal.is_met else "**not met**"]


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
