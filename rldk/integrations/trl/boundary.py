"""The trainer's boundary: what goes wrong in RLDK stays in RLDK."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from rldk.errors import TrainingStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger(__name__)


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
        except Exception:
            self.errors += 1
            level = logging.ERROR if self.errors == 1 else logging.DEBUG
            _logger.log(level, "RLDK failed in %s; training goes on", hook.__name__, exc_info=True)

    return cast("_Hook", safe)


def tried(what: str, action: Callable[[], _T], counter: CountsErrors) -> _T | None:
    """Do what a tracker's bridge offers; None where it fails, which is logged and counted."""
    try:
        return action()
    except Exception:
        counter.errors += 1
        _logger.exception("RLDK failed to %s; it goes on without", what)
        return None
