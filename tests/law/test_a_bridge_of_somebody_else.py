"""Whoever writes a bridge proves it in a few lines."""

from __future__ import annotations

import msgspec
import pytest

from rldk.testing import runs
from rldk.testing.conformance import BridgeConformance, renamed
from rldk.testing.law import check_round_trip
from tests.law._toy import ToyAdapter, ToySink


class TestToyBridge(BridgeConformance):
    """A bridge that is registered nowhere keeps the law."""

    sink = ToySink
    adapter = ToyAdapter


@pytest.mark.parametrize("changed", [{"rng": {"seed": 43}}, {"model_info": {"git_sha": "def456"}}])
def test_a_resumed_run_may_have_another_commit_and_seed(tmp_path, changed):
    """Each row has those of its own segment."""
    events = renamed(runs.short_run())
    later = [
        msgspec.structs.replace(e, **{f: getattr(e, f) | told for f, told in changed.items()}) for e in events
    ]
    resumed = [new if old.segment else old for old, new in zip(events, later, strict=True)]
    check_round_trip(resumed, ToySink, ToyAdapter, tmp_path)
