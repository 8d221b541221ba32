"""From any source to one table, and from the table to the plots that one looks at first.

python examples/ingest_and_plot.py [FOLDER]      # reads FOLDER/rldk, and records a run there if there is none
"""

from typing import NamedTuple

import matplotlib as mpl
import tiny

from rldk.ingest import ingest_runs

mpl.use("Agg")
from matplotlib import pyplot as plt


class Panel(NamedTuple):
    """One plot: its title, its lines with their labels, and the metric that is the half width of a band."""

    title: str
    lines: dict[str, str]
    band: str = ""


PANELS = (
    Panel("Reward", {"reward_mean": "mean"}, band="reward_std"),
    Panel("KL to the reference", {"kl_mean": "KL"}),
    Panel("Entropy", {"entropy_mean": "entropy"}),
    Panel("Clip fraction", {"clip_frac": "all", "clip_frac_low": "low", "clip_frac_high": "high"}),
    Panel("Gradient norm", {"grad_norm": "norm"}),
    Panel("Completion length", {"completion_len_mean": "mean", "completion_len_max": "longest"}),
)

folder = tiny.folder()
if not (folder / "rldk").exists():
    import grpo  # noqa: F401

table = ingest_runs(folder / "rldk")  # or "mlflow.db", "wandb/run-...", "out/checkpoint-500", a URL, ...
rows = table[table["phase"] == "train"].set_index("step")

figure, axes = plt.subplots(2, 3, figsize=(12, 6.5), sharex=True, layout="constrained")
for axis, panel in zip(axes.flat, PANELS, strict=True):
    for name, label in panel.lines.items():
        line = rows[name].dropna()  # without what was not measured; NaN that was stays, as a gap
        axis.plot(line.index, line.astype(float), marker=".", label=label)
        if panel.band:
            width = rows.loc[line.index, panel.band]
            low, high = (line - width).astype(float), (line + width).astype(float)
            axis.fill_between(line.index, low, high, alpha=0.2, label="± std")
    axis.set_title(panel.title)
    axis.set_ylabel(table.attrs["units"].get(next(iter(panel.lines)), "").removeprefix("1"))
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
    axis.legend(loc="best", frameon=False) if len(axis.get_legend_handles_labels()[1]) > 1 else None
for axis in axes[-1]:
    axis.set_xlabel("optimizer step")
figure.suptitle(f"{table.attrs['trainers'][table['run_id'].iloc[0]]} run {table['run_id'].iloc[0]}")
figure.savefig(folder / "plots.png", dpi=130)
print(f"The plots:  {folder}/plots.png\nThe table:  rldk ingest {folder}/rldk -o table.csv")
