# ruff: noqa: INP001 - tools/ holds scripts, no package
"""Which metric names do TRL's trainers write, and does the catalog know them?

TRL's source is read, never imported. As a script, `python tools/trl_metrics.py [FOLDER VERSION]`
lists the names that a trl package writes, and where the catalog disagrees; without arguments, the
installed one's.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rldk import catalog

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TRAINERS: Final = ("PPO", "GRPO", "RLOO", "DPO", "KTO", "Reward", "SFT", "OnlineDPO")

_STORES: Final = {"_metrics", "_stored_metrics"}  # self._metrics[mode][KEY]: averaged and logged
_STATS: Final = {"stats"}  # self.stats[KEY]: the same, without a mode
_LOGS: Final = {"logs", "metrics"}  # local dicts on their way to log()

Values = dict[str, tuple[str, ...]]


def installed(package: str) -> Path:
    """Folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed")
    return Path(spec.origin).parent


def trainer_keys(trl: Path, trainer: str) -> set[str]:
    """Keys that a trainer and its base classes inside TRL may log; empty where TRL has no such trainer.

    `{x}` stands for text that is known only at run time. The prefix of evaluations is taken off.

    Args:
        trl: Folder of the trl package.
        trainer: Short name, such as `GRPO`.
    """
    reader = _Reader()
    seen: set[str] = set()
    _read_class(trl, f"{trainer}Trainer", reader, seen)
    for function in reader.helpers:
        reader.written |= _returned_keys(trl, function)
    return _clean(reader)


def callback_keys(trl: Path) -> set[str]:
    """Keys that TRL's callbacks log through the trainer they are attached to."""
    reader = _Reader()
    for path in _modules(trl):
        if ".trainer.log(" in _text(path):
            reader.visit(_tree(path))
    return _clean(reader, only_logged=True)


def transformers_keys(transformers: Path) -> set[str]:
    """Keys that transformers' own Trainer logs."""
    reader = _Reader()
    reader.visit(_tree(transformers / "trainer.py"))
    splits = tuple(sorted(reader.splits))
    for node in _tree(transformers / "trainer_utils.py").body:
        if isinstance(node, ast.FunctionDef) and node.name == "speed_metrics":
            reader.read_function(node, {"split": splits}, {"result"})
    return _clean(reader)


def unknown_keys(trl: Path, version: str) -> dict[str, set[str]]:
    """Keys that TRL writes but that the catalog does not list for the trainer and release."""
    return _differing(
        {trainer: trainer_keys(trl, trainer) for trainer in TRAINERS},
        {trainer: _listed(trainer, version) for trainer in TRAINERS},
    )


def unwritten_keys(trl: Path, transformers: Path, version: str) -> dict[str, set[str]]:
    """Keys that the catalog lists for the trainer and release but that the sources do not write."""
    shared = transformers_keys(transformers) | callback_keys(trl)
    return _differing(
        {trainer: _listed(trainer, version) for trainer in TRAINERS},
        {trainer: trainer_keys(trl, trainer) | shared for trainer in TRAINERS},
    )


def _listed(trainer: str, version: str) -> set[str]:
    return {line.raw for _, line in catalog.logged_by(trainer, version) if line.raw}


def _differing(these: dict[str, set[str]], those: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is in these alone; a placeholder's own name does not matter."""
    bare = {trainer: {_bare(key) for key in keys} for trainer, keys in those.items()}
    found = {t: {key for key in keys if _bare(key) not in bare[t]} for t, keys in these.items()}
    return {trainer: keys for trainer, keys in found.items() if keys}


def _bare(key: str) -> str:
    return re.sub(r"\{\w+\}", "{}", key)


class _Reader(ast.NodeVisitor):
    """Collects the keys that code writes into the dicts that end in a trainer's log."""

    def __init__(self) -> None:
        self.written: set[str] = set()
        self.logged: set[str] = set()
        self.deleted: set[str] = set()
        self.helpers: set[str] = set()
        self.splits: set[str] = set()
        self._values: Values = {}
        self._locals = _LOGS

    def read_function(self, node: ast.FunctionDef, values: Values, local_dicts: set[str]) -> None:
        """Read a function outside a trainer, whose arguments and dicts have other names."""
        self._locals = local_dicts
        self.visit_FunctionDef(node, values)

    def visit_FunctionDef(self, node: ast.FunctionDef, values: Values | None = None) -> None:
        outer = self._values
        self._values = outer | _literals(node) | (values or {})
        self.generic_visit(node)
        self._values = outer

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Store):
            self._write(node)
        elif isinstance(node.ctx, ast.Del) and self._is_dict(node.value):
            self.deleted |= self._texts(node.slice)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if isinstance(node.value, ast.Dict) and self._is_dict(target):
                self.written |= self._dict_keys(node.value)
            if isinstance(node.value, ast.Name) and _name(target) == "compute_metrics":
                self.helpers.add(node.value.id)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.value, ast.Dict) and self._is_dict(node.target):
            self.written |= self._dict_keys(node.value)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        if _name(called) == "speed_metrics" and node.args:
            self.splits |= self._texts(node.args[0])
        if isinstance(called, ast.Attribute):
            self._read_method(called, node.args)
        self.generic_visit(node)

    def _read_method(self, called: ast.Attribute, args: list[ast.expr]) -> None:
        keys = {key for arg in args if isinstance(arg, ast.Dict) for key in self._dict_keys(arg)}
        if called.attr in {"append", "extend"} and isinstance(called.value, ast.Subscript):
            self._write(called.value)
        elif called.attr == "update" and self._is_dict(called.value):
            self.written |= keys
        elif called.attr == "log" and _is_trainer(called.value):
            self.logged |= keys

    def _write(self, node: ast.Subscript) -> None:
        if self._is_dict(node.value):
            self.written |= self._texts(node.slice)

    def _is_dict(self, node: ast.expr) -> bool:
        """Whether its keys become names of metrics."""
        match node:
            case ast.Subscript(value=ast.Attribute(attr=attr)):
                return attr in _STORES
            case ast.Attribute(attr=attr):
                return attr in _STATS
            case ast.Name(id=name):
                return name in self._locals
        return False

    def _dict_keys(self, node: ast.Dict) -> set[str]:
        return {text for key in node.keys if key is not None for text in self._texts(key)}

    def _texts(self, node: ast.expr) -> set[str]:
        return set(_texts(node, self._values))


