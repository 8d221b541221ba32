"""How is a scenario recorded: by `python -m benchmarks.health.record FOLDER SEEDS NAMES`."""

from __future__ import annotations

import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from datasets import disable_progress_bars
from transformers.utils.logging import disable_progress_bar

from benchmarks.health import world
from benchmarks.health.scenario import Scenario, train
from benchmarks.health.scenarios import SCENARIOS
from rldk.integrations.trl import RLDKCallback
from rldk.journal import SUFFIX

if TYPE_CHECKING:
    from benchmarks.health.world import World


def record(scenario: Scenario, from_: World, runs: Path, seed: int) -> Path:
    """Train a scenario in a child of this process, unless that was done; give its journal."""
    run_id = f"{scenario.name}-{seed}"
    journal = runs / f"{run_id}{SUFFIX}"
    if not journal.exists():
        with tempfile.TemporaryDirectory(dir=runs) as folder:
            child = get_context("fork").Process(
                target=_train, args=(scenario, from_, Path(folder), seed, run_id)
            )
            child.start()  # what is imported and made is there already
            child.join()
            (Path(folder) / journal.name).rename(journal)
    return journal


def _train(scenario: Scenario, from_: World, folder: Path, seed: int, run_id: str) -> None:
    callback = RLDKCallback(folder, run_id=run_id, trackers=None)
    train(scenario, from_, folder / "trainer", seed, [callback])


def main() -> None:
    """Record what the command line names."""
    runs, seeds, *names = sys.argv[1:]
    disable_progress_bar()
    disable_progress_bars()
    torch.set_num_threads(1)
    from_ = world.make(Path(runs) / "world")
    for seed in range(int(seeds)):
        for scenario in (each for each in SCENARIOS if each.name in names):
            began = time.monotonic()
            record(scenario, from_, Path(runs), seed)
            print(f"{scenario.name}-{seed}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
