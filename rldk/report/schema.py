"""What do final_report.json and alerts.json hold: their fields, types and meaning, versioned."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

VERSION: Final = 1
"""Grows when a field goes or changes its meaning; new fields may come without."""

Number = int | float | Literal["NaN", "Infinity", "-Infinity"]
Severity = Literal["info", "warning", "critical"]
Verdict = Literal["ok", "warning", "critical", "unknown"]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all parts of the two files have in common."""


class Point(_Part, frozen=True):
    """A number at a step."""

    step: Annotated[int, Meta(description="The step.")]
    value: Annotated[Number, Meta(description="The metric's value there.")]


class Steps(_Part, frozen=True):
    """Which steps a run logged."""

    first: Annotated[int, Meta(description="The first step with a number of the training.")]
    last: Annotated[int, Meta(description="The last one.")]
    count: Annotated[int, Meta(description="How many steps have numbers; superseded ones do not count.")]


class RunFacts(_Part, frozen=True):
    """Which run it is, and when it ran."""

    run_id: Annotated[str, Meta(description="The run.")]
    name: Annotated[str | None, Meta(description="Its name, where it has one beside its id.")]
    status: Annotated[
        str | None,
        Meta(
            description="`FINISHED`, `FAILED` or `KILLED`; null where nothing tells how, or that, it ended."
        ),
    ]
    continues: Annotated[str | None, Meta(description="The run whose checkpoint it resumed under a new id.")]
    git_sha: Annotated[str | None, Meta(description="Commit of the training's code.")]
    seed: Annotated[int | None, Meta(description="Seed of the trainer.")]
    segments: Annotated[int, Meta(description="How many starts of the training it has.")]
    began: Annotated[str | None, Meta(description="When it began, ISO 8601, UTC.")]
    began_time: Annotated[float | None, Meta(description="The same in seconds since the epoch.")]
    ended: Annotated[str | None, Meta(description="When it ended, or its last event came, ISO 8601, UTC.")]
    ended_time: Annotated[float | None, Meta(description="The same in seconds since the epoch.")]
    duration_s: Annotated[
        float | None, Meta(description="Seconds from the one to the other, breaks between starts too.")
    ]
    steps: Annotated[Steps | None, Meta(description="Its steps; null where none has a number.")]


class MetricSummary(_Part, frozen=True):
    """What one metric did."""

    unit: Annotated[str, Meta(description="Its unit; empty where the catalog does not know the metric.")]
    good: Annotated[str, Meta(description="`up`, `down`, or empty where neither is good in itself.")]
    count: Annotated[int, Meta(description="At how many steps it was measured.")]
    nonfinite: Annotated[int, Meta(description="How often that gave NaN or an infinity.")]
    first: Annotated[Point, Meta(description="The first measurement.")]
    last: Annotated[Point, Meta(description="The last one.")]
    best: Annotated[
        Point | None, Meta(description="The first of the best finite ones; null where none is better.")
    ]
    min: Annotated[float | None, Meta(description="The least finite value.")]
    max: Annotated[float | None, Meta(description="The greatest finite value.")]
    last_tenth_mean: Annotated[
        float | None, Meta(description="Mean of the last 10 % of the finite values, at least one.")
    ]
    slope: Annotated[
        Number | None,
        Meta(
            description="Change per 1000 steps, by Theil and Sen: the median slope of all pairs of finite "
            "points, of more than 200 points those of the medians of 200 neighbourhoods."
        ),
    ]


class RuleState(_Part, frozen=True):
    """What one rule of the health says at the end."""

    rule: Annotated[str, Meta(description="Its name.")]
    title: Annotated[str, Meta(description="Its name for people.")]
    state: Annotated[str, Meta(description="`ok`, `firing` or `unavailable`.")]
    severity: Annotated[Severity | None, Meta(description="The worst that it reached.")] = None
    reason: Annotated[str, Meta(description="What is seen, or why it cannot be judged.")] = ""
    advice: Annotated[str, Meta(description="What to do where it fires.")] = ""
    source: Annotated[str, Meta(description="Where the rule comes from.")] = ""
    metrics: Annotated[list[str], Meta(description="The metrics that it reads.")] = []
    applies: Annotated[bool, Meta(description="Whether it is about such a trainer at all.")] = True
    alerts: Annotated[int, Meta(description="How often it began to fire.")] = 0
    first_step: Annotated[int | None, Meta(description="The first step at which it fired.")] = None
    last_step: Annotated[int | None, Meta(description="The last one.")] = None
    points: Annotated[int, Meta(description="How many measurements it judged.")] = 0


class Health(_Part, frozen=True):
    """The health of the run: every rule, also those that cannot be judged."""

    verdict: Annotated[Verdict, Meta(description="The worst that the run reached; `info` counts as ok.")]
    firing: Annotated[list[str], Meta(description="The rules that fire at the end.")]
    rules: Annotated[list[RuleState], Meta(description="Every rule.")]


class AlertCounts(_Part, frozen=True):
    """How many alerts there were."""

    info: Annotated[int, Meta(description="Of this severity.")]
    warning: Annotated[int, Meta(description="Of this severity.")]
    critical: Annotated[int, Meta(description="Of this severity.")]
    ids: Annotated[list[str], Meta(description="Their ids, in order, as in alerts.json.")]


