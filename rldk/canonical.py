"""What do the names mean under which others have logged? Raw events to RLDK's own, by the catalog."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from functools import cache
from itertools import islice
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk import catalog
from rldk.bridge import metric_name
from rldk.event import Event, utf8
from rldk.normalize import derive, derived, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# As transformers' callbacks rewrite a log's keys for W&B and TensorBoard:
# https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/integrations/integration_utils.py
# With a dot W&B shows what was logged nested.
_TRAIN: Final = re.compile(r"\Atrain[/.]")
_EVAL: Final = re.compile(r"\Aeval[/.]")
_PARTS: Final = re.compile(r"[/.]")
_EVAL_KEY: Final = "eval_"
_AXES: Final = frozenset({"train/global_step", "global_step", "trainer/global_step"})

_NO_MAP: Final[Mapping[str, str]] = MappingProxyType({})
_UNNAMED: Final = "unnamed"
_JUDGED: Final = 200
_MOST_LAYOUTS: Final = 1000
_NAMES_SHOWN: Final = 10
_NEAREST: Final = 3
_NEAR_ENOUGH: Final = 0.6
_WORD: Final = re.compile(r"[a-z0-9]+")


class Renamer:
    """Gives the raw events of one run canonical names, and remembers what the catalog does not know.

    The trainer is the one that the run's first event names, else the one whose keys the catalog finds
    most of in the first logs, which are held back until that is known.

    Args:
        field_map: Raw name to canonical name, for what the catalog cannot know; goes before it.

    Attributes:
        trainer: The trainer that the run is taken for; empty where none fits, or none is known yet.
    """

    def __init__(self, field_map: Mapping[str, str] = _NO_MAP) -> None:
        self.trainer = ""
        self._map = field_map
        self._head: list[Event] | None = []
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._rare: Counter[str] = Counter()

    def take(self, event: Event) -> Iterable[Event]:
        """Take an event, and give those that are known now: training and evaluation apart."""
        if self._head is None:
            return self._renamed(event)
        self._head.append(event)
        return self.rest() if len(self._head) >= _JUDGED else ()

    def rest(self) -> list[Event]:
        """Give what is still held back."""
        head, self._head = self._head or [], None
        self.trainer = self.trainer or _told(head) or _guessed(head)
        return [renamed for event in head for renamed in self._renamed(event)]

    def unknown(self) -> Counter[str]:
        """How often each name came that is neither in the catalog nor in the map."""
        counts = Counter(self._rare)
        for layout in self._layouts.values():
            for name in layout.unknown:
                counts[name] += layout.count
        return counts

    def _renamed(self, event: Event) -> list[Event]:
        if event.kind != "metrics" or not event.is_raw:
            return [event]
        names = tuple(event.metrics)
        layout = self._layouts.get(names)
        if layout is None:
            layout = _Layout(names, self._map, self.trainer)
            if len(self._layouts) < _MOST_LAYOUTS:
                self._layouts[names] = layout
            else:
                self._rare.update(layout.unknown)
        layout.count += 1
        return layout.events(event)


class _Part(NamedTuple):
    """One of the events that a log becomes: its phase, its names, and how their numbers are taken out."""

    phase: str
    names: tuple[str, ...]
    take: Callable[[Mapping[str, int | float]], tuple[int | float, ...]]
    notes: list[str]

    @classmethod
    def of(cls, phase: str, names: Mapping[str, str], notes: list[str]) -> _Part:
        """Make one of the canonical names and the raw ones that they stand for."""
        # itemgetter gives a tuple only where it is asked for several
        return cls(phase, tuple(names), itemgetter(*names.values(), next(iter(names.values()))), notes)


class _Layout:
    """What becomes of a log that has certain names.

    Args:
        names: The names.
        field_map: As in `Renamer`.
        trainer: The run's trainer.

    Attributes:
        unknown: Those of the names that nobody knows.
        count: How many logs had them.
    """

    def __init__(self, names: tuple[str, ...], field_map: Mapping[str, str], trainer: str) -> None:
        plain = _apart((_plain(name) or _UNNAMED, name) for name in names if name not in _AXES)
        told_of = {
            key: field_map[raw] for key, raw in plain.items() for raw in (raw, key) if raw in field_map
        }
        kept = {key: raw for key, raw in plain.items() if key not in told_of}
        told = named(tuple(kept), (0.0,) * len(kept), trainer)
        found: dict[str, list[tuple[str, str]]] = {"train": [], "eval": [], "summary": []}
        for (
            key,
            name,
        ) in told_of.items():  # first, for the user knows best: a name that the catalog gives gives way
            found["eval" if key.startswith(_EVAL_KEY) else "train"].append((name, plain[key]))
        for (part, name), key in told.raw_names.items():
            found[part].append((name, kept[key]))
        trained, evaluated = _apart(found["train"] + found["summary"]), _apart(found["eval"])
        self.unknown = list(
            dict.fromkeys(key for name, key in told.raw_names.items() if not _is_known(*name))
        )
        self.count = 0
        self._trainer = trainer if derived(trainer) else ""
        self._parts = [_Part.of("train", trained, told.notes)] if trained else []
        self._parts += [_Part.of("eval", evaluated, [])] if evaluated else []
        self._told: dict[str, Any] = {}
        self._infos: list[dict[str, Any]] = []

    def events(self, event: Event) -> list[Event]:
        """Rename what one log holds."""
        if event.model_info is not self._told:  # adapters have many events share theirs
            self._told = event.model_info
            known = {name: value for name, value in self._told.items() if name != "raw"}
            self._infos = [known | {"phase": part.phase} for part in self._parts]
        parts = zip(self._parts, self._infos, strict=True)
        return [self._event(event, part, info) for part, info in parts]

    def _event(self, event: Event, part: _Part, info: dict[str, Any]) -> Event:
        metrics = dict(zip(part.names, part.take(event.metrics), strict=False))
        if self._trainer and part.phase == "train":
            derive(metrics, self._trainer)
        return Event(
            v=event.v,
            kind=event.kind,
            seq=event.seq,
            time=event.time,
            step=event.step,
            wall_time=event.wall_time,
            metrics=metrics,
            rng=event.rng,
            data_slice=event.data_slice,
            model_info=info,
            notes=part.notes,
        )


def advice(unknown: Counter[str]) -> str:
    """Say which names are not known, what they may mean, and how to tell; empty where all are.

    Args:
        unknown: How often each name came.
    """
    if not unknown:
        return ""
    near = {name: found for name in unknown if (found := nearest(name))}
    shown = unknown.most_common(_NAMES_SHOWN)
    names = ", ".join(f"{utf8(name)} ({count})" for name, count in shown)  # a log file is UTF-8
    more = f", and {len(unknown) - _NAMES_SHOWN} more" if len(unknown) > _NAMES_SHOWN else ""
    text = f"{len(unknown)} names are not in the catalog and are kept as they are: {names}{more}"
    if near:
        option = " ".join(
            f"--field-map {utf8(name)}={found[0]}" for name, found in islice(near.items(), _NAMES_SHOWN)
        )
        text += f"; if they mean what their names suggest, give {option}"
    return text


def nearest(name: str) -> list[str]:
    """Canonical names that look like a name, the likeliest first."""
    leaf = _PARTS.split(name)[-1].lower()
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
    """Undo what a tracker's callback, or RLDK's own sink, did to a log's key."""
    ours = metric_name(name)
    if ours is not None and ours.kind == "metrics" and not ours.is_data:
        return (_EVAL_KEY if ours.phase == "eval" else "") + ours.name
    return _TRAIN.sub("", _EVAL.sub(_EVAL_KEY, name))


