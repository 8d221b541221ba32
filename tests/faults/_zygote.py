"""Live one run in many processes, all but one killed: `python -m tests.faults._zygote FOLDER KILLS SEED`.

Each life is a fork of this process, which has imported what takes time and started no thread. It records
as fast as it can, or syncs; the last one ends in order. What it did is written to FOLDER/lives.txt, a line
for each life, and each step that it has logged to FOLDER/said.txt.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import wandb  # noqa: F401  # the same

from rldk.settings import Settings
from rldk.sync import sync
from tests.faults._life import RUN_ID, Life, own_sinks

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS: Final = Settings(linger_s=0.05, retry_first_s=0.05, retry_most_s=0.5, close_deadline_s=120.0)
TRACKERS: Final = ("mlflow", "wandb")
PACE_S: Final = 0.004
LONGEST_S: Final = 3.0
SYNCS: Final = 0.25
WITH_CORE: Final = 0.5


def record(folder: Path, count: float) -> Life:
    """Record so many steps, and say each one once it is logged."""
    life = Life(folder / "rldk", own_sinks(folder / "rldk", TRACKERS), settings=SETTINGS)
    said = os.open(folder / "said.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while count > 0:
        life.log()
        os.write(said, f"{life.logged[-1]}\n".encode())
        time.sleep(PACE_S)
        count -= 1
    return life


def end_in_order(folder: Path) -> None:
    """Record a little, and end as a training does."""
    life = record(folder, 50)
    life.arrive()
    life.end()
    if any(report.waiting or not report.is_closed for report in life.reports):
        raise RuntimeError(life.reports)


def send(folder: Path, tracker: str) -> None:
    """Do what `rldk sync` does."""
    for outcome in sync(str(folder / "rldk" / f"{RUN_ID}_events.jsonl"), tracker, settings=SETTINGS):
        if not outcome.is_whole:
            raise RuntimeError(outcome)


def forked(act: Callable[[], object]) -> int:
    """Do something in a fork; give its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        act()
        sys.exit(0)
    except BaseException as error:  # a fork must not come back
        if not isinstance(error, SystemExit):
            sys.excepthook(type(error), error, error.__traceback__)
            os._exit(1)
        raise


def kill(pid: int, *, with_core: bool) -> None:
    """Kill a life, and what it has started too, or only itself."""
    family = psutil.Process(pid).children(recursive=True) if with_core else []
    os.kill(pid, signal.SIGKILL)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def main() -> None:
    """Live and die."""
    folder, kills, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))  # noqa: S311
    with (folder / "lives.txt").open("w", encoding="utf-8", buffering=1) as lives:
        for number in range(kills):
            is_sync = number > 0 and chance.random() < SYNCS
            tracker = chance.choice(TRACKERS)
            after_s, with_core = chance.uniform(0.0, LONGEST_S), chance.random() < WITH_CORE
            act = (lambda t=tracker: send(folder, t)) if is_sync else (lambda: record(folder, float("inf")))
            pid = forked(act)
            time.sleep(after_s)
            kill(pid, with_core=with_core)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            what = f"sync {tracker}" if is_sync else "record"
            lives.write(f"{number} {what} killed after {after_s:.2f} s, core {with_core}, code {code}\n")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(forked(lambda: end_in_order(folder)), 0)[1]))


if __name__ == "__main__":
    main()
