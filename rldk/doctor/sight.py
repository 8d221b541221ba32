"""Which rules will a configuration blind, and where do the trainer's own reports go?"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from rldk.doctor.finding import Finding, State
from rldk.health.foresight import Foreseen, Plan, foresee, grouped
from rldk.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from rldk.doctor.configuration import Configuration
    from rldk.health.foresight import Outlook
    from rldk.health.rule import Rule

_STATES: Final[tuple[tuple[Outlook, State], ...]] = (
    ("blind", "warning"),
    ("short", "warning"),
    ("late", "note"),
    ("weak", "note"),
    ("moot", "note"),
)
_PACES: Final[Mapping[str, str]] = {
    "train": "logging_steps",
    "eval": "eval_steps",
    "checkpoint": "save_steps",
}
_LONGEST_WORDS: Final = 300

REPORTERS: Final = frozenset(
    {
        "all",
        "azure_ml",
        "clearml",
        "codecarbon",
        "comet_ml",
        "dagshub",
        "dvclive",
        "flyte",
        "kubeflow",
        "mlflow",
        "neptune",
        "swanlab",
        "tensorboard",
        "trackio",
        "wandb",
    }
)
"""What the trainers' `report_to` may name, in any release that RLDK knows."""


def outlooks(rules: Sequence[Rule], known: Configuration, trl: str) -> list[Foreseen]:
    """What is to be expected of each rule that is about the trainer."""
    return foresee(rules, Plan(known.trainer, known.args, known.trl or trl, known.max_steps))


def sight(found: Sequence[Foreseen], known: Configuration) -> Iterator[Finding]:
    """Tell of the rules that will not judge, or late, or see little: a finding for each reason."""
    area = f"health of {known.trainer}"
    able = [each for each in found if each.outlook in {"able", "weak", "late"}]
    firsts = [each.first_step for each in able if each.part == "train" and each.first_step is not None]
    when = f", those of training's logs from step {min(firsts):,} to {max(firsts):,} on" if firsts else ""
    yield Finding(area, "judging", "ok" if able else "warning", f"{len(able)} rules will judge{when}")
    part_of = {each.rule: each.part for each in found}
    for outlook, state in _STATES:
        for reason, names in grouped(found, [outlook]).items():
            pace = _PACES.get(part_of[names[0]], "") if outlook in {"short", "late"} else ""
            remedy = f"lower {pace}, or train longer" if pace else ""
            yield Finding(area, ", ".join(names), state, reason, remedy)


def strangers(known: Configuration) -> Iterator[Finding]:
    """Tell of names that were typed, and that the trainer's arguments do not hold."""
    for name in known.new:
        if not known.names or name in known.names:
            continue
        near = difflib.get_close_matches(name, known.names, 1)
        told = f"{known.trainer}Config has no such argument: it changes nothing"
        yield Finding("arguments", name, "warning", told, f"write {near[0]}" if near else "leave it out")


def refusals(known: Configuration) -> Iterator[Finding]:
    """Tell of values with which the trainer will not train, in the words of its class of arguments."""
    for fault in known.faults:
        told = redact_text(fault.told)[:_LONGEST_WORDS]
        yield Finding("arguments", fault.what, "problem", told, fault.remedy)


def reports(known: Configuration, installed: Collection[str]) -> Iterator[Finding]:
    """Tell where the trainer's own reports meet RLDK's.

    Args:
        known: The arguments.
        installed: The trackers that RLDK can write to here.
    """
    told = known.args.get("report_to")
    if told is None:
        return
    names = _reporters(told)
    for name in sorted(names - REPORTERS):
        near = difflib.get_close_matches(name, REPORTERS, 1)
        remedy = f"write {near[0]}" if near else f"give some of {', '.join(sorted(REPORTERS))}"
        yield Finding("report_to", name, "warning", "the trainer knows no such tracker, and refuses", remedy)
    if "all" in names:
        names |= set(installed)
    shared = sorted(names & set(installed))
    area = "report_to"
    if shared:
        what = ", ".join(shared)
        yield Finding(
            area, what, "ok", "RLDK writes to the same run beside the trainer; its names begin with rldk/"
        )
    elif not names:
        remedy = "call wandb.init or mlflow.start_run, or set RLDKCallback(trackers=[...])"
        yield Finding(area, "nothing", "note", "the trainer opens no run, so that RLDK joins none", remedy)
    if missing := sorted({"mlflow", "wandb"} & names - set(installed)):
        remedy = f"pip install 'rldk[{','.join(missing)}]'"
        yield Finding(area, ", ".join(missing), "warning", "it is asked for, and is not installed", remedy)


def _reporters(told: object) -> set[str]:
    """Name what is asked for, as a list or as text: `wandb,mlflow`, or a list that is written out."""
    each = told if isinstance(told, list | tuple) else str(told).strip().strip("[]()").split(",")
    return {str(name).strip(" \t'\"") for name in each} - {"none", "None", ""}
