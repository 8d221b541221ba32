"""Which rules do users bring along: in TOML files, and as objects of their own?"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_args

import msgspec

from rldk import catalog
from rldk.errors import RuleError
from rldk.health.changed_rule import Change, ChangedRule
from rldk.health.expressions import PARTS, Condition, condition
from rldk.health.rule import Persistence, Rule, Severity
from rldk.health.rules import built_in
from rldk.health.window import SECONDS_PER_STEP
from rldk.health.written_rule import WrittenRule, message
from rldk.redact import logger

_logger = logger(__name__)

_SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_OF: Final = re.compile(r"([0-9]{1,3}) of ([0-9]{1,3})")
_MOST_POINTS: Final = 512
_LARGEST_FILE: Final = 2**20
_NEAR: Final = 0.75
_LIMITS: Final = "limit_"
"""How the names of the rules begin that `alert_thresholds` makes."""

_Kind = TypeVar("_Kind", bound=msgspec.Struct)
_Word = TypeVar("_Word", bound=str)
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**6)]
_Points = Annotated[int, msgspec.Meta(ge=1, le=10**6)]


class _Table(msgspec.Struct, kw_only=True, rename={"lasting": "for"}):
    """A rule as it is written."""

    name: str
    when: str
    title: str = ""
    severity: str = "warning"
    lasting: str = "1 of 1"
    cooldown: _Count = 10
    warm_up: _Points = 1
    trainers: tuple[str, ...] = ()
    meaning: str = ""
    advice: str = "it is a rule of your own: see whether it fits this run"
    source: str = ""
    part: str = "train"
    units: dict[str, str] = {}
    message: str = ""


class _ChangeTable(msgspec.Struct, kw_only=True, rename={"lasting": "for"}):
    """A change of one of RLDK's rules as it is written."""

    enabled: bool | None = None
    severity: str | None = None
    lasting: str | None = None
    cooldown: _Count | None = None
    warm_up: _Points | None = None


class _File(msgspec.Struct, kw_only=True):
    rule: tuple[Any, ...] = ()
    rules: dict[str, Any] = {}


class RuleFile(NamedTuple):
    """What a file of rules holds.

    Attributes:
        path: The file.
        rules: The rules that are new.
        changes: What is to be otherwise of RLDK's own rules, by their names.
    """

    path: Path
    rules: tuple[Rule, ...]
    changes: Mapping[str, Change]

    def changed(self, rules: Iterable[Rule]) -> list[Rule]:
        """The rules as this file wants them: without those that it turns off, in the same order."""
        return _changed(rules, self.changes)


def rules_with(extra: str | Path | Rule | Iterable[Rule | str | Path] | None = None) -> list[Rule]:
    """RLDK's own rules as the user's files change them, and the user's rules.

    Args:
        extra: Rules, and paths of TOML files with rules; one of them, or several. Of two files that
            change the same thing, the later one is heard.

    Raises:
        RuleError: Something among them is no rule, a file cannot be used, or two rules share a name.
    """
    changes: dict[str, Change] = {}
    brought: list[Rule] = []
    for position, given in enumerate(_each(extra)):
        if isinstance(given, str | Path):
            file = load(given)
            changes |= {name: changes.get(name, Change()).then(new) for name, new in file.changes.items()}
            brought += file.rules
        else:
            brought.append(_checked(given, f"rules[{position}]"))
    _check_names(brought, "rules")
    return [*_changed(built_in(), changes), *brought]


def load(path: str | Path) -> RuleFile:
    """Read a file of rules.

    Args:
        path: A TOML file: a table `[[rule]]` for each new rule, `[rules.NAME]` to change one of RLDK's.

    Raises:
        RuleError: It cannot be read, or holds what is not allowed; it tells where, and what is.
    """
    where = str(path)
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RuleError(where, f"cannot be read ({reason}); give a TOML file of rules") from error
    return _read(content, Path(path))


def _read(content: bytes, path: Path) -> RuleFile:
    where = str(path)
    if len(content) > _LARGEST_FILE:
        raise RuleError(where, f"it has {len(content)} bytes, and a file of rules at most {_LARGEST_FILE}")
    try:
        tables = msgspec.toml.decode(content)
    except (ValueError, RecursionError) as error:
        raise RuleError(where, f"it is no TOML ({str(error) or 'nested too deeply'})") from None
    file = _typed(tables, _File, where)
    rules = tuple(_rule(table, number, path) for number, table in enumerate(file.rule, 1))
    _check_names(rules, where)
    _hint(rules, where)
    changes = {name: _change(name, table, where) for name, table in file.rules.items()}
    return RuleFile(path, rules, changes)


