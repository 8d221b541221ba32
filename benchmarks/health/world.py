"""Which language do the runs learn: a tiny model that already speaks it, its judge, and data to train on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from rldk.demo import WORDS, build_tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NICE: Final = frozenset(("yes", "good", "right", "up", "one", "two"))
"""Half of the words: those that the rewards and the preferences like."""
IDEAL_WORDS: Final = 6
RARE: Final = "three"
_LEAST, _MOST = 2, 11
_WEIGHTS: Final = [1 / (1 + i % 6) for i in range(len(WORDS))]
_LESSONS: Final = 250
_REPEATS: Final = 0.3
_BATCH: Final = 48
_USUALLY: Final = 0.8
_LEAST_DIFFERENCE: Final = 0.4

_MADE: Final = "made"
PARTS: Final = ("model", "certain", "judge", "far_judge")

Rows = dict[str, list[Any]]


class World(NamedTuple):
    """What every run starts from: folders of models, and the tokenizer.

    Attributes:
        model: Speaks the language.
        certain: Speaks of it what `lessons` teach, with little entropy.
        judge: Scores an answer as `nice_and_short` does, for PPO.
        far_judge: Scores how often an answer has a rare word.
        tokenizer: Of all of them.
    """

    model: str
    certain: str
    judge: str
    far_judge: str
    tokenizer: Any


def make(folder: Path, parts: Iterable[str] = PARTS) -> World:
    """Make the world in a folder, some seconds of training on one core, but what is there already.

    Args:
        folder: Where its models are kept.
        parts: Which of the models are needed.
    """
    home = World(*(str(folder / part) for part in PARTS), tokenizer=None)
    model = Path(home.model)
    if not (model / _MADE).exists():
        _, tokenizer = build_tiny_model(model)
        draw = random.Random("model")  # noqa: S311  # repeatable toys
        _teach(model, model, tokenizer, lambda: f"{prompt(draw)} {answer(draw)} <eos>")
        (model / _MADE).touch()
    made = home._replace(tokenizer=PreTrainedTokenizerFast.from_pretrained(model))
    for part in set(parts) - {"model"}:
        target = folder / part
        if not (target / _MADE).exists():
            _MAKE[part](model, target, made.tokenizer, random.Random(part))  # noqa: S311
            (target / _MADE).touch()
    return made


def answer(
    draw: random.Random, words: tuple[str, ...] = WORDS, *, least: int = _LEAST, most: int = _MOST
) -> str:
    """An answer as the language has it: some words, the usual ones more often."""
    weights = [_WEIGHTS[WORDS.index(word)] for word in words]
    return " ".join(draw.choices(words, weights, k=draw.randint(least, most)))


def prompt(draw: random.Random) -> str:
    """A prompt: two words."""
    return " ".join(draw.choices(WORDS, k=2))


def niceness(text: str) -> float:
    """Share of the words that are nice."""
    words = text.split()
    return sum(word in NICE for word in words) / max(len(words), 1)


def prompts(count: int, seed: int = 0) -> Rows:
    """Prompts alone, for those that generate."""
    draw = random.Random(seed)  # noqa: S311
    return {"prompt": [prompt(draw) for _ in range(count)]}


def preferences(count: int, seed: int = 0, *, wrong: float = 0.05) -> Rows:
    """Pairs of answers of which the nicer one is chosen; a share of the labels is wrong, as people's are."""
    draw = random.Random(seed)  # noqa: S311
    rows: Rows = {"prompt": [], "chosen": [], "rejected": []}
    while len(rows["prompt"]) < count:
        pair = sorted((answer(draw), answer(draw)), key=niceness, reverse=True)
        if niceness(pair[0]) - niceness(pair[1]) < _LEAST_DIFFERENCE:
            continue
        if draw.random() < wrong:
            pair.reverse()
        rows["prompt"].append(prompt(draw))
        rows["chosen"].append(f" {pair[0]}")
        rows["rejected"].append(f" {pair[1]}")
    return rows


def shuffled(rows: Callable[[int, int], Rows], *keys: str) -> Callable[[int, int], Rows]:
    """The same rows with half of the labels wrong: two columns changed by the toss of a coin."""
    one, other = keys

    def made(count: int, seed: int) -> Rows:
        told = rows(count, seed)
        draw = random.Random(seed)  # noqa: S311
        tossed = [pair[:: draw.choice((1, -1))] for pair in zip(told[one], told[other], strict=True)]
        return told | {one: [pair[0] for pair in tossed], other: [pair[1] for pair in tossed]}

    return made


