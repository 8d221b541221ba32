"""What the trainer's arguments say of a run."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from rldk import bridge, identity
from rldk.identity import Identity
from rldk.normalize import derived, units
from rldk.recorder import Run
from rldk.redact import redact

if TYPE_CHECKING:
    from transformers import TrainerState, TrainingArguments

    from rldk.bridge import Sink

_RECORD: Final = "rldk"
_LIBRARIES: Final = ("rldk", "trl", "transformers", "torch")
_TRAINERS: Final = ("PPO", "GRPO", "RLOO", "DPO", "OnlineDPO", "KTO", "Reward", "SFT")


def describe(args: TrainingArguments, who: Identity) -> Run:
    """Tell what the run event says: trainer, seed, versions, arguments without secrets, units."""
    trainer, versions = trainer_name(args), _versions()
    facts = {
        "versions": versions,
        "run_id_from": who.origin,
        "continues": who.continues,
        "report_to": list(args.report_to or []),
        "units": units(trainer, versions.get("trl", "")),
        "derived": derived(trainer, versions.get("trl", "")) or None,
        "args": redact(msgspec.to_builtins(args.to_dict(), str_keys=True, enc_hook=str)),
    }
    return Run(
        run_id=who.run_id,
        trainer=trainer,
        git_sha=identity.git_sha(Path.cwd()),
        seed=args.seed,
        rank=args.process_index,
        trl=versions.get("trl", ""),
        facts={k: v for k, v in facts.items() if v is not None},
    )


def settle(
    args: TrainingArguments, state: TrainerState, given: str | None, resumed: str | None = None
) -> tuple[Identity, dict[str, Sink]]:
    """Decide which run this is, and give the trackers that have an active run, by name.

    Args:
        args: The trainer's arguments.
        state: The trainer's state, as the resumed checkpoint left it.
        given: The id that the user gave.
        resumed: The run that is resumed, where something else than the checkpoint tells.
    """
    attached = {name: sink for name, cls in bridge.sinks().items() if (sink := cls.attach())}
    ids = {name: sink.tracker_run_id for name, sink in attached.items() if sink.tracker_run_id}
    return identity.settle(given, ids, resumed or recalled(state), run_name(args)), attached


def remember(state: TrainerState, run_id: str) -> None:
    """Have every checkpoint of the run tell its id: in trainer_state.json, wherever it is copied to."""
    state.stateful_callbacks[_RECORD] = {"args": {}, "attributes": {"run_id": run_id}}


def recalled(state: TrainerState) -> str | None:
    """The run that the state tells of: the resumed checkpoint's, or the one that has just trained."""
    record = (state.stateful_callbacks or {}).get(_RECORD)
    run_id = record.get("attributes", {}).get("run_id") if isinstance(record, dict) else None
    return run_id if isinstance(run_id, str) else None


def shared(who: Identity) -> Identity:
    """Give all processes of a distributed training the main one's identity; all must call it."""
    from accelerate.utils import broadcast_object_list

    return Identity(*broadcast_object_list(list(who)))


def lacks_norm(args: TrainingArguments) -> bool:
    """Whether the trainer logs no gradient norm: PPO runs a loop of its own."""
    return trainer_name(args) == "PPO"


def trainer_name(args: TrainingArguments) -> str:
    """Short name of the trainer, read off its arguments' class: callbacks never see the trainer."""
    known = {f"{name}Config": name for name in _TRAINERS}
    for cls in type(args).__mro__:
        if cls.__name__ in known:
            return known[cls.__name__]
    return "Trainer"


def run_name(args: TrainingArguments) -> str | None:
    """The name that the user gave the run; transformers 4 fills in the output folder where none was given."""
    name = args.run_name
    return name if name and name != args.output_dir else None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found
