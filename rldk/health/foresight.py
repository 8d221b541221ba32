"""Which rules will be able to judge a run that has yet to begin, and from which step on?

The run is rehearsed: the rules are asked, as in a real one, at logs that hold what the catalog says that the
trainer logs with these arguments. Nothing is known here of any single rule.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from rldk import catalog
from rldk.event import Event
from rldk.health.monitor import Monitor
from rldk.health.rule import Rule, Verdict, ok
from rldk.health.window import CHECKPOINT, RESOURCE, SECONDS_PER_STEP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rldk.event import Kind
    from rldk.health.window import Window

Outlook = Literal["able", "weak", "late", "short", "moot", "blind"]

USUAL: Final[dict[str, Any]] = {
    "logging_strategy": "steps",
    "logging_steps": 10,
    "eval_strategy": "no",
    "save_strategy": "steps",
    "save_steps": 500,
}
"""What TRL's trainers do where nothing else is asked of them."""

_SPARE_POINTS: Final = 16
_LATE: Final = 0.5
_NUMBER: Final = 0.5
_SECONDS: Final = 1.0
_UNKNOWN_RHYTHM: Final = 8
_NEEDS_EARLIER: Final = "relative_change"
_ORDER: Final = ("train", RESOURCE, CHECKPOINT, "eval")


class Plan(NamedTuple):
    """A run that is going to be, as its trainer's arguments tell.

    Attributes:
        trainer: Short name of the trainer, such as `GRPO`.
        args: The trainer's arguments; of one that is missing nothing is concluded but what is usual.
        trl: TRL release; empty where it is not known.
        max_steps: Steps until the end; None where nobody knows.
        has_resources: Whether resources are sampled.
        has_checkpoints: Whether checkpoints are analysed.
        has_measures: Whether what the trainer leaves out is measured where a hook can.
    """

    trainer: str
    args: Mapping[str, Any]
    trl: str = ""
    max_steps: int | None = None
    has_resources: bool = True
    has_checkpoints: bool = True
    has_measures: bool = True

    def every(self, what: str) -> int | None:
        """How many steps lie between two of a kind.

        Args:
            what: `logging`, `eval` or `save`.

        Returns:
            0 where there is none at all, None where it is by epochs of unknown length.
        """
        if self.trainer in catalog.own_loop() and what != "save":
            return int(what == "logging")  # such a loop logs each step, and never evaluates by itself
        strategy = str(self._told(f"{what}_strategy", "steps")).rpartition(".")[2].lower()
        if strategy == "no":
            return 0
        if strategy != "steps":
            return self._steps_of_an_epoch() if strategy == "epoch" else None
        steps = _number(self._told(f"{what}_steps", None)) or _number(self._told("logging_steps", 1)) or 1
        if steps < 1:  # a fraction of the run
            return None if self.max_steps is None else max(math.ceil(self.max_steps * steps), 1)
        return int(steps)

    def _told(self, name: str, usual: object) -> object:
        value = self.args.get(name)
        return USUAL.get(name, usual) if value is None else value

    def _steps_of_an_epoch(self) -> int | None:
        epochs = _number(self.args.get("num_train_epochs"))
        is_by_epochs = (_number(self.args.get("max_steps")) or -1) <= 0
        if self.max_steps is None or not epochs or not is_by_epochs:
            return None
        return max(math.ceil(self.max_steps / epochs), 1)


class Foreseen(NamedTuple):
    """What is to be expected of a rule.

    Attributes:
        rule: Its name.
        outlook: `able`; `weak`, where it sees little; `late`, where half of the run is over before it
            judges; `short`, where all of it is; `moot`, where there is nothing for it to judge; `blind`,
            where what it reads is missing.
        reason: Why; a sentence without its stop.
        first_step: The step at which it judges first, or would if the run went on; None where it never
            does, or that is not known.
        points: How many points of its part of the run it needs for that; None where none are enough.
        part: Which part of the run it judges.
    """

    rule: str
    outlook: Outlook
    reason: str
    first_step: int | None
    points: int | None
    part: str


class _Point(NamedTuple):
    part: str
    number: int
    step: int
    is_dated: bool


