# ruff: noqa: INP001, PLC0415 - tools/ holds scripts, no package; what is heavy is imported where it is used
"""What does a recorded run look like? Makes the pictures in docs/images again, from trainings that it runs.

`python tools/screenshots.py` trains a tiny model with GRPO three times, with three learning rates, records
the runs on an MLflow server of its own, and photographs what a browser shows. Nothing in the pictures is made
up; the model has two layers, and learns to say `good`. It takes two minutes and needs Chromium.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.error import URLError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from rldk.integrations.trl import RLDKCallback

IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"
EXPERIMENT: Final = "grpo-words"
RATES: Final = ("3e-4", "1e-3", "3e-3")
STEPS: Final = 300

CHROMIUM: Final = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
QUIET: Final = (
    "--no-sandbox",  # a container's user may have no namespaces
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
_SIZE: Final = {"width": 1440, "height": 1040}  # two rows of charts
_COLOURS: Final = 96
_MOST_BYTES: Final = 250_000
_PATIENCE_S: Final = 90.0
_AS_NEW: Final = """if (location.protocol === "http:") {
    localStorage.clear();
    localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
}"""
"""Every page begins anew, but for MLflow's assistant, which would cover a quarter of the first one."""

_CHARTS: Final = "rldk/(reward_mean|kl_mean|entropy_mean|completion_len_mean|grad_norm|lr)$"
_TRAINING: Final = "?workflowType=machine_learning"


def train(
    folder: Path, *, steps: int, run_id: str | None = None, learning_rate: float = 1e-3, kl_limit: float = 0.5
) -> RLDKCallback:
    """Train a tiny model with GRPO for real, and record it in the runs that are open.

    It is evaluated six times, and three checkpoints are saved.

    Args:
        folder: For the model, the checkpoints and the journal.
        steps: Optimizer steps, each of which is logged; at least 6.
        run_id: The id that RLDK gives the run; by default the tracker's.
        learning_rate: Where the learning rate begins.
        kl_limit: Above which KL divergence there is an alert, in nats per token.

    Returns:
        The callback, once everything is delivered.
    """
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from rldk import demo
    from rldk.integrations.trl import RLDKCallback

    model, tokenizer = demo.build_tiny_model(folder / "model")
    prompts = Dataset.from_dict({"prompt": [f"{a} {b}" for a in demo.WORDS for b in demo.WORDS]})
    limits = {"kl_divergence": kl_limit}
    callback = RLDKCallback(output_dir=folder / "rldk", run_id=run_id, alert_thresholds=limits)
    arguments = GRPOConfig(
        output_dir=str(folder / "trainer"),
        max_steps=steps,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=steps // 6,
        save_strategy="steps",
        save_steps=steps // 3,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=16,
        num_generations=8,
        max_completion_length=16,
        learning_rate=learning_rate,
        beta=0.01,
        seed=42,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[demo.share_of_good, demo.brevity],
        args=arguments,
        train_dataset=prompts,
        eval_dataset=prompts.select(range(16)),
        processing_class=tokenizer,
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    with _one_thread():
        trainer.train()
    return callback


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute on one core: in so small a model several only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium without a window; it asks nobody for updates.

    Raises:
        FileNotFoundError: No Chromium is installed.
    """
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        raise FileNotFoundError("no Chromium is installed: apt-get install chromium")
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def profile(chromium: Browser, **options: Any) -> Iterator[BrowserContext]:  # noqa: ANN401  # as new_context takes them
    """A profile of its own, in which every page opens as it would for the first time."""
    context = chromium.new_context(**({"viewport": _SIZE} | options))
    context.add_init_script(_AS_NEW)
    try:
        yield context
    finally:
        context.close()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A server with nothing on it; gives its address.

    Raises:
        RuntimeError: It does not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder)]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port), *store]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=os.environ | quiet, stdout=log, stderr=log, cwd=folder)  # noqa: S603  # our own
    try:
        yield _when_ready(f"http://127.0.0.1:{port}", server)
    finally:
        server.terminate()
        server.wait()


def _when_ready(address: str, server: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + _PATIENCE_S
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):  # noqa: S310  # on loopback
                return address
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise RuntimeError("mlflow server did not start")


class Recorded(NamedTuple):
    """Where the runs are: the page of their experiment, that of the last run, and its report on the disk."""

    experiment: str
    run: str
    report: Path


def record(address: str, folder: Path) -> Recorded:
    """Record a training for each learning rate."""
    import mlflow

    mlflow.set_tracking_uri(address)
    experiment = f"{address}/#/experiments/{mlflow.set_experiment(EXPERIMENT).experiment_id}"
    for rate in RATES:
        name = f"grpo-lr-{rate}"
        with mlflow.start_run(run_name=name) as run:
            callback = train(folder / name, steps=STEPS, run_id=name, learning_rate=float(rate))
    report = callback.journal_path.with_name(f"{name}_report.html")
    return Recorded(experiment, f"{experiment}/runs/{run.info.run_id}", report)


def save(name: str, picture: bytes) -> None:
    """Keep a picture in docs/images, in few colours: these pages have no more, and a README must load.

    Raises:
        ValueError: It is still too large.
    """
    from PIL import Image

    few = Image.open(BytesIO(picture)).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    packed = BytesIO()
    few.save(packed, "PNG", optimize=True)
    if len(packed.getvalue()) > _MOST_BYTES:
        raise ValueError(f"{name}.png has {len(packed.getvalue())} bytes, more than {_MOST_BYTES}")
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / f"{name}.png").write_bytes(packed.getvalue())


def charts(page: Page, experiment: str) -> bytes:
    """The experiment's runs, drawn into each other."""
    page.goto(f"{experiment}/runs{_TRAINING}&compareRunsMode=CHART")
    page.get_by_placeholder("Search metric charts").fill(_CHARTS)
    cards = page.get_by_test_id("experiment-view-compare-runs-card")
    for metric in re.findall(r"\w+", _CHARTS.partition("(")[2].rpartition(")")[0]):
        card = cards.filter(has_text=f"rldk/{metric}")
        card.locator(f".trace.scatter >> nth={len(RATES) - 1}").wait_for()
    page.get_by_placeholder("Search metric charts").blur()
    return page.screenshot()


def overview(page: Page, run: str) -> bytes:
    """What a run's own page says first: the verdict, the numbers, the tags."""
    page.goto(f"{run}{_TRAINING}")
    page.get_by_text("Show more", exact=True).click()
    page.get_by_text("Show less", exact=True).wait_for()
    page.get_by_text("rldk.health", exact=True).first.wait_for()
    page.mouse.move(0, 0)
    return page.screenshot()


def main() -> None:
    """Write the pictures anew."""
    with tempfile.TemporaryDirectory() as name, mlflow_server(Path(name)) as address, browser() as chromium:
        recorded = record(address, Path(name))
        with profile(chromium) as context:
            context.set_default_timeout(_PATIENCE_S * 1000)
            save("mlflow-ui", charts(context.new_page(), recorded.experiment))
            save("mlflow-run", overview(context.new_page(), recorded.run))
        with profile(chromium, viewport={"width": 1100, "height": 1500}) as context:
            page = context.new_page()
            page.goto(recorded.report.as_uri())
            save("report", page.screenshot())


if __name__ == "__main__":
    main()
