"""What is the long format: one metric a line, how it is spelt, and how lines become events again.

    {"time": 1763847600.123, "step": 10, "name": "kl", "value": 0.05, "run_id": "r", "tags": {},
     "meta": {"source": "trl", "raw_name": "objective/kl", "phase": "train", "trainer": "PPO",
              "metric": "kl_seq_mean", "unit": "nats/sequence", "segment": 0}}

`name` is for people and may be short. What the number is, `meta` tells: `metric` is its canonical name
and `unit` its unit. So PPO's KL of a whole sequence and GRPO's KL of a token are both called `kl`,
and come back as `kl_seq_mean` and `kl_mean`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple, cast, get_args

import msgspec

from rldk import catalog
from rldk import event as event_json
from rldk.errors import EventFormatError
from rldk.event import Event, Kind, spell_non_finite

SHORT_NAMES: Final = {
    "kl_mean": "kl",
    "kl_seq_mean": "kl",
    "entropy_mean": "entropy",
    "grad_norm": "grad_norm_policy",
}
"""Canonical name to what the long format calls it; every other metric keeps its canonical name."""

OLD_PPO_KEYS: Final = {
    # RLDK's guide: keys of PPO trainers that are no longer part of TRL
    "ppo/policy/kl_mean": "kl_mean",
    "ppo/policy/grad_norm": "grad_norm",
    "ppo/rewards/mean": "reward_mean",
    "ppo/rewards/std": "reward_std",
    # TRL up to 0.11, trl/trainer/ppo_trainer.py: record_step_stats, log_stats
    "env/reward_mean": "reward_mean",
    "env/reward_std": "reward_std",
    "ppo/mean_non_score_reward": "reward_kl_penalty_token_mean",  # today's is the sum over a sequence
    "ppo/mean_scores": "reward_mean",
    "ppo/std_scores": "reward_std",
    "ppo/learning_rate": "lr",
    "ppo/loss/policy": "policy_loss",
    "ppo/loss/value": "value_loss",
    "ppo/loss/total": "loss",
    "ppo/policy/entropy": "entropy_mean",
    "ppo/policy/approxkl": "approx_kl_update",
    "ppo/policy/clipfrac": "clip_frac",
    "ppo/policy/advantages_mean": "advantage_mean",
    "ppo/returns/mean": "return_mean",
    "ppo/returns/var": "return_var",
    "ppo/val/clipfrac": "value_clip_frac",
    "ppo/val/mean": "value_mean",
    "ppo/val/var": "value_var",
    "ppo/val/var_explained": "value_var_explained",
}
"""Keys that the catalog does not list, for no TRL from 0.23 on logs them, to canonical names."""

_METRIC_OF_SHORT_NAME: Final = {"kl": "kl_mean", "entropy": "entropy_mean", "grad_norm_policy": "grad_norm"}
_EVAL: Final = "eval_"
_KINDS: Final = frozenset(get_args(Kind))


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one log.

    Attributes:
        time: When it was logged, in seconds since the epoch; None where the line does not say.
        step: Optimizer steps done.
        name: What the line calls the metric.
        value: The number; None where nothing was measured.
        run_id: The run; empty where the line does not say.
        tags: What the user said of the run.
        meta: What the number is: `source`, `raw_name`, `phase`, `trainer`, `metric`, `unit`,
            `segment`, and `kind` for what belongs to no step.
    """

    time: float | None = None
    step: int
    name: str
    value: int | float | None
    run_id: str = ""
    tags: dict[str, Any] = {}
    meta: dict[str, Any] = {}

    @property
    def phase(self) -> str:
        """`train` or `eval`; a key that begins with `eval_` says it too."""
        raw = self.meta.get("raw_name", self.name)
        return str(self.meta.get("phase") or ("eval" if str(raw).startswith(_EVAL) else "train"))

    @property
    def segment(self) -> int:
        """Which start of the training process wrote the line, from 0."""
        segment = self.meta.get("segment", 0)
        return segment if isinstance(segment, int) else 0

    @property
    def kind(self) -> Kind:
        """What the line tells of: a step's metrics, unless it says otherwise."""
        kind = self.meta.get("kind")
        return cast("Kind", kind) if kind in _KINDS else "metrics"


class _Loose(msgspec.Struct):
    """A line as anybody may write it."""

    step: float
    name: str
    value: Any
    time: Any = None
    run_id: Any = None
    tags: Any = None
    meta: Any = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Loose)


