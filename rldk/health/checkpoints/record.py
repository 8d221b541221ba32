"""What is kept of a checkpoint that was analysed, for people and for the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

    from rldk.health.checkpoints.findings import Finding


class Trace(msgspec.Struct, frozen=True):
    """What is remembered of a tensor when its file is gone.

    Attributes:
        dtype: Its type.
        elements: How many numbers it had.
        norm: Its L2 norm.
        checksum: Tells by its change that a bit has changed.
    """

    dtype: str
    elements: int
    norm: float
    checksum: int


class Earlier(msgspec.Struct, frozen=True):
    """An earlier checkpoint of the run.

    Attributes:
        folder: Where it is, or was.
        traces: What is remembered of its tensors, by name; None where it was not analysed.
    """

    folder: Path
    traces: dict[str, Trace] | None = None


class Analysis(msgspec.Struct, frozen=True):
    """What the weights of a checkpoint tell.

    Attributes:
        metrics: `files`, `size_bytes`, and, where the weights could be read, `parameters` (elements of
            floating-point tensors; of an adapter, the adapter's), `norm` (L2 of all of them),
            `nonfinite_count`, `zero_frac`, `dead_tensors`, `exploding_tensors`, `analysis_s` and
            `read_bytes_per_s`; where they are known, `trainable_frac`, and `relative_change` and `cosine`
            to the previous checkpoint, `relative_change_first` and `cosine_first` to the first.
        facts: `dtypes` (elements by type), `format`, `tensors` (how many), `largest_changes`, `findings`
            and `unavailable` (why something is not known); where there are any, `parts` (parameters and
            norm of a policy and its value head) and `norm_change` or `norm_change_first`, the relative
            change of the norm from an earlier checkpoint whose files are gone.
        findings: What is wrong, as in `facts`.
        earlier: What to remember of it for the next one.
    """

    metrics: dict[str, int | float]
    facts: dict[str, Any]
    findings: list[Finding]
    earlier: Earlier
