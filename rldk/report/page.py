"""What does the page show of a run: one self-contained HTML file that needs no network and no script."""

from __future__ import annotations

from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from rldk.report import documents, figures
from rldk.report.html import NONE, esc, evidence, link, mark, number, quantity, size, table
from rldk.report.status import span
from rldk.report.story import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rldk.report.schema import Alert, FinalReport, MetricSummary, RuleState
    from rldk.report.story import Story

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
_HOW_TO_READ: Final = (
    "Thin lines are what was measured, thick ones running medians; of a line of more than 600 points the "
    "least and the greatest of each of 300 stretches are drawn, so that no spike is lost. "
    "A red cross at the lower edge is a NaN, an arrow an infinity."
)
_MOST_ROWS: Final = 300
_SAID: Final = {
    "ok": "healthy",
    "warning": "warnings",
    "critical": "critical",
    "unknown": "health unknown",
}
_STATE_RANK: Final = {"firing": 0, "unavailable": 2}
_SENSES: Final = {"up": "higher is better", "down": "lower is better"}


def page(story: Story, report: FinalReport) -> bytes:
    """Write the page of a run.

    Args:
        story: The run.
        report: Its final report, which the page shows too.
    """
    alerts = documents.alerts_file(story).alerts
    style = files("rldk.report").joinpath("page.css").read_text(encoding="utf-8")
    parts = (
        _head(report),
        _next(report, alerts),
        _plots(story, alerts),
        _alerts(alerts),
        _health(report),
        _summaries("Main metrics", report.metrics),
        _summaries("Evaluation", report.evaluation),
        _others(story, report),
        _resources(story, report),
        _checkpoints(report),
        _delivery(report),
        _foot(report),
    )
    title = esc(f"{report.run.name or report.run.run_id} · RLDK report")
    text = (
        "<!doctype html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"{''.join(parts)}</body>\n</html>\n"
    )
    return text.encode("utf-8", "replace")


def _head(report: FinalReport) -> str:
    run = report.run
    verdict = report.health.verdict if report.health is not None else "unknown"
    told = {
        "run": run.run_id if run.name else "",
        "trainer": report.trainer,
        "status": run.status or "no end is recorded",
        "steps": f"{run.steps.first:,} to {run.steps.last:,} ({run.steps.count:,} logged)"
        if run.steps
        else "none",
        "duration": span(run.duration_s) if run.duration_s is not None else None,
        "began": _moment(run.began),
        "ended": _moment(run.ended),
        "starts": f"{run.segments}" if run.segments > 1 else "",
        "continues": run.continues,
        "seed": run.seed,
        "git commit": run.git_sha,
        **report.versions,
    }
    cells = "".join(
        f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>"
        for name, value in told.items()
        if value not in {None, ""}
    )
    stopped = (
        f'<p class="notice">Training was stopped by <b>{esc(report.stopped_by)}</b>.</p>'
        if report.stopped_by
        else ""
    )
    return (
        f'<header>\n<div class="head"><h1>{esc(run.name or run.run_id)}</h1>'
        f'<span class="mark verdict {verdict}">{_SAID[verdict]}</span></div>\n'
        f'<dl class="facts">{cells}</dl>\n{stopped}</header>\n'
    )


def _moment(iso: str | None) -> str | None:
    return f"{iso[:10]} {iso[11:19]} UTC" if iso is not None else None


def _next(report: FinalReport, alerts: list[Alert]) -> str:
    """Say what to do: the advice of each rule that fired, the worst first, and where to go on from."""
    worst: dict[str, Alert] = {}
    for alert in sorted(alerts, key=_rank):
        worst.setdefault(alert.rule, alert)
    items = [
        f"<li>{mark(alert.severity, alert.severity)} <b>{esc(alert.title)}</b> ({_when(alert)}): "
        f"{esc(alert.advice or alert.message)}{_source(alert.source)}</li>"
        for alert in worst.values()
        if alert.severity != "info"
    ]
    items += [f"<li>{esc(finding)}</li>" for one in report.checkpoints.saved for finding in one.findings][:20]
    if items and report.checkpoints.last_good:
        items.append(f"<li>The last good checkpoint is <b>{esc(report.checkpoints.last_good)}</b>.</li>")
    return (
        f'<section>\n<h2>What to do next</h2>\n<ul class="next">{"".join(items)}</ul>\n</section>\n'
        if items
        else ""
    )


