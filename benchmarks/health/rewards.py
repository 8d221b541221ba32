"""What are the completions rewarded for: as one would, and as one should not?"""

from __future__ import annotations

import math
import time
from typing import Any, Final

from benchmarks.health.world import NICE, RARE, WORDS, length_fault, niceness

FROM_STEP: Final = 30


def nice_and_short(completions: list[str], **_: Any) -> list[float]:  # noqa: ANN401  # whatever TRL passes
    """As one would: nice words, in an answer of the ideal length."""
    return [niceness(text) - length_fault(text) for text in completions]


def far_away(completions: list[str], **_: Any) -> list[float]:  # noqa: ANN401
    """A rare word, again and again: the policy must leave its reference far behind."""
    return [text.split().count(RARE) / 4 for text in completions]


def length(completions: list[str], **_: Any) -> list[float]:  # noqa: ANN401
    """Each word pays."""
    return [len(text.split()) / 16 for text in completions]


def constant(completions: list[str], **_: Any) -> list[float]:  # noqa: ANN401
    """The same for all."""
    return [0.5] * len(completions)


def saturated(completions: list[str], **_: Any) -> list[float]:  # noqa: ANN401
    """A whole point for one nice word: soon all have it, and no group differs."""
    return [float(niceness(text) > 0) for text in completions]


def _is_late(trainer_state: Any) -> bool:  # noqa: ANN401
    return bool(trainer_state.global_step + 1 >= FROM_STEP)


def breaks(completions: list[str], *, trainer_state: Any, **_: Any) -> list[float]:  # noqa: ANN401
    """NaN from some step on, as a normalisation that divides by zero."""
    return [math.nan] * len(completions) if _is_late(trainer_state) else nice_and_short(completions)


def falls_silent(completions: list[str], *, trainer_state: Any, **_: Any) -> list[float | None]:  # noqa: ANN401
    """None for all, from some step on, as a reward that does not apply."""
    return [None] * len(completions) if _is_late(trainer_state) else list(nice_and_short(completions))


def becomes_constant(completions: list[str], *, trainer_state: Any, **_: Any) -> list[float]:  # noqa: ANN401
    """The same for all, from some step on, as a judge that no longer answers."""
    return constant(completions) if _is_late(trainer_state) else nice_and_short(completions)


def stalls(completions: list[str], *, trainer_state: Any, **_: Any) -> list[float]:  # noqa: ANN401
    """Right, but slow from some step on, as a judge behind a slow network."""
    if _is_late(trainer_state):
        time.sleep(1)
    return nice_and_short(completions)


def turns(completions: list[str], *, trainer_state: Any, **_: Any) -> list[float]:  # noqa: ANN401
    """The opposite, from some step on, as a sign that was lost."""
    told = nice_and_short(completions)
    return [-each for each in told] if _is_late(trainer_state) else told


def proxy(completions: list[str], is_held_out: list[bool], **_: Any) -> list[float]:  # noqa: ANN401
    """The share of `good`; on prompts that are held out a closer look: how many different nice words."""
    return [
        len(NICE.intersection(text.split())) / len(NICE) if is_closer else text.split().count("good") / 8
        for text, is_closer in zip(completions, is_held_out, strict=True)
    ]


def by_prompt(completions: list[str], prompts: list[str], **_: Any) -> list[float]:  # noqa: ANN401
    """A point by the prompt alone, as tasks that are far too easy or far too hard give it."""
    first = WORDS[: len(WORDS) // 2]
    return [float(each.split()[0] in first) for each, _ in zip(prompts, completions, strict=True)]
