"""How do the Parquet files give a run's events that W&B's `download_history_exports` leaves."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from rldk.adapters import limits
from rldk.adapters.raw import ROW_COUNT, Skips
from rldk.adapters.table_cells import Columns, Runs
from rldk.adapters.table_files import is_parquet, parquet_table
from rldk.adapters.table_rows import Wide
from rldk.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rldk.event import Event

# As wandb-core 0.31 calls them: <entity>_<project>_<run>_<number>.runhistory.parquet
_FILE: Final = re.compile(r"(?P<run>.+)_(?P<part>\d+|\*)\.runhistory\.parquet", re.DOTALL)
_OWN_ID: Final = re.compile(r"[a-z0-9]{8}")
_NAMES: Final = 3  # entity, project, run
_MOST_FILES: Final = 100_000


class WandbHistoryAdapter:
    """Reads the exports of W&B's histories: a file, or a folder with those of one or more runs.

    A run's history may be cut into several files, which are read in their order. Nothing is sampled there.
    The step is `train/global_step` or another of `raw.STEPS` where it was logged, else W&B's count of rows.
    An export holds the history alone: no configuration, no summary, no state.

    Args:
        source: Path of a file or a folder; a run of several files is called by `*` in place of the number.

    Attributes:
        problems: What was skipped, a sentence each.
    """

    name: ClassVar[str] = "wandb_history"

    def __init__(self, source: str | Path) -> None:
        self._source = Path(source)
        self.problems: list[str] = []

    def can_handle(self) -> bool:
        """Whether it is a file that is called as W&B calls these, and is Parquet, or a folder with some."""
        try:
            return any(is_parquet(path) for _, _, path in islice(self._exports(), _MOST_FILES))
        except (OSError, ValueError):  # a name that is too long, or not a name at all
            return False

    def runs(self) -> list[str]:
        """Name each run: its file, or for several files their name with `*` in place of the number.

        Raises:
            SourceError: There is none, or more than 100,000 files.
        """
        return [self._named(run, paths) for run, paths in self._found().items()]

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read one event for each row, the runs one after another.

        Args:
            repeats: Makes no difference: a history holds nothing twice.

        Raises:
            SourceError: A file cannot be read, or there is no row with a number, or more than 100,000 files.
            MissingDependencyError: pyarrow is not installed.
        """
        del repeats
        self.problems.clear()
        is_empty = True
        for run, paths in self._found().items():
            runs = Runs(paths[0].with_name(_run_id(run)))
            for path in paths:
                for event in self._read(path, runs):
                    is_empty = False
                    yield event
        if is_empty:
            reason = "; ".join(["no row of it has a number", *self.problems])
            raise SourceError(str(self._source), reason, "give the history of another run")

    def files(self, into: Path) -> list[Path]:
        """Give the files themselves."""
        del into
        return [path for paths in self._found().values() for path in paths]

    def _read(self, path: Path, runs: Runs) -> Iterator[Event]:
        limits.opened(path).close()
        skips = Skips(str(path))
        table = parquet_table(path, lambda _: set(), self.problems)
        columns = Columns(table.header)
        if ROW_COUNT not in columns.names:
            raise SourceError(str(path), f"it has no column {ROW_COUNT}", "download the history again")
        yield from Wide(columns, runs, skips).events(table.rows)
        self.problems += skips.sentences()

    def _found(self) -> dict[str, list[Path]]:
        try:
            groups = self._groups()
        except OSError as error:
            raise SourceError(str(self._source), str(error), "check its permissions") from error
        if not groups:
            raise SourceError(str(self._source), "no history export of W&B is there", "check the path")
        return groups

    def _groups(self) -> dict[str, list[Path]]:
        """The files of each run, in order, by what the names of a run's files begin with."""
        groups: dict[str, dict[int, Path]] = {}
        for count, (run, part, path) in enumerate(self._exports()):
            if count == _MOST_FILES:
                reason = f"more than {_MOST_FILES:,} history exports of W&B are there"
                raise SourceError(str(self._source), reason, "spread them over several folders")
            groups.setdefault(run, {})[part] = path
        return {run: [parts[number] for number in sorted(parts)] for run, parts in sorted(groups.items())}

    def _exports(self) -> Iterator[tuple[str, int, Path]]:
        """The files that are asked for, in any order: what its name begins with, its number, its path."""
        asked = _FILE.fullmatch(self._source.name)
        if asked is not None and asked["part"] != "*":
            if self._source.is_file():
                yield asked["run"], int(asked["part"]), self._source
            return
        folder = self._source if asked is None else self._source.parent
        for path in folder.iterdir() if folder.is_dir() else ():
            found = _FILE.fullmatch(path.name)
            if found is not None and found["part"] != "*" and (asked is None or found["run"] == asked["run"]):
                yield found["run"], int(found["part"]), path

    def _named(self, run: str, paths: list[Path]) -> str:
        return str(paths[0] if len(paths) == 1 else paths[0].with_name(f"{run}_*.runhistory.parquet"))


def _run_id(name: str) -> str:
    """The run's id in a name such as `team_my_project_a1b2c3d4`; the whole name where that is not clear."""
    parts = name.split("_")
    is_clear = len(parts) == _NAMES or (len(parts) > _NAMES and _OWN_ID.fullmatch(parts[-1]) is not None)
    return parts[-1] if is_clear else name


if TYPE_CHECKING:
    from rldk.bridge import Adapter

    _conforms: type[Adapter] = WandbHistoryAdapter
