# ruff: noqa: INP001 - tools/ holds scripts, no package
"""What do RLDK's metrics mean? Writes docs/metrics.md from the catalog.

`python tools/metrics_page.py` writes the page anew; a test fails where it was forgotten.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from rldk import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rldk.catalog import Logged, Metric

PAGE: Final = Path(__file__).parents[1] / "docs" / "metrics.md"

_TRAINERS: Final = ("PPO", "GRPO", "RLOO", "OnlineDPO", "DPO", "KTO", "Reward", "SFT")
_OLDEST: Final = "0.23"
_INTRO: Final = """\
<!-- Written by tools/metrics_page.py from rldk/catalog.toml. Change that file, then run it. -->

# The metrics

RLDK gives each number that a TRL trainer logs one name, the same for every trainer that logs the same
quantity. Two different quantities never share a name: PPO's `objective/kl` is a sum over the tokens of
a sequence (`kl_seq_mean`), GRPO's `kl` a mean over tokens (`kl_mean`).

- A metric that the trainer did not log is absent; it is never 0.
- A key that is not listed here keeps its own name. Where that name is taken, it gets `raw/` before it.
- `eval_` keys have the same names, in rows of phase `eval`. Where a trainer evaluates several data sets,
  each name has its data set before it: `eval_math_loss` is `math/loss`.
- `{x}` stands for any text.
- Metrics marked *summary* are told once, when training ends; they are in the journal's end event.
- TRL averages over the steps since the last log. With `logging_steps` above 1 a minimum or maximum is
  the mean of the steps' minima or maxima.
- Unit `1` is a plain number. `nats/token` is a mean over tokens, `nats/sequence` a sum over the tokens of
  a sequence. An *implicit reward* is beta times a log-ratio, with no reward from outside in it.
"""


def page() -> str:
    """The whole page."""
    sections = [_INTRO, _all_metrics(), *map(_one_trainer, (catalog.ANY_TRAINER, *_TRAINERS))]
    return "\n".join(sections)


def _all_metrics() -> str:
    rows = ["## By name", "", "| Metric | Unit | Better | Meaning | Reduction |", "|---|---|---|---|---|"]
    rows += [_cells(f"`{m.name}`", m.unit, m.good, _meaning(m), m.reduction) for m in catalog.metrics()]
    return "\n".join([*rows, ""])


def _one_trainer(trainer: str) -> str:
    title = f"{trainer}Trainer" if trainer != catalog.ANY_TRAINER else "Every trainer but PPO"
    rows = [f"## {title}", ""]
    if trainer not in {catalog.ANY_TRAINER, *catalog.own_loop()}:
        rows += ["And what every trainer but PPO logs.", ""]
    rows += ["| Raw key | Metric | TRL | Remarks |", "|---|---|---|---|"]
    rows += [_cells(_source(line), f"`{m.name}`", _span(line), _remarks(line)) for m, line in _lines(trainer)]
    return "\n".join([*rows, ""])


def _lines(trainer: str) -> Iterator[tuple[Metric, Logged]]:
    for metric in catalog.metrics():
        yield from ((metric, line) for line in metric.logged if trainer in line.by)


def _meaning(metric: Metric) -> str:
    return metric.meaning + (" *Summary.*" if metric.summary else "")


def _source(line: Logged) -> str:
    if line.raw:
        return f"`{line.raw}`"
    return f"derived: `{line.derived}`" if line.derived else f"measured {line.measured}"


def _span(line: Logged) -> str:
    if not line.since and not line.until:
        return "all"
    return f"{line.since or _OLDEST} to {line.until}" if line.until else f"from {line.since}"


def _remarks(line: Logged) -> str:
    return "; ".join(text for text in (line.reduction, line.note) if text)


def _cells(*texts: str) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