def _apart(named: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Give each its name, and `raw/` before it where that is taken: two quantities never share a name."""
    apart: dict[str, str] = {}
    for name, there in named:
        free = name
        while free in apart:
            free = f"raw/{free}"
        apart[free] = there
    return apart


def _is_known(part: str, name: str) -> bool:
    """Whether the catalog gives a name; that of an evaluation may have its data set before it."""
    is_of_data_set = part == "eval" and "/" in name and catalog.named(name.partition("/")[2]) is not None
    return is_of_data_set or catalog.named(name) is not None


def _known(name: str, trainer: str) -> catalog.Match | None:
    return catalog.find(name.removeprefix(_EVAL_KEY), trainer)


def _told(events: Iterable[Event]) -> str:
    told = next((e.model_info["trainer"] for e in events if e.model_info.get("trainer")), "")
    return str(told).removesuffix("Trainer")


def _guessed(events: Iterable[Event]) -> str:
    """The trainer of whose keys these are most, and of equals the one that lacks the fewest.

    One that logs no key of its own here is not taken.
    """
    names = {_plain(name) for event in events if event.is_raw for name in event.metrics}
    fit = {
        trainer: (sum(_is_own(name, trainer) for name in names), -len(_always(trainer) - names))
        for trainer in _trainers()
    }
    best = max(fit, key=fit.__getitem__)
    return best if fit[best][0] else ""


@cache
def _always(trainer: str) -> frozenset[str]:
    """The keys of its own that a trainer logs in every release and whatever its arguments are."""
    lines = (line for metric in catalog.metrics() for line in metric.logged if trainer in line.by)
    return frozenset(
        line.raw for line in lines if not (line.note or line.since or line.until or "{" in line.raw)
    )


def _is_own(name: str, trainer: str) -> bool:
    found = _known(name, trainer)
    return found is not None and trainer in found.metric.trainers


def _trainers() -> list[str]:
    """Every trainer of the catalog, those that are used most first: the first of equals is taken."""
    named = dict.fromkeys(trainer for metric in catalog.metrics() for trainer in metric.trainers)
    first = ["GRPO", "PPO", "DPO", "SFT"]
    return [t for t in (*first, *named) if t in named and t != catalog.ANY_TRAINER]
