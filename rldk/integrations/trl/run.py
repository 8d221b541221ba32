"""What the trainer's arguments say of a run."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rldk import bridge, catalog, identity
from rldk.errors import RLDKError
from rldk.identity import Identity
from rldk.integrations.trl.boundary import tried
from rldk.normalize import derived, units
from rldk.recorder import Run

if TYPE_CHECKING:
    from transformers import TrainerState, TrainingArguments

    from rldk.bridge import Sink
    from rldk.integrations.trl.boundary import CountsErrors

_RECORD: Final = "rldk"
_LIBRARIES: Final = ("rldk", "trl", "transformers", "torch")
_TRAINERS: Final = ("PPO", "GRPO", "RLOO", "DPO", "OnlineDPO", "KTO", "Reward", "SFT")


def describe(args: TrainingArguments, who: Identity) -> Run:
    """Tell what the run event says: trainer, seed, versions, arguments, units."""
    trainer, versions = trainer_name(args), _versions()
    facts = {
        "versions": versions,
        "run_id_from": who.origin,
        "continues": who.continues,
        "report_to": list(args.report_to or []),
        "units": units(trainer, versions.get("trl", "")),
        "derived": derived(trainer, versions.get("trl", "")) or None,
        "args": msgspec.to_builtins(args.to_dict(), str_keys=True, enc_hook=str),
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
    args: TrainingArguments,
    state: TrainerState,
    given: str | None,
    resumed: str | None = None,
    *,
    counter: CountsErrors,
) -> tuple[Identity, dict[str, Sink]]:
    """Decide which run this is, and give the trackers that have an active run, by name.

    Args:
        args: The trainer's arguments.
        state: The trainer's state, as the resumed checkpoint left it.
        given: The id that the user gave.
        resumed: The run that is resumed, where the checkpoint does not tell.
        counter: Whose errors a tracker that fails here is counted among.
    """
    installed = bridge.sinks().items()
    found = {name: tried(f"look for a run of {name}", cls.attach, counter) for name, cls in installed}
    attached = {name: sink for name, sink in found.items() if sink is not None}
    ids = {name: sink.tracker_run_id for name, sink in attached.items() if sink.tracker_run_id}
    return identity.settle(given, ids, recalled(state).get("run_id") or resumed, run_name(args)), attached


def settle_together(
    args: TrainingArguments,
    state: TrainerState,
    given: str | None,
    resumed: str | None = None,
    *,
    counter: CountsErrors,
) -> tuple[Identity, dict[str, Sink]]:
    """As `settle`, with the main process's answer for all of a distributed training; all must call it.

    Raises:
        RLDKError: The main process could not settle it.
    """
    from accelerate.utils import broadcast_object_list

    answer: list[Any] = [None]
    try:
        who, attached = settle(args, state, given, resumed, counter=counter)
        answer = [tuple(who)]
    finally:
        broadcast_object_list(answer)  # also after an error, or the others would wait for ever
    if answer[0] is None:
        raise RLDKError("the main process could not settle which run this is")
    return Identity(*answer[0]), attached


def remember(state: TrainerState, **record: str | float) -> None:
    """Have every checkpoint of the run tell of it: in trainer_state.json, wherever it is copied to."""
    state.stateful_callbacks[_RECORD] = {"args": {}, "attributes": record}


def recalled(state: TrainerState) -> dict[str, Any]:
    """What the state tells of the run: the resumed checkpoint's, or the one that has just trained."""
    record = (state.stateful_callbacks or {}).get(_RECORD)
    told = record.get("attributes") if isinstance(record, dict) else None
    return told if isinstance(told, dict) and isinstance(told.get("run_id"), str) else {}


def lacks_norm(args: TrainingArguments) -> bool:
    """Whether the trainer logs no gradient norm: PPO runs a loop of its own."""
    return trainer_name(args) == "PPO"


def runs_own_loop(args: TrainingArguments) -> bool:
    """Whether the trainer runs a loop of its own, and so ignores what transformers' control tells it."""
    return trainer_name(args) in catalog.own_loop()


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
