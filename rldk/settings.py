"""How delivery and monitoring behave: their few settings, and the environment variables that change them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from rldk.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX: Final = "RLDK_"
_LONGEST_S: Final = 7 * 24 * 3600.0  # threads cannot wait for ever


Fsync = Literal["never", "interval", "always"]


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
        for name in ("linger_s", "close_deadline_s", "term_deadline_s"):
            if not 0 <= getattr(self, name) <= _LONGEST_S:
                raise SettingError(name, getattr(self, name), f"seconds from 0 to {_LONGEST_S:g}")
        for name in ("retry_first_s", "retry_most_s", "fsync_interval_s", "resource_interval_s"):
            if not 0 < getattr(self, name) <= _LONGEST_S:  # a pause of 0 would hammer a tracker that is down
                raise SettingError(name, getattr(self, name), f"seconds, more than 0, at most {_LONGEST_S:g}")
        for name in ("batch_events", "batch_bytes"):
            if getattr(self, name) < 1:
                raise SettingError(name, getattr(self, name), "at least 1")


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings that the environment changes.

    Raises:
        SettingError: A variable holds what its setting cannot be.
    """
    given = {
        f: environ[_PREFIX + f.upper()] for f in Settings.__struct_fields__ if _PREFIX + f.upper() in environ
    }
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingError(f"{_PREFIX}*", given, f"what each can be: {error}") from error
