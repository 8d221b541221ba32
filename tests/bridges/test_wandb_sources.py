"""The adapter takes a run's folder or file by its content, and says what is wrong with any other."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import wandb

from rldk.errors import SourceError
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import (
    RUN,
    deliver,
    event,
    forget_wandb,
    read_back,
    wandb_file,
    wandb_offline,  # noqa: F401  # for each test
)

pytestmark = pytest.mark.real

EVENTS = [event(i, metrics={"loss": i}) for i in range(1, 4)]


def test_folder_file_and_link(tmp_path):
    """The folder, the file in it, a copy of another name, and wandb/latest-run are the same run."""
    home = deliver(RUN, EVENTS)
    file = wandb_file(tmp_path)
    copy = shutil.copy(file, tmp_path / "copied.bin")
    sources = [home.source, file, copy, tmp_path / "wandb" / "latest-run"]
    assert all(WandbAdapter(str(source)).can_handle() for source in sources)
    assert all([e.seq for e in read_back(source)] == [1, 2, 3] for source in sources)


@pytest.mark.parametrize("source", ["", ".", "/", "no such", "a\0b", "x" * 5000, "http://a/b", "mlruns"])
def test_others_are_not_taken(source, tmp_path, monkeypatch):
    """Whatever is no W&B run is left to other adapters, without an error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run-x.wandb").write_text("{}")
    (tmp_path / "run-y.wandb").mkdir()
    assert not WandbAdapter(source).can_handle()


def test_what_is_no_run_is_an_error(tmp_path):
    """Asked all the same, the adapter says what it wants."""
    with pytest.raises(SourceError, match=r"no \.wandb file; give wandb/run-"):
        next(WandbAdapter(str(tmp_path)).events())


def test_a_newer_format(tmp_path):
    """A file of a format that is not known is not guessed at."""
    (tmp_path / "run-x.wandb").write_bytes(b":W&B\xe1\xbe\x01")
    with pytest.raises(SourceError, match="version 1, known is 0; upgrade rldk"):
        next(WandbAdapter(str(tmp_path)).events())


def test_a_run_without_rows():
    """A run of RLDK in which nothing was logged yet has its beginning only."""
    first, end = WandbAdapter(deliver(RUN, []).source).events()
    assert (first.kind, first.run_id, end.kind) == ("run", "rosy-run", "end")


def test_config_that_was_edited(tmp_path):
    """Config that somebody has broken costs the facts in it, and the events are read."""
    run = wandb.init(id="theirs")
    sink = WandbSink.attach()
    sink.open(RUN)
    sink.send(EVENTS)
    run.config.update({"rldk/seed": "forty-two"}, allow_val_change=True)
    run.finish()
    forget_wandb()
    adapter = WandbAdapter(str(wandb_file(tmp_path)))
    first, *events, _ = adapter.events()
    assert (first.run_id, first.rng, len(events)) == ("theirs", {}, 3)
    assert "forty-two" in adapter.problems[0]


def test_values_that_are_no_numbers(tmp_path):
    """A null is no value; text and lists under an RLDK name are counted, not guessed at."""
    run = wandb.init()
    sink = WandbSink.attach()
    sink.open(RUN)
    head = {"rldk/step": 1, "rldk/seq": 1, "_timestamp": event(1).time}
    run.log(head | {"rldk/a": 1, "rldk/b": None, "rldk/c": "NaN", "rldk/d": [1]})
    run.log(head | {"rldk/seq": "two", "rldk/a": 1})
    run.log(head | {"rldk/seq": 3, "rldk/b": None})
    run.finish()
    forget_wandb()
    adapter = WandbAdapter(str(wandb_file(tmp_path)))
    _, only, _ = adapter.events()
    assert only.metrics == {"a": 1}
    assert [problem.split(": ")[1] for problem in adapter.problems] == [
        "2 values are no numbers and were skipped",
        "1 rows have no usable step, seq or time and were skipped",
    ]


def test_damage_is_told(tmp_path):
    """What is lost of a torn file is in the problems, once each, however often it is read."""
    deliver(RUN, EVENTS)
    file = wandb_file(tmp_path)
    file.write_bytes(file.read_bytes()[:-3])
    adapter = WandbAdapter(str(file))
    assert [e.seq for e in adapter.events()] == [0, 1, 2, 3]
    assert [e.seq for e in adapter.events()] == [0, 1, 2, 3]
    going, torn = adapter.problems
    assert "still going or was killed" in going
    assert "ends inside a record" in torn


KILLED = """
import os, signal, time
import wandb
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import RUN, event
sink = WandbSink.create()
print(sink.open(RUN).source, flush=True)
sink.send([event(i, metrics={"loss": i}) for i in range(1, 500)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_was_killed():
    """Of a run whose process was killed, all but the last rows are read, in order, and it is said so."""
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    adapter = WandbAdapter(done.stdout.strip())
    _, *events = adapter.events()
    assert 0 < len(events) < 500
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert "still going or was killed" in adapter.problems[0]
