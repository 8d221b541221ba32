"""Hypothesis strategies for whole runs: what no trainer should log, and some will."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.errors import MissingDependencyError
from rldk.event import Event
from rldk.testing.courier import Course

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise MissingDependencyError("rldk.testing.runs", "hypothesis", "testing") from error

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from rldk.event import Kind

BEGAN: Final = 1_763_847_600.123

USUAL_NAMES: Final = ("reward_mean", "reward_std", "kl_mean", "entropy_mean", "lr", "loss", "rewards/chosen")

HOSTILE_NAMES: Final = (
    "",
    " ",
    "*",
    "a*",
    "mid*dle",
    ".",
    "..",
    "a.b",
    "/a/",
    "a//b",
    "two words",
    "kl(π)",
    "ünï→",
    "e\u0301",
    "\u00e9",
    "😀",
    "tab\t nul\0 line\n",
    'quote"s and \\',
    "\\",
    "100%",
    "kl",
    "KL",
    "Kl",
    "_x0041_",
    "_x_",
    "_step",
    "_timestamp",
    "_wandb",
    "step",
    "seq",
    "segment",
    "phase",
    "wall_time",
    "run_id",
    "rldk/kl",
    "eval",
    "eval/kl",
    "eval/data/kl",
    "system/kl",
    "summary/kl",
    "data/tokens_in",
    "metric/kl",
    "metric/metric/step",
    "tokens_in",
    "x" * 300,
    "x" * 299 + "y",
    "π" * 100,
)
"""Names that look like RLDK's sections, like columns, like escapes, or differ from another in little."""

TRAINERS: Final = ("GRPO", "PPO", "DPO", "SFT", "MyTrainer[ü]", "None")

OTHER_RUNS: Final = ("another-run", "grpo 2026/π", "0", "x" * 200)

HOSTILE_NUMBERS: Final = (
    float("nan"),
    float("inf"),
    float("-inf"),
    0.0,
    -0.0,
    0,
    4.0,
    5e-324,
    -5e-324,
    sys.float_info.min,
    sys.float_info.max,
    -sys.float_info.max,
    0.1 + 0.2,
    1e16,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    2**63,
    2**70,
    10**400,
    -(10**400),
)


class _Entry(NamedTuple):
    """What happens next in a run."""

    kind: Kind
    phase: str
    steps: int
    milliseconds: int
    metrics: dict[str, int | float]
    data_slice: dict[str, Any]
    notes: list[str]


class _Start(NamedTuple):
    """One start of the training process, and what it logs."""

    is_training: bool
    rewind: int
    entries: list[_Entry]
    end: _Entry | None
    status: str
    git_sha: str | None = None
    seed: int | None = None


def numbers() -> SearchStrategy[int | float]:
    """Any number that a trainer can log."""
    return st.floats() | st.sampled_from(HOSTILE_NUMBERS) | st.floats(-10, 10) | st.integers()


def names() -> SearchStrategy[str]:
    """Any name that a metric can have: text that UTF-8 can hold, of up to 300 letters."""
    said = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    return st.sampled_from(USUAL_NAMES) | st.sampled_from(HOSTILE_NAMES) | said


def courses() -> SearchStrategy[Course]:
    """How a delivery may go."""
    return st.builds(
        Course,
        batch_events=st.sampled_from([1, 2, 3, 200]),
        mishaps=st.lists(st.sampled_from(["none", "refused", "unanswered", "lost"]), max_size=4).map(tuple),
        is_late=st.booleans(),
        is_repeated=st.booleans(),
    )


@st.composite
def runs(draw: DrawFn, run_id: str = "generated-run", most_events: int = 8) -> list[Event]:
    """A whole run as its journal holds it.

    It has up to three segments, which may repeat steps of earlier ones or be an evaluation alone, with
    events of every kind and phase. Each segment has a seed and a commit of its own, or none. The run has
    one trainer, and its first segment may say which other run it continues.

    Args:
        draw: Given by hypothesis.
        run_id: The run's id.
        most_events: Most events of a segment, besides its beginning and its end.
    """
    pool = draw(st.lists(names(), min_size=1, max_size=12, unique=True))
    starts = draw(st.lists(_starts(pool, most_events), min_size=1, max_size=3))
    trainer = draw(st.sampled_from(TRAINERS))
    continues = draw(st.none() | st.sampled_from(OTHER_RUNS))
    return _Written(run_id, trainer, continues).all(starts)


@st.composite
def wide_runs(draw: DrawFn, run_id: str = "generated-run", width: int = 40) -> list[Event]:
    """A short run whose events hold many metrics, among them every hostile name and number.

    Args:
        draw: Given by hypothesis.
        run_id: The run's id.
        width: Least number of drawn metrics of each event.
    """
    drawn = st.dictionaries(names(), numbers(), min_size=width, max_size=width * 2)
    named = dict.fromkeys(HOSTILE_NAMES, 0.5) | {f"odd {i}": n for i, n in enumerate(HOSTILE_NUMBERS)}
    kinds: list[Kind] = ["metrics", "metrics", "resource", "checkpoint", "alert"]
    entries = [
        _Entry(kind, phase, 1, 10, named | draw(drawn), {"tokens_in": 1}, [])
        for kind, phase in zip(kinds, ["train", "eval", *["train"] * 3], strict=True)
    ]
    start = _Start(is_training=True, rewind=0, entries=entries, end=None, status="FINISHED")
    return _Written(run_id).all([start])


