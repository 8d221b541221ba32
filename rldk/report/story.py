"""Everything that the outputs tell of one run, gathered in one pass over its events."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from rldk import catalog, frame
from rldk.event import utf8
from rldk.hiding import hidden
from rldk.rows import Rows
from rldk.schema import column_of, metric_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from rldk.event import Event
    from rldk.rows import Places, Start, Values

LEVELS: Final = ("info", "warning", "critical")
"""The severities, the mildest first."""

_MOST_OF_A_KIND: Final = 10_000
_YEAR_1980: Final = 315_532_800.0


class Series(NamedTuple):
    """One metric in the course of a run.

    Attributes:
        name: Canonical name.
        steps: The steps at which it was measured, growing, of shape (points,).
        values: What was measured there, NaN and infinities as they came, of shape (points,).
        phase: `train` or `eval`.
    """

    name: str
    steps: Places
    values: Values
    phase: str = "train"

    @property
    def unit(self) -> str:
        """The metric's unit; empty where nobody knows."""
        metric = known(self.name, self.phase)
        return metric.unit if metric is not None else ""


class Samples(NamedTuple):
    """One resource in the course of a run.

    Attributes:
        name: Its name.
        times: Seconds since the run began, of shape (samples,).
        values: What was measured then, of shape (samples,).
    """

    name: str
    times: Values
    values: Values


class Episode(NamedTuple):
    """A rule fired: from its first alert until it was over.

    Attributes:
        number: Its place among the run's episodes, from 1.
        first: The event with which it began.
        worst: The event with the worst severity, the last of several.
        until_step: The step at which it was over; None while it lasts.
    """

    number: int
    first: Event
    worst: Event
    until_step: int | None = None

    @property
    def id(self) -> str:
        """`<rule>@<step>`."""
        return f"{self.rule}@{self.first.step}"

    @property
    def rule(self) -> str:
        """Name of the rule."""
        return rule_of(self.first)

    @property
    def since_step(self) -> int:
        """The first bad step, which a rule that waits for a second one tells of later."""
        since = self.first.model_info["alert"].get("since_step")
        return since if isinstance(since, int) else self.first.step

    @property
    def told(self) -> Mapping[str, Any]:
        """What the worst of its alerts tells."""
        return self.worst.model_info["alert"]  # type: ignore[no-any-return]  # a mapping, or it were no episode

    @property
    def severity(self) -> str:
        """`info`, `warning` or `critical`, the worst that it reached."""
        return severity_of(self.worst)

    @property
    def metrics(self) -> list[str]:
        """The metrics that the rule reads."""
        names = self.told.get("metrics")
        return [str(name) for name in names] if isinstance(names, list | tuple) else []

    def is_about(self, metric: str) -> bool:
        """Whether it speaks of a metric: one that the rule reads, or else one that its evidence names."""
        evidence = self.told.get("evidence")
        names = self.metrics or (list(evidence) if isinstance(evidence, dict) else [])
        return any(
            metric.startswith(name[:-1]) if name.endswith("*") else metric == name for name in map(str, names)
        )

    @property
    def message(self) -> str:
        """What is the matter, a sentence."""
        return str(self.told.get("message") or next(iter(self.worst.notes), ""))


