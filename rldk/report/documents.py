"""From the story of a run to final_report.json and alerts.json."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rldk import catalog
from rldk.event import spell_non_finite, utf8
from rldk.redact import redact, redact_text
from rldk.report import numbers, panels
from rldk.report.schema import (
    VERSION,
    Alert,
    AlertCounts,
    AlertsFile,
    Checkpoints,
    CheckpointSummary,
    Delivered,
    FinalReport,
    Health,
    MetricSummary,
    Resources,
    ResourceSummary,
    RuleState,
    RunFacts,
    Steps,
)
from rldk.report.story import LEVELS, is_told, known

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rldk.delivery import DeliveryReport
    from rldk.report.story import Checkpoint, Episode, Samples, Story

_VERDICTS: Final = frozenset({"ok", "warning", "critical", "unknown"})
_STATES: Final = frozenset({"ok", "firing", "unavailable"})
_UNITS: Final = {
    "_percent": "%",
    "_bytes_per_s": "bytes/s",
    "_bytes": "bytes",
    "_frac": "fraction",
    "_w": "W",
    "_c": "°C",
}
_GPU_FRACTION: Final = re.compile(r"(gpu\d+)_memory_used_frac")
_YEAR_10000: Final = 253_402_300_800


def as_json(document: object) -> bytes:
    """Write a document as strict JSON, readable for people: NaN and the infinities have their names."""
    told = spell_non_finite(msgspec.to_builtins(document, str_keys=True, enc_hook=str))
    text = json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1)
    return (text + "\n").encode("utf-8", "replace")


def alerts_file(story: Story) -> AlertsFile:
    """List every alert of a run."""
    alerts = [_alert(episode) for episode in story.episodes]
    return AlertsFile(schema=VERSION, run_id=story.run_id, trainer=story.trainer or None, alerts=alerts)


def _alert(episode: Episode) -> Alert:
    told, first = episode.told, episode.first
    evidence = told.get("evidence")
    return Alert(
        id=episode.id,
        rule=episode.rule,
        title=title_of(told),
        severity=episode.severity,  # type: ignore[arg-type]  # one of the levels
        state="firing" if episode.until_step is None else "ok",
        step=first.step,
        time=first.time if is_told(first.time) else None,
        wall_time=first.wall_time if math.isfinite(first.wall_time) else None,
        until_step=episode.until_step,
        message=episode.message,
        evidence=evidence if isinstance(evidence, dict) else {},
        metrics=episode.metrics,
        advice=text(told, "advice"),
        source=text(told, "source"),
    )


def final_report(
    story: Story,
    *,
    deliveries: Iterable[DeliveryReport] = (),
    health: Mapping[str, Any] | None = None,
    files: Iterable[str] = (),
) -> FinalReport:
    """Sum up a run.

    Args:
        story: The run.
        deliveries: What each tracker has of it.
        health: What is to be told of its health where its end event tells nothing.
        files: Names of the run's files.
    """
    versions, host, end = story.fact("versions"), story.fact("host"), story.end
    return FinalReport(
        schema=VERSION,
        run=_run(story),
        trainer=story.trainer or None,
        versions={str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {},
        host=host if isinstance(host, dict) else None,
        metrics=summaries(story, (name for panel in main_panels(story) for name in panel)),
        evaluation=summaries(story, main_evaluations(story), "eval"),
        health=judged(story, health),
        alerts=_counts(story),
        resources=_resources(story),
        checkpoints=_checkpoints(story),
        delivery={report.tracker: delivered(report) for report in deliveries},
        stopped_by=text(end.model_info, "stopped_by") or None if end is not None else None,
        files=list(files),
    )


def _run(story: Story) -> RunFacts:
    steps = story.steps()
    began, ended = story.began, story.last_time or None
    return RunFacts(
        run_id=story.run_id,
        name=str(story.fact("name") or "") or None,
        status=text(story.end.model_info, "status") or None if story.end is not None else None,
        continues=story.continues,
        git_sha=story.git_sha,
        seed=story.seed,
        segments=story.segments,
        began=iso(began),
        began_time=began,
        ended=iso(ended),
        ended_time=ended,
        duration_s=round(ended - began, 3) if began is not None and ended is not None else None,
        steps=Steps(first=int(steps[0]), last=int(steps[-1]), count=len(steps)) if len(steps) else None,
    )


def main_panels(story: Story) -> list[tuple[str, ...]]:
    """The plots of a run's training: lists of metrics that share an axis."""
    measured = story.names["train"]
    wanted = (name for name in measured if any(episode.is_about(name) for episode in story.episodes))
    return panels.panels(story.trainer, measured, wanted)


def main_evaluations(story: Story) -> list[str]:
    """The main metrics of a run's evaluations, those of each data set."""
    trained = [name for panel in main_panels(story) for name in panel]
    measured = story.names["eval"]
    chosen = panels.panels(story.trainer, [*trained, *map(of_set, measured)])
    main = {name for panel in chosen for name in panel}
    return [name for name in measured if of_set(name) in main]


