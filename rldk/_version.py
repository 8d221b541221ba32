"""The version of RLDK."""

__version__ = "0.1.0"
