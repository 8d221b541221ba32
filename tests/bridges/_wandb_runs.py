"""What the tests of the W&B bridge share: a W&B of their own, and a look into the files it writes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rldk.bridge import Target
from rldk.event import Event, encode
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.offline import WandbFile
from rldk_wandb.own import _has_ended
from rldk_wandb.sink import WandbSink
from tests._wandb_backend import forget_wandb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rldk.bridge import Home, Receipt


BEGAN = 1763847600.123


def event(at: float, **fields: Any) -> Event:  # any field of Event
    """An event of one run; `at` is seconds since the run began, and `seq` the same unless it is given."""
    told = {"run_id": "rosy-run", "git_sha": "abc123", "phase": "train", "segment": 0}
    model_info = told | fields.pop("model_info", {})
    when = {"time": round(BEGAN + at, 3), "wall_time": round(at, 3), "seq": int(at), "step": 0}
    rest = {"metrics": {}, "data_slice": {}, "rng": {"seed": 42}, "notes": []}
    return Event(**when | rest | {"model_info": model_info} | fields)


RUN = event(0, kind="run", model_info={"trainer": "GRPOTrainer"})


def offline_in(folder: Path) -> dict[str, str]:
    """The environment in which W&B is offline and writes below one folder only."""
    places = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "HOME")
    modes = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    return dict.fromkeys(places, str(folder)) | modes


@pytest.fixture(autouse=True)
def wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In each test of a file that imports this, W&B is offline and writes below tmp_path only."""
    for name, value in offline_in(tmp_path).items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_NAME", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    forget_wandb()
    yield
    forget_wandb()


def deliver(run: Event, events: Sequence[Event], sink: WandbSink | None = None) -> Home:
    """Send a run to W&B, into a run of our own if none is given."""
    sink = sink or WandbSink.create()
    home = sink.open(run)
    sink.send(events)
    sink.close("FINISHED", [])
    return home


def go_on(
    run: Event, events: Sequence[Event], receipt: Receipt | None = None, target: Target | None = None
) -> Home:
    """Deliver what a run of our own does not hold yet, as the delivery does after a crash."""
    sink = WandbSink.create(target or Target())
    home = sink.open(run)
    held = sink.settle(receipt)
    sink.send([event for event in events if event.time > held])
    sink.close("FINISHED", [])
    return home


def kill_core() -> None:
    """End wandb-core as the kernel does where memory is out."""
    core = sys.modules["wandb"].setup().ensure_service()._proc._process
    core.kill()
    core.wait()


def read_back(source: Path | str) -> list[Event]:
    """A source's events, but for those that tell of the run and its end; nothing may be lost on the way."""
    adapter = WandbAdapter(str(source))
    _, *events = adapter.events()
    assert adapter.problems == []
    return [event for event in events if not (event.is_raw and event.kind == "end")]


def plain(event: Event) -> Any:  # a JSON value
    """An event so that two can be compared: NaN equals itself, 4 is 4.0, and keys have no order."""
    return msgspec.json.decode(encode(event))


def wandb_file(tmp_path: Path) -> Path:
    """The one `.wandb` file below tmp_path."""
    (found,) = tmp_path.glob("wandb/*run-*/run-*.wandb")
    return found


def finished(run: Any) -> Path:
    """Finish a run of the script's own; its folder, once wandb-core has written the last records."""
    run.finish()
    assert _has_ended(WandbFile(Path(run.settings.sync_file)))
    return Path(run.settings.sync_dir)


def protobuf_records(path: Path) -> Iterator[Any]:
    """The records of an undamaged file, read with wandb's own classes and no code of ours."""
    from wandb.proto.wandb_internal_pb2 import Record  # not before W&B has its settings

    data, pos, message = path.read_bytes(), 7, b""
    while pos + 7 <= len(data):
        if pos % 32768 > 32768 - 7:
            pos += 32768 - pos % 32768
            continue
        size, kind = int.from_bytes(data[pos + 4 : pos + 6], "little"), data[pos + 6]
        message += data[pos + 7 : pos + 7 + size]
        pos += 7 + size
        if kind in {1, 4}:
            yield Record.FromString(message)
            message = b""
