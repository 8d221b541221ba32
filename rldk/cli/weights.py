"""What `rldk check` says of the weights of a checkpoint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.markup import escape

from rldk.cli.app import console

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rldk.health.checkpoints.tensors import DamagedError

_STEP = re.compile(r"checkpoint-(\d+)")
_STYLES = {"info": "cyan", "warning": "yellow", "critical": "bold red"}
_SHOWN = ("parameters", "norm", "nonfinite_count", "zero_frac", "relative_change", "relative_change_first")


class Weighed(NamedTuple):
    """A checkpoint, and what its weights tell.

    Attributes:
        folder: The checkpoint.
        metrics: The numbers; see `rldk.health.checkpoints.Analysis`.
        facts: What else is told, findings among it.
    """

    folder: Path
    metrics: Mapping[str, int | float]
    facts: Mapping[str, Any]

    @property
    def worst(self) -> int:
        """The worst level of a finding, 0 for none."""
        from rldk.health.rule import LEVELS

        return max((LEVELS[found["severity"]] for found in self.facts["findings"]), default=0)


def weigh(source: str) -> Weighed | None:
    """Read the weights of a checkpoint, beside the one before and the first one in the same folder.

    Weights that are damaged are a finding.

    Returns:
        None where the source is no folder with weights.

    Raises:
        SourceError: The weights cannot be read.
    """
    from rldk.health import checkpoints
    from rldk.health.checkpoints.tensors import DamagedError

    folder = Path(source)
    if not checkpoints.holds_weights(folder):
        return None
    before = _earlier(folder)
    try:
        found = checkpoints.analyse(folder, before[-1] if before else None, before[0] if before else None)
    except DamagedError as error:
        return _damaged(folder, error)
    return Weighed(folder, found.metrics, found.facts)


def _damaged(folder: Path, error: DamagedError) -> Weighed:
    finding = {
        "rule": "checkpoint_damaged",
        "severity": "critical",
        "message": error.reason,
        "evidence": {},
        "advice": error.remedy,
        "source": "its bytes are not what its header, its index or its format promises",
    }
    return Weighed(folder, {}, {"findings": [finding], "unavailable": {}})


def _earlier(folder: Path) -> list[Path]:
    """The checkpoints beside this one that were saved before it, oldest first."""
    place = folder.resolve()
    number = _STEP.fullmatch(place.name)
    beside = ((_STEP.fullmatch(path.name), path) for path in place.parent.glob("checkpoint-*"))
    steps = sorted((int(match[1]), path) for match, path in beside if match)
    return [path for step, path in steps if number is not None and step < int(number[1])]


def show(weighed: Weighed) -> None:
    """Say what the weights tell."""
    metrics, facts = weighed.metrics, weighed.facts
    told = ", ".join(f"{name} {metrics[name]:.4g}" for name in _SHOWN if name in metrics)
    kinds = ", ".join(f"{count:,} {name}" for name, count in facts.get("dtypes", {}).items())
    console.print(f"[bold]{escape(str(weighed.folder))}[/bold]  {escape(kinds)}", soft_wrap=True)
    if told:
        console.print(f"  {told}", soft_wrap=True)
    for found in facts["findings"]:
        style = _STYLES[found["severity"]]
        said = escape(f"{found['message']}; {found['advice']}")
        console.print(f"  [{style}]{found['rule']}  {found['severity']}[/{style}]  {said}", soft_wrap=True)
    if not facts["findings"]:
        console.print("  nothing is wrong with the weights")
    for name, reason in facts["unavailable"].items():
        console.print(f"  {escape(name)}: {escape(str(reason))}", soft_wrap=True)
