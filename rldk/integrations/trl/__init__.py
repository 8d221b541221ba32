"""RLDK in TRL: callbacks for every trainer."""

import logging
from importlib import metadata

from rldk.integrations.trl.callback import RLDKCallback
from rldk.integrations.trl.compat import complaint
from rldk.integrations.trl.event_writer import EventWriterCallback
from rldk.integrations.trl.ppo import create_ppo_trainer


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


if wrong := complaint(_version("trl"), _version("transformers")):
    logging.getLogger(__name__).warning("%s", wrong)

__all__ = ["EventWriterCallback", "RLDKCallback", "create_ppo_trainer"]
