"""RLDK in TRL: callbacks for every trainer, and PPO in one call."""

from rldk.integrations.trl.callback import RLDKCallback
from rldk.integrations.trl.event_writer import EventWriterCallback
from rldk.integrations.trl.ppo import create_ppo_trainer

__all__ = ["EventWriterCallback", "RLDKCallback", "create_ppo_trainer"]
