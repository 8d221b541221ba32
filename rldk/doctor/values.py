"""Does the trainer's own class of arguments take these values? Runs in a process of its own."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NUMBERS: Final = frozenset({int, float, bool, type(None)})
_LEAST: Final[Mapping[str, int]] = {
    "beta": 0,
    "eval_steps": 0,
    "gradient_accumulation_steps": 1,
    "learning_rate": 0,
    "logging_steps": 0,
    "max_steps": -1,
    "num_train_epochs": 0,
    "per_device_eval_batch_size": 1,
    "per_device_train_batch_size": 1,
    "save_steps": 0,
    "weight_decay": 0,
}
"""What the classes take whatever it is, and training does not."""

_OF_MACHINES: Final = frozenset(
    {
        "accelerator_config",
        "ddp_backend",
        "deepspeed",
        "fsdp",
        "fsdp_config",
        "local_rank",
        "no_cuda",
        "parallelism_config",
        "tf32",
        "use_cpu",
    }
)
"""What the classes judge by the machine that they are asked on: the training's may be another."""
_PROCESSES: Final = (1, 2, 4, 8)


class Fault(msgspec.Struct):
    """A value that will not do.

    Attributes:
        what: The argument, or the class that refuses them together.
        told: Why.
        remedy: What to do about it.
    """

    what: str
    told: str
    remedy: str = "give another value"


def faults(config: Any, given: Mapping[str, Any], *, is_all: bool) -> Iterator[Fault]:  # noqa: ANN401
    """Find the values that will not do; of what the class says itself, its first words.

    Args:
        config: The trainer's class of arguments, a dataclass.
        given: Arguments; names that the class does not hold count for nothing.
        is_all: Whether all others have their defaults, so that the class can be made of them.
    """
    names = {field.name for field in dataclasses.fields(config) if field.init}
    known = {name: value for name, value in given.items() if name in names}
    values, wrong = _typed(config, known)
    yield from wrong
    for name, least in _LEAST.items():
        value = values.get(name)
        if isinstance(value, int | float) and value < least:
            yield Fault(name, f"{value} is less than {least}, the least that it can be")
    if is_all and not wrong:
        yield from _refused(config, values)


def _typed(config: Any, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:  # noqa: ANN401
    """Make numbers of what is to be one, as TRL's command does; other types are left to the class."""
    try:
        hints = typing.get_type_hints(config)
    except (NameError, TypeError):  # a type that is imported for type checkers alone
        hints = {}
    values, wrong = dict(given), []
    for name, value in given.items():
        if value is None or not _is_number(hints.get(name)):
            continue
        try:
            values[name] = msgspec.convert(value, hints[name], strict=False)
        except msgspec.ValidationError as error:
            wrong.append(Fault(name, f"{value!r} is of the wrong type: {str(error).lower()}"))
    return values, wrong


def _is_number(hint: object) -> bool:
    is_union = typing.get_origin(hint) in {typing.Union, types.UnionType}
    members = typing.get_args(hint) if is_union else (hint,)
    return _NUMBERS.issuperset(members)


def _refused(config: Any, given: Mapping[str, Any]) -> Iterator[Fault]:  # noqa: ANN401  # a class of TRL's
    values = {name: value for name, value in given.items() if name not in _OF_MACHINES}
    if not (values.get("bf16") and values.get("fp16")):  # each alone is the machine's affair
        values = {**values, "bf16": False, "fp16": False}
    values |= {"output_dir": str(values.get("output_dir") or "."), "use_cpu": True}
    words = [_words(config, values, count) for count in _PROCESSES]
    if words[0]:
        enough = [count for count, said in zip(_PROCESSES, words, strict=True) if not said]
        also = f", or train in {enough[0]} processes" if enough else ""
        yield Fault(config.__name__, words[0], f"give other values{also}")


def _words(config: Any, values: Mapping[str, Any], processes: int) -> str:  # noqa: ANN401
    """What the class says of values in one of so many processes; empty where it takes them."""
    world_size = property(lambda _: processes, lambda *_: None)  # PPO's class sets it as an argument
    alike = type(config.__name__, (config,), {"world_size": world_size})
    try:
        alike(**values)
    except (ArithmeticError, AssertionError, AttributeError, ImportError) as error:
        return _line(error)
    except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        return _line(error)
    return ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
