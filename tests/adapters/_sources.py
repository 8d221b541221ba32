"""What the tests share: one source of each kind, made or copied, and the adapter that reads it."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

from typer.testing import CliRunner

from rldk import event as event_json
from rldk.adapters.flat_jsonl import FlatJsonlAdapter
from rldk.adapters.metrics_table import MetricsTableAdapter
from rldk.adapters.tables import TableAdapter
from rldk.adapters.tensorboard import TensorBoardAdapter
from rldk.adapters.trainer_state import TrainerStateAdapter
from rldk.adapters.trl import TRLAdapter
from rldk.adapters.wandb_history import WandbHistoryAdapter
from rldk.cli import app
from rldk.event import Event
from rldk_mlflow.folder import MLflowFolderAdapter

DATA = Path(__file__).parent / "data"
IN_ORDER = (
    TRLAdapter,
    MLflowFolderAdapter,
    TrainerStateAdapter,
    TensorBoardAdapter,
    WandbHistoryAdapter,
    MetricsTableAdapter,
    FlatJsonlAdapter,
    TableAdapter,
)
"""The order in which the adapters of files are to be asked."""

ROWS = "".join(json.dumps({"step": n, "loss": 1 / n, "x": None}) + "\n" for n in range(1, 50))


def jsonl(folder):
    """A flat log."""
    (folder / "log.jsonl").write_text(ROWS)
    return folder / "log.jsonl"


def packed(folder):
    """The same, compressed and under another name."""
    (folder / "log.bin").write_bytes(gzip.compress(ROWS.encode()))
    return folder / "log.bin"


def output_folder(folder):
    """Checkpoints, with TensorBoard's runs beside them."""
    tensorboard(folder)
    (folder / "checkpoint-12").mkdir()
    shutil.copy(DATA / "trainer_state_1.12.0_ppo.json", folder / "checkpoint-12" / "trainer_state.json")
    return folder


def state(folder):
    """One state, under a name of its own."""
    return shutil.copy(DATA / "trainer_state_1.16.0_grpo_beta.json", folder / "s.json")


def tensorboard(folder):
    """A folder with a run."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "runs" / "r")) as writer:
        for step in range(9):
            writer.add_scalar("loss", step / 7, step)
    return folder / "runs"


def export(folder):
    """One run of mlflow-export-import."""
    (folder / "run").mkdir()
    shutil.copy(DATA / "mlflow_export_run.json", folder / "run" / "run.json")
    return folder


def parquet(folder):
    """A wide table."""
    import pandas as pd

    pd.DataFrame({"step": range(9), "loss": 0.5}).to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


def exports(folder):
    """A run's history as W&B exports it, in two parts."""
    import pandas as pd

    for part in (0, 1):
        rows = pd.DataFrame({"_step": range(9 * part, 9 * part + 9), "loss": 0.5})
        rows.to_parquet(folder / f"team_my_project_a1b2c3d4_{part}.runhistory.parquet")
    return folder


def table(name):
    """A copy of one of the tables in data/."""

    def copied(folder):
        return shutil.copy(DATA / name, folder / "t.csv")

    copied.__name__ = name
    return copied


def own(form):
    """What `rldk ingest` writes of two runs, one of which was started again."""

    def written(folder):
        events = [
            Event(
                step=step,
                wall_time=step / 7,
                metrics={"loss": float("nan"), "mine": -0.0} if step % 2 else {},
                rng={"seed": 2**62 + 1},
                data_slice={"tokens_in": step},
                model_info={"run_id": run_id, "phase": phase, "segment": step // 5, "git_sha": "abc"},
                notes=[],
            )
            for run_id in ("a", "b")
            for step in range(9)
            for phase in ("train", "eval")
        ]
        (folder / "j_events.jsonl").write_bytes(b"".join(event_json.encode(e) + b"\n" for e in events))
        words = [
            "ingest",
            str(folder / "j_events.jsonl"),
            "--attempts",
            "all",
            "-o",
            str(folder / f"t.{form}"),
        ]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        (folder / "j_events.jsonl").unlink()
        return folder / f"t.{form}"

    written.__name__ = f"own_{form}"
    return written


def own_folder(folder):
    """A data set of two files."""
    path = own("parquet")(folder)
    (folder / "set").mkdir()
    shutil.copy(path, folder / "set" / "part-a.parquet")
    return folder / "set"


SOURCES = [
    (jsonl, FlatJsonlAdapter),
    (packed, FlatJsonlAdapter),
    (output_folder, TrainerStateAdapter),
    (state, TrainerStateAdapter),
    (tensorboard, TensorBoardAdapter),
    (export, MLflowFolderAdapter),
    (parquet, TableAdapter),
    (exports, WandbHistoryAdapter),
    *((own(form), MetricsTableAdapter) for form in ("csv", "jsonl", "parquet")),
    (own_folder, MetricsTableAdapter),
    *((table(path.name), TableAdapter) for path in sorted(DATA.glob("*.csv"))),
]