class Checkpoint(NamedTuple):
    """A checkpoint that was saved, and what its analysis found.

    Attributes:
        folder: Where it is.
        step: At which step it was saved.
        time: When, seconds since the epoch.
        numbers: What was measured of it.
        analysis: What the analysis tells beside the numbers; empty where there was none.
    """

    folder: str
    step: int
    time: float
    numbers: Mapping[str, int | float]
    analysis: Mapping[str, Any]

    @property
    def findings(self) -> list[Mapping[str, Any]]:
        """What the analysis found to be wrong."""
        told = self.analysis.get("findings")
        return [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []

    @property
    def is_good(self) -> bool:
        """Whether nothing that is known of it speaks against going on from it."""
        is_finite = not self.numbers.get("nonfinite_count", 0)
        return is_finite and all(one.get("severity") != "critical" for one in self.findings)


class Story:
    """One run, as its events tell it; events of other runs must be kept from it.

    Metrics and resources are held in columns (`rldk.rows.Rows`), all other events as they are. Steps that
    a later start of the training has superseded are left out, as in `rldk.frame.table`, and so are the
    alerts and checkpoints of such steps.

    Args:
        run_id: The run; by default the one that the first event names.

    Attributes:
        run_id: The run.
        starts: The run events, in order.
        end: The end event; None where the run has none, or went on after it.
        began: When the run began, seconds since the epoch; None where nobody knows.
        last_time: Time of the last event, seconds since the epoch.
    """

    def __init__(self, run_id: str = "") -> None:
        self.run_id = run_id
        self.starts: list[Event] = []
        self.end: Event | None = None
        self.began: float | None = None
        self.last_time = 0.0
        self._rows = Rows(run_id)
        self._resources = Rows(run_id)
        self._alerts: list[Event] = []
        self._checkpoints: list[Event] = []

    @classmethod
    def of(cls, events: Iterable[Event], run_id: str = "") -> Story:
        """Gather a run's events, in the order in which they were written, with canonical names.

        Raises:
            SourceError: There are too many different metrics to be metrics.
        """
        story = cls(run_id)
        for event in events:
            story.add(event)
        return story

    def add(self, event: Event) -> None:
        """Take one more event.

        Raises:
            SourceError: There are too many different metrics to be metrics.
        """
        event = hidden(event)  # others than RLDK have written some of them
        if not self.run_id and event.run_id:
            self.run_id = self._rows.run_id = utf8(event.run_id)
        if is_told(event.time):
            self.last_time = max(self.last_time, event.time)
            if self.began is None and np.isfinite(event.wall_time):
                self.began = round(event.time - event.wall_time, 3)
        if event.kind == "resource":
            self._resources.add(msgspec.structs.replace(event, kind="metrics"))
            return
        self._rows.add(event)
        if event.kind == "run":
            self.starts.append(event)
            self.end = None
        elif event.kind == "end":
            self.end = event
        elif event.kind == "alert" and isinstance(event.model_info.get("alert"), dict):
            self._keep(self._alerts, event)
        elif event.kind == "checkpoint":
            self._keep(self._checkpoints, event)

    def _keep(self, events: list[Event], event: Event) -> None:
        if len(events) < _MOST_OF_A_KIND:  # a rule that went mad must not take the memory
            events.append(event)

    @property
    def trainer(self) -> str:
        """Short name of the trainer, such as `GRPO`; empty where nobody knows."""
        return self._rows.trainer.removesuffix("Trainer")

    @property
    def segments(self) -> int:
        """How many starts of the training the run had."""
        return len(self._rows.segments)

    @property
    def continues(self) -> str | None:
        """The run that this one resumed under a new id."""
        return self._rows.continues

    @property
    def resumes(self) -> list[Start]:
        """Each start of training but the first."""
        return self._rows.starts[1:]

    def fact(self, name: str) -> Any:  # noqa: ANN401  # any JSON value
        """What the newest run event that tells of it says; None where none does."""
        return next((s.model_info[name] for s in reversed(self.starts) if s.model_info.get(name)), None)

    @property
    def seed(self) -> int | None:
        """The seed, where an event tells it."""
        told = [facts.seed for facts in self._rows.facts if facts.seed is not None]
        seeds = [start.rng["seed"] for start in self.starts if isinstance(start.rng.get("seed"), int)]
        return next(iter(seeds + told), None)

    @property
    def git_sha(self) -> str | None:
        """The commit of the training's code, as the last event that tells it."""
        told = [facts.git_sha for facts in self._rows.facts if facts.git_sha]
        return str(self.fact("git_sha") or "") or next(reversed(told), None)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The TrainingMetrics table, built once: no event may be added any more."""
        return frame.table([self._rows])

    @cached_property
    def _phases(self) -> Mapping[str, Any]:
        phase = self.table["phase"].to_numpy(dtype=object)
        return {name: np.flatnonzero(phase == name) for name in ("train", "eval")}

    def steps(self) -> Places:
        """The steps of the rows of training, growing."""
        rows: Places = self.table["step"].to_numpy()[self._phases["train"]]
        return rows

    @cached_property
    def span(self) -> tuple[float, float]:
        """The first and the last step of which the table tells; 0 and 1 where there is none."""
        steps = self.table["step"]
        return (float(steps.min()), float(steps.max())) if len(steps) else (0.0, 1.0)

    @cached_property
    def names(self) -> Mapping[str, list[str]]:
        """The metrics that were measured, by phase, each in the table's order."""
        told: dict[str, list[str]] = {"train": [], "eval": []}
        for column, dtype in self.table.dtypes.items():
            if str(dtype) == "Float64":
                there = self.table[column].notna().to_numpy()
                for phase, rows in self._phases.items():
                    told[phase] += [metric_of(str(column))] if there[rows].any() else []
        return told

    def series(self, name: str, phase: str = "train") -> Series:
        """A metric in the course of the run; of no points where it was not measured."""
        column = column_of(name)
        if column not in self.table:
            return Series(name, np.empty(0, np.int64), np.empty(0))
        rows = self._phases[phase]
        cells = self.table[column].iloc[rows]
        there = cells.notna().to_numpy()
        values = cells.to_numpy("float64", na_value=0.0)
        return Series(name, self.table["step"].to_numpy()[rows][there], values[there], phase)

    @cached_property
    def resources(self) -> Mapping[str, Samples]:
        """What was measured of the machine, by name."""
        told = {}
        times = self._resources.wall_times
        for name, pieces in sorted(self._resources.cells().items()):
            places = np.concatenate([places for places, _ in pieces])
            order = np.argsort(places, kind="stable")
            values = np.concatenate([values for _, values in pieces])[order]
            told[name] = Samples(name, times[places[order]], values)
        return told

    @cached_property
    def episodes(self) -> list[Episode]:
        """Each time that a rule fired, in order."""
        told: list[Episode] = []
        lasting: dict[str, int] = {}
        for event in filter(self._is_kept, self._alerts):
            rule = rule_of(event)
            place = lasting.get(rule)
            if event.model_info["alert"].get("state") == "ok":
                if place is not None:
                    told[lasting.pop(rule)] = told[place]._replace(until_step=event.step)
            elif place is None:
                lasting[rule] = len(told)
                told.append(Episode(len(told) + 1, event, event))
            elif LEVELS.index(severity_of(event)) >= LEVELS.index(told[place].severity):
                told[place] = told[place]._replace(worst=event)
        return [self._closed(episode) for episode in told]

    def _closed(self, episode: Episode) -> Episode:
        """End what a later start of training left behind: the end of the run says that it does not fire."""
        health = self.health
        if episode.until_step is not None or health is None or episode.rule in health.get("firing", []):
            return episode
        later = [start.step for start in self.resumes if start.segment > episode.first.segment]
        return episode._replace(until_step=max(later[0], episode.first.step)) if later else episode

    @property
    def health(self) -> Mapping[str, Any] | None:
        """What the end event tells of the run's health; None where there is none."""
        told = self.end.model_info.get("health") if self.end is not None else None
        return told if isinstance(told, dict) else None

    @property
    def last_word(self) -> Mapping[str, Any] | None:
        """What the last alert says, for a run without an end; None where there was none."""
        last = next(reversed(self._alerts), None)
        return last.model_info["alert"] if last is not None else None

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        """What was saved, in order; a folder that was written again tells of the last time alone."""
        told: dict[str, Checkpoint] = {}
        for event in filter(self._is_kept, self._checkpoints):
            folder = str(event.model_info.get("checkpoint", ""))
            analysis = event.model_info.get("analysis")
            before = told.get(folder)
            same = before if before is not None and before.step == event.step else None
            told[folder] = Checkpoint(
                folder,
                event.step,
                same.time if same else event.time,
                {**(same.numbers if same else {}), **event.metrics},
                analysis if isinstance(analysis, dict) else same.analysis if same else {},
            )
        return sorted(told.values(), key=lambda checkpoint: checkpoint.step)

    @property
    def last_good(self) -> Checkpoint | None:
        """The last checkpoint that nothing speaks against, saved before the first critically bad step."""
        broken = min((e.since_step for e in self.episodes if e.severity == "critical"), default=None)
        good = [
            c
            for c in self.checkpoints
            if c.is_good and (broken is None or c.step < broken) and not _is_gone(c.folder)
        ]
        return good[-1] if good else None

    def _is_kept(self, event: Event) -> bool:
        """Whether the event led to the run's present state."""
        later = [start.step for start in self._rows.starts if start.segment > event.segment]
        return not later or event.step <= min(later)


def is_told(time: float) -> bool:
    """Whether a source tells when something was: of a log without times, events come soon after 1970."""
    return time >= _YEAR_1980


def _is_gone(folder: str) -> bool:
    """Whether a checkpoint was here and is not any more; one of another machine may still be there."""
    path = Path(folder)
    return path.parent.is_dir() and not path.is_dir()


def rule_of(alert: Event) -> str:
    """Name of the rule that an alert event tells of."""
    return utf8(str(alert.model_info["alert"].get("rule") or "unnamed"))


def severity_of(alert: Event) -> str:
    """The severity that an alert event tells; `warning` where it tells none that is known."""
    told = alert.model_info["alert"].get("severity")
    return str(told) if told in LEVELS else "warning"


def known(name: str, phase: str) -> catalog.Metric | None:
    """Look a metric up in the catalog; one of an evaluation may have its data set before its name."""
    of_set = catalog.named(name.partition("/")[2]) if phase == "eval" and "/" in name else None
    return catalog.named(name) or of_set
