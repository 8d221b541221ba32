"""RLDK: the experiment-tracker bridge for RLHF training with TRL."""

from rldk._version import __version__
from rldk.live import log

__all__ = ["__version__", "log"]
