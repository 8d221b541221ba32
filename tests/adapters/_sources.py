"""What the tests share: one source of each kind, made or copied, and the adapter that reads it."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

from rldk.adapters.flat_jsonl import FlatJsonlAdapter
from rldk.adapters.tables import TableAdapter
from rldk.adapters.tensorboard import TensorBoardAdapter
from rldk.adapters.trainer_state import TrainerStateAdapter
from rldk.adapters.trl import TRLAdapter
from rldk_mlflow.folder import MLflowFolderAdapter

DATA = Path(__file__).parent / "data"
IN_ORDER = (
    TRLAdapter,
    MLflowFolderAdapter,
    TrainerStateAdapter,
    TensorBoardAdapter,
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


def table(name):
    """A copy of one of the tables in data/."""

    def copied(folder):
        return shutil.copy(DATA / name, folder / "t.csv")

    copied.__name__ = name
    return copied


SOURCES = [
    (jsonl, FlatJsonlAdapter),
    (packed, FlatJsonlAdapter),
    (output_folder, TrainerStateAdapter),
    (state, TrainerStateAdapter),
    (tensorboard, TensorBoardAdapter),
    (export, MLflowFolderAdapter),
    (parquet, TableAdapter),
    *((table(path.name), TableAdapter) for path in sorted(DATA.glob("*.csv"))),
]
