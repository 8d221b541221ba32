"""Where do two runs part, in what were they set up otherwise, and how far apart are they in the end?"""

from __future__ import annotations

from rldk.diff.comparison import diff
from rldk.diff.result import Alert, Diff, End, Metric, Parting, Run, Setting, Steps

__all__ = [
    "Alert",
    "Diff",
    "End",
    "Metric",
    "Parting",
    "Run",
    "Setting",
    "Steps",
    "diff",
]