def _rule(given: object, number: int, path: Path) -> Rule:
    where = f"{path}, rule number {number}"
    if isinstance(given, Mapping) and isinstance(given.get("name"), str):
        where = f"{path}, rule {given['name']!r}"
    table = _typed(given, _Table, where)
    _check_name(table.name, where)
    part = _one_of(table.part, PARTS, f"{where}, part")
    holds = condition(table.when, part, f"{where}, when")
    said = message(_line(table.message), part, f"{where}, message") if table.message else None
    severity = _one_of(table.severity, _SEVERITIES, f"{where}, severity")
    rule = WrittenRule(table.name, holds, severity, said, _units(table.units, holds, f"{where}, units"))
    rule.title = _line(table.title) or table.name.replace("_", " ").capitalize()
    rule.part, rule.trainers = part, tuple(_trainer(name) for name in table.trainers)
    rule.warm_up, rule.cooldown = table.warm_up, table.cooldown
    rule.persistence = _persistence(table.lasting, where)
    rule.meaning, rule.advice = _line(table.meaning), _line(table.advice)
    rule.source = _line(table.source) or path.name
    return rule


def _change(name: str, given: object, where: str) -> Change:
    _one_of(name, [rule.name for rule in built_in()], f"{where}, [rules.{name}]")
    where = f"{where}, [rules.{name}]"
    table = _typed(given, _ChangeTable, where)
    severity = table.severity and _one_of(table.severity, _SEVERITIES, f"{where}, severity")
    persistence = None if table.lasting is None else _persistence(table.lasting, where)
    return Change(table.enabled, severity or None, persistence, table.cooldown, table.warm_up)


def _changed(rules: Iterable[Rule], changes: Mapping[str, Change]) -> list[Rule]:
    wanted = ((rule, changes.get(rule.name, Change())) for rule in rules)
    return [
        rule if change == Change() else ChangedRule(rule, change)
        for rule, change in wanted
        if change.enabled is not False
    ]


def _typed(given: object, kind: type[_Kind], where: str) -> _Kind:
    """Make sure that a table has the keys and the types that it may have.

    Raises:
        RuleError: It has not.
    """
    if not isinstance(given, Mapping):
        raise RuleError(where, "it is no table; write [[rule]] for a new rule, [rules.NAME] to change one")
    allowed = [field.encode_name for field in msgspec.structs.fields(kind)]
    for key in given:
        _one_of(str(key), allowed, f"{where}, keys")
    try:
        return msgspec.convert(given, type=kind)
    except ValueError as error:
        raise RuleError(where, str(error).replace("`$.", "`")) from None


def _one_of(given: str, allowed: Iterable[_Word], where: str) -> _Word:
    """Find a word among those allowed.

    Raises:
        RuleError: It is none of them; the nearest is told.
    """
    words = {str(word): word for word in allowed}
    if given in words:
        return words[given]
    near = difflib.get_close_matches(given, words, n=1)
    meant = f"did you mean {near[0]}? Allowed are" if near else "allowed are"
    raise RuleError(where, f"{given!r} is not known; {meant} {', '.join(words)}")


def _persistence(text: str, where: str) -> Persistence:
    found = _OF.fullmatch(text)
    lasting = Persistence(int(found[1]), int(found[2])) if found else Persistence(0, 0)
    if not 1 <= lasting.hits <= lasting.points <= _MOST_POINTS:
        allowed = f'such as "3 of 5", of at most {_MOST_POINTS} points'
        raise RuleError(where, f"for is {text!r}; give how many of how many points must be bad, {allowed}")
    return lasting


def _trainer(name: str) -> str:
    """The short name of a trainer, however it is written."""
    short = name.removesuffix("Trainer")
    known = {trainer.lower(): trainer for metric in catalog.metrics() for trainer in metric.trainers}
    return known.get(short.lower(), short)


