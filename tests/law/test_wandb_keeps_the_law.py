"""What is sent to W&B, offline and with a real wandb-core, is what is read back."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings

from rldk.testing.conformance import BridgeConformance
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import wandb_offline  # noqa: F401

FEW = settings(BridgeConformance.profile, max_examples=8, phases=[Phase.explicit, Phase.generate])


@pytest.mark.real
class TestOffline(BridgeConformance):
    """Runs in files; to open one costs about a second, so that there are few and none is shrunk."""

    sink = WandbSink
    adapter = WandbAdapter
    profile = FEW
