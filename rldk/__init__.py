"""RLDK: the experiment-tracker bridge for RLHF training with TRL."""

from rldk._version import __version__

__all__ = ["__version__"]