def summaries(story: Story, names: Iterable[str], phase: str = "train") -> dict[str, MetricSummary]:
    """Sum up metrics that were measured."""
    return {name: summarized(story, name, phase) for name in names}


def of_set(name: str) -> str:
    """The name of an evaluation's metric without that of the data set, which may stand before it."""
    metric = known(name, "eval")
    return name if metric is None or catalog.named(name) is metric else name.partition("/")[2]


def summarized(story: Story, name: str, phase: str) -> MetricSummary:
    """Sum up one of them."""
    metric = known(name, phase)
    series = story.series(name, phase)
    return numbers.summary(series, series.unit, metric.good if metric is not None else "")


def judged(story: Story, given: Mapping[str, Any] | None = None) -> Health | None:
    """Give the health of a run: as its end event tells it, else as given, else as the last alert has it."""
    told = story.health or redact(given)  # the story holds no secrets
    if told is None:
        last = story.last_word
        return (
            None if last is None else Health(verdict=_verdict(last), firing=_names(last, "firing"), rules=[])
        )
    rules = told.get("rules")
    states = [_state(one) for one in rules if isinstance(one, dict)] if isinstance(rules, list) else []
    return Health(verdict=_verdict(told), firing=_names(told, "firing"), rules=states)


def _state(told: Mapping[str, Any]) -> RuleState:
    severity = told.get("severity")
    return RuleState(
        rule=text(told, "rule"),
        title=title_of(told),
        state=text(told, "state") if told.get("state") in _STATES else "unavailable",
        severity=severity if severity in LEVELS else None,
        reason=text(told, "reason"),
        advice=text(told, "advice"),
        source=text(told, "source"),
        metrics=_names(told, "metrics"),
        applies=told.get("applies") is not False,
        alerts=_whole(told, "alerts") or 0,
        first_step=_whole(told, "first_step"),
        last_step=_whole(told, "last_step"),
        points=_whole(told, "points") or 0,
    )


def _counts(story: Story) -> AlertCounts:
    severities = [episode.severity for episode in story.episodes]
    counts = {level: severities.count(level) for level in LEVELS}
    return AlertCounts(**counts, ids=[episode.id for episode in story.episodes])


def _resources(story: Story) -> Resources:
    told = {name: _used(samples) for name, samples in story.resources.items()}
    peaks = {
        found[1]: one.max
        for name, one in told.items()
        if (found := _GPU_FRACTION.fullmatch(name)) and one.max is not None
    }
    return Resources(measured=told, gpu_memory_peak_frac=peaks)


def _used(samples: Samples) -> ResourceSummary:
    finite = numbers.steady(samples)
    return ResourceSummary(
        unit=resource_unit(samples.name),
        count=len(samples.values),
        mean=numbers.mean(finite),
        max=float(finite.max()) if len(finite) else None,
        last=float(samples.values[-1]),
    )


def resource_unit(name: str) -> str:
    """The unit of a resource, which its name ends in."""
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "1")


def _checkpoints(story: Story) -> Checkpoints:
    good = story.last_good
    return Checkpoints(
        saved=[_saved(checkpoint) for checkpoint in story.checkpoints],
        last_good=good.folder if good is not None else None,
    )


def _saved(checkpoint: Checkpoint) -> CheckpointSummary:
    return CheckpointSummary(
        folder=checkpoint.folder,
        step=checkpoint.step,
        size_bytes=_whole(checkpoint.numbers, "size_bytes"),
        good=checkpoint.is_good,
        numbers=dict(checkpoint.numbers),
        findings=[text(one, "message") or text(one, "rule") for one in checkpoint.findings],
    )


def delivered(report: DeliveryReport) -> Delivered:
    """What a tracker has of a run, and where; no secret is in it."""
    home = report.home
    return Delivered(
        url=redact_text(home.url) if home is not None and home.url else None,
        source=redact_text(home.source) if home is not None else None,
        delivered=report.delivered,
        waiting=report.waiting,
        rejected=report.rejected,
        complete=report.is_closed,
        reasons=list(report.reasons),
    )


def title_of(told: Mapping[str, Any]) -> str:
    """A rule's name for people."""
    return text(told, "title") or text(told, "rule").replace("_", " ")


def text(told: Mapping[str, Any], name: str) -> str:
    """A text that a mapping holds; empty where it is missing or none."""
    value = told.get(name)
    return utf8(value) if isinstance(value, str) else ""


def iso(time: float | None) -> str | None:
    """A time as ISO 8601, UTC, in whole milliseconds."""
    if time is None or not 0 <= time < _YEAR_10000:
        return None
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _verdict(told: Mapping[str, Any]) -> Any:  # noqa: ANN401  # one of the verdicts
    verdict = told.get("verdict")
    return verdict if verdict in _VERDICTS else "unknown"


def _names(told: Mapping[str, Any], name: str) -> list[str]:
    value = told.get(name)
    return [utf8(str(each)) for each in value] if isinstance(value, list | tuple) else []


def _whole(told: Mapping[str, Any], name: str) -> int | None:
    value = told.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
