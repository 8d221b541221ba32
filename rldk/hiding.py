"""An event without its secrets: what a journal takes, a tracker is sent and a report is made of."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rldk.redact import redact, redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rldk.event import Event

_NUMBERS: Final = frozenset({int, float, type(None)})


def hidden(event: Event) -> Event:
    """Hide the secrets in all that an event tells; one that holds none is given back itself.

    Nearly every event tells the same names and the same facts as the one before: they are looked at once.
    """
    changed: dict[str, Any] = {}
    if not _are_names(tuple(event.metrics)):
        changed["metrics"] = redact(event.metrics, "metrics")
    if not _are_numbers(event.rng):
        changed["rng"] = redact(event.rng)
    if not _are_numbers(event.data_slice):
        changed["data_slice"] = redact(event.data_slice)
    if not _are_facts(event.model_info):
        changed["model_info"] = redact(event.model_info)
    if event.notes:
        changed["notes"] = [redact_text(note) for note in event.notes]
    return msgspec.structs.replace(event, **changed) if changed else event


@lru_cache(maxsize=1024)
def _are_names(names: tuple[str, ...]) -> bool:
    return all(redact_text(name) == name for name in names)


def _are_numbers(told: Mapping[str, Any]) -> bool:
    """Whether there are but numbers, under names that hold no secret and are no secret's."""
    return all(type(value) in _NUMBERS for value in told.values()) and _are_of_numbers(tuple(told))


@lru_cache(maxsize=1024)
def _are_of_numbers(names: tuple[str, ...]) -> bool:
    some = dict.fromkeys(names, 2)
    return bool(redact(some) == some)


def _are_facts(told: Mapping[str, Any]) -> bool:
    try:
        return _are_known_facts(tuple(told.items()))
    except TypeError:  # some are no plain values, as in the event that begins a run
        return False


@lru_cache(maxsize=1024)
def _are_known_facts(told: tuple[tuple[str, Any], ...]) -> bool:
    facts = dict(told)
    return bool(redact(facts) == facts)