def near_pairs(count: int, seed: int = 0) -> Rows:
    """Pairs of long answers that differ in their last word: to prefer one is to move both."""
    draw = random.Random(seed)  # noqa: S311
    rows: Rows = {"prompt": [], "chosen": [], "rejected": []}
    for _ in range(count):
        start = answer(draw, least=8, most=10)
        rows["prompt"].append(prompt(draw))
        rows["chosen"].append(f" {start} {draw.choice(sorted(NICE))}")
        rows["rejected"].append(f" {start} {draw.choice(sorted(set(WORDS) - NICE))}")
    return rows


def noise(count: int, seed: int = 0) -> Rows:
    """Texts with nothing to learn but themselves."""
    draw = random.Random(seed)  # noqa: S311
    return {"text": [" ".join(draw.choices(WORDS, k=10)) for _ in range(count)]}


def told_apart(count: int, seed: int = 0, *, is_held_out: bool = False) -> Rows:
    """Prompts, with a mark for those that are held out: there the reward looks closer."""
    return prompts(count, seed) | {"is_held_out": [is_held_out] * count}


def judgements(count: int, seed: int = 0, *, share_of_good: float = 0.5) -> Rows:
    """Answers, each called good or bad: what KTO wants."""
    draw = random.Random(seed)  # noqa: S311
    pairs = preferences(count, seed)
    label = [draw.random() < share_of_good for _ in range(count)]
    told = zip(pairs["chosen"], pairs["rejected"], label, strict=True)
    return {
        "prompt": pairs["prompt"],
        "completion": [chosen if is_good else rejected for chosen, rejected, is_good in told],
        "label": label,
    }


def compared(rows: Rows) -> Rows:
    """Preferences as the Reward trainer takes them."""
    return {
        side: [f"{p}{a}" for p, a in zip(rows["prompt"], rows[side], strict=True)]
        for side in ("chosen", "rejected")
    }


def lessons(count: int, seed: int = 0) -> Rows:
    """Texts with a rule to learn: each word has one that usually follows it."""
    draw = random.Random(seed)  # noqa: S311
    return {"text": [_lesson(draw, _USUALLY, 10) for _ in range(count)]}


def _lesson(draw: random.Random, usually: float, length: int) -> str:
    words = [draw.choice(WORDS)]
    while len(words) < length:
        words.append(_follower(words[-1]) if draw.random() < usually else draw.choice(WORDS))
    return " ".join(words)


def _follower(word: str) -> str:
    return WORDS[(WORDS.index(word) * 5 + 3) % len(WORDS)]


def length_fault(text: str) -> float:
    """What an answer loses for not having the ideal length."""
    return abs(len(text.split()) - IDEAL_WORDS) / 16


def _teach(start: Path, end: Path, tokenizer: Any, text: Callable[[], str]) -> None:  # noqa: ANN401  # a tokenizer
    """Teach a model a language: how answers go, and that they end."""
    model = AutoModelForCausalLM.from_pretrained(start)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(_LESSONS):
        batch = tokenizer([text() for _ in range(_BATCH)], return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(end)
    tokenizer.save_pretrained(end)


def _train_judge(
    start: Path,
    end: Path,
    tokenizer: Any,  # noqa: ANN401
    draw: random.Random,
    score: Callable[[str], float],
) -> None:
    """Train a reward model to score as a function does."""
    judge = AutoModelForSequenceClassification.from_pretrained(
        start, num_labels=1, pad_token_id=tokenizer.pad_token_id
    )
    optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    for _ in range(_LESSONS):
        answers = [_judged(draw) for _ in range(_BATCH)]
        batch = tokenizer(
            [f"{prompt(draw)} {each} <eos>" for each in answers], return_tensors="pt", padding=True
        )
        wanted = torch.tensor([score(each) for each in answers])
        (judge(**batch).logits.squeeze(-1) - wanted).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    judge.save_pretrained(end)


def _judged(draw: random.Random) -> str:
    """An answer as the language has it, or one that repeats a word, as a policy may come to."""
    usual = answer(draw, most=14)
    word = draw.choice(WORDS)
    return (
        usual if draw.random() > _REPEATS else " ".join(draw.choice((each, word)) for each in usual.split())
    )


def _make_certain(start: Path, end: Path, tokenizer: Any, draw: random.Random) -> None:  # noqa: ANN401
    _teach(start, end, tokenizer, lambda: f"{_lesson(draw, 0.97, draw.randint(4, 12))} <eos>")


def _make_judge(start: Path, end: Path, tokenizer: Any, draw: random.Random) -> None:  # noqa: ANN401
    _train_judge(start, end, tokenizer, draw, lambda text: niceness(text) - length_fault(text))


def _make_far_judge(start: Path, end: Path, tokenizer: Any, draw: random.Random) -> None:  # noqa: ANN401
    _train_judge(start, end, tokenizer, draw, lambda text: text.split().count(RARE) / 4)


_MAKE: Final = {"certain": _make_certain, "judge": _make_judge, "far_judge": _make_far_judge}
