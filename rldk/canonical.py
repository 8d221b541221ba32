"""What do the names mean under which others have logged? Raw events to RLDK's own, by the catalog."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rldk import catalog
from rldk.normalize import normalize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rldk.event import Event

# As transformers' callbacks rewrite a log's keys for W&B and TensorBoard:
# https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/integrations/integration_utils.py
_TRAIN: Final = "train/"
_EVAL: Final = "eval/"
_EVAL_KEY: Final = "eval_"
_AXES: Final = frozenset({"train/global_step", "global_step", "trainer/global_step"})

_JUDGED: Final = 200
_NEAREST: Final = 3
_NEAR_ENOUGH: Final = 0.6
_WORD: Final = re.compile(r"[a-z0-9]+")


class Names:
    """Gives raw events canonical names, run by run, and remembers what the catalog does not know.

    Args:
        field_map: Raw name to canonical name, for what the catalog cannot know; goes before it.

    Attributes:
        trainers: Run to the trainer that it is taken for; empty where none fits.
        unknown: Name to how often it came, of those that are neither in the catalog nor in the map.
    """

    def __init__(self, field_map: Mapping[str, str] | None = None) -> None:
        self.trainers: dict[str, str] = {}
        self.unknown: Counter[str] = Counter()
        self._map = dict(field_map or {})

    def canonical(self, events: Iterable[Event]) -> Iterator[Event]:
        """Give the events of one run; training and evaluation become events of their own.

        The trainer is the one that the run's first event names, else the one whose keys the catalog
        finds most of in the first logs.
        """
        stream = iter(events)
        head = list(islice(stream, _JUDGED))
        if not head:
            return
        trainer = self.trainers[head[0].run_id] = _told(head) or _guessed(head)
        for event in chain(head, stream):
            yield from self._renamed(event, trainer) if event.is_raw else (event,)

    def _renamed(self, event: Event, trainer: str) -> Iterator[Event]:
        if event.kind != "metrics":
            yield event
            return
        logs = {_plain(name): value for name, value in event.metrics.items() if name not in _AXES}
        mapped = {self._map[name]: value for name, value in event.metrics.items() if name in self._map}
        mapped |= {self._map[name]: value for name, value in logs.items() if name in self._map}
        rest = {name: v for name, v in logs.items() if name not in self._map and name not in mapped}
        told = normalize(rest, trainer)
        self._note(rest, trainer)
        parts = {"train": told.train | mapped | told.summary, "eval": told.eval}
        for phase, metrics in parts.items():
            if metrics:
                info: dict[str, Any] = event.model_info | {"phase": phase}
                info.pop("raw", None)
                notes = told.notes if phase == "train" else []
                yield msgspec.structs.replace(event, metrics=metrics, model_info=info, notes=notes)

    def _note(self, logs: Mapping[str, Any], trainer: str) -> None:
        for name in logs:
            if _known(name, trainer) is None:
                self.unknown[name] += 1

    def advice(self) -> str:
        """Say which names are not known, what they may mean, and how to tell; empty where all are."""
        if not self.unknown:
            return ""
        near = {name: found for name in self.unknown if (found := nearest(name))}
        names = ", ".join(f"{name} ({count})" for name, count in self.unknown.most_common(10))
        more = f", and {len(self.unknown) - 10} more" if len(self.unknown) > 10 else ""  # noqa: PLR2004  # shown above
        text = f"{len(self.unknown)} names are not in the catalog and are kept as they are: {names}{more}"
        if near:
            option = " ".join(f"--field-map {name}={found[0]}" for name, found in islice(near.items(), 10))
            text += f"; if they mean what their names suggest, give {option}"
        return text


def nearest(name: str) -> list[str]:
    """Canonical names that look like a name, the likeliest first."""
    leaf = name.rsplit("/", 1)[-1].lower()
    looks = _looks()
    close = difflib.get_close_matches(leaf, looks, n=_NEAREST, cutoff=_NEAR_ENOUGH)
    words = set(_WORD.findall(leaf))
    shared = (metric.name for metric in catalog.metrics() if _WORD.findall(metric.name)[0] in words)
    found = [*(looks[look] for look in close), *sorted(shared, key=len)]
    return list(dict.fromkeys(name for name in found if "{" not in name))[:_NEAREST]


@cache
def _looks() -> dict[str, str]:
    """What a canonical metric may look like in a log: its own name, and the leaves of its raw keys."""
    looks: dict[str, str] = {}
    for metric in catalog.metrics():
        if "{" in metric.name:
            continue
        looks.setdefault(metric.name, metric.name)
        for line in metric.logged:
            if line.raw and "{" not in line.raw:
                looks.setdefault(line.raw.rsplit("/", 1)[-1], metric.name)
    return looks


def _plain(name: str) -> str:
    """Undo what a tracker's callback did to a log's key."""
    if name.startswith(_EVAL):
        return _EVAL_KEY + name.removeprefix(_EVAL)
    return name.removeprefix(_TRAIN)


def _known(name: str, trainer: str) -> catalog.Match | None:
    return catalog.find(name.removeprefix(_EVAL_KEY), trainer)


def _told(events: Iterable[Event]) -> str:
    told = next((e.model_info["trainer"] for e in events if e.model_info.get("trainer")), "")
    return str(told).removesuffix("Trainer")


def _guessed(events: Iterable[Event]) -> str:
    """The trainer of whose keys these are most; one that logs no key of its own here is not taken."""
    names = {_plain(name) for event in events if event.is_raw for name in event.metrics}
    own = {trainer: sum(_is_own(name, trainer) for name in names) for trainer in _trainers()}
    best = max(own, key=own.__getitem__)
    return best if own[best] else ""


def _is_own(name: str, trainer: str) -> bool:
    found = _known(name, trainer)
    return found is not None and trainer in found.metric.trainers


def _trainers() -> list[str]:
    """Every trainer of the catalog, those that are used most first: the first of equals is taken."""
    named = dict.fromkeys(trainer for metric in catalog.metrics() for trainer in metric.trainers)
    first = ["GRPO", "PPO", "DPO", "SFT"]
    return [t for t in (*first, *named) if t in named and t != catalog.ANY_TRAINER]
