"""RLDK in TRL: callbacks for every trainer."""

from importlib import metadata

from rldk.integrations.trl.callback import RLDKCallback
from rldk.integrations.trl.compat import complaint
from rldk.integrations.trl.event_writer import EventWriterCallback
from rldk.integrations.trl.ppo import create_ppo_trainer
from rldk.redact import logger


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


if wrong := complaint(_version("trl"), _version("transformers")):
    logger(__name__).warning("%s", wrong)

__all__ = ["EventWriterCallback", "RLDKCallback", "create_ppo_trainer"]