def encode(line: Line) -> bytes:
    """Write one line of strict JSON, without the newline; NaN and the infinities by their names.

    Raises:
        EventFormatError: The line holds something that JSON cannot.
    """
    try:
        return _encoder.encode(
            {name: spell_non_finite(getattr(line, name)) for name in Line.__struct_fields__}
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise EventFormatError(str(error)) from error


def decode(text: bytes) -> Line:
    """Read one line; only `step`, `name` and `value` must be there.

    Raises:
        EventFormatError: It is no JSON, one of the three is missing, or the value is no number.
    """
    loose = _loose(text)
    if not loose.step.is_integer():
        raise EventFormatError(f"step {loose.step} is no whole number")
    return Line(
        time=_time(loose.time),
        step=int(loose.step),
        name=loose.name,
        value=_value(loose.value),
        run_id="" if loose.run_id is None else str(loose.run_id),
        tags=_dict(loose.tags),
        meta=_dict(loose.meta),
    )


def read(line: bytes) -> Event | Line | str:
    """Read a line of either format: an event, a line of the long format, or why it is neither."""
    try:
        return event_json.decode(line)
    except EventFormatError as error:
        if not (b'"name"' in line and b'"value"' in line):
            return error.reason
    try:
        return decode(line)
    except EventFormatError as error:
        return error.reason


class Grouper:
    """Puts the lines of one file together again: those of one log become one event.

    Args:
        run_id: The run of lines that name none.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._began: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        self._log: _Log | None = None
        self._lines: list[Line] = []

    def take(self, line: Line) -> Event | None:
        """Take a line; gives the event of the lines before, where they share run, step, phase and time."""
        if line.value is None:
            return None
        log = _log_of(line)
        done = self.rest() if log != self._log else None
        self._log = log
        self._lines.append(line)
        return done

    def rest(self) -> Event | None:
        """Give the event of the lines that have none yet; None where there are none."""
        lines, self._lines = self._lines, []
        return self._event(self._log, lines) if self._log is not None and lines else None

    def _event(self, log: _Log, lines: list[Line]) -> Event:
        run_id = log.run_id or self._run_id
        self._counts[run_id] += 1
        return Event(
            kind=log.kind,
            seq=self._counts[run_id] - 1,
            time=log.time or 0.0,
            step=log.step,
            wall_time=self._wall_time(run_id, log.time),
            metrics={metric_of(line): line.value for line in lines if line.value is not None},
            rng={},
            data_slice={},
            model_info=_model_info(run_id, log, lines[0]),
            notes=[],
        )

    def _wall_time(self, run_id: str, time: float | None) -> float:
        """Seconds since the run's first line; NaN where nobody knows."""
        if time is None:
            return math.nan
        return round(time - self._began.setdefault(run_id, time), 3)


class _Log(NamedTuple):
    """What the lines of one log share."""

    run_id: str
    step: int
    phase: str
    kind: Kind
    segment: int
    time: float | None


def metric_of(line: Line) -> str:
    """Find the canonical name of what a line holds.

    That is what `meta` says it is, else what the catalog knows under the raw name, else what the
    short name stands for, else the name itself.
    """
    trainer, raw = line.meta.get("trainer"), line.meta.get("raw_name")
    name = line.name.removeprefix(_EVAL) if line.phase == "eval" else line.name
    told = (
        line.meta.get("metric"),
        isinstance(raw, str) and known(raw.removeprefix(_EVAL), trainer),
        _METRIC_OF_SHORT_NAME.get(name),
        known(name, trainer),
    )
    return next((found for found in told if found and isinstance(found, str)), name)


def known(raw: str, trainer: object = None) -> str | None:
    """Canonical name of a raw key; without a trainer, where every trainer means the same by it."""
    trainers = [trainer] if isinstance(trainer, str) else _trainers()
    names = {match.name for each in trainers if (match := catalog.find(raw, each)) is not None}
    if len(names) == 1:
        return names.pop()
    return None if names else OLD_PPO_KEYS.get(raw)


@cache
def _trainers() -> list[str]:
    return sorted({each for metric in catalog.metrics() for line in metric.logged for each in line.by})


def _log_of(line: Line) -> _Log:
    return _Log(line.run_id, line.step, line.phase, line.kind, line.segment, line.time)


def _model_info(run_id: str, log: _Log, line: Line) -> dict[str, Any]:
    told = {"trainer": line.meta.get("trainer"), "source": line.meta.get("source"), "tags": line.tags}
    known = {"run_id": run_id, "phase": log.phase, "segment": log.segment}
    return known | {name: value for name, value in told.items() if value}


def _loose(text: bytes) -> _Loose:
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError as error:
        raise EventFormatError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _with_bare_nan(text, error)


def _with_bare_nan(text: bytes, error: Exception) -> _Loose:
    """Python's own json writes NaN and Infinity bare, which no JSON reader but itself accepts."""
    try:
        return msgspec.convert(json.loads(text), _Loose)
    except (ValueError, RecursionError, msgspec.ValidationError):
        raise EventFormatError(str(error)) from error


def _value(value: object) -> int | float | None:
    """Read a number, a number in quotes as ProtoJSON allows it, or nothing."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError as error:
            raise EventFormatError(f"value {value[:80]!r} is no number") from error
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise EventFormatError(f"value of type {type(value).__name__} is no number")


def _time(value: object) -> float | None:
    """Read seconds since the epoch or an ISO date; None for anything else."""
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else _finite(value)
    except (ValueError, OverflowError, OSError):
        return None


def _finite(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
