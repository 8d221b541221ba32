"""What a forked child must not keep: our open files, whose locks would live as long as it does."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_ours: weakref.WeakSet[BinaryIO] = weakref.WeakSet()


def close_in_child(file: BinaryIO) -> None:
    """Have the file closed in every child that this process forks, such as a data loader's worker.

    A lock belongs to the open file, which a fork shares: a worker that outlives the training would
    hold the run's journal, and the resumed training could not have it.
    """
    _ours.add(file)


def _close_all() -> None:
    for file in list(_ours):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)
