# ruff: noqa: INP001 - tools/ holds scripts, no package
"""What is RLDK's public interface? Writes tests/release/api.txt from the code.

`python tools/api_surface.py` prints how the code differs from that file and ends with code 1 where it does;
`python tools/api_surface.py --write` accepts the difference. docs/api.md tells what the promise is.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import griffe
from typer.main import get_command

from rldk import bridge, settings
from rldk.cli import app
from rldk.event import SCHEMA_VERSION, Event

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
FILE: Final = ROOT / "tests" / "release" / "api.txt"
EVERYTHING: Final = ("*",)

PUBLIC: Final[dict[str, tuple[str, ...]]] = {
    "rldk": ("__version__", "log"),
    "rldk.integrations.trl": ("EventWriterCallback", "RLDKCallback", "create_ppo_trainer"),
    "rldk.ingest": ("ingest_runs",),
    "rldk.adapters.trl": ("TRLAdapter",),
    "rldk.schema": ("COLUMNS", "DTYPES", "UNITS", "Column", "conformed", "validate"),
    "rldk.sync": EVERYTHING,
    "rldk.verify": EVERYTHING,
    "rldk.diff": EVERYTHING,
    "rldk.event": ("SCHEMA_VERSION", "Event", "decode", "encode"),
    "rldk.errors": EVERYTHING,
    "rldk.bridge": EVERYTHING,
    "rldk.health.rule": EVERYTHING,
    "rldk.health.window": ("Window",),
    "rldk.testing": ("ManualClock", "MemorySink"),
    "rldk.testing.conformance": ("BridgeConformance",),
    "rldk.testing.law": ("LawBrokenError", "check_round_trip"),
}
"""The public modules, and of each the names that are promised; `*` is every one without an underscore."""


def surface() -> str:
    """The whole interface as text, one fact a line."""
    package = griffe.load("rldk", search_paths=[str(ROOT)], allow_inspection=False)
    assert isinstance(package, griffe.Module)  # noqa: S101  # for the type checker
    lines: list[str] = []
    for module, names in PUBLIC.items():
        lines += [module, *(f"  {line}" for line in _module(package, module, names)), ""]
    return "\n".join([*lines, *_formats(), "", *_commands(), "", *_settings()]) + "\n"


def difference() -> str:
    """How the code's interface differs from the file's; empty where it does not."""
    known = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    lines = difflib.unified_diff(
        known.splitlines(), surface().splitlines(), "promised", "found", "", "", 1, ""
    )
    return "\n".join(lines)


def _module(package: griffe.Module, name: str, names: tuple[str, ...]) -> Iterator[str]:
    module: Any = package if name == "rldk" else package[name.removeprefix("rldk.")]
    wanted = names if names != EVERYTHING else _own(module)
    for each in sorted(wanted):
        member = module[each]
        yield from _member(member.final_target if member.is_alias else member, each)


def _own(module: Any) -> list[str]:  # noqa: ANN401  # griffe's objects and aliases, which share no type
    if module.exports:
        return [str(name) for name in module.exports]
    return [name for name, member in module.members.items() if _is_public(name) and not member.is_alias]


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _member(member: Any, name: str) -> Iterator[str]:  # noqa: ANN401  # the same
    if member.is_function:
        for overload in member.overloads or [member]:
            yield f"{name}{_signature(overload)}"
    elif member.is_class:
        yield from _class(member, name)
    else:
        shown = f": {member.annotation}" if member.annotation else ""
        yield f"{name}{shown}"


def _class(member: Any, name: str) -> Iterator[str]:  # noqa: ANN401  # the same
    bases = ", ".join(str(base) for base in member.bases)
    yield f"class {name}({bases})" if bases else f"class {name}"
    for inner in sorted(member.members):
        part = member.members[inner]
        if inner == "__init__":
            yield f"  {_signature(part)}"
        elif _is_public(inner) and part.is_function:
            yield f"  {inner}{_signature(part)}"
        elif _is_public(inner) and part.is_attribute:
            default = " = ..." if part.value is not None else ""
            shown = f": {part.annotation}" if part.annotation else ""
            yield f"  {inner}{shown}{default}"


def _signature(function: Any) -> str:  # noqa: ANN401  # the same
    kinds = griffe.ParameterKind
    shown: list[str] = []
    for parameter in function.parameters:
        if parameter.name in {"self", "cls"}:
            continue
        is_first = not any(line.startswith("*") for line in shown)
        if parameter.kind is kinds.keyword_only and is_first:
            shown.append("*")
        star = {kinds.var_positional: "*", kinds.var_keyword: "**"}.get(parameter.kind, "")
        told = f": {parameter.annotation}" if parameter.annotation else ""
        default = f" = {parameter.default}" if parameter.default is not None and not star else ""
        shown.append(f"{star}{parameter.name}{told}{default}")
    return f"({', '.join(shown)})" + (f" -> {function.returns}" if function.returns else "")


def _formats() -> Iterator[str]:
    envelope = ("v", "kind", "seq", "time")
    yield "Formats"
    yield f"  version of the journal's events: {SCHEMA_VERSION}"
    yield f"  envelope of an event: {', '.join(envelope)}"
    yield f"  fields of an event: {', '.join(f for f in Event.__struct_fields__ if f not in envelope)}"
    yield f"  prefix of metrics in trackers: {bridge.PREFIX}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for group, entries in project["entry-points"].items():
        yield f"  entry points {group}: {', '.join(sorted(entries))}"
    yield f"  extras: {', '.join(sorted(project['optional-dependencies']))}"


def _commands() -> Iterator[str]:
    command: Any = get_command(app)
    yield "Commands"
    for name, each in sorted(command.commands.items()):
        options = [max(p.opts, key=len) for p in each.params if p.opts[0].startswith("-")]
        arguments = [str(p.name).upper() for p in each.params if not p.opts[0].startswith("-")]
        yield f"  rldk {' '.join([name, *arguments, *sorted(options)])}"


def _settings() -> Iterator[str]:
    yield "Environment"
    yield from (f"  RLDK_{name.upper()}" for name in sorted(settings.Settings.__struct_fields__))


def main() -> int:
    """Write, or compare."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--write", action="store_true", help="accept the code's interface as the promised one"
    )
    if options.parse_args().write:
        FILE.write_text(surface(), encoding="utf-8")
        return 0
    found = difference()
    sys.stdout.write(found + "\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