def _is_trainer(node: ast.expr) -> bool:
    """Whether its `log` is a trainer's: `self`, `super()`, or a callback's `self.trainer`."""
    match node:
        case ast.Name(id="self") | ast.Call(func=ast.Name(id="super")):
            return True
    return _name(node) == "trainer"


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _texts(node: ast.expr, values: Values) -> Iterator[str]:
    """Every text that an expression may have; `{x}` for a part that only a run can tell."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.Constant():  # metrics[0] is no metric's name
            return
        case ast.Name(id=name):
            yield from values.get(name, (f"{{{name}}}",))
        case ast.JoinedStr(values=parts):
            yield from _joined(parts, values)
        case ast.FormattedValue(value=value):
            yield from _texts(value, values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from _joined([left, right], values)
        case ast.IfExp(body=body, orelse=orelse):
            yield from itertools.chain(_texts(body, values), _texts(orelse, values))
        case _:
            yield "{value}"


def _joined(parts: Iterable[ast.expr], values: Values) -> Iterator[str]:
    yield from map("".join, itertools.product(*(tuple(_texts(part, values)) for part in parts)))


def _literals(function: ast.FunctionDef) -> Values:
    """Names in a function that have literal texts: defaults, assignments, loops over lists."""
    args = function.args.posonlyargs + function.args.args
    found = dict(zip(reversed([a.arg for a in args]), reversed(function.args.defaults), strict=False))
    values: Values = {}
    for name, nodes in itertools.chain(
        ((name, [default]) for name, default in found.items()), _bound(function)
    ):
        texts = [text for node in nodes for text in _texts(node, {})]
        if texts and not any("{" in text for text in texts):
            values[name] = (*values.get(name, ()), *texts)
    return values


def _bound(function: ast.FunctionDef) -> Iterator[tuple[str, list[ast.expr]]]:
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, [value]
            case ast.For(target=ast.Name(id=name), iter=ast.List(elts=items) | ast.Tuple(elts=items)):
                yield name, items


def _read_class(trl: Path, name: str, reader: _Reader, seen: set[str]) -> None:
    """Read all classes of a name, for TRL keeps wrappers under it, and then their bases."""
    seen.add(name)
    for path in _modules(trl):
        if f"class {name}" not in _text(path):
            continue
        tree = _tree(path)
        for cls in [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]:
            reader.visit(cls)
            for base in {_real_name(tree, _name(base)) for base in cls.bases} - seen:
                _read_class(trl, base, reader, seen)


def _real_name(tree: ast.Module, name: str) -> str:
    """Name of an imported class where it was defined."""
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            if alias.asname == name:
                return alias.name
    return name


def _returned_keys(trl: Path, function: str) -> set[str]:
    """Keys of the dicts that a function of TRL's returns."""
    keys: set[str] = set()
    for path in _modules(trl):
        if f"def {function}(" in _text(path):
            for node in ast.walk(_tree(path)):
                if isinstance(node, ast.FunctionDef) and node.name == function:
                    for result in ast.walk(node):
                        if isinstance(result, ast.Return) and isinstance(result.value, ast.Dict):
                            keys |= {t for k in result.value.keys if k for t in _texts(k, {})}
    return keys


@cache
def _modules(trl: Path) -> tuple[Path, ...]:
    return tuple(sorted(p for part in ("trainer", "experimental") for p in (trl / part).rglob("*.py")))


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(_text(path))


def _clean(reader: _Reader, *, only_logged: bool = False) -> set[str]:
    keys = reader.logged if only_logged else (reader.written | reader.logged) - reader.deleted
    bare = {key.removeprefix("eval_") for key in keys}
    return {key for key in bare if not re.fullmatch(r"\{\w+\}", key)}


def main(argv: list[str]) -> int:
    """List the keys of each trainer, and fail where the catalog does not know one."""
    trl = Path(argv[0]) if argv else installed("trl")
    version = argv[1] if argv else metadata.version("trl")
    for trainer in TRAINERS:
        keys = sorted(trainer_keys(trl, trainer))
        sys.stdout.write(f"{trainer} ({len(keys)}): {' '.join(keys)}\n")
    sys.stdout.write(f"callbacks: {' '.join(sorted(callback_keys(trl)))}\n")
    unknown = unknown_keys(trl, version)
    unwritten = unwritten_keys(trl, installed("transformers"), version)
    sys.stdout.write(f"unknown to the catalog: {unknown}\nnot written by TRL {version}: {unwritten}\n")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