def _when(alert: Alert) -> str:
    if alert.until_step is None:
        return f"from step {alert.step:,} on"
    return f"steps {alert.step:,} to {alert.until_step:,}"


def _rank(alert: Alert) -> tuple[int, int, int]:
    return (-LEVELS.index(alert.severity), alert.state != "firing", alert.step)


def _source(source: str) -> str:
    return f'<br><span class="soft small">Source: {link(source)}</span>' if source else ""


def _plots(story: Story, alerts: list[Alert]) -> str:
    drawn = figures.of_metrics(story)
    if drawn.reason:
        return f'<section>\n<h2>Plots</h2>\n<p class="notice">{esc(drawn.reason)}</p>\n</section>\n'
    if not drawn.figures:
        return '<section>\n<h2>Plots</h2>\n<p class="soft">No metric was recorded.</p>\n</section>\n'
    said = [_HOW_TO_READ]
    said += ["A dashed line with a number is an alert, a band how long it lasted."] if alerts else []
    said += ["A diamond on the step axis is a checkpoint."] if story.checkpoints else []
    said += ["A dotted line is a start of training that went on from there."] if story.resumes else []
    return (
        f'<section>\n<h2>Plots</h2>\n<p class="soft small">{" ".join(said)}</p>\n'
        f'<div class="plots">\n{"".join(drawn.figures)}</div>\n</section>\n'
    )


def _alerts(alerts: list[Alert]) -> str:
    if not alerts:
        return ""
    rows = [
        (
            str(place),
            mark(alert.severity, alert.severity),
            f"<b>{esc(alert.title)}</b>",
            _when(alert),
            f"<p>{esc(alert.message)}</p>{evidence(alert.evidence)}",
        )
        for place, alert in enumerate(alerts[:_MOST_ROWS], 1)
    ]
    text = table(("number#", "severity", "alert", "when", "what was seen"), rows, stacked=True)
    return f"<section>\n<h2>Alerts</h2>\n{text}{_more(len(alerts))}</section>\n"


def _more(count: int) -> str:
    left = count - _MOST_ROWS
    return f'<p class="soft">and {left:,} more, in the JSON and CSV files</p>\n' if left > 0 else ""


def _health(report: FinalReport) -> str:
    if report.health is None:
        said = "No rules have judged this run."
        return f'<section>\n<h2>Health</h2>\n<p class="soft">{said}</p>\n</section>\n'
    rows = [
        (
            f"<b>{esc(rule.title)}</b>",
            _state(rule),
            esc(rule.reason),
            esc(", ".join(rule.metrics)),
            number(rule.points),
        )
        for rule in sorted(report.health.rules, key=_rule_rank)
        if rule.applies
    ]
    others = [rule.title for rule in report.health.rules if not rule.applies]
    said = f"Of other trainers, and not asked: {', '.join(others)}." if others else ""
    text = table(("rule", "state", "why", "reads", "points#"), rows, stacked=True) if rows else ""
    foot = f'<p class="soft small">{esc(said)}</p>\n' if said else ""
    return f"<section>\n<h2>Health</h2>\n{text}{foot}</section>\n"


def _rule_rank(rule: RuleState) -> tuple[int, int, str]:
    level = LEVELS.index(rule.severity) if rule.severity is not None else -1
    return (_STATE_RANK.get(rule.state, 1), -level, rule.title)


def _state(rule: RuleState) -> str:
    if rule.state == "firing":
        return mark(f"{rule.severity or 'firing'}", rule.severity or "firing")
    fired = f' <span class="soft small">fired {rule.alerts} times</span>' if rule.alerts else ""
    return mark("OK" if rule.state == "ok" else rule.state, rule.state) + fired


