"""The trainer's boundary: what goes wrong in RLDK stays in RLDK."""

from __future__ import annotations

import functools
import logging
import traceback
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from rldk.errors import TrainingStoppedError
from rldk.redact import logger

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logger(__name__)


class CountsErrors(Protocol):
    """A callback that tells how often RLDK itself failed."""

    errors: int


_T = TypeVar("_T")
_Hook = TypeVar("_Hook", bound="Callable[..., None]")


def guarded(hook: _Hook) -> _Hook:
    """Log and count an error in a callback's hook, the first one with its traceback; training goes on."""

    @functools.wraps(hook)
    def safe(self: CountsErrors, *args: object, **kwargs: object) -> None:
        try:
            hook(self, *args, **kwargs)
        except TrainingStoppedError:
            raise  # the one error that is meant for the trainer
        except Exception:  # noqa: BLE001  # the trainer's boundary: logged, without secrets, and counted
            self.errors += 1
            level = logging.ERROR if self.errors == 1 else logging.DEBUG
            trace = traceback.format_exc()
            _logger.log(level, "RLDK failed in %s; training goes on\n%s", hook.__name__, trace)

    return cast("_Hook", safe)


def tried(what: str, action: Callable[[], _T], counter: CountsErrors) -> _T | None:
    """Do what a tracker's bridge offers; None where it fails, which is logged and counted."""
    try:
        return action()
    except Exception:  # noqa: BLE001  # the same
        counter.errors += 1
        trace = traceback.format_exc()
        _logger.error("RLDK failed to %s; it goes on without\n%s", what, trace)  # noqa: TRY400  # a trace without secrets
        return None
