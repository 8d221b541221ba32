"""To import the bridge, to attach and to create cost nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

SINK = "from rldk_wandb.sink import WandbSink"


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import rldk_wandb.sink", id="sink"),
        pytest.param("import rldk_wandb.adapter", id="adapter"),
        pytest.param(f"{SINK}; assert WandbSink.attach() is None", id="attach"),
        pytest.param(f"{SINK}; WandbSink.create()", id="create"),
    ],
)
def test_wandb_is_not_imported(code):
    """Neither wandb nor protobuf is imported before a run is opened, off the training thread."""
    look = "import sys; sys.exit('wandb' in sys.modules or 'google.protobuf' in sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}; {look}"], check=True)


def test_files_are_read_without_wandb(tmp_path):
    """Where wandb and protobuf are not installed, its files are read all the same."""
    (tmp_path / "run-a.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    block = "import sys; sys.modules.update({'wandb': None, 'google.protobuf': None})"
    read = f"from rldk_wandb.adapter import WandbAdapter; assert WandbAdapter({str(tmp_path)!r}).can_handle()"
    subprocess.run([sys.executable, "-c", f"{block}; {read}"], check=True)
