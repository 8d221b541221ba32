"""What docs/report.md has to say: each part of the schema, its fields, their types and meaning."""

from __future__ import annotations

import msgspec
from msgspec import inspect

from rldk.report import schema

PLAIN = {
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.StrType: "string",
    inspect.BoolType: "boolean",
    inspect.NoneType: "null",
    inspect.AnyType: "anything",
}
NON_FINITE = '"-Infinity" or "Infinity" or "NaN"'


def tables():
    """The rows of the table of each part, the two files first."""
    found = {}
    waiting = [schema.FinalReport, schema.AlertsFile]
    while waiting:
        part = waiting.pop(0)
        if part not in found:
            fields = inspect.type_info(part).fields
            found[part] = [(f"`{f.name}`", shown(f.type, waiting), told(f.type)) for f in fields]
    return found


def told(kind):
    """A field's description."""
    return kind.extra_json_schema["description"]


def shown(kind, waiting):
    """A type in words; the parts that it names are put on the list of those that follow."""
    if isinstance(kind, inspect.Metadata):
        return shown(kind.type, waiting)
    if isinstance(kind, inspect.UnionType):
        return words([shown(each, waiting) for each in kind.types])
    if isinstance(kind, inspect.ListType):
        return f"list of {shown(kind.item_type, waiting)}"
    if isinstance(kind, inspect.DictType):
        return f"object of {shown(kind.value_type, waiting)}"
    return named(kind, waiting)


def named(kind, waiting):
    """A type that is made of no others, or a part of the schema."""
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(f'"{value}"' for value in kind.values)
    if isinstance(kind, inspect.StructType):
        waiting.append(kind.cls)
        return f"[{kind.cls.__name__}](#{kind.cls.__name__.lower()})"
    return PLAIN[type(kind)]


def words(kinds):
    """A choice of types; a number may be one that JSON has not, and is a text then."""
    is_number = "number" in kinds
    kinds = [kind for kind in kinds if not (is_number and kind == "integer")]
    return " or ".join("name" if kind == NON_FINITE else kind for kind in kinds)


def decoded(path, part):
    """Read one of the files strictly: no NaN, no field that the schema does not have, each of its type."""
    return msgspec.json.decode(path.read_bytes(), type=part)
