"""Which expressions may a rule be written in? Each is read once, never run by Python, and cannot raise."""

from __future__ import annotations

import ast
import difflib
import math
import operator
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, NoReturn

from rldk.health import operands
from rldk.health.expression_text import refuse, tree
from rldk.health.operands import OF_NUMBERS, SIGNATURES, STATISTICS, Look, Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rldk.health.operands import Number, Test
    from rldk.health.rule import Evidence
    from rldk.health.window import Window

PARTS: Final = ("train", "eval", "resource", "checkpoint")
"""What a run logs apart from each other."""

_LONGEST_NAME: Final = 200
_DEEPEST: Final = 64
_LARGEST_POWER: Final = 16

_CALCULATED: Final[Mapping[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}
_COMPARED: Final[Mapping[type[ast.cmpop], Callable[[float, float], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
Use = Literal["value", "is_nan", "missing"]


class Condition(NamedTuple):
    """A condition that was read.

    Attributes:
        text: How it was written.
        uses: The metrics that it names, each with what is asked of it.
        test: Tells whether it holds.
    """

    text: str
    uses: Mapping[Metric, frozenset[Use]]
    test: Test

    def holds(self, window: Window) -> tuple[bool, Evidence]:
        """Whether it holds at the newest point, and the operands that decided it.

        Raises:
            NoValueError: One of them has no value.
        """
        look = Look(window, {})
        return self.test(look), look.evidence


def condition(text: str, part: str, where: str) -> Condition:
    """Read a condition.

    Args:
        text: The expression.
        part: The part of the run at whose logs it is asked.
        where: Whose expression it is, for the error.

    Raises:
        RuleError: It holds what is not allowed; the place is shown.
    """
    line = text.replace("\n", " ").replace("\r", " ").replace("\t", " ").strip()
    reader = _Reader(line, part, where)
    test = reader.test(tree(line, where), 0)
    return Condition(line, {metric: frozenset(uses) for metric, uses in reader.uses.items()}, test)


def metric_named(name: str, part: str) -> Metric:
    """The metric that a name means: `eval:loss` is that of the evaluations.

    Raises:
        ValueError: No metric can be called so; the text says why.
    """
    before, colon, after = name.partition(":")
    if colon and (before not in PARTS or ":" in after):
        raise ValueError(f"before ':' stands {', '.join(PARTS[:-1])} or {PARTS[-1]}")
    bare = after if colon else name
    if not bare or len(bare) > _LONGEST_NAME or bare.endswith("*") or not bare.isprintable():
        raise ValueError(f"a metric's name has 1 to {_LONGEST_NAME} characters, the last of them no *")
    return Metric(bare, before if colon else part, not colon or before == part)


class _Reader:
    """Turns the tree of an expression into functions, and notes the metrics that they need."""

    def __init__(self, line: str, part: str, where: str) -> None:
        self.uses: dict[Metric, set[Use]] = {}
        self._line = line
        self._part = part
        self._where = where

    def test(self, node: ast.expr, depth: int) -> Test:
        """Read a condition."""
        self._check_depth(node, depth)
        match node:
            case ast.BoolOp(op=op, values=values):
                tests = [self.test(value, depth + 1) for value in values]
                return partial(_all if isinstance(op, ast.And) else _any, tests)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return partial(_not, self.test(operand, depth + 1))
            case ast.Compare():
                return self._comparison(node, depth + 1)
            case ast.Call(func=ast.Name(id="is_nan" | "missing" as name)):
                return self._question(node, name)
        self.number(node, depth)  # what is not allowed at all is told first
        return self._refuse(node, "this is a number, where a condition is needed: compare it with something")

    def number(self, node: ast.expr, depth: int) -> Number:
        """Read what has a number as its value."""
        self._check_depth(node, depth)
        match node:
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                return partial(_constant, self._constant(node))
            case ast.Name():
                return operands.value_of(self._metric(node, "value"))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return partial(_negative, self.number(operand, depth + 1))
            case ast.BinOp():
                return self._calculation(node, depth + 1)
            case ast.Call():
                return self._call(node, depth + 1)
        return self._refuse(node, _what_it_is(node))

    def _comparison(self, node: ast.Compare, depth: int) -> Test:
        first = self.number(node.left, depth)
        others: list[tuple[Callable[[float, float], bool], Number]] = []
        for op, right in zip(node.ops, node.comparators, strict=True):
            if type(op) not in _COMPARED:
                self._refuse(node, "numbers are compared with < <= > >= == !=")
            others.append((_COMPARED[type(op)], self.number(right, depth)))
        return partial(_compared, first, others)

    def _calculation(self, node: ast.BinOp, depth: int) -> Number:
        if type(node.op) not in _CALCULATED:
            self._refuse(node, "numbers are calculated with + - * / **")
        if isinstance(node.op, ast.Pow):
            self._check_exponent(node.right)
        left, right = self.number(node.left, depth), self.number(node.right, depth)
        return partial(_calculated, self._text(node), _CALCULATED[type(node.op)], left, right)

    def _check_exponent(self, node: ast.expr) -> None:
        bare = node.operand if isinstance(node, ast.UnaryOp) else node
        if not isinstance(bare, ast.Constant) or self._constant(bare) > _LARGEST_POWER:
            self._refuse(node, f"an exponent is a number from -{_LARGEST_POWER} to {_LARGEST_POWER}")

    def _call(self, node: ast.Call, depth: int) -> Number:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in SIGNATURES:
            close = difflib.get_close_matches(name, SIGNATURES, n=1) if name else []
            meant = f"; did you mean {SIGNATURES[close[0]]}?" if close else ""
            self._refuse(node.func, f"there is no such function{meant}")
        if name in {"is_nan", "missing"}:
            self._refuse(node, "a condition cannot be calculated with")
        if name in STATISTICS:
            return self._statistic(node, name)
        self._check_count(node, name, 1, 1)
        only = node.args[0]
        if name == "metric":
            return operands.value_of(self._metric(node, "value"))
        if name == "arg":
            return operands.argument(self._text(node), self._string(only))
        return partial(_of_number, self._text(node), OF_NUMBERS[name], self.number(only, depth))

    def _statistic(self, node: ast.Call, name: str) -> Number:
        statistic = STATISTICS[name]
        most = 1 if statistic.most == 1 else 2
        self._check_count(node, name, 1 if statistic.usual else 2, most)
        metric = self._metric(node.args[0], "value")
        count = self._count(node.args[1], name) if len(node.args) == most == 2 else statistic.usual  # noqa: PLR2004  # metric and count
        return operands.statistic_of(self._text(node), name, metric, count)

    def _count(self, node: ast.expr, name: str) -> int:
        statistic = STATISTICS[name]
        value = node.value if isinstance(node, ast.Constant) else None
        if type(value) is not int or not statistic.least <= value <= statistic.most:
            allowed = f"a whole number from {statistic.least} to {statistic.most}"
            self._refuse(node, f"{name} counts logged points: {allowed}")
        return value

    def _question(self, node: ast.Call, name: Literal["is_nan", "missing"]) -> Test:
        self._check_count(node, name, 1, 1)
        metric = self._metric(node.args[0], name)
        if name == "missing":
            return operands.is_missing(self._text(node), metric)
        if not metric.is_own:
            self._refuse(node, f"is_nan looks at the log of the rule's own part ({self._part})")
        return operands.is_nan(self._text(node), metric)

    def _check_count(self, node: ast.Call, name: str, least: int, most: int) -> None:
        if node.keywords or not least <= len(node.args) <= most:
            self._refuse(node, f"it is called as {SIGNATURES[name]}")

    def _metric(self, node: ast.expr, use: Use) -> Metric:
        match node:
            case ast.Name(id=name) if name not in SIGNATURES:
                pass
            case ast.Call(func=ast.Name(id="metric"), args=[only], keywords=[]):
                name = self._string(only)
            case ast.Name(id=name):
                self._refuse(node, f'this is a function, {SIGNATURES[name]}; a metric is metric("{name}")')
            case _:
                self._refuse(node, 'here stands a metric: its name, or metric("its name")')
        try:
            metric = metric_named(name, self._part)
        except ValueError as error:
            self._refuse(node, str(error))
        self.uses.setdefault(metric, set()).add(use)
        return metric

    def _string(self, node: ast.expr) -> str:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            self._refuse(node, "here stands a name in quotation marks")
        return node.value

    def _constant(self, node: ast.Constant) -> float:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self._refuse(node, "this is no finite number")
        return float(value)

    def _check_depth(self, node: ast.expr, depth: int) -> None:
        if depth > _DEEPEST:
            self._refuse(node, f"the expression is nested deeper than {_DEEPEST}")

    def _text(self, node: ast.expr) -> str:
        start, end = self._place(node)
        return self._line[start:end]

    def _place(self, node: ast.expr) -> tuple[int, int]:
        """Where it stands in the line; Python counts bytes."""
        line = self._line.encode()
        ends = node.col_offset, node.end_col_offset or node.col_offset + 1
        start, end = (len(line[:at].decode()) for at in ends)
        return start, end

    def _refuse(self, node: ast.expr, why: str) -> NoReturn:
        refuse(self._line, self._where, *self._place(node), why)


_WHAT: Final[Mapping[type[ast.expr], str]] = {
    ast.Compare: "a condition cannot be calculated with",
    ast.BoolOp: "a condition cannot be calculated with",
    ast.Attribute: "attributes cannot be used",
    ast.IfExp: "if and else cannot be used",
    ast.Lambda: "lambda cannot be used",
    ast.Starred: "* before a value cannot be used",
    ast.Tuple: "lists of values cannot be used",
}


def _what_it_is(node: ast.expr) -> str:
    if isinstance(node, ast.UnaryOp):
        return (
            "a condition cannot be calculated with"
            if isinstance(node.op, ast.Not)
            else "+ stands between two"
        )
    if isinstance(node, ast.Constant):
        return (
            'texts stand in metric("...") and arg("...") alone'
            if isinstance(node.value, str)
            else "no number"
        )
    return _WHAT.get(type(node), "this cannot be used")


def _constant(value: float, _look: Look) -> float:
    return value


def _negative(number: Number, look: Look) -> float:
    return -number(look)


def _of_number(text: str, function: Callable[[float], float], number: Number, look: Look) -> float:
    return operands.finite(text, function, number(look))


def _calculated(
    text: str, function: Callable[[float, float], float], left: Number, right: Number, look: Look
) -> float:
    return operands.finite(text, function, left(look), right(look))


def _compared(first: Number, others: list[tuple[Callable[[float, float], bool], Number]], look: Look) -> bool:
    left = first(look)
    for function, number in others:
        right = number(look)
        if not function(left, right):
            return False
        left = right
    return True


def _all(tests: list[Test], look: Look) -> bool:
    return all(test(look) for test in tests)


def _any(tests: list[Test], look: Look) -> bool:
    return any(test(look) for test in tests)


def _not(test: Test, look: Look) -> bool:
    return not test(look)