def _summaries(title: str, metrics: Mapping[str, MetricSummary]) -> str:
    if not metrics:
        return ""
    heads = (
        "metric",
        "unit",
        "points#",
        "not finite#",
        "first#",
        "last#",
        "best#",
        "min#",
        "max#",
        "last 10 %#",
        "per 1000 steps#",
    )
    rows = [
        (
            esc(name),
            esc(one.unit),
            number(one.count),
            number(one.nonfinite) if one.nonfinite else "",
            number(one.first.value),
            number(one.last.value),
            f'{number(one.best.value)} <span class="soft">@ {one.best.step:,}</span>' if one.best else NONE,
            number(one.min),
            number(one.max),
            number(one.last_tenth_mean),
            number(one.slope),
        )
        for name, one in islice(metrics.items(), _MOST_ROWS)
    ]
    return f"<section>\n<h2>{title}</h2>\n{table(heads, rows)}{_more(len(metrics))}</section>\n"


def _others(story: Story, report: FinalReport) -> str:
    shown = {"train": report.metrics, "eval": report.evaluation}
    names = [(name, phase) for phase in shown for name in story.names[phase] if name not in shown[phase]]
    if not names:
        return ""
    rows = list(_other_rows(story, names[:_MOST_ROWS]))
    text = table(("metric", "phase", "unit", "points#", "not finite#", "last#", "min#", "max#"), rows)
    count = f"{len(names)} other metric{'s' if len(names) > 1 else ''}"
    return (
        f"<section>\n<details><summary>{count}</summary>\n{text}{_more(len(names))}</details>\n</section>\n"
    )


def _other_rows(story: Story, names: list[tuple[str, str]]) -> Iterator[tuple[str, ...]]:
    for name, phase in names:
        series = story.series(name, phase)
        finite = series.values[np.isfinite(series.values)]
        broken = len(series.values) - len(finite)
        yield (
            esc(name),
            phase,
            esc(series.unit),
            number(len(series.values)),
            number(broken) if broken else "",
            number(float(series.values[-1])),
            number(float(finite.min())) if len(finite) else NONE,
            number(float(finite.max())) if len(finite) else NONE,
        )


def _resources(story: Story, report: FinalReport) -> str:
    measured = report.resources.measured
    if not measured:
        return ""
    peaks = ", ".join(
        f"{gpu} {100 * peak:.0f} %" for gpu, peak in report.resources.gpu_memory_peak_frac.items()
    )
    said = f"<p>Peak of the memory in use: {esc(peaks)}.</p>\n" if peaks else ""
    rows = [
        (esc(name), number(one.count), *(quantity(v, one.unit) for v in (one.mean, one.max, one.last)))
        for name, one in islice(measured.items(), _MOST_ROWS)
    ]
    text = table(("resource", "samples#", "mean#", "max#", "last#"), rows)
    drawn = "".join(figures.of_resources(story).figures)
    return (
        f'<section>\n<h2>Resources</h2>\n{said}<div class="plots">\n{drawn}</div>\n'
        f"<details><summary>All {len(measured)} resources</summary>\n{text}</details>\n</section>\n"
    )


def _checkpoints(report: FinalReport) -> str:
    saved = report.checkpoints.saved
    if not saved:
        return ""
    rows = [
        (
            number(one.step),
            esc(one.folder),
            size(one.size_bytes) if one.size_bytes is not None else NONE,
            number(one.numbers.get("relative_change")),
            "<br>".join(map(esc, one.findings)) or ("" if one.good else "not finite"),
            mark("last good", "ok") if one.folder == report.checkpoints.last_good else "",
        )
        for one in saved[-_MOST_ROWS:]
    ]
    text = table(("step#", "folder", "size#", "change#", "findings", "use"), rows, stacked=True)
    return f"<section>\n<h2>Checkpoints</h2>\n{text}{_more(len(saved))}</section>\n"


def _delivery(report: FinalReport) -> str:
    if not report.delivery:
        return ""
    rows = [
        (
            esc(tracker),
            link(one.url or one.source or NONE),
            number(one.delivered),
            number(one.waiting),
            number(one.rejected),
            "<br>".join(map(esc, one.reasons)),
        )
        for tracker, one in report.delivery.items()
    ]
    text = table(
        ("tracker", "where", "delivered#", "waiting#", "refused#", "what went wrong"), rows, stacked=True
    )
    return f"<section>\n<h2>Trackers</h2>\n{text}</section>\n"


def _foot(report: FinalReport) -> str:
    names = ", ".join(map(esc, report.files))
    told = f"Files of this run: {names}. " if names else ""
    return f"<footer>{told}Written by RLDK, schema {report.schema}; all of it is in this one file.</footer>\n"
