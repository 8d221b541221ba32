"""A training process some of whose files are on a small disk, which it fills and frees as it is told."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults._life import Life, main

if TYPE_CHECKING:
    from rldk.delivery import DeliveryReport


class OnASmallDisk(Life):
    """A `Life` beside a small disk, the environment's SMALL; what that holds is copied to COPY at the end."""

    def fill(self) -> None:
        """Leave no room at all."""
        with suppress(OSError), self._filler().open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)

    def free(self) -> None:
        """Make room again."""
        self._filler().unlink()

    def _filler(self) -> Path:
        return Path(os.environ["SMALL"]) / "filler"

    def end(self, status: str = "FINISHED") -> DeliveryReport:
        """End as a training does; nobody else can see the disk, so that it is copied."""
        report = super().end(status)
        but_for_it = shutil.ignore_patterns(self._filler().name)
        shutil.copytree(os.environ["SMALL"], os.environ["COPY"], symlinks=True, ignore=but_for_it)
        return report


if __name__ == "__main__":
    main(OnASmallDisk)
