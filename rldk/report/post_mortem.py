"""Why has the run stopped or failed, what did it look like then, and where can it go on?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rldk.event import as_float

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rldk.report.story import Checkpoint, Episode, Story

_AROUND: Final = 8
_MOST_COLUMNS: Final = 8
_BESIDE: Final = (
    "loss",
    "grad_norm",
    "reward_mean",
    "kl_mean",
    "kl_seq_mean",
    "entropy_mean",
    "lr",
    "clip_frac",
)
_CELL: Final = str.maketrans({"|": "\\|", "\n": " ", "\r": " ", "<": "&lt;", ">": "&gt;"})


class Advice(NamedTuple):
    """Where the run can go on.

    Attributes:
        checkpoint: The last checkpoint before the first bad step whose weights are all finite; None for none.
        refused: Later ones, or ones that are gone, each with the reason.
    """

    checkpoint: Checkpoint | None
    refused: list[tuple[Checkpoint, str]]


def advice(story: Story, since_step: int, is_finite: Callable[[str], bool | None]) -> Advice:
    """Find the checkpoint from which to go on.

    Args:
        story: The run.
        since_step: The first bad step.
        is_finite: Looks into a checkpoint's weights: whether all are finite, None where it cannot be read.
    """
    refused: list[tuple[Checkpoint, str]] = []
    for checkpoint in reversed(story.checkpoints):
        if checkpoint.step >= since_step:
            refused.append((checkpoint, "saved at the first bad step or after it"))
        elif (finite := is_finite(checkpoint.folder)) is None:
            refused.append((checkpoint, "it is gone, or cannot be read"))
        elif not finite:
            refused.append((checkpoint, "its weights are not all finite"))
        else:
            return Advice(checkpoint, refused)
    return Advice(None, refused)


def post_mortem(story: Story, episode: Episode | None, since_step: int, found: Advice) -> str:
    """Write the post-mortem of a run, as Markdown.

    Args:
        story: The run.
        episode: The alert that ended it, or the worst before it failed; None where there was none.
        since_step: The first bad step.
        found: Where it can go on.
    """
    parts = [f"# Post-mortem of run {_cell(story.run_id)}", _head(story, episode)]
    if episode is not None:
        parts += [
            f"The first bad step is {since_step}.",
            "## The rule's arithmetic",
            _pairs({"rule": episode.rule, "severity": episode.severity, **_evidence(episode)}),
            f"Source: {_cell(episode.told.get('source') or 'none')}",
        ]
    parts += [
        f"## The steps around step {since_step}",
        _window(story, episode, since_step),
        "## Where to go on",
        _where(found),
    ]
    if episode is not None:
        parts += ["## What to do", f"{_cell(episode.told.get('advice') or 'look at the steps above')}."]
    others = [each for each in story.episodes if episode is None or each.id != episode.id]
    if others:
        parts += ["## Other alerts", "\n".join(f"- step {e.first.step}: {_cell(e.message)}" for e in others)]
    return "\n\n".join(parts) + "\n"


def _head(story: Story, episode: Episode | None) -> str:
    what = _cell(story.trainer or "training")
    by_rldk = story.end is not None and story.end.model_info.get("stopped_by")
    if by_rldk and episode is not None:
        return f"RLDK stopped this {what} run at step {episode.first.step}: {_cell(episode.message)}."
    ended = f"This {what} run failed by itself after step {0 if story.end is None else story.end.step}"
    return (
        f"{ended}; the worst alert before: {_cell(episode.message)}."
        if episode
        else f"{ended}, without a critical alert."
    )


def _evidence(episode: Episode | None) -> dict[str, object]:
    evidence = None if episode is None else episode.told.get("evidence")
    return dict(evidence) if isinstance(evidence, dict) else {}


def _window(story: Story, episode: Episode | None, since_step: int) -> str:
    names = dict.fromkeys([*(episode.metrics if episode else ()), *_evidence(episode), *_BESIDE])
    logged = [series for name in names if len((series := story.series(name)).steps)][:_MOST_COLUMNS]
    steps = sorted({int(step) for series in logged for step in series.steps})
    place = next((i for i, step in enumerate(steps) if step >= since_step), len(steps))
    values = [dict(zip(each.steps.tolist(), each.values.tolist(), strict=True)) for each in logged]
    rows = [
        [str(step), *(_shown(column.get(step, "")) for column in values)]
        for step in steps[max(place - _AROUND, 0) : place + _AROUND]
    ]
    heads = [f"{each.name} ({each.unit})" if each.unit not in {"", "1"} else each.name for each in logged]
    return _table(["step", *heads], rows)


def _where(found: Advice) -> str:
    lines = [f"- {_cell(c.folder)} (step {c.step}): no, {why}" for c, why in found.refused]
    head = "No checkpoint can be recommended: none with finite weights was saved before the first bad step."
    if found.checkpoint is not None:
        where = f"From `{_cell(found.checkpoint.folder)}` (step {found.checkpoint.step})"
        head = f"{where}: saved before the first bad step; its weights have been read, and all are finite."
    return "\n\n".join([head, *(["\n".join(lines)] if lines else [])])


def _pairs(facts: dict[str, object]) -> str:
    return _table(
        ["", ""], [[key, _shown(v) if isinstance(v, int | float) else str(v)] for key, v in facts.items()]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _shown(value: object) -> str:
    """A number with four digits, anything else as it is."""
    return f"{as_float(value):.4g}" if isinstance(value, int | float) else str(value)


def _cell(text: object) -> str:
    return str(text).translate(_CELL)
