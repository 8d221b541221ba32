"""What can go wrong: one base class; each error takes facts and writes its own sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rldk.redact import redact_sentence

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class RLDKError(Exception):
    """The base of every error that RLDK raises on purpose.

    Its sentence holds no secret that can be told as one, whatever it was made of. Other processes can be
    told of it: it is pickled by its sentence and its facts, for its arguments are not those that
    `Exception` remembers.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(redact_sentence(sentence))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[RLDKError], args: tuple[Any, ...], facts: dict[str, Any]) -> RLDKError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


class EventFormatError(RLDKError, ValueError):
    """A line that is no event."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not an RLDK event: {reason}")
        self.reason = reason


class JournalError(RLDKError):
    """A journal that cannot be opened or written."""

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        super().__init__(f"journal {path}: {reason}; {remedy}")
        self.path = path


class JournalLockedError(JournalError):
    """A journal that another process is writing."""

    def __init__(self, path: Path) -> None:
        remedy = "give each process a run_id of its own, or end the other one"
        super().__init__(path, "another process is writing it", remedy)


class ForkedError(RLDKError):
    """A forked child that would record in its parent's journal."""

    def __init__(self, run_id: str, parent: int) -> None:
        super().__init__(f"run {run_id} is recorded by process {parent}, and this is a fork of it")


class DeliveryLockedError(RLDKError):
    """A journal that another process is delivering to the same tracker."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"journal {path}: another process delivers it to this tracker, the training itself perhaps; "
            "let it end first"
        )


class SourceError(RLDKError):
    """A source of runs that cannot be read."""

    def __init__(self, source: str, reason: str, remedy: str) -> None:
        super().__init__(f"cannot read {source}: {reason}; {remedy}")
        self.source = source


class UnknownSourceError(SourceError):
    """A source that no adapter recognises.

    Attributes:
        adapters: The names of those that were asked.
    """

    def __init__(self, source: str, adapters: Iterable[str], reason: str, remedy: str) -> None:
        self.adapters = tuple(sorted(adapters))
        reason = reason if self.adapters else "no adapter is installed"
        super().__init__(source, reason, remedy)


class TargetError(RLDKError):
    """A place where a table was to be written, and could not be."""

    def __init__(self, target: str, reason: str, remedy: str) -> None:
        super().__init__(f"cannot write {target}: {reason}; {remedy}")


class SchemaError(RLDKError, ValueError):
    """A table that is no TrainingMetrics table."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(
            f"this is no TrainingMetrics table: {'; '.join(faults)}; see "
            "docs/training_metrics.md, or give it to rldk.schema.conformed"
        )
        self.faults = faults


class TrainingStoppedError(RLDKError):
    """A training that `stop_on` has ended, of a trainer that can be stopped by an error alone (PPO).

    The checkpoint is saved and the run is recorded as FAILED when it is raised.
    """

    def __init__(self, run_id: str, reason: str) -> None:
        super().__init__(f"RLDK has stopped run {run_id} (stop_on): {reason}; see its post-mortem")


class UnknownBridgeError(RLDKError):
    """A tracker or adapter name that no installed bridge has."""

    def __init__(self, kind: str, name: str, installed: Iterable[str]) -> None:
        super().__init__(f"no {kind} named {name!r}; installed: {', '.join(sorted(installed)) or 'none'}")
        self.name = name


class MissingDependencyError(RLDKError, ImportError):
    """A library that an optional part needs is not installed."""

    def __init__(self, what: str, library: str, extra: str | None = None) -> None:
        wanted = f"'rldk[{extra}]'" if extra else library  # a bridge of somebody else's is no extra of RLDK
        super().__init__(f"{what} needs {library}, which is not installed; run: pip install {wanted}")


class NoPPOError(RLDKError, ImportError):
    """The installed TRL has no PPOTrainer."""

    LAST_TRL_WITH_PPO = "1.12.0"

    def __init__(self, version: str) -> None:
        last = self.LAST_TRL_WITH_PPO
        super().__init__(
            f"TRL {version} has no PPOTrainer, {last} is the last release with one; "
            f"run: pip install 'trl<={last}'"
        )


class SinkRejectedError(RLDKError):
    """A tracker refuses some events for good: to send the same again is useless."""


class SinkClosedError(RLDKError):
    """A tracker run takes nothing any more: it was deleted, or finished by somebody else."""


class SinkLostError(RLDKError):
    """The connection to a tracker run is lost for good, but the run can be opened anew."""


class SinkBusyError(RLDKError):
    """A tracker asks to be left alone for a while."""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class SettingError(RLDKError, ValueError):
    """A parameter or environment variable whose value cannot be used.

    Attributes:
        name: The parameter, the option or the variable.
    """

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"{name}={value!r} cannot be used; give {allowed}")
        self.name = name


class RuleError(RLDKError, ValueError):
    """A health rule of the user's, or a file of them, that cannot be used."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
