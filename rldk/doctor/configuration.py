"""With which arguments will be trained: from a file, a run, a checkpoint, or what was typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from rldk.doctor import saved_args
from rldk.errors import MissingDependencyError, SettingError, SourceError
from rldk.history import histories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rldk.doctor.values import Fault
    from rldk.event import Event

TRAINERS: Final = ("PPO", "GRPO", "RLOO", "DPO", "OnlineDPO", "KTO", "Reward", "SFT")

_STATE: Final = "trainer_state.json"
_HORIZON: Final = frozenset(
    {
        "max_steps",
        "num_train_epochs",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "num_generations",
        "num_iterations",
        "steps_per_generation",
        "generation_batch_size",
        "total_episodes",
        "num_ppo_epochs",
        "num_mini_batches",
    }
)
"""Arguments of which the number of steps is made; with another one, that of the source holds no more."""
_FILES: Final = (".yaml", ".yml", ".json", ".toml")


class Configuration(NamedTuple):
    """What is known of a training.

    Attributes:
        trainer: Short name of the trainer; empty where nobody tells.
        args: Its arguments, as far as they were given.
        trl: TRL release that it ran with; empty where it has not run.
        max_steps: Steps until the end; None where they are not told.
        is_whole: Whether all arguments are there, so that none has its default.
        names: What the trainer's arguments are called; empty where that is not known.
        new: Names that were typed, and that the source does not hold.
        typed: Names that were typed.
        faults: Values that will not do, as the installed TRL says.
    """

    trainer: str
    args: dict[str, Any]
    trl: str = ""
    max_steps: int | None = None
    is_whole: bool = False
    names: frozenset[str] = frozenset()
    new: tuple[str, ...] = ()
    typed: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = ()


def configured(source: str | None, trainer: str | None, given: Sequence[str]) -> Configuration:
    """Put together what is known.

    Args:
        source: A file of arguments (YAML, JSON or TOML), a checkpoint, or any run; None for none.
        trainer: Short name of the trainer, which goes before what the source tells.
        given: Arguments as `NAME=VALUE`, which go before the source's.

    Raises:
        SettingError: An argument is not NAME=VALUE, `max_steps` is no whole number, or nothing tells the
            trainer.
        SourceError: The source cannot be read.
        MissingDependencyError: PyYAML is not installed.
    """
    known = Configuration("", {}) if source is None else _of_source(source)
    name = known.trainer if trainer is None else _short(trainer)
    if name not in TRAINERS:
        raise SettingError("--trainer", trainer or name or None, f"one of {', '.join(TRAINERS)}")
    typed = dict(_argument(each) for each in given)
    return known._replace(
        trainer=name,
        args=known.args | typed,
        max_steps=_max_steps(known, typed),
        names=frozenset(known.args) if known.is_whole else frozenset(),
        new=tuple(each for each in typed if each not in known.args),
        typed=frozenset(typed),
    )


def _max_steps(known: Configuration, typed: dict[str, Any]) -> int | None:
    given = typed.get("max_steps")
    if isinstance(given, bool) or not isinstance(given, int | None):
        raise SettingError("--set max_steps", given, "a whole number of steps")
    horizon = known.max_steps if _HORIZON.isdisjoint(typed) else None
    if horizon is not None:
        return horizon
    told = _whole((known.args | typed).get("max_steps"))
    # As in the trainer, a number of steps goes before one of epochs
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else None


def _whole(value: object) -> object:
    """A number that is whole as an integer, and anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _short(trainer: str) -> str:
    name = trainer.removesuffix("Trainer").removesuffix("Config")
    return next((each for each in TRAINERS if each.lower() == name.lower()), name)


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise SettingError("--set", text, "NAME=VALUE, such as beta=0")
    try:
        return name, _whole(json.loads(value))
    except ValueError:
        return name, {"True": True, "False": False, "None": None}.get(value, value)


def _of_source(source: str) -> Configuration:
    path = Path(source).expanduser()
    try:
        if path.is_dir() and (path / saved_args.NAME).is_file():
            return _of_saved(path / saved_args.NAME)
        if path.is_file() and path.name == saved_args.NAME:
            return _of_saved(path)
        if path.is_file() and path.suffix in _FILES and (told := _of_file(path)) is not None:
            return told
    except OSError as error:
        raise SourceError(source, error.strerror or str(error), "check the path") from error
    return _of_run(source)


def _of_saved(path: Path) -> Configuration:
    kind, args = saved_args.read(path)
    return Configuration(_short(kind), args, max_steps=_steps_of_state(path.with_name(_STATE)), is_whole=True)


def _steps_of_state(path: Path) -> int | None:
    try:
        told = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None
    steps = told.get("max_steps") if isinstance(told, dict) else None
    return steps if isinstance(steps, int) and steps > 0 else None


def _of_file(path: Path) -> Configuration | None:
    """Read a file of arguments; None where it is a trainer's state, or no mapping at all."""
    decoders = {".json": msgspec.json.decode, ".toml": msgspec.toml.decode}
    try:
        told = decoders.get(path.suffix, msgspec.yaml.decode)(path.read_bytes())
    except ImportError as error:
        raise MissingDependencyError(f"reading {path}", "PyYAML", "trl") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SourceError(str(path), str(error), "check the file") from error
    if not isinstance(told, dict) or "log_history" in told or "v" in told:
        return None
    args = {str(name): value for name, value in told.items()}
    return Configuration(_short(str(args.pop("trainer", ""))), args)


def _of_run(source: str) -> Configuration:
    found = list(histories(source))
    if len(found) != 1:
        names = ", ".join(each.run_id for each in found[:5])
        raise SourceError(source, f"it holds {len(found)} runs ({names})", "name the source of one of them")
    begun = [event for event in found[0].events() if event.kind == "run"]
    args, trl = _args(begun[-1]) if begun else ({}, "")
    return Configuration(_short(found[0].trainer), args, trl, is_whole=bool(args))


def _args(run: Event) -> tuple[dict[str, Any], str]:
    args = run.model_info.get("args") or run.model_info.get("config")
    versions = run.model_info.get("versions")
    trl = str(versions.get("trl") or "") if isinstance(versions, dict) else ""
    return dict(args) if isinstance(args, dict) else {}, trl