def short_run(run_id: str = "short-run") -> list[Event]:
    """The same run each time: two steps, the second one twice, an evaluation, a broken number."""
    first = [
        _Entry("metrics", "train", 1, 1000, {"loss": 0.5, "kl_mean": float("nan")}, {"tokens_in": 1000}, []),
        _Entry("metrics", "eval", 0, 1000, {"loss": 0.75}, {}, []),
        _Entry("metrics", "train", 1, 1000, {"loss": 0.1}, {"tokens_in": 2000}, []),
    ]
    again = [
        _Entry("metrics", "train", 1, 1000, {"loss": 0.3}, {"tokens_in": 2000}, []),
        _Entry("resource", "train", 0, 1000, {"gpu_memory_gib": 1.5}, {}, []),
    ]
    starts = [
        _Start(is_training=True, rewind=1, entries=e, end=None, status="FINISHED", git_sha="abc123", seed=42)
        for e in (first, again)
    ]
    return _Written(run_id).all(starts)


def _starts(pool: list[str], most_events: int) -> SearchStrategy[_Start]:
    return st.builds(
        _Start,
        is_training=st.sampled_from([True, True, True, False]),
        rewind=st.integers(0, 4),
        entries=st.lists(_entries(pool), max_size=most_events),
        end=st.none() | _entries(pool),
        status=st.sampled_from(["FINISHED", "FAILED", "KILLED"]),
        git_sha=st.none() | st.sampled_from(["abc123", "f" * 40]),
        seed=st.none() | st.sampled_from([0, 42, -1, 2**53 + 1, 2**63 - 1]),
    )


def _entries(pool: list[str]) -> SearchStrategy[_Entry]:
    kinds: list[tuple[Kind, str]] = [
        ("metrics", "train"),
        ("metrics", "train"),
        ("metrics", "train"),
        ("metrics", "eval"),
        ("metrics", "eval"),
        ("resource", "train"),
        ("checkpoint", "train"),
        ("alert", "train"),
    ]
    counts = st.integers(0, 2**40) | st.sampled_from([12.5, 2**63, -1])
    data_slice = st.fixed_dictionaries(
        {}, optional={"tokens_in": counts, "tokens_out": counts, "rows": counts, "split": st.just("train")}
    )
    steps = st.sampled_from([0, 0, 1, 1, 1, 10, 2**31])
    return st.tuples(
        st.sampled_from(kinds),
        steps,
        st.integers(1, 10**6),
        st.dictionaries(st.sampled_from(pool), numbers(), max_size=len(pool)),
        data_slice | st.just({}),
        st.just([]) | st.just(["High clipping fraction detected"]),
    ).map(lambda drawn: _Entry(*drawn[0], *drawn[1:]))


class _Written:
    """A run that is being written: the events so far."""

    def __init__(self, run_id: str, trainer: str = "GRPO", continues: str | None = None) -> None:
        self._run_id = run_id
        self._trainer = trainer
        self._continues = continues
        self._told: dict[str, Any] = {}
        self._rng: dict[str, Any] = {}
        self._events: list[Event] = []
        self._milliseconds = 0
        self._step = 0

    def all(self, starts: list[_Start]) -> list[Event]:
        for segment, start in enumerate(starts):
            self._begin(segment, start)
            for entry in start.entries:
                self._add(entry, segment)
            if start.end is not None:
                self._add(start.end._replace(kind="end", phase="train"), segment, status=start.status)
        return self._events

    def _begin(self, segment: int, start: _Start) -> None:
        self._step = max(self._step - start.rewind, 0)
        self._told = {"run_id": self._run_id} | ({"git_sha": start.git_sha} if start.git_sha else {})
        self._rng = {} if start.seed is None else {"seed": start.seed}
        facts: dict[str, Any] = (
            {"trainer": self._trainer} if start.is_training else {"outside_training": True}
        )
        if self._continues is not None and segment == 0:
            facts["continues"] = self._continues
        self._add(_Entry("run", "train", 0, 1000 if segment else 0, {}, {}, []), segment, **facts)

    def _add(self, entry: _Entry, segment: int, **facts: object) -> None:
        self._step += entry.steps
        self._milliseconds += entry.milliseconds
        self._events.append(
            Event(
                kind=entry.kind,
                seq=len(self._events),
                time=round(BEGAN + self._milliseconds / 1000, 3),
                step=self._step,
                wall_time=round(self._milliseconds / 1000, 3),
                metrics=entry.metrics,
                rng=self._rng,
                data_slice=entry.data_slice,
                model_info=self._told | {"phase": entry.phase, "segment": segment} | facts,
                notes=entry.notes,
            )
        )
