"""In what were two runs set up otherwise: arguments, seed, commit, versions. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from rldk.diff.result import Setting
from rldk.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rldk.event import Event

_PLACES: Final = frozenset(
    {
        "output_dir",
        "logging_dir",
        "run_name",
        "name",
        "project",
        "report_to",
        "hub_model_id",
        "trackio_space_id",
        "resume_from_checkpoint",
        "local_rank",
        "host",
    }
)
"""What tells where things are written, or how the run is called, and changes no number."""
_TRUTHS: Final = {"True": True, "true": True, "False": False, "false": False}
_MISSING: Final = object()
_MOST: Final = 10_000
_DEEPEST: Final = 6


class Setup(NamedTuple):
    """What a run tells of itself.

    Attributes:
        facts: Trainer, seed, commit, versions and the like, by name.
        settings: Its arguments and what trackers call its configuration, by name.
    """

    facts: dict[str, Any]
    settings: dict[str, Any]


def setup_of(events: Iterable[Event], trainer: str) -> Setup:
    """Gather what a run tells of itself; where it was started again, the last start counts.

    Secrets are hidden.
    """
    facts: dict[str, Any] = {"trainer": trainer} if trainer else {}
    settings: dict[str, Any] = {}
    for event in events:
        if event.kind != "run":
            continue
        told = event.model_info
        seed, commit = event.rng.get("seed"), told.get("git_sha")
        facts |= {} if seed is None else {"seed": seed}
        facts |= {} if commit is None else {"commit": commit}
        for name in ("versions", "host", "project", "name"):
            facts |= _flat(name, told.get(name))
        for name in ("config", "args"):
            settings |= _flat("", told.get(name))
    return Setup(redact(facts), redact(settings))


def _flat(name: str, told: Any) -> dict[str, Any]:  # noqa: ANN401  # any JSON value
    """Give what is told at each end of nested mappings, by names with dots between."""
    if told is None and not name:
        return {}
    return dict(list(_leaves(name, told, 0))[:_MOST]) if told is not None else {}


def _leaves(name: str, told: Any, depth: int) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # the same
    if not isinstance(told, dict) or not told or depth == _DEEPEST:
        if name:
            yield name, told
        return
    for key, value in told.items():
        yield from _leaves(f"{name}.{key}" if name else str(key), value, depth + 1)


class Differences(NamedTuple):
    """What is not the same in two set-ups, and the names of what one of them alone tells."""

    settings: list[Setting]
    only_a: list[str]
    only_b: list[str]


def differences(a: Setup, b: Setup) -> Differences:
    """Compare two set-ups: facts first, then arguments by name."""
    facts = [
        one for one in _differing(a.facts, b.facts) if one.name not in a.settings.keys() & b.settings.keys()
    ]
    settings = [*_differing(a.settings, b.settings)] if a.settings and b.settings else []
    lone = (a.settings.keys() - b.settings.keys(), b.settings.keys() - a.settings.keys())
    known = bool(a.settings and b.settings)
    return Differences(facts + settings, sorted(lone[0]) if known else [], sorted(lone[1]) if known else [])


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Setting]:
    for name in sorted(a.keys() & b.keys()):
        if not _is_same(a[name], b[name]):
            is_place = name.partition(".")[0] in _PLACES
            yield Setting(name=name, a=a[name], b=b[name], is_place=is_place)


def _is_same(a: Any, b: Any) -> bool:  # noqa: ANN401  # any JSON value
    """Whether two values are one: some trackers keep all of them as text; a truth value is no number."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_is_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_is_same(a[name], b[name]) for name in a)
    truths = _truth(a), _truth(b)
    if isinstance(a, bool) or isinstance(b, bool) or None not in truths:
        return truths[0] is truths[1]
    if type(a) is type(b) or not (isinstance(a, str) or isinstance(b, str)):
        return bool(a == b or (a != a and b != b))  # noqa: PLR0124  # NaN
    return _spelled(a) == _spelled(b) or _number(a) == _number(b) != _MISSING


def _truth(value: Any) -> bool | None:  # noqa: ANN401  # any JSON value
    return value if isinstance(value, bool) else _TRUTHS.get(value) if isinstance(value, str) else None


def _spelled(value: Any) -> str:  # noqa: ANN401  # any JSON value
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return str(value)


def _number(value: Any) -> object:  # noqa: ANN401  # any JSON value
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return _MISSING
