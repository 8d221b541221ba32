# ruff: noqa: INP001 - tools/ holds scripts, no package
"""What does `rldk tail` look like? Makes docs/images/tail.png again, of a training that it runs.

`python tools/tail_picture.py` trains a tiny model with GRPO and MLflow beside it, and photographs what
`rldk tail` shows of it while it trains. Nothing in the picture is made up. It takes some minutes, and needs
Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path
from typing import Final

from PIL import Image
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from rldk.errors import SourceError
from rldk.tail.finding import find
from rldk.tail.following import Follower
from rldk.tail.picture import Size, lines
from rldk.tail.standing import Standing, standing

PICTURE: Final = Path(__file__).parents[1] / "docs" / "images" / "tail.png"

_STEPS: Final = 250
_SHOWN_AT: Final = 0.6
_SIZE: Final = Size(132, 30)
_PATIENCE_S: Final = 1500.0
_COLOURS: Final = 64
_MOST_BYTES: Final = 200_000
_TRAINING: Final = """
import sys
from pathlib import Path
from rldk.demo import train
train(Path(sys.argv[1]), steps=int(sys.argv[2]), trackers=["mlflow"], on_step=lambda step: None)
"""
_THEME: Final = TerminalTheme(
    (13, 17, 23),
    (201, 209, 217),
    [
        *((72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34)),
        *((88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)),
    ],
    [
        *((110, 118, 129), (255, 161, 152), (86, 211, 100), (227, 179, 65)),
        *((121, 192, 255), (210, 168, 255), (86, 212, 221), (240, 246, 252)),
    ],
)


def main() -> None:
    """Train, look, and write the picture."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("no Chromium is installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        svg = Path(folder, "tail.svg")
        svg.write_text(_drawn(_seen(Path(folder))), encoding="utf-8")
        _photograph(chromium, svg)
    size = PICTURE.stat().st_size
    if size > _MOST_BYTES:
        sys.exit(f"{PICTURE} has {size:,} bytes; {_MOST_BYTES:,} are allowed")
    sys.stdout.write(f"{PICTURE}: {size:,} bytes\n")


def _seen(folder: Path) -> Standing:
    """How a real training stands when it is a little over half."""
    command = [sys.executable, "-c", _TRAINING, str(folder), str(_STEPS)]
    environment = os.environ | {"RLDK_RESOURCE_INTERVAL_S": "3", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = (folder / "log").open("wb")
    with log, subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as training:  # noqa: S603
        try:
            return _wait(folder / "journal", training)
        finally:
            training.kill()


def _wait(folder: Path, training: subprocess.Popen[bytes]) -> Standing:
    end, follower = time.monotonic() + _PATIENCE_S, None
    while training.poll() is None and time.monotonic() < end:
        time.sleep(0.5)
        try:
            follower = follower or Follower(find(str(folder)))
        except SourceError:  # it has not begun
            continue
        follower.read()
        told = standing(follower, time.time())
        if told.state.step >= _STEPS * _SHOWN_AT and told.state.resources:
            return told
    sys.exit(f"the training did not come so far; see {folder.parent / 'log'}")


def _drawn(told: Standing) -> str:
    console = Console(
        record=True, width=_SIZE.width, force_terminal=True, color_system="truecolor", file=StringIO()
    )
    for line in lines(told, _SIZE):
        console.print(line, soft_wrap=True)
    return console.export_svg(title=f"rldk tail {told.state.run_id}", theme=_THEME)


def _photograph(chromium: str, svg: Path) -> None:
    head = svg.read_text(encoding="utf-8").partition('viewBox="0 0 ')[2]
    width, height = (round(float(number)) for number in head.partition('"')[0].split())
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    page = svg.with_suffix(".html")
    page.write_text(f'<body style="margin:0;background:#fff"><img src="{svg.name}" width="{width}"></body>')
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={svg.parent / 'user'}",
    ]
    size = f"--window-size={width},{height}"
    command = [chromium, *options, size, f"--screenshot={PICTURE}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603
    Image.open(PICTURE).convert("RGB").quantize(_COLOURS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
