"""How is a run of our own opened, ended, and given up when wandb-core has died?"""

from __future__ import annotations

import atexit
import inspect
import os
import re
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import psutil

from rldk.errors import RLDKError, SinkClosedError
from rldk_wandb import address, fragments
from rldk_wandb.offline import WandbFile

if TYPE_CHECKING:
    import wandb

    from rldk.bridge import Target
    from rldk.event import Event

PATIENCE_S: Final = 20.0  # the defaults are 90 s for init, and for finish no limit at all

_GLANCE_S: Final = 0.01
_EXIT_GRACE_S: Final = 0.25
_NOT_IN_RUN_IDS: Final = re.compile(r"[:;,#?/']")
_LONGEST_TAG: Final = 64

_unfinished: WeakSet[wandb.Run] = WeakSet()
"""Runs of our own of whose end wandb-core has not told yet."""


def start(run: Event, target: Target) -> wandb.Run:
    """Open a run for the event that begins a segment: the target's, else one with RLDK's id.

    Raises:
        SinkClosedError: W&B is disabled, or the target cannot be gone on with.
        RLDKError: There is no API key.
    """
    import wandb

    options = _options(run, target)
    _refuse_if_disabled()
    if options.get("mode") != "offline":
        _log_in()
    _await_predecessor(options)
    settings = wandb.Settings(
        init_timeout=PATIENCE_S,
        finish_timeout=min(PATIENCE_S, target.patience_s or PATIENCE_S),  # wandb waits so long at exit, too
        finish_timeout_raises=True,
        console="off",  # what the script prints is not ours to keep
        silent=True,
    )
    with ExitStack() as undo:
        undo.callback(_forget_failed_init)
        # create_new leaves wandb.run alone: it belongs to the training script.
        opened = wandb.init(**options, resume="allow", reinit="create_new", settings=settings)
        undo.pop_all()
    _unfinished.add(opened)
    atexit.unregister(_end_by_force)
    atexit.register(_end_by_force)  # anew: what is registered last comes first, before wandb's own hook
    return opened


def _options(run: Event, target: Target) -> dict[str, Any]:
    told = {key: run.model_info[key] for key in ("name", "notes", "project") if run.model_info.get(key)}
    is_new = target.run_id is None and target.source is None
    if is_new and "WANDB_NAME" not in os.environ:
        told.setdefault("name", run.run_id)
    tags = tuple(tag_names(run.model_info.get("tags") or {}))
    known = {"id": target.run_id, "project": target.project, "tags": tags}
    given = {key: value for key, value in known.items() if value}
    fallback = {"id": _NOT_IN_RUN_IDS.sub("-", run.run_id)}
    return fallback | told | _place(target.source) | given


def tag_names(tags: dict[str, str]) -> list[str]:
    """Those of a run's tags that say no more than their name, as W&B's tags do."""
    plain = [name for name, value in tags.items() if str(value).lower() in {"", "true"}]
    return [name for name in plain if 0 < len(name) <= _LONGEST_TAG]


def _place(source: str | None) -> dict[str, Any]:
    """Where a run lies, told to wandb.init."""
    if source is None:
        return {}
    if not source.startswith(address.SCHEME):
        return _folder(Path(source))
    named = address.parsed(source)
    if named is None or not named.run_id:
        reason = f"{source!r} names no W&B run; give wandb://<entity>/<project>/<id>"
        raise SinkClosedError(reason)
    return {"entity": named.entity, "project": named.project, "id": named.run_id}


def _folder(folder: Path) -> dict[str, Any]:
    folder = folder.resolve()
    if folder.parent.name not in {"wandb", ".wandb"}:  # the only two that wandb.init writes to
        reason = f"{folder} is not in a folder named wandb, where W&B could go on with it; move it into one"
        raise SinkClosedError(reason)
    options = {"mode": "offline", "dir": str(folder.parent.parent)}
    file = next(iter(fragments.in_folder(folder)), None)
    told = WandbFile(file).beginning() if file else None
    return options if told is None else options | {"project": told.project, "id": told.run_id}


def _refuse_if_disabled() -> None:
    import wandb

    if wandb.setup().settings.mode == "disabled" or getattr(wandb.run, "disabled", False):
        reason = "W&B is disabled (WANDB_MODE=disabled); enable it, or leave wandb out of the trackers"
        raise SinkClosedError(reason)