class ResourceSummary(_Part, frozen=True):
    """What was used of one resource."""

    unit: Annotated[str, Meta(description="Its unit.")]
    count: Annotated[int, Meta(description="How many samples there are.")]
    mean: Annotated[float | None, Meta(description="Mean of the finite samples.")]
    max: Annotated[float | None, Meta(description="The greatest one.")]
    last: Annotated[Number, Meta(description="The last sample.")]


class Resources(_Part, frozen=True):
    """What was used of the machine."""

    measured: Annotated[dict[str, ResourceSummary], Meta(description="Each resource, by name.")]
    gpu_memory_peak_frac: Annotated[
        dict[str, float], Meta(description="The greatest fraction of its memory in use, by GPU (`gpu0`).")
    ]


class CheckpointSummary(_Part, frozen=True):
    """One checkpoint."""

    folder: Annotated[str, Meta(description="Where it was saved.")]
    step: Annotated[int, Meta(description="At which step.")]
    size_bytes: Annotated[int | None, Meta(description="Bytes of all its files.")]
    good: Annotated[bool, Meta(description="Whether nothing that is known of it speaks against its use.")]
    numbers: Annotated[dict[str, Number], Meta(description="All that was measured of it, by name.")]
    findings: Annotated[list[str], Meta(description="What its analysis found to be wrong, a sentence each.")]


class Checkpoints(_Part, frozen=True):
    """What was saved."""

    saved: Annotated[list[CheckpointSummary], Meta(description="Each checkpoint, by step.")]
    last_good: Annotated[
        str | None, Meta(description="Folder of the last good one from before the first critical alert.")
    ]


class Delivered(_Part, frozen=True):
    """What one tracker has of the run."""

    url: Annotated[str | None, Meta(description="The run's page, without secrets.")]
    source: Annotated[str | None, Meta(description="What `rldk ingest` takes to read it there.")]
    delivered: Annotated[int, Meta(description="Events that it accepted in this start of the training.")]
    waiting: Annotated[int, Meta(description="Events that had not reached it when this was written.")]
    rejected: Annotated[int, Meta(description="Events that it refused for good.")]
    complete: Annotated[bool, Meta(description="Whether it also had the files, and the run's end, by then.")]
    reasons: Annotated[list[str], Meta(description="What went wrong, a sentence each.")]


class FinalReport(_Part, frozen=True):
    """The whole of `{run_id}_final_report.json`."""

    schema: Annotated[int, Meta(description="Version of this schema: 1.")]
    run: Annotated[RunFacts, Meta(description="Which run it is, and when it ran.")]
    trainer: Annotated[str | None, Meta(description="Short name of the trainer, such as `GRPO`.")]
    versions: Annotated[dict[str, str], Meta(description="Versions of the libraries, by name.")]
    host: Annotated[dict[str, Any] | None, Meta(description="What the run event tells of the machine.")]
    metrics: Annotated[
        dict[str, MetricSummary], Meta(description="The main metrics of training, by canonical name.")
    ]
    evaluation: Annotated[dict[str, MetricSummary], Meta(description="Those of evaluations.")]
    health: Annotated[Health | None, Meta(description="The rules' word; null where none was asked for.")]
    alerts: Annotated[AlertCounts, Meta(description="How many alerts there were.")]
    resources: Annotated[Resources, Meta(description="What was used of the machine.")]
    checkpoints: Annotated[Checkpoints, Meta(description="What was saved.")]
    delivery: Annotated[dict[str, Delivered], Meta(description="What each tracker has, by tracker.")]
    stopped_by: Annotated[
        str | None, Meta(description="Id of the alert for which `stop_on` stopped the run.")
    ]
    files: Annotated[list[str], Meta(description="Names of the run's files in the same folder.")]


class Alert(_Part, frozen=True):
    """One time that a rule fired, from the first alert until it was over."""

    id: Annotated[str, Meta(description="`<rule>@<step>`, for `rldk explain`.")]
    rule: Annotated[str, Meta(description="The rule.")]
    title: Annotated[str, Meta(description="Its name for people.")]
    severity: Annotated[Severity, Meta(description="The worst that it reached this time.")]
    state: Annotated[Literal["firing", "ok"], Meta(description="`ok` once it was over.")]
    step: Annotated[int, Meta(description="At which step it began.")]
    time: Annotated[float | None, Meta(description="When, seconds since the epoch.")]
    wall_time: Annotated[float | None, Meta(description="When, seconds since the run began.")]
    until_step: Annotated[int | None, Meta(description="At which step it was over; null while it lasts.")]
    message: Annotated[str, Meta(description="What is the matter, at its worst, a sentence.")]
    evidence: Annotated[dict[str, Any], Meta(description="The rule's numbers behind it.")]
    metrics: Annotated[list[str], Meta(description="The metrics that the rule reads.")]
    advice: Annotated[str, Meta(description="What to do.")]
    source: Annotated[str, Meta(description="Where the rule comes from.")]


class AlertsFile(_Part, frozen=True):
    """The whole of `{run_id}_alerts.json`."""

    schema: Annotated[int, Meta(description="Version of this schema: 1.")]
    run_id: Annotated[str, Meta(description="The run.")]
    trainer: Annotated[str | None, Meta(description="Short name of the trainer.")]
    alerts: Annotated[list[Alert], Meta(description="Every alert in order; empty for a healthy run.")]
