"""Which runs of some sources are to be brought into a tracker, and were they there?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rldk import bridge
from rldk.errors import SettingError, SourceError
from rldk.sources import is_wanted, none_wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rldk.event import Event
    from rldk.sources import RunSource

_MOST_NAMED: Final = 20


class Wanted:
    """The runs of a project of the source, those with some ids, or all; it notes which it was shown.

    Args:
        project: Only runs of this project; None for those of any.
        runs: Only runs with these ids, in which `*` and `?` stand for any text; None for any.
    """

    def __init__(self, project: str | None, runs: Iterable[str] | None) -> None:
        self._project = project
        self._runs = None if runs is None else tuple(runs)
        self._is_choice = self._project is not None or self._runs is not None
        # A tracker's source is one run, whose first event tells it; a file may hold many, in any order.
        self._trackers = bridge.sinks().keys() if self._is_choice else ()
        self._ids: set[str] = set()
        self._projects: set[str] = set()
        self._is_any = False

    def takes(self, first: Event) -> bool:
        """Whether the run that begins with this event is meant."""
        project = first.model_info.get("project")
        is_named = is_wanted(first.run_id, self._runs)
        is_meant = is_named and (self._project is None or project == self._project)
        self._ids.add(first.run_id)
        if is_named and project:
            self._projects.add(str(project))
        self._is_any = self._is_any or is_meant
        return is_meant

    def may_be_in(self, source: RunSource) -> bool:
        """Whether a source has to be read as a whole to know whether it holds a run that is meant.

        Raises:
            SourceError: It cannot be read.
        """
        if getattr(source.kind, "name", "") not in self._trackers:
            return True
        first = next(iter(source.open().events()), None)
        return first is not None and self.takes(first)

    def check(self, sources: Sequence[str]) -> None:
        """Make sure, once all was read, that one of the runs was meant.

        Raises:
            SettingError: None was, of those that are there.
            SourceError: None is there.
        """
        if self._is_any:
            return
        if not self._ids:
            raise SourceError(", ".join(sources), "it holds no run", "check that it is a run")
        if self._runs is not None and not any(is_wanted(each, self._runs) for each in self._ids):
            raise none_wanted(self._runs, self._ids)
        there = ", ".join(sorted(self._projects)[:_MOST_NAMED]) or "no project: the runs tell none"
        raise SettingError("--project", self._project, f"one of {there}" if self._projects else there)
