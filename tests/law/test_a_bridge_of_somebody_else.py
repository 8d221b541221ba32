"""Whoever writes a bridge proves it in a few lines."""

from __future__ import annotations

from rldk.testing.conformance import BridgeConformance
from tests.law._toy import ToyAdapter, ToySink


class TestToyBridge(BridgeConformance):
    """A bridge that is registered nowhere keeps the law."""

    sink = ToySink
    adapter = ToyAdapter
