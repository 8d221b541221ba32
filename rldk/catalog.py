"""What does each number mean: the catalog of metrics, read from catalog.toml."""

from __future__ import annotations

import math
import re
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY_TRAINER: Final = "*"


class Logged(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How some trainers log a metric.

    Attributes:
        by: Short names of the trainers; `*` for every trainer that runs transformers' own loop.
        raw: Key in their logs. `{...}` stands for any text, and is repeated in the metric's name.
        derived: How RLDK works the metric out where no key holds it: a sum of products of metrics of
            the same log and of arguments of the trainer.
        measured: How RLDK measures the metric where the trainer does not log it.
        since: First TRL release of which this is true; empty for all from 0.23 on.
        until: Last TRL release of which this is true; empty for all up to the newest.
        reduction: Stands in for the metric's own, where these trainers reduce otherwise.
        note: When it is logged, or what else is peculiar to these trainers.
        only: The part of the run that logs it, `train` or `eval`; empty for both.
        unless: The values of the trainer's arguments with which it is not logged, by name.
    """

    by: tuple[str, ...]
    raw: str = ""
    derived: str = ""
    measured: str = ""
    since: str = ""
    until: str = ""
    reduction: str = ""
    note: str = ""
    only: Literal["", "train", "eval"] = ""
    unless: dict[str, tuple[float | bool | str, ...]] = {}

    @property
    def reach(self) -> tuple[float, ...]:
        """How new the releases are of which this is true."""
        return _release(self.until) if self.until else (math.inf,)

    def is_logged_with(self, args: Mapping[str, Any]) -> bool:
        """Whether a trainer with these arguments logs it; of one that is not told nothing is concluded."""
        return not any(args.get(name) in values for name, values in self.unless.items())

    def holds_for(self, trl: str) -> bool:
        """Whether this is true of a TRL release; of an unknown one (`""`) everything is."""
        if not trl:
            return True
        is_begun = not self.since or _release(self.since) <= _release(trl)
        return is_begun and (not self.until or _release(trl) <= _release(self.until))


class Metric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One quantity that trainers log.

    Attributes:
        name: Canonical name, the same wherever RLDK shows the quantity, and shared with no other one.
        unit: Unit of one value (`nats/token`, `tokens`, `s`, `fraction`, `1` ...).
        reduction: What was averaged, summed or picked, and over what.
        meaning: One line for people.
        logged: Who logs it, under which keys.
        good: `up`, `down`, or empty where neither direction is good in itself.
        summary: Logged once, when training ends; no step's measurement.
    """

    name: str
    unit: str
    reduction: str
    meaning: str
    logged: tuple[Logged, ...]
    good: str = ""
    summary: bool = False

    @property
    def trainers(self) -> tuple[str, ...]:
        """Who logs it, in any release."""
        return tuple(dict.fromkeys(trainer for line in self.logged for trainer in line.by))


class _File(msgspec.Struct, forbid_unknown_fields=True):
    own_loop: tuple[str, ...]
    metric: tuple[Metric, ...]


class Match(msgspec.Struct, frozen=True):
    """A raw key that the catalog knows: its metric and its canonical name."""

    metric: Metric
    name: str


def metrics() -> tuple[Metric, ...]:
    """Every entry of the catalog, in its order."""
    return _file().metric


def own_loop() -> tuple[str, ...]:
    """Trainers that do not run transformers' loop, and so do not log what it logs."""
    return _file().own_loop


@cache
def logged_by(trainer: str, trl: str = "") -> tuple[tuple[Metric, Logged], ...]:
    """What a trainer logs, with the line that says how.

    Args:
        trainer: Short name, such as `GRPO`.
        trl: TRL release; every release's metrics where it is not known.
    """
    return tuple((metric, line) for metric, line in _lines(trainer) if line.holds_for(trl))


@lru_cache(maxsize=4096)  # a user may log ever new keys
def find(raw: str, trainer: str, trl: str = "") -> Match | None:
    """Look up the key that a trainer logs; None for one that the catalog does not know.

    Args:
        raw: The key, without the prefix of evaluations.
        trainer: Short name, such as `GRPO`.
        trl: TRL release, where it is known: a few keys hold another quantity in older ones. A key
            that this release should not log is looked up as the newest release has it.
    """
    exact, patterns = _index(trainer, trl)
    if raw in exact:
        return Match(exact[raw], exact[raw].name)
    for pattern, metric in patterns:
        if found := pattern.fullmatch(raw):
            return Match(metric, _fill(metric.name, found.groupdict()))
    return None


@lru_cache(maxsize=4096)  # the same
def named(name: str) -> Metric | None:
    """Look up a canonical name; None for one that the catalog does not give."""
    exact, patterns = _names()
    return exact.get(name) or next((metric for pattern, metric in patterns if pattern.fullmatch(name)), None)


@cache
def _names() -> tuple[dict[str, Metric], tuple[tuple[re.Pattern[str], Metric], ...]]:
    exact = {metric.name: metric for metric in metrics() if "{" not in metric.name}
    return exact, tuple((_pattern(metric.name), metric) for metric in metrics() if "{" in metric.name)


@cache
def _file() -> _File:
    text = files("rldk").joinpath("catalog.toml").read_bytes()
    return msgspec.toml.decode(text, type=_File)


def _lines(trainer: str) -> list[tuple[Metric, Logged]]:
    names = {trainer} if trainer in own_loop() else {trainer, ANY_TRAINER}
    return [(metric, line) for metric in metrics() for line in metric.logged if names & set(line.by)]


@cache
def _index(trainer: str, trl: str) -> tuple[dict[str, Metric], tuple[tuple[re.Pattern[str], Metric], ...]]:
    """Metrics by key and by pattern; where several have one key, the line for this release wins."""
    lines = [(metric, line) for metric, line in _lines(trainer) if line.raw]
    lines.sort(key=lambda pair: (pair[1].holds_for(trl), pair[1].reach, trainer in pair[1].by))
    exact = {line.raw: metric for metric, line in lines if "{" not in line.raw}
    return exact, tuple((_pattern(line.raw), m) for m, line in reversed(lines) if "{" in line.raw)


def _pattern(raw: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(raw)), re.DOTALL)


def _fill(name: str, found: dict[str, str]) -> str:
    for key, value in found.items():
        name = name.replace(f"{{{key}}}", value)
    return name


@cache
def _release(version: str) -> tuple[float, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