def _units(stated: Mapping[str, str], holds: Condition, where: str) -> dict[str, str]:
    """The unit of each metric whose value is needed: the catalog's, or else the one that is stated."""
    names = {metric.shown: metric.name for metric, uses in holds.uses.items() if "value" in uses}
    units = {shown: _catalog_unit(name) for shown, name in names.items()}
    if stated and not names:
        raise RuleError(where, "the condition needs no metric's value, so that it needs no unit")
    for given, unit in stated.items():
        _one_of(given, names, where)
        if units[given] and unit != units[given]:
            raise RuleError(where, f"{given} is in {units[given]}, as the catalog has it, and not in {unit}")
        units[given] = unit
    return units


def _catalog_unit(name: str) -> str:
    if name == SECONDS_PER_STEP:
        return "s"
    metric = catalog.named(name)
    return "" if metric is None else metric.unit


def _hint(rules: Iterable[Rule], where: str) -> None:
    """Tell of names that look like those of the catalog, and are others: slips, perhaps."""
    names = {name: rule.name for rule in rules if rule.part in {"train", "eval"} for name in _read_by(rule)}
    for name, rule in names.items():
        if name != SECONDS_PER_STEP and catalog.named(name) is None and (near := _nearest(name)):
            text = "%s: rule %s reads %s, which the catalog of metrics does not have; did you mean %s?"
            _logger.warning(text, where, rule, name, near)


def _read_by(rule: Rule) -> list[str]:
    return [*rule.reads, *(name.rpartition(":")[2] for name in rule.looks_at)]


def _nearest(name: str) -> str:
    """The canonical name of what a trainer logs as this, or else the one that is spelt most like it."""
    for metric in catalog.metrics():
        if any(line.raw == name for line in metric.logged):
            return metric.name
    near = difflib.get_close_matches(name, [metric.name for metric in catalog.metrics()], n=1, cutoff=_NEAR)
    return near[0] if near else ""


def _line(text: str) -> str:
    return " ".join(text.split())


def _each(extra: object) -> Iterable[object]:
    if extra is None:
        return ()
    if isinstance(extra, str | Path | Rule | type):
        return (extra,)
    if not isinstance(extra, Iterable):
        raise RuleError("rules", f"{extra!r} is none; {_GIVE}")
    return extra


_GIVE: Final = "give an instance of a subclass of rldk.health.rule.Rule, or the path of a TOML file of rules"


def _checked(given: object, where: str) -> Rule:
    """Make sure that an object is a rule that can be asked.

    Raises:
        RuleError: It is not, and why.
    """
    if isinstance(given, type) and issubclass(given, Rule):
        raise RuleError(where, f"this is the class {given.__name__}; give an instance, {given.__name__}()")
    if not isinstance(given, Rule):
        raise RuleError(where, f"a {type(given).__name__} is no rule; {_GIVE}")
    where = f"{where}, a {type(given).__name__}"
    _check_name(getattr(given, "name", None), where)
    title = getattr(given, "title", None)
    if not isinstance(title, str) or not title.strip():
        raise RuleError(where, f"its title is {title!r}; give one to read, such as 'KL drift'")
    _one_of(str(given.part), PARTS, f"{where}, part")
    lasting = given.persistence
    if not isinstance(lasting, Persistence) or not 1 <= lasting.hits <= lasting.points:
        raise RuleError(where, f"its persistence is {lasting!r}; give Persistence(3, 5) for 3 of 5 points")
    if not isinstance(given.reads, Mapping):
        raise RuleError(where, "its reads are no mapping; give units(loss='1') or a dict of metric to unit")
    return given


def _check_name(name: object, where: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RuleError(where, f"its name is {name!r}; give one in snake_case, of at most 64 characters")
    if name.startswith(_LIMITS):
        raise RuleError(where, f"names that begin with {_LIMITS} are those of alert_thresholds; give another")


def _check_names(rules: Iterable[Rule], where: str) -> None:
    """Make sure that no two rules share a name, and none has one of RLDK's own."""
    own = {rule.name for rule in built_in()}
    seen: set[str] = set()
    for rule in rules:
        if rule.name in own:
            advice = f"give yours another name, or change RLDK's in [rules.{rule.name}]"
            raise RuleError(where, f"one of RLDK's own rules is called {rule.name}; {advice}")
        if rule.name in seen:
            raise RuleError(where, f"two rules are called {rule.name}; give each a name of its own")
        seen.add(rule.name)
