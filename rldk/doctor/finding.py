"""What is found by an examination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from rldk.bridge import Probed

State = Literal["ok", "note", "warning", "problem"]

FOUND: Final = frozenset({"warning", "problem"})
"""The states with which something is found."""


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        area: What it belongs to, such as `versions` or `mlflow`.
        what: What was looked at.
        state: `ok`; `note`, which is worth knowing; `warning`, which will cost something; `problem`, which
            does not work.
        told: What was found.
        remedy: What to do about it; empty where nothing needs to be done.
    """

    area: str
    what: str
    state: State
    told: str
    remedy: str = ""

    @classmethod
    def of(cls, area: str, probed: Probed) -> Finding:
        """Take over what a tracker's bridge has found."""
        return cls(area, probed.what, probed.state, probed.told, probed.remedy)
