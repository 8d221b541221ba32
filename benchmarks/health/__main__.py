"""The command `python -m benchmarks.health`: are the health rules right?

It trains what is not in the folder of runs yet, and runs the rules over all of it. PPO needs a TRL that
has it: `--ppo .venv-trl-1.12.0/bin/python`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import machine
from benchmarks.health import judge, table
from benchmarks.health.scenarios import FAULTY, HEALTHY, SCENARIOS
from rldk.journal import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.health.judge import Judged
    from benchmarks.health.scenario import Scenario

_HOME: Final = Path(__file__).parents[2]
_PAGE: Final = _HOME / "docs" / "health.md"
_CORPUS: Final = _HOME.parent / "shared" / "corpus"
_RECORDINGS: Final = _HOME / "tests" / "data" / "recordings"
_SEEDS: Final = {"healthy": 5, "faulty": 3}
_SEEN: Final = 3
"""The first seeds of the healthy runs were looked at while the rules were written; the others were not."""
_QUICK: Final = ("healthy_sft", "sft_nan_weights")
_ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


def main() -> None:
    """Do what the command line asks for."""
    asked = _parser().parse_args()
    if asked.write and asked.quick:
        _parser().error("--write is for all runs")
    with tempfile.TemporaryDirectory() as fresh:
        folder = (asked.runs or Path(fresh)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not asked.rules_only:
            _record(folder, asked.quick, asked.ppo)
        told = table.section(_judged(folder), _machine())
    print(told)
    if asked.write:
        _PAGE.write_text(table.put_into(_PAGE.read_text(), told))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.health", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two scenarios, to see that it works")
    parser.add_argument("--write", action="store_true", help=f"renew the measured part of {_PAGE.name}")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="where the runs are kept, and taken from")
    parser.add_argument("--rules-only", action="store_true", help="train nothing")
    parser.add_argument("--ppo", metavar="PYTHON", help="an interpreter whose TRL has PPO")
    return parser


def _record(folder: Path, is_quick: bool, ppo: str | None) -> None:  # noqa: FBT001
    wanted = [each for each in SCENARIOS if not is_quick or each.name in _QUICK]
    for kind, seeds in _SEEDS.items():
        mine = [each for each in wanted if each.is_healthy == (kind == "healthy")]
        count = 1 if is_quick else seeds
        _run(sys.executable, folder, count, [each.name for each in mine if each.trainer != "PPO"])
        if ppo:
            _run(ppo, folder, count, [each.name for each in mine if each.trainer == "PPO"])


def _run(python: str, folder: Path, seeds: int, names: list[str]) -> None:
    if names:
        command = [python, "-m", "benchmarks.health.record", str(folder), str(seeds), *names]
        subprocess.run(command, cwd=_HOME, env=os.environ | _ENVIRONMENT, check=True)  # noqa: S603


def _judged(folder: Path) -> table.Runs:
    ours = [runs for each in HEALTHY if (runs := _runs(folder, each))]
    healthy = {
        "tiny runs made here": [run for runs in ours for run in runs[:_SEEN]],
        "the same, of seeds that no rule was written with": [run for runs in ours for run in runs[_SEEN:]],
    }
    healthy["TRL's logs in tests/data/recordings"] = _all(judge.recordings(_RECORDINGS))
    if _CORPUS.is_dir():
        healthy["public GRPO runs"] = _all(judge.corpus(_CORPUS))
    faulty = [(each, runs) for each in FAULTY if (runs := _runs(folder, each))]
    return table.Runs(healthy, faulty)


def _runs(folder: Path, scenario: Scenario) -> list[Judged]:
    paths = sorted(folder.glob(f"{scenario.name}-[0-9]*{SUFFIX}"))
    return [judge.judged(path.name.removesuffix(SUFFIX), judge.recorded(path)) for path in paths]


def _all(runs: Iterable[tuple[str, list[judge.Event]]]) -> list[Judged]:
    return [judge.judged(name, events) for name, events in runs]


def _machine() -> str:
    told = machine.described()
    with_ = ", ".join(f"{name}: {value}" for name, value in told.items())
    return f"Measured with {with_}; PPO with trl 1.12.0, the last that has it."


if __name__ == "__main__":
    main()
