"""What did the trainer say: raw logs to canonical metrics. Pure."""

from __future__ import annotations

import math
import re
from functools import cache, lru_cache
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from rldk import catalog, scalars
from rldk.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

Numbers = dict[str, int | float]

_EVAL: Final = "eval_"
_TIMED: Final = re.compile(r"eval_(?:(.+)_)?runtime", re.DOTALL)
_SUMMARY_MARK: Final = "train_loss"  # train_runtime is no mark: include_num_input_tokens_seen logs it always
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
    raw_names: Mapping[tuple[str, str], str]


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
    raws, numbers, notes = scalars.read(logs)
    told = named(raws, numbers, trainer, args, trl)
    return told._replace(notes=[*notes, *told.notes]) if notes else told


def named(
    raws: tuple[str, ...],
    numbers: tuple[int | float, ...],
    trainer: str,
    args: Mapping[str, Any] = _NO_ARGS,
    trl: str = "",
) -> Normalized:
    """Do what `normalize` does, with a log of plain numbers alone, given as its keys and its numbers."""
    layout = _layout(raws, trainer, trl)
    train = layout.train.of(numbers)
    derive(train, trainer, args, trl)
    return Normalized(
        train, layout.eval.of(numbers), layout.summary.of(numbers), [*layout.notes], layout.raw_names
    )


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
        # A key that holds a secret, such as an address with a password, must not get into a journal
        name = redact_text(prefix + (match.name if match else key))
        return _Name(is_eval, name, match.metric if match else None)


class _Part:
    """The names that a part of a log gets, each with the place of its number in the log."""

    def __init__(self, places: Mapping[str, int]) -> None:
        self._names = tuple(places)
        # itemgetter gives a tuple only where it is asked for several
        self._pick = itemgetter(*places.values(), 0, 0) if places else None

    def of(self, numbers: tuple[int | float, ...]) -> Numbers:
        """Name the numbers of one log."""
        return dict(zip(self._names, self._pick(numbers), strict=False)) if self._pick else {}


class _Layout(NamedTuple):
    """Where each of a log's keys goes."""

    train: _Part
    eval: _Part
    summary: _Part
    notes: tuple[str, ...]
    raw_names: Mapping[tuple[str, str], str]


@lru_cache(maxsize=256)  # a trainer logs the same few sets of keys over and over
def _layout(raws: tuple[str, ...], trainer: str, trl: str) -> _Layout:
    name_of = _Names(trainer, trl, _eval_data_set(raws))
    parts: dict[str, dict[str, int]] = {"train": {}, "eval": {}, "summary": {}}
    notes: list[str] = []
    known = [(name_of(raw), place) for place, raw in enumerate(raws)]
    for name, place in sorted(known, key=_is_unknown):
        part = _part(name, is_summary=_SUMMARY_MARK in raws)
        free = _free(name.name, parts[part])
        if free != name.name:
            notes.append(f"{raws[place]} has the name of another metric and is kept as {free}")
        parts[part][free] = place
    _place_epoch(parts, is_alone=set(raws) == {"epoch"})
    names = {(part, name): raws[i] for part, places in parts.items() for name, i in places.items()}
    train, evaluated, summary = map(_Part, parts.values())
    return _Layout(train, evaluated, summary, tuple(notes), MappingProxyType(names))


def _is_unknown(named: tuple[_Name, int]) -> bool:
    """Sorts what the catalog knows to the front: no key of a user's takes a name that it gives."""
    return named[0].metric is None


def _part(name: _Name, *, is_summary: bool) -> str:
    is_summary = is_summary and name.metric is not None and name.metric.summary
    return "eval" if name.is_eval else "summary" if is_summary else "train"


def _free(name: str, taken: Container[str]) -> str:
    while name in taken:  # a second clash is possible: a user may log raw/x too
        name = f"raw/{name}"
    return name


def _place_epoch(parts: dict[str, dict[str, int]], *, is_alone: bool) -> None:
    """The epoch says where the log stands: it belongs to each part, and is no part by itself."""
    epoch = parts["train"].pop("epoch", None)
    if epoch is not None:
        for part in [part for part in parts.values() if part] or ([parts["train"]] if is_alone else []):
            part["epoch"] = epoch


def with_own(numbers: Numbers, own: Mapping[str, int | float]) -> tuple[Numbers, list[str]]:
    """Add to a log's numbers what the user's own code has measured beside it, under the names that it gave.

    Args:
        numbers: What the trainer logged, by canonical name; not changed.
        own: What `rldk.log` was given. The catalog is not asked: the user's `reward` is not the trainer's.

    Returns:
        Both together, and notes of what had the name of one of the trainer's and so got another one.
    """
    both, notes = dict(numbers), []
    for raw, value in own.items():
        name = redact_text(raw)
        free = _free(name, both)
        if free != name:
            notes.append(f"{name} has the name of another metric and is kept as {free}")
        both[free] = value
    return both, notes


def _eval_data_set(raws: Iterable[str]) -> str:
    """Name of the data set that a log evaluates, where the trainer has several; else an empty one.

    transformers then logs each in turn, as `eval_<name>_runtime` and so on. TRL's own metrics in
    that log have no `<name>`, but are about the same data set.
    """
    timed = [found[1] for found in map(_TIMED.fullmatch, raws) if found]
    return timed[0] or "" if len(timed) == 1 else ""


def derive(train: Numbers, trainer: str, args: Mapping[str, Any] = _NO_ARGS, trl: str = "") -> None:
    """Add to training metrics what the trainer did not log but what follows exactly from what it did.

    Args:
        train: The metrics, by canonical name; changed in place.
        trainer: As in `normalize`.
        args: As in `normalize`.
        trl: As in `normalize`.
    """
    for name, formula in _formulas(trainer, trl):
        number = _sum_of_products(formula, lambda name: train.get(name, args.get(name)))
        if number is not None and name not in train:
            train[name] = number


def _sum_of_products(formula: str, value_of: Callable[[str], Any]) -> float | None:
    """Work out `a + b * c`; None where a value is missing or no number."""
    terms = [
        [scalars.number(value_of(name.strip())) for name in term.split("*")] for term in formula.split("+")
    ]
    if any(factor is None for term in terms for factor in term):
        return None
    return sum(math.prod(cast("list[float]", term)) for term in terms)
