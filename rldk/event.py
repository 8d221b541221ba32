"""What is an event: the one type of RLDK, and its strict JSON form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from rldk.errors import EventFormatError

SCHEMA_VERSION: Final = 1

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Kind = Literal["run", "metrics", "resource", "checkpoint", "alert", "end"]

_NON_FINITE: Final[dict[str, float]] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

if TYPE_CHECKING:
    Metrics = dict[str, int | float]
else:  # what the decoder accepts: JSON has no NaN, so three names stand for it (the ProtoJSON convention)
    Metrics = dict[str, int | float | Literal["NaN", "Infinity", "-Infinity"]]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One fact that a training run said about itself.

    The seven fields `step` to `notes` are the public schema; `v`, `kind`, `seq` and `time` are the
    envelope. `(run_id, seq)` identifies an event.

    Attributes:
        v: Version of the schema.
        kind: What the event tells of.
        seq: Position in the run's journal, from 0, never repeated within a run.
        time: Seconds since the epoch, in whole milliseconds, never repeated within a run.
        step: Optimizer steps done (`global_step`).
        wall_time: Seconds since the run's first event, in whole milliseconds.
        metrics: Canonical name to value. A metric that was not measured is absent; NaN and the
            infinities mean that the measurement broke.
        rng: What the run's randomness came from (`seed`).
        data_slice: What data the step saw (`tokens_in`, `tokens_out`).
        model_info: Which run and code this is (`run_id`, `git_sha`, `phase`, `segment`, ...).
        notes: Sentences for people.
    """

    v: int = SCHEMA_VERSION
    kind: Kind = "metrics"
    seq: Int64 = 0
    time: float = 0.0
    step: Int64
    wall_time: float
    metrics: Metrics
    rng: dict[str, Any]
    data_slice: dict[str, Any]
    model_info: dict[str, Any]
    notes: list[str]

    @property
    def run_id(self) -> str:
        """The run that the event belongs to; empty where it does not say."""
        return str(self.model_info.get("run_id", ""))

    @property
    def phase(self) -> str:
        """`train` or `eval`."""
        return str(self.model_info.get("phase", "train"))

    @property
    def segment(self) -> int:
        """Which start of the training process wrote the event, from 0."""
        segment = self.model_info.get("segment", 0)
        return segment if isinstance(segment, int) else 0

    @property
    def is_raw(self) -> bool:
        """Whether somebody else than RLDK logged it, so that its metrics have the names they gave."""
        return self.model_info.get("raw") is True


_FREE_FIELDS: Final = ("metrics", "rng", "data_slice", "model_info")

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """Write an event as one line of strict JSON, without the newline.

    Text that UTF-8 cannot hold (a lone surrogate, as in a file name of raw bytes) gets `?` in its place.

    Raises:
        EventFormatError: A field holds something that JSON cannot.
    """
    try:
        line = _encoder.encode(event)
        if b"null" not in line:  # as which msgspec writes NaN, the infinities and None
            return line
        spelled = {f: spell_non_finite(getattr(event, f)) for f in _FREE_FIELDS}
        return _encoder.encode(msgspec.structs.replace(event, **spelled))
    except UnicodeEncodeError:
        fields = {f: getattr(event, f) for f in (*_FREE_FIELDS, "notes")}
        return encode(msgspec.structs.replace(event, **as_utf8(fields)))
    except (TypeError, ValueError, RecursionError) as error:
        raise EventFormatError(str(error)) from error


def decode(line: bytes) -> Event:
    """Read an event from one line of JSON.

    Raises:
        EventFormatError: The line is not JSON, lacks a field of the public schema, or was written
            by a newer RLDK.
    """
    try:
        event = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EventFormatError(str(error)) from error
    if event.v > SCHEMA_VERSION:
        reason = f"its schema is version {event.v}, this RLDK reads up to {SCHEMA_VERSION}; upgrade rldk"
        raise EventFormatError(reason)
    # A line of numbers alone often lacks these letters, and one letter is found at a tenth of the cost.
    if (b"N" in line and b'"NaN"' in line) or (b"I" in line and b'Infinity"' in line):
        return msgspec.structs.replace(event, metrics={k: as_number(v) for k, v in event.metrics.items()})
    return event


def spell_non_finite(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    """Replace NaN and the infinities by their names, at every depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else non_finite_name(value)
    if isinstance(value, dict):
        return {k: spell_non_finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [spell_non_finite(v) for v in value]
    return value


def as_utf8(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    """Put `?` in the place of what UTF-8 cannot hold, in every text, at every depth."""
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, dict):
        return {as_utf8(k): as_utf8(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_utf8(v) for v in value]
    return value


def utf8(text: str) -> str:
    """Put `?` in the place of what UTF-8 cannot hold, such as a file name's raw bytes."""
    return text.encode("utf-8", "replace").decode()


def as_float(value: float) -> float:
    """Turn a number into a float; an integer beyond the floats becomes an infinity."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def non_finite_name(value: float) -> str:
    """`NaN`, `Infinity` or `-Infinity`."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def as_number(value: float | str) -> int | float:
    """Turn one of the three names back into its number; leave a number alone."""
    return _NON_FINITE[value] if isinstance(value, str) else value
