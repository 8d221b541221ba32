"""Do the installed libraries fit each other, and RLDK? Judged by what each of them says it needs."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LIBRARIES: Final = ("trl", "transformers", "torch", "accelerate", "mlflow", "wandb")
"""The libraries that RLDK stands between."""

_FIRST_TRL_FOR_TRANSFORMERS_5: Final = (0, 29)
_LAST_TRL_THAT_WANTS_REQUESTS: Final = (1, 13)
_NEED: Final = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(;.*)?")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([\w.-]+)['\"]")
_BOUND: Final = re.compile(r"(>=|<=|==|!=|~=|>|<)\s*([0-9][\w.*+!-]*)")


class Misfit(NamedTuple):
    """Two versions that do not go together.

    Attributes:
        library: The library that is to be changed.
        told: What is wrong.
        remedy: What to do.
    """

    library: str
    told: str
    remedy: str


def installed(library: str) -> str | None:
    """The version that is installed; None for none."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def complaint(trl: str | None, transformers: str | None) -> str | None:
    """Say what is wrong with two versions and what to do; None where nothing is.

    TRL below 0.29 asks a private function of transformers which of its optional dependencies are
    there, and transformers 5 lets it believe that all are.
    """
    if trl is None or transformers is None or release(transformers) < (5,):
        return None
    if release(trl) >= _FIRST_TRL_FOR_TRANSFORMERS_5:
        return None
    return (
        f"TRL {trl} does not work with transformers {transformers}: GRPOTrainer, RLOOTrainer and DPOTrainer "
        "fail to import, with \"No module named 'vllm'\", 'mergekit' or 'weave'; "
        "run: pip install 'transformers<5', or pip install 'trl>=0.29'"
    )


def misfits(needs: Iterable[tuple[str, str]] | None = None) -> list[Misfit]:
    """Compare what is installed with what RLDK and the libraries ask of each other.

    Args:
        needs: Pairs of who asks and what, as packages declare it; by default those of RLDK and of the
            libraries that are installed.
    """
    found = [each for who, need in (_declared() if needs is None else needs) if (each := _misfit(who, need))]
    trl, transformers = installed("trl"), installed("transformers")
    if (said := complaint(trl, transformers)) is not None:
        told, _, remedy = said.rpartition("; run: ")
        found.append(Misfit("transformers", told, remedy))
    wants = trl is not None and release(trl) <= _LAST_TRL_THAT_WANTS_REQUESTS
    if wants and installed("requests") is None:
        told = f"TRL {trl} imports requests in GRPOTrainer and RLOOTrainer, and it is not installed"
        found.append(Misfit("requests", told, "pip install requests"))
    return list(dict.fromkeys(found))


def _declared() -> Iterator[tuple[str, str]]:
    for who in ("rldk", *LIBRARIES):
        try:
            needs = metadata.requires(who) or []
        except metadata.PackageNotFoundError:
            continue
        yield from ((who, need) for need in needs)


def _misfit(who: str, need: str) -> Misfit | None:
    parts = _NEED.fullmatch(need.strip())
    if parts is None or parts[1].lower() not in LIBRARIES or not _binds(who, parts[3] or ""):
        return None
    library, bounds = parts[1].lower(), parts[2].strip()
    version = installed(library)
    if version is None or fits(version, bounds):
        return None
    told = f"{who} {installed(who) or ''} asks for {library} {bounds}, and {version} is installed"
    return Misfit(library, told, f"pip install '{library}{bounds.replace(' ', '')}'")


def _binds(who: str, condition: str) -> bool:
    """Whether a need is one here: on this platform, with this Python, and of an extra that is our matter."""
    text = condition.lstrip("; ").strip()
    if not text:
        return True
    try:
        from packaging.markers import (  # noqa: PLC0415  # it need not be there
            InvalidMarker,
            Marker,
            UndefinedEnvironmentName,
        )
    except ImportError:  # all of the libraries but torch bring it along
        return False
    # What RLDK asks of an optional library stands under its extras; others' extras are not our matter
    extras = ["", *_EXTRA.findall(text)] if who == "rldk" else [""]
    try:
        return any(Marker(text).evaluate({"extra": extra}) for extra in extras)
    except (InvalidMarker, UndefinedEnvironmentName):
        return False


def fits(version: str, bounds: str) -> bool:
    """Whether a version is within bounds such as `>=3.1,<3.18`; what cannot be read binds nothing."""
    return all(_holds(release(version), sign, bound) for sign, bound in _BOUND.findall(bounds))


def _holds(version: tuple[int, ...], sign: str, bound: str) -> bool:
    other = release(bound)
    is_prefix = bound.endswith(".*")
    length = len(other) if is_prefix else max(len(version), len(other))
    mine, theirs = _padded(version, length), _padded(other, length)
    if sign == "~=":
        return mine >= theirs and mine[: len(other) - 1] == theirs[: len(other) - 1]
    return {
        ">=": mine >= theirs,
        "<=": mine <= theirs,
        ">": mine > theirs,
        "<": mine < theirs,
        "==": mine == theirs,
        "!=": mine != theirs,
    }[sign]


def _padded(version: tuple[int, ...], length: int) -> tuple[int, ...]:
    return (version + (0,) * length)[:length]


def release(version: str) -> tuple[int, ...]:
    """The numbers of a release, without what follows them, such as `+cpu` or `rc1`."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()
