"""What did the trainer say: raw logs to canonical metrics. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from numbers import Integral, Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from rldk import catalog
from rldk.event import as_float

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Numbers = dict[str, int | float]

_EVAL: Final = "eval_"
_TIMED: Final = re.compile(r"eval_(?:(.+)_)?runtime", re.DOTALL)
_SUMMARY_MARK: Final = "train_loss"  # train_runtime is no mark: include_num_input_tokens_seen logs it always
_LONGEST_BITS: Final = 8192  # Python refuses to write integers of more than 4300 digits
_DEEPEST: Final = 8  # a log may be nested, and may even hold itself
_NO_ARGS: Final[Mapping[str, Any]] = MappingProxyType({})


class Normalized(NamedTuple):
    """One log of a trainer, told apart by what it speaks of.

    Attributes:
        train: The step's training metrics.
        eval: The metrics of an evaluation.
        summary: What transformers tells once, when training ends.
        notes: What was left out or renamed, and why.
        raw_names: The trainer's own key, by part (`train`, `eval`, `summary`) and name; what was
            derived has none.
    """

    train: Numbers
    eval: Numbers
    summary: Numbers
    notes: list[str]
    raw_names: dict[tuple[str, str], str]


def normalize(
    logs: Mapping[str, Any], trainer: str, args: Mapping[str, Any] = _NO_ARGS, trl: str = ""
) -> Normalized:
    """Give a trainer's log its canonical names and plain numbers.

    Keys that the catalog does not know keep their names. None means that nothing was measured and
    is left out; what is no number is left out with a note. What follows exactly from the log and the
    arguments is added, where the catalog says so. The log itself is not changed.

    Args:
        logs: What `on_log` received, numbers as numbers, numpy scalars or one-element tensors.
        trainer: Short name of the trainer, such as `GRPO`.
        args: The trainer's arguments.
        trl: TRL release, where it is known: a few keys hold another quantity in older ones.
    """
    out = Normalized({}, {}, {}, [], {})
    name_of = _Names(trainer, trl, _eval_data_set(logs))
    is_summary = _SUMMARY_MARK in logs
    named = [(raw, name_of(raw), value) for raw, value in _flat(logs)]
    for raw, name, value in sorted(named, key=_is_unknown):
        number = _number(value)
        if number is not None:
            _place(out, raw, name, number, is_summary=is_summary)
        elif value is not None:
            out.notes.append(f"{raw} is no number but {type(value).__name__}, and was left out")
    _derive(out.train, trainer, args, trl)
    return _with_epoch(out, logs)


def units(trainer: str, trl: str = "") -> dict[str, str]:
    """Unit of each metric that this trainer logs, by canonical name; families as `{x}` patterns."""
    return {metric.name: metric.unit for metric, _ in catalog.logged_by(trainer, trl)}


def derived(trainer: str, trl: str = "") -> dict[str, str]:
    """How RLDK works out each metric that the trainer does not log itself, by canonical name."""
    return dict(_formulas(trainer, trl))


@cache
def _formulas(trainer: str, trl: str) -> tuple[tuple[str, str], ...]:
    lines = catalog.logged_by(trainer, trl)
    return tuple((metric.name, line.derived) for metric, line in lines if line.derived)


class _Name(NamedTuple):
    """What a raw key stands for: its part of the log, its name, and the metric where it is known."""

    is_eval: bool
    name: str
    metric: catalog.Metric | None


class _Names(NamedTuple):
    """Gives the raw keys of one log their names."""

    trainer: str
    trl: str
    data_set: str

    def __call__(self, raw: str) -> _Name:
        is_eval = raw.startswith(_EVAL) and raw != _EVAL
        key = raw.removeprefix(_EVAL) if is_eval else raw
        prefix = f"{self.data_set}/" if is_eval and self.data_set else ""
        if prefix:
            key = key.removeprefix(f"{self.data_set}_")
        match = catalog.find(key, self.trainer, self.trl)
        return _Name(is_eval, prefix + (match.name if match else key), match.metric if match else None)


def _is_unknown(named: tuple[str, _Name, Any]) -> bool:
    """Sorts what the catalog knows to the front: no key of a user's takes a name that it gives."""
    return named[1].metric is None


def _eval_data_set(logs: Mapping[str, Any]) -> str:
    """Name of the data set that a log evaluates, where the trainer has several; else an empty one.

    transformers then logs each in turn, as `eval_<name>_runtime` and so on. TRL's own metrics in
    that log have no `<name>`, but are about the same data set.
    """
    timed = [found[1] for found in map(_TIMED.fullmatch, map(str, logs)) if found]
    return timed[0] or "" if len(timed) == 1 else ""


def _flat(logs: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in logs.items():
        name = f"{prefix}{key}" or "unnamed"
        if isinstance(value, Mapping) and depth < _DEEPEST:
            yield from _flat(value, f"{name}/", depth + 1)
        else:
            yield name, value


def _place(out: Normalized, raw: str, known: _Name, number: float, *, is_summary: bool) -> None:
    is_summary = is_summary and known.metric is not None and known.metric.summary
    part = "eval" if known.is_eval else "summary" if is_summary else "train"
    target: Numbers = getattr(out, part)
    name = known.name
    while name in target:  # a second clash is possible: a user may log raw/x too
        name = f"raw/{name}"
    if name != known.name:
        out.notes.append(f"{raw} has the name of another metric and is kept as {name}")
    target[name] = number
    out.raw_names[part, name] = raw


def _derive(train: Numbers, trainer: str, args: Mapping[str, Any], trl: str) -> None:
    """Add what the trainer did not log but what follows exactly from what it did."""
    for name, formula in _formulas(trainer, trl):
        number = _sum_of_products(formula, lambda name: train.get(name, args.get(name)))
        if number is not None and name not in train:
            train[name] = number


def _sum_of_products(formula: str, value_of: Callable[[str], Any]) -> float | None:
    """Work out `a + b * c`; None where a value is missing or no number."""
    terms = [[_number(value_of(name.strip())) for name in term.split("*")] for term in formula.split("+")]
    if any(factor is None for term in terms for factor in term):
        return None
    return sum(math.prod(cast("list[float]", term)) for term in terms)


def _with_epoch(out: Normalized, logs: Mapping[str, Any]) -> Normalized:
    """The epoch says where the log stands: it belongs to each part, and is no part by itself."""
    epoch = out.train.pop("epoch", None)
    if epoch is None:
        return out
    raw = out.raw_names.pop(("train", "epoch"))
    parts = [part for part in ("train", "eval", "summary") if getattr(out, part)]
    for part in parts or (["train"] if set(logs) == {"epoch"} else []):
        getattr(out, part)["epoch"] = epoch
        out.raw_names[part, "epoch"] = raw
    return out


def _number(value: object) -> int | float | None:
    """Read a plain number; None for anything else."""
    if type(value) is float:  # nearly all are, and the checks below are slow
        return value
    if isinstance(value, Integral):
        whole = int(value)
        return whole if whole.bit_length() <= _LONGEST_BITS else as_float(whole)
    if isinstance(value, Real):
        return float(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "size", None) is not None and _has_one_element(value):
        try:
            scalar = item()
        except (RuntimeError, ValueError, TypeError):  # a tensor without data
            return None
        return _number(scalar) if isinstance(scalar, Real) else None
    return None


def _has_one_element(array: Any) -> bool:  # noqa: ANN401  # a numpy array or a torch tensor, neither imported
    count = array.numel() if hasattr(array, "numel") else array.size
    return bool(count == 1)
