"""How much does a run surely hold of what was handed over to W&B?

wandb-core accepts rows before it writes or sends them, so that a kill loses up to 15 s or 32 KiB of
them. Whoever goes on with the run has to look at what arrived, on the disk or on the server.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rldk_wandb import fragments, server
from rldk_wandb.address import SCHEME
from rldk_wandb.names import SEQ, TIME

if TYPE_CHECKING:
    from collections.abc import Iterable

    import wandb

    from rldk.bridge import Receipt

_FIRST_WINDOW: Final = 1000  # steps of W&B's, which count rows


def on_disk(run: wandb.Run, receipt: Receipt | None) -> float:
    """Time of RLDK's last row in the fragments of an offline run, but for the one just opened.

    Where the receipt's own fragment is gone, as after a clean-up, the receipt is believed.
    """
    own = Path(run.settings.sync_file)
    written = _file_of(receipt)
    if receipt is not None and written is not None and written.samefile(own):
        return receipt.at  # another process logs to the same open run: its wandb-core will write it
    files = [file for file in fragments.of_run(own.parent.parent, run.id) if file != own]
    if written is not None and written not in files:
        files.append(written)
    fragments.await_writers(files)
    files = fragments.of_project(files, str(run.project))
    found = fragments.last_time(files)
    if receipt is None or (written is not None and written not in files):
        return found
    if written is None:
        return max(receipt.at, found)
    return found if fragments.last_time([written]) else max(receipt.base, found)


def _file_of(receipt: Receipt | None) -> Path | None:
    if receipt is None or receipt.source.startswith(SCHEME):
        return None
    return next(iter(fragments.in_folder(Path(receipt.source))), None)


def on_server(run: wandb.Run, receipt: Receipt | None) -> float:
    """Time of RLDK's last row that the server gives back.

    Rows that another machine's wandb-core is still sending cannot be seen.

    Raises:
        Exception: Whatever wandb raises where the server does not answer.
    """
    if not run.resumed and receipt is None:
        return 0.0  # it is new there
    asked = server.ask(run.entity, run.project, run.id, base_url=run.settings.base_url)
    end, window = int(asked.lastHistoryStep) + 1, _FIRST_WINDOW
    while end > 0:
        begin = max(end - window, 0)
        rows = asked.scan_history(min_step=begin, page_size=end - begin, use_cache=False)
        if found := _last_time(rows):
            return found
        if not begin:
            return 0.0
        window *= 10
    return 0.0


def _last_time(rows: Iterable[dict[str, Any]]) -> float:
    times = (row.get(TIME) for row in rows if row.get(SEQ) is not None)
    return max((round(float(at), 3) for at in times if isinstance(at, int | float)), default=0.0)
