"""What is sent to trackio is what is read back, whatever befalls the delivery: RLDK's own suite."""

from __future__ import annotations

from hypothesis import settings
from rldk_trackio.adapter import TrackioAdapter
from rldk_trackio.sink import TrackioSink

from rldk.testing.conformance import BridgeConformance


class TestTrackio(BridgeConformance):
    """Trackio, a database in a file; a commit for each batch makes it slower than memory."""

    sink = TrackioSink
    adapter = TrackioAdapter
    profile = settings(BridgeConformance.profile, max_examples=10)
