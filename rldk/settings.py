"""How delivery and monitoring behave: their few settings, and the environment variables that change them."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

import msgspec

from rldk.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX: Final = "RLDK_"
_LONGEST_S: Final = 7 * 24 * 3600.0  # threads cannot wait for ever
_LEAST_S: Final = math.ulp(0.0)  # a pause of 0 would hammer a tracker that is down


Fsync = Literal["never", "interval", "always"]


class _Range(NamedTuple):
    words: str
    least: float = 0.0
    most: float = _LONGEST_S


_WAIT: Final = _Range(f"a number of seconds from 0 to {_LONGEST_S:g}")
_PAUSE: Final = _Range(f"a number of seconds, more than 0, at most {_LONGEST_S:g}", _LEAST_S)
_COUNT: Final = _Range("a whole number, at least 1", 1, math.inf)
_ALLOWED: Final = {
    "batch_events": _COUNT,
    "batch_bytes": _COUNT,
    "linger_s": _WAIT,
    "retry_first_s": _PAUSE,
    "retry_most_s": _PAUSE,
    "close_deadline_s": _WAIT,
    "term_deadline_s": _WAIT,
    "fsync": _Range(" or ".join(get_args(Fsync)).replace(" or ", ", ", 1)),
    "fsync_interval_s": _PAUSE,
    "resource_interval_s": _PAUSE,
}
"""What each setting can be."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of delivery and of monitoring; each is read from `RLDK_<NAME>` too.

    Attributes:
        batch_events: Most events that are handed to a tracker at once.
        batch_bytes: The same in bytes of the journal; the event that reaches it is the last.
        linger_s: How long a delivery waits for more events before it sends, in seconds.
        retry_first_s: Pause after a first failure, in seconds; doubled after each further one.
        retry_most_s: Longest pause between two tries, in seconds.
        close_deadline_s: How long the end of training waits for all trackers together, in seconds.
        term_deadline_s: The same after SIGTERM or Ctrl-C, whose sender will not wait for long; another
            signal ends the waiting at once.
        fsync: When a line of the journal must be on the disk, so that it survives a power cut: `never`
            leaves that to the operating system, `interval` sees to it in the background, `always` with
            each line. A crash of the process loses nothing either way.
        fsync_interval_s: How old a line may become with `interval`, in seconds.
        resource_interval_s: How often resources are sampled, in seconds.
    """

    batch_events: int = 200
    batch_bytes: int = 2**20
    linger_s: float = 0.5
    retry_first_s: float = 0.5
    retry_most_s: float = 30.0
    close_deadline_s: float = 30.0
    term_deadline_s: float = 10.0
    fsync: Fsync = "interval"
    fsync_interval_s: float = 5.0
    resource_interval_s: float = 15.0

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            value = getattr(self, name)
            if not (value in get_args(Fsync) if name == "fsync" else allowed.least <= value <= allowed.most):
                raise SettingError(name, value, allowed.words)


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings that the environment changes.

    Raises:
        SettingError: A variable holds what its setting cannot be.
    """
    given = {
        name: environ[_PREFIX + name.upper()]
        for name in Settings.__struct_fields__
        if _PREFIX + name.upper() in environ
    }
    for name, value in given.items():
        _must_be_usable(name, value)
    return msgspec.convert(given, Settings, strict=False)


def _must_be_usable(name: str, value: str) -> None:
    try:
        msgspec.convert({name: value}, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingError(_PREFIX + name.upper(), value, _ALLOWED[name].words) from error