def _log_in() -> None:
    """Log in first: without an API key wandb.init would ask at the terminal, which is the script's.

    It also finds out whether the server answers, at no cost; a failing wandb.init costs a restart of
    wandb-core. Before wandb 0.31 one cannot log in without being asked.
    """
    import wandb

    is_online = wandb.setup().settings.mode not in {"offline", "dryrun"}
    is_new = wandb.run is None  # else wandb.login does nothing but warn
    can_be_silent = "prompt" in inspect.signature(wandb.login).parameters
    if is_online and is_new and can_be_silent and not wandb.login(prompt=False, verify=True):
        reason = "W&B has no API key; run `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline"
        raise RLDKError(reason)


def _await_predecessor(options: dict[str, Any]) -> None:
    """Let an earlier wandb-core of the run end first: what it still sends would get mixed with ours."""
    import wandb

    configured = Path(wandb.setup().settings.wandb_dir)
    folder = Path(options["dir"]) / configured.name if "dir" in options else configured
    fragments.await_writers(fragments.of_run(folder, options["id"]))


def _forget_failed_init() -> None:
    """Restart wandb-core, which holds the id of a run that failed to open for "in use" until its end.

    Other runs of this process live in the same wandb-core: where there is one, the id stays in use.
    """
    import wandb

    if wandb.setup().most_recent_active_run is None:
        wandb.teardown()


def forget(run: wandb.Run) -> None:
    """Clear away a run whose wandb-core has died, so that wandb.init starts another.

    All other runs of the process lived in the same wandb-core, and are as dead.
    """
    import wandb

    _unfinished.discard(run)
    for end in (run.finish, wandb.teardown):
        with suppress(*deaths()):
            end()


def deaths() -> tuple[type[Exception], ...]:
    """What a call raises when wandb-core has died."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionResetError, BrokenPipeError, HandleAbandonedError, MailboxClosedError


def finish(run: wandb.Run, status: str | None) -> None:
    """End the run as the training ended; without a status, as one that will be gone on with elsewhere.

    W&B cannot leave a run open and be sure that it has all of it. What it can say is that the run was
    preempted: https://docs.wandb.ai/models/runs/resuming.

    Raises:
        SinkClosedError: It takes too long, or the disk does not take all.
    """
    folder = run.settings.sync_dir
    try:
        if status is None:
            run.mark_preempting()
        run.finish(exit_code=0 if status == "FINISHED" else 1)
    except TimeoutError as error:
        reason = f"W&B did not take all in {PATIENCE_S:.0f} s; it is in {folder}: run `wandb sync {folder}`"
        raise SinkClosedError(reason) from error
    _unfinished.discard(run)
    if run.offline and not _has_ended(WandbFile(Path(run.settings.sync_file))):
        reason = f"wandb-core has not written all to {folder}: see whether the disk is full"
        raise SinkClosedError(reason)


def _end_by_force() -> None:
    """Have the process not wait for a wandb-core that has not ended our run within the deadline.

    At the end of the process wandb waits for it without a limit. What it does not take is in the journal.
    Where the script has a run of its own open there, that one is in no journal: wandb waits for it.
    """
    if _unfinished and not _is_shared():
        cores = [child for child in psutil.Process().children() if child.name() == "wandb-core"]
        threading.Thread(target=_kill_late, args=(cores,), daemon=True).start()


def _is_shared() -> bool:
    """Whether a run that is not ours is open in this process, and so in the same wandb-core."""
    import wandb

    known = wandb.setup()
    latest = known.most_recent_active_run
    active = getattr(known, "_active_runs", None)  # so in wandb 0.28 to 0.31; public is only the latest one
    runs = tuple(active) if isinstance(active, list) else (latest,)
    return wandb.run is not None or any(run is not None and run not in _unfinished for run in runs)


def _kill_late(cores: list[psutil.Process]) -> None:
    time.sleep(_EXIT_GRACE_S)
    for core in cores:
        with suppress(psutil.NoSuchProcess):
            core.kill()


def _has_ended(file: WandbFile) -> bool:
    """Wait until the run can be read back: finish returns before wandb-core has written its last records."""
    patience = time.monotonic() + PATIENCE_S
    while not (has_ended := file.has_ended()) and time.monotonic() < patience:
        time.sleep(_GLANCE_S)
    return has_ended
