"""What is said when recording begins: which run this is, where it goes, and what will not be seen of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.health.foresight import Plan, foresee, grouped
from rldk.redact import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rldk.bridge import Sink
    from rldk.health.foresight import Foreseen, Outlook
    from rldk.health.rule import Rule
    from rldk.identity import Identity
    from rldk.integrations.trl.watch import Wanted
    from rldk.recorder import Run

_logger = logger(__name__)

_MOST_NAMED: Final = 4
_NO_TRACKER: Final = (
    "no tracker has an active run, so that the journal alone is written (call wandb.init or mlflow.start_run "
    "before training, or set trackers=[...]; trackers=None says that none is meant)"
)


class Start(NamedTuple):
    """One start of recording.

    Attributes:
        who: Which run it is, and who says so.
        run: What its run event tells.
        journal: The journal.
        sinks: The trackers that it goes to.
        attached: Names of the trackers whose run somebody else has opened.
        step: The step from which training goes on.
        max_steps: The step at which it ends; 0 where nobody knows.
        is_training: False for an evaluation outside training.
        is_auto: Whether the trackers are those with an active run.
    """

    who: Identity
    run: Run
    journal: Path
    sinks: Sequence[Sink]
    attached: Iterable[str]
    step: int
    max_steps: int
    is_training: bool
    is_auto: bool = False


class Opening:
    """Says the lines of a start, each at level INFO; the same line only once for all starts of a callback."""

    def __init__(self, rules: Sequence[Rule], wanted: Wanted) -> None:
        self._rules = rules
        self._wanted = wanted
        self._said: set[str] = set()

    def say(self, start: Start) -> None:
        """Say of the main process's start what has not been said yet; costs nothing where nobody listens.

        That no tracker has a run is a warning: who has forgotten `wandb.init` would learn it after training.
        """
        if start.run.rank:
            return
        if start.is_auto and not start.sinks and start.is_training and _NO_TRACKER not in self._said:
            self._said.add(_NO_TRACKER)
            _logger.warning("%s: %s", _NO_TRACKER, start.journal)
        if not _logger.isEnabledFor(logging.INFO):
            return
        for line in self._lines(start):
            level = logging.DEBUG if line in self._said else logging.INFO
            self._said.add(line)
            _logger.log(level, "%s", line)

    def _lines(self, start: Start) -> Iterator[str]:
        yield from _identity(start)
        yield f"trackers: {_trackers(start)}"
        if start.is_training:
            yield f"health: {self._health(start)}"
            yield from _overlap(start)

    def _health(self, start: Start) -> str:
        outlooks = foresee(self._rules, self._plan(start))
        able = sum(each.outlook in {"able", "weak", "late"} for each in outlooks)
        told = [f"{able} rules judge this run", *_grouped(outlooks, "blind"), *_grouped(outlooks, "weak")]
        for outlook, heading in (("short", "too short a run for"), ("late", "late")):
            them = [each for each in outlooks if each.outlook == outlook]
            steps = [each.first_step for each in them if each.first_step is not None]
            if steps:
                when = f"step {min(steps):,}" + (f" to {max(steps):,}" if max(steps) > min(steps) else "")
                told += [f"{heading}: {_some(each.rule for each in them)} (first verdict at {when})"]
        if moot := [each.rule for each in outlooks if each.outlook == "moot"]:
            told += [f"nothing to judge: {', '.join(moot)}"]
        return "; ".join(told)

    def _plan(self, start: Start) -> Plan:
        args: Mapping[str, Any] = start.run.facts["args"]
        return Plan(
            trainer=start.run.trainer,
            args=args,
            trl=start.run.trl,
            max_steps=start.max_steps or None,
            has_resources=self._wanted.resources,
            has_checkpoints=self._wanted.checkpoints,
            has_measures=self._wanted.missing and not (args.get("fsdp") or args.get("deepspeed")),
        )


def _grouped(outlooks: Sequence[Foreseen], outlook: Outlook) -> list[str]:
    reasons = grouped(outlooks, [outlook])
    lists = ", ".join(f"{_some(names)} ({reason})" for reason, names in reasons.items())
    return [f"{outlook}: {lists}"] if lists else []


def _some(names: Iterable[str]) -> str:
    """Name a few rules, and count the others."""
    listed = list(names)
    more = len(listed) - _MOST_NAMED
    return ", ".join(listed) if more <= 1 else f"{', '.join(listed[:_MOST_NAMED])} and {more} more"


def _identity(start: Start) -> Iterator[str]:
    who = start.who
    whence = f", continuing {who.continues}" if who.continues else ""
    yield f"run {who.run_id} (from {who.origin}){whence}, journal {start.journal}"
    if start.step and start.is_training:
        yield f"run {who.run_id} goes on from step {start.step:,}"


def _trackers(start: Start) -> str:
    if not start.sinks:
        return "none, the journal alone"
    return ", ".join(_whose(sink, set(start.attached)) for sink in start.sinks)


def _whose(sink: Sink, attached: set[str]) -> str:
    known = f" {sink.tracker_run_id}" if sink.tracker_run_id else ""
    return f"{sink.name} run{known} ({'the active one' if sink.name in attached else 'of its own'})"


def _overlap(start: Start) -> Iterator[str]:
    """Tell where the trainer's own reports and RLDK's meet, and where either is alone."""
    theirs = {str(name) for name in start.run.facts.get("report_to") or ()} - {"none"}
    ours = {sink.name for sink in start.sinks}
    if shared := sorted(theirs & ours & set(start.attached)):
        names = ", ".join(shared)
        yield f"report_to: {names}, where RLDK writes to the same run; its names begin with rldk/"
    if apart := sorted((theirs & ours) - set(start.attached)):
        yield f"report_to: {', '.join(apart)}, where the trainer and RLDK write to runs of their own"
    if alone := sorted(theirs - ours):
        yield f"report_to: {', '.join(alone)}, where the trainer writes and RLDK does not"
    if not theirs:
        where = ", ".join(sorted(ours)) or "the journal"
        yield f"report_to: nothing, so that this run is in {where} alone"
