"""How does a tracker's table of runs become events: a row for each run, with its latest values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.adapters.raw import ENDED, RESERVED, ROW_COUNT, STEPS, Skips, milliseconds, whole
from rldk.adapters.table_cells import Columns, Infinities, Runs, cell_number, text_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rldk.event import Event


class Kind(NamedTuple):
    """A tool's table of runs: by which columns it is known, and which of them say what."""

    tool: str
    needs: frozenset[str]
    has: frozenset[str]
    run_id: tuple[str, ...]
    name: str
    status: str
    start: str
    end: str = ""
    lasted: str = ""
    tags: str = ""
    notes: str = ""
    own: frozenset[str] = frozenset()


_KNOWN: Final = (
    Kind(
        tool="MLflow",
        needs=frozenset({"run_id", "experiment_id", "status"}),
        has=frozenset({"artifact_uri", "start_time"}),
        run_id=("run_id",),
        name="tags.mlflow.runname",
        status="status",
        start="start_time",
        end="end_time",
        notes="tags.mlflow.note.content",
        own=frozenset({"artifact_uri", "experiment_id"}),
    ),
    Kind(
        tool="MLflow",
        needs=frozenset({"start_time", "run_id", "name", "status"}),
        has=frozenset({"duration", "source_type", "source_name"}),
        run_id=("run_id",),
        name="name",
        status="status",
        start="start_time",
        own=frozenset({"duration", "source_type", "source_name", "user"}),
    ),
    Kind(
        tool="W&B",
        needs=frozenset({"name", "state"}),
        has=frozenset({"created", "runtime", "sweep"}),
        run_id=("id", "name"),
        name="name",
        status="state",
        start="created",
        lasted="runtime",
        tags="tags",
        notes="notes",
        own=frozenset({"agent", "user", "sweep"}),
    ),
)


def run_table(columns: Columns) -> Kind | None:
    """Find out which tool's table of runs has these columns; None where it is no such table."""
    names = columns.names.keys()
    return next((kind for kind in _KNOWN if kind.needs <= names and kind.has & names), None)


class RunTable:
    """A row for each run, with the last value of each metric, as the pages and APIs of trackers give it."""

    def __init__(self, kind: Kind, columns: Columns, runs: Runs, skips: Skips) -> None:
        self._kind = kind
        self._columns = columns
        self._runs = runs
        self._skips = skips
        self._spelled = Infinities()
        self._step = columns.first((*STEPS, ROW_COUNT))
        told = {
            kind.name,
            kind.status,
            kind.start,
            kind.end,
            kind.lasted,
            kind.tags,
            kind.notes,
            *kind.run_id,
        }
        known = columns.all(told | kind.own)
        self._others = [
            (place, name) for place, name in enumerate(columns.header) if place not in known and name.strip()
        ]
        self.texts = set(range(len(columns.header)))
        at = "" if self._step is not None else ", whose step is not known: the rows have step 0"
        self.notes = [f"a table of {kind.tool} runs: it holds the latest values only, and no history{at}"]
        if not any(name.startswith(_METRIC_COLUMN) for name in columns.header):
            self.notes.append("it does not tell parameters and metrics apart: what is a number is a metric")

    def events(self, rows: Iterable[tuple[int, list[Any]]]) -> Iterator[Event]:
        """Give the beginning of each row's run, one event with its values, and its end."""
        for place, row in rows:
            run_id = next(filter(None, (self._cell(row, name) for name in self._kind.run_id)), "")
            run = self._runs.new(run_id or f"line {place}", self._facts(row))
            start, end = milliseconds(self._raw(row, self._kind.start)), self._ended_at(row)
            yield run.begin(start)
            metrics = self._metrics(row)
            if metrics:
                step = None if self._step is None else whole(row[self._step])
                yield from run.log(step or 0, metrics, end)
            status = ENDED.get(self._cell(row, self._kind.status).casefold())
            if status is not None:
                yield from run.end(status, end)
        self.notes += self._spelled.sentences()

    def _facts(self, row: list[Any]) -> dict[str, Any]:
        config: dict[str, Any] = {}
        tags: dict[str, str] = dict.fromkeys(filter(None, self._cell(row, self._kind.tags).split(", ")), "")
        for place, name in self._others:
            text = text_in(row[place])
            if text and name.startswith(_TAG_COLUMN):
                if not name.startswith(f"{_TAG_COLUMN}mlflow."):
                    tags[name.removeprefix(_TAG_COLUMN)] = text
            elif text and (name.startswith(_PARAM_COLUMN) or cell_number(row[place]) is None):
                config[name.removeprefix(_PARAM_COLUMN)] = text
        notes = self._cell(row, self._kind.notes)
        facts = {"config": config, "tags": tags, "name": self._cell(row, self._kind.name)}
        return facts | ({"notes": notes} if notes != "-" else {})  # as W&B shows that there are none

    def _metrics(self, row: list[Any]) -> dict[str, int | float]:
        metrics: dict[str, int | float] = {}
        for place, name in self._others:
            value = None if name.startswith((_PARAM_COLUMN, _TAG_COLUMN)) else cell_number(row[place])
            if value is not None and place != self._step and name not in RESERVED:
                told = self._spelled.read(value) if self._kind.tool == "MLflow" else value
                metrics[name.removeprefix(_METRIC_COLUMN)] = told
        return metrics

    def _ended_at(self, row: list[Any]) -> int | None:
        start, lasted = (
            milliseconds(self._raw(row, self._kind.start)),
            cell_number(self._raw(row, self._kind.lasted)),
        )
        if start is not None and lasted is not None and 0 <= lasted < _LONGEST_RUN_S:
            return start + round(lasted * 1000)
        return milliseconds(self._raw(row, self._kind.end))

    def _raw(self, row: list[Any], name: str) -> Any:  # noqa: ANN401  # any cell
        place = self._columns.names.get(name)
        return None if place is None else row[place]

    def _cell(self, row: list[Any], name: str) -> str:
        return text_in(self._raw(row, name))


_METRIC_COLUMN: Final = "metrics."
_PARAM_COLUMN: Final = "params."
_TAG_COLUMN: Final = "tags."
_LONGEST_RUN_S: Final = 1e10
