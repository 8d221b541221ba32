"""How are the benchmarks run: each in a fresh process, one after the other.

A benchmark is a module here with a function `measure(*, quick: bool) -> Result`; add its name to `NAMES`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from benchmarks import machine, page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.result import Result

NAMES: Final = (
    "on_log",
    "durable",
    "outage",
    "journal_io",
    "journal_read",
    "wandb_read",
    "mlflow_read",
    "checkpoint",
    "training",
    "resources",
)
PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"
_QUIET: Final = {
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks for."""
    asked = _parser().parse_args(arguments)
    if asked.write and asked.quick:
        _parser().error("--write is for benchmarks at full size")
    os.environ |= _QUIET
    began, where = time.monotonic(), machine.described()
    results = [_measured(name, quick=asked.quick) for name in asked.names or NAMES]
    minutes = (time.monotonic() - began) / 60
    if asked.json:
        asked.json.write_bytes(msgspec.json.encode(results))
    if asked.write and asked.names:
        PAGE.write_text(page.renewed(PAGE.read_text(), results, where["date"], NAMES))
    elif asked.write:
        PAGE.write_text(page.page(results, where, minutes))
    print(page.goals(results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], help="which; all by default")
    parser.add_argument("--quick", action="store_true", help="a tiny size, to see that they run")
    parser.add_argument(
        "--write",
        action="store_true",
        help="write docs/performance.md, or the sections of those that are named",
    )
    parser.add_argument("--json", type=Path, help="write the numbers to this file, too")
    return parser


def _measured(name: str, *, quick: bool) -> Result:
    print(f"{name} ...", flush=True)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result = pool.submit(measure, name, quick=quick).result()
    print(f"\n{page.section(result)}\n", flush=True)
    return result


def measure(name: str, *, quick: bool) -> Result:
    """Run one benchmark in this process."""
    result: Result = importlib.import_module(f"benchmarks.{name}").measure(quick=quick)
    return result