def foresee(rules: Iterable[Rule], plan: Plan) -> list[Foreseen]:
    """Say of each rule that is about this trainer what is to be expected of it.

    Rules of RLDK's are asked for a judgement; of somebody's own only what they declare is looked at.
    """
    about = [rule for rule in rules if not rule.trainers or plan.trainer in rule.trainers]
    rehearsal = _Rehearsal(about, plan)
    rehearsal.run()
    return [rehearsal.outcome(rule) for rule in about]


class _Rehearsal:
    def __init__(self, rules: Sequence[Rule], plan: Plan) -> None:
        self._rules = rules
        self._plan = plan
        self._monitor = Monitor([rule if _is_ours(rule) else _Declared(rule) for rule in rules])
        self._first: dict[str, _Point] = {}
        self._every = {
            "train": plan.every("logging"),
            "eval": plan.every("eval"),
            CHECKPOINT: plan.every("save") if plan.has_checkpoints else 0,
            RESOURCE: (plan.every("logging") or 1) if plan.has_resources else 0,
        }

    def run(self) -> None:
        plan = self._plan
        facts = {"trainer": plan.trainer, "args": dict(plan.args), "versions": {"trl": plan.trl}}
        self._monitor.take(_event("run", 0, 0, {}, facts))
        names = {part: self._names(part) for part in _ORDER}
        waiting = {rule.name for rule in self._rules}
        for place, point in enumerate(self._points()):
            if not waiting:
                return
            metrics = dict.fromkeys(names[point.part], _NUMBER)
            if point.part == CHECKPOINT and point.number == 1:
                metrics.pop(_NEEDS_EARLIER, None)
            kind: Kind = "metrics" if point.part in {"train", "eval"} else point.part  # type: ignore[assignment]
            phase = "eval" if point.part == "eval" else "train"
            self._monitor.take(_event(kind, point.step, place + 1, metrics, {"phase": phase}))
            judged = {name for name in waiting if self._monitor.points_of(name)}
            self._first |= dict.fromkeys(judged, point)
            waiting -= judged

    def _points(self) -> list[_Point]:
        """The logs of the run in their order, as many of each part as its rules can need."""
        found = [point for part in _ORDER for point in self._points_of(part)]
        return sorted(found, key=lambda point: (point.step, _ORDER.index(point.part)))

    def _points_of(self, part: str) -> Iterator[_Point]:
        every = self._every[part]
        if every == 0:
            return
        is_dated = every is not None and part != RESOURCE  # of whose pace in steps nothing is known
        apart = every or _UNKNOWN_RHYTHM * (self._every["train"] or 1)
        count = max((rule.warm_up for rule in self._rules if rule.part == part), default=1) + _SPARE_POINTS
        total = self._plan.max_steps
        is_last_saved = part == CHECKPOINT and total is not None and is_dated  # transformers saves at the end
        for number in sorted({*range(1, count + 1), *self._logs_after_evaluations(part, apart)}):
            step = number * apart
            if is_last_saved and total is not None and (number - 1) * apart < total < step:
                step = total
            yield _Point(part, number, step, is_dated)

    def _logs_after_evaluations(self, part: str, apart: int) -> set[int]:
        """The logs at which a rule of training's, which looks at evaluations, too, hears of a new one."""
        if part != "train":
            return set()
        return {point.step // apart + 1 for point in self._points_of("eval")}

    def _names(self, part: str) -> list[str]:
        """What a log of this part holds."""
        if part in {"train", "eval"}:
            logged = {_any_of_family(metric.name) for metric in _logged(self._plan, part)}
            return sorted(logged | {name for name in self._read(part) if catalog.named(name) is None})
        return sorted(self._read(part))

    def _read(self, part: str) -> Iterator[str]:
        for rule in self._rules:
            own = (*rule.reads, *rule.looks_at) if part in {"train", "eval"} else rule.reads or rule.looks_at
            for name in own:
                where, _, metric = name.rpartition(":")
                if (where or rule.part) == part and metric != SECONDS_PER_STEP:  # no log holds that one
                    yield metric.replace("*", "x")

    def outcome(self, rule: Rule) -> Foreseen:
        first = self._first.get(rule.name)
        if first is None:
            outlook, reason = self._why_never(rule)
            return Foreseen(rule.name, outlook, reason, None, None, rule.part)
        step = first.step if first.is_dated else None
        outlook, reason = self._when(rule, first)
        return Foreseen(rule.name, outlook, reason, step, first.number, rule.part)

    def _why_never(self, rule: Rule) -> tuple[Outlook, str]:
        if self._every[rule.part] == 0:
            return ("blind" if rule.reads else "moot"), self._nothing_of(rule.part)
        reason = self._monitor.why_it_cannot_apply(rule.name)
        return ("moot", reason) if reason else ("blind", self._monitor.why_unavailable(rule.name))

    def _nothing_of(self, part: str) -> str:
        if part == "eval" and self._plan.trainer in catalog.own_loop():
            return f"{self._plan.trainer} does not evaluate by itself"
        if part == CHECKPOINT and not self._plan.has_checkpoints:
            return "checkpoints are not analysed (enable_checkpoint_analysis=False)"
        return {
            "train": "nothing is logged (logging_strategy=no)",
            "eval": "there is no evaluation (eval_strategy=no)",
            RESOURCE: "resources are not sampled (enable_resource_monitoring=False)",
            CHECKPOINT: "no checkpoint is saved (save_strategy=no)",
        }[part]

    def _when(self, rule: Rule, first: _Point) -> tuple[Outlook, str]:
        total = self._plan.max_steps
        if total is not None and first.is_dated and first.step > total * _LATE:
            when = f"at step {first.step:,} ({_counted(first)}{self._because(rule.part)})"
            if first.step > total:
                return "short", f"the first verdict would come {when}, after the end at step {total:,}"
            return "late", f"the first verdict comes {when}, of {total:,}"
        weakness = self._monitor.weakness(rule.name)
        return ("weak", weakness) if weakness else ("able", "")

    def _because(self, part: str) -> str:
        what = {"train": "logging_steps", "eval": "eval_steps", CHECKPOINT: "save_steps"}.get(part, "")
        every = self._every.get(part)
        return f", {what}={every:,}" if what and every and every > 1 else ""


def _counted(point: _Point) -> str:
    noun = {"train": "log", "eval": "evaluation", CHECKPOINT: "checkpoint"}.get(point.part, "sample")
    return f"{noun} {point.number}"


class _Declared(Rule):
    """A rule of somebody's own, as far as it declares what it needs: it is not asked to judge."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.name, self.title, self.part, self.trainers = rule.name, rule.title, rule.part, rule.trainers
        self.reads, self.looks_at, self.warm_up = rule.reads, rule.looks_at, rule.warm_up

    def judge(self, window: Window) -> Verdict:
        """Say nothing against it."""
        del window
        return ok()

    def cannot_apply(self, window: Window) -> str:
        """Say what the rule says."""
        return self._rule.cannot_apply(window)


def _is_ours(rule: Rule) -> bool:
    return type(rule).__module__.startswith("rldk.health.")


def _logged(plan: Plan, part: str) -> Iterator[catalog.Metric]:
    for metric, line in catalog.logged_by(plan.trainer, plan.trl):
        is_there = line.only in {"", part} and (plan.has_measures or not line.measured)
        if is_there and not metric.summary and line.is_logged_with(plan.args):
            yield metric


def _any_of_family(name: str) -> str:
    return name.replace("{", "").replace("}", "")


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _event(kind: Kind, step: int, place: int, metrics: dict[str, float], facts: dict[str, Any]) -> Event:
    return Event(
        kind=kind,
        seq=place,
        time=place * _SECONDS,
        step=step,
        wall_time=place * _SECONDS,
        metrics=dict(metrics),
        rng={},
        data_slice={},
        model_info=facts,
        notes=[],
    )


def grouped(outlooks: Iterable[Foreseen], wanted: Sequence[Outlook]) -> dict[str, list[str]]:
    """The names of the rules whose outlook is one of these, by the reason that they share."""
    found: dict[str, list[str]] = {}
    for each in outlooks:
        if each.outlook in wanted:
            found.setdefault(each.reason, []).append(each.rule)
    return found
