# ruff: noqa: INP001 - tools/ holds scripts, no package
"""Is RLDK ready to be released? Builds it and installs the wheel with pip into fresh environments.

`python tools/check_release.py [EXTRA ...]` tries the wheel bare and with each extra; by default all but
`trl`, which needs torch: `--torch` tries that one, too. pip keeps what it fetches, so that a second call is
faster. tests/release checks more, without pip and network, in environments that are made of links.

There are two environments: a bare one, and one to which the extras are added in turn.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
CONSTRAINTS: Final = ROOT / "constraints" / "main.txt"
RECORDING: Final = ROOT / "tests" / "adapters" / "data" / "trainer_state_1.16.0_grpo_beta.json"
AFTER: Final[dict[str, str]] = {
    "report": "import matplotlib; from rldk.report import plots",
    "parquet": "from rldk.cli import app; app(['ingest', SOURCE, '-o', 'a.parquet'], standalone_mode=False)",
    "zstd": "import zstandard",
    "gpu": "import pynvml",
    "testing": "from rldk.testing.conformance import BridgeConformance",
    "s3": "import s3fs",
    "dask": "from rldk.ingest import ingest_runs; ingest_runs(SOURCE, engine='dask').compute()",
    "postgresql": "import psycopg2",
    "wandb": "import wandb; from rldk_wandb.sink import WandbSink; WandbSink.create()",
    "mlflow": "import mlflow; from rldk_mlflow.sink import MLflowSink; MLflowSink.create()",
    "trl": "from rldk.integrations.trl import RLDKCallback; from trl import GRPOTrainer",
}
"""What an extra is for, in one line of Python; extras that bring little come first."""


class Environment:
    """A virtual environment.

    Args:
        folder: Where it is to be.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self._python = folder / "bin" / "python"
        self._folder = folder

    def install(self, *what: str) -> None:
        """Install with pip, at the versions of constraints/main.txt."""
        quiet = ("--quiet", "--disable-pip-version-check", "--constraint", str(CONSTRAINTS))
        _run([str(self._python), "-m", "pip", "install", *quiet, *what], self._folder)

    def python(self, program: str) -> str:
        """Run Python; gives what it printed."""
        return _run([str(self._python), "-c", program], self._folder)

    def rldk(self, *arguments: str) -> str:
        """Run the `rldk` command; gives what it printed."""
        return _run([str(self._folder / "bin" / "rldk"), *arguments], self._folder)


def built(folder: Path) -> Path:
    """Build both distributions, the wheel from the sdist, and have them checked; gives the wheel."""
    _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)], ROOT)
    made = sorted(str(each) for each in folder.iterdir())
    _run([sys.executable, "-m", "twine", "check", "--strict", *made], ROOT)
    [wheel] = folder.glob("*.whl")
    return wheel


def try_bare(folder: Path, wheel: Path) -> None:
    """The wheel with nothing else: version, reading, checking, a report."""
    bare = Environment(folder)
    bare.install(str(wheel))
    version = bare.python("import rldk; print(rldk.__version__)").strip()
    _expect(
        bare.rldk("--version").strip() == version, "rldk --version tells another version than the package"
    )
    for module in ("torch", "trl", "mlflow", "wandb", "matplotlib", "pyarrow"):
        told = bare.python(f"from importlib.util import find_spec; print(find_spec({module!r}))").strip()
        _expect(told == "None", f"{module} is brought by the wheel alone")
    _expect("grpo" in bare.rldk("ingest", str(RECORDING)).lower(), "rldk ingest does not tell the trainer")
    bare.rldk("report", str(RECORDING), "-o", "reports")
    [page] = (folder / "reports").glob("*_report.html")
    _expect("rldk[report]" in page.read_text(encoding="utf-8"), "the page does not say what plots need")


def try_extras(folder: Path, wheel: Path, extras: list[str]) -> None:
    """Each extra in turn, on top of those before it."""
    place = Environment(folder)
    for extra in extras:
        began = time.monotonic()
        torch = ["torch==2.13.0"] if extra == "trl" else []
        place.install(f"{wheel}[{extra}]", *torch)
        place.python(AFTER[extra].replace("SOURCE", repr(str(RECORDING))))
        _say(f"rldk[{extra}] works ({time.monotonic() - began:.0f} s)")
    place.python("import sys, subprocess; subprocess.run([sys.executable, '-m', 'pip', 'check'], check=True)")


def main() -> int:
    """Build, install, try."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("extras", nargs="*", metavar="EXTRA", help="which extras to try")
    options.add_argument("--torch", action="store_true", help="the extra trl, which needs torch, as well")
    asked = options.parse_args()
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    _expect(
        set(known["optional-dependencies"]) - {"all", "dev", "docs"} == set(AFTER),
        "an extra is not tried here",
    )
    extras = asked.extras or [extra for extra in AFTER if extra != "trl" or asked.torch]
    with tempfile.TemporaryDirectory(prefix="rldk-release-") as name:
        folder = Path(name)
        wheel = built(folder / "dist")
        _say(f"{wheel.name} is built and passes twine")
        try_bare(folder / "bare", wheel)
        _say("it works without extras")
        try_extras(folder / "extras", wheel, extras)
    return 0


def _run(command: list[str], folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(  # noqa: S603  # programs of environments that it has made
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    _expect(
        done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def _expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001  # a condition
    if not holds:
        sys.exit(f"check_release: {otherwise}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
