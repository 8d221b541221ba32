"""Every number that a real trainer logged has a canonical name, keeps its value, and comes back."""

from __future__ import annotations

import math
from collections import defaultdict

from rldk import catalog, journal
from rldk.ingest import ingest_runs
from rldk.normalize import normalize
from rldk.recorder import Recorder, Run
from rldk.settings import Settings

_EVAL = "eval_"


def same(one, other):
    """Equal, where NaN equals NaN."""
    return one == other or (math.isnan(one) and math.isnan(other))


def test_every_key_is_known(recording):
    """The catalog lacks no key, in training or evaluation, for the trainer and TRL of the recording."""
    keys = {key.removeprefix(_EVAL) for logs in recording.logs for key in logs}
    assert {key for key in keys if catalog.find(key, recording.trainer, recording.trl) is None} == set()


def test_every_value_is_kept(recording):
    """Each number of a log is in one part of the result, unchanged and of its type; None is in none."""
    for logs in recording.logs:
        told = normalize(logs, recording.trainer, trl=recording.trl)
        kept = {raw: getattr(told, part)[name] for (part, name), raw in told.raw_names.items()}
        logged = {key: value for key, value in logs.items() if value is not None}
        assert kept.keys() == logged.keys()
        assert all(same(kept[raw], logged[raw]) and type(kept[raw]) is type(logged[raw]) for raw in logged)
        assert told.notes == []


def test_every_value_comes_back(recording, tmp_path):
    """Written through the recorder, the table of ingest_runs and the end event hold each number."""
    path = tmp_path / "r_events.jsonl"
    steps, summary = record(recording, path)
    rows = ingest_runs(path).set_index(["phase", "step"])
    for (phase, step, name), value in steps.items():
        assert same(rows.loc[(phase, step), name], value), (phase, step, name)
    *_, end = journal.read(path)
    assert end.event.metrics == summary


def record(recording, path):
    """Write a journal, and tell what it must hold: later logs of a step add to its row."""
    recorder = Recorder(
        journal.Journal(path), Run(run_id="r", trainer=recording.trainer), settings=Settings()
    )
    recorder.begin(0, [])
    steps, summary = {}, {}
    for step, logs in ((line["global_step"], line["logs"]) for line in recording.lines):
        recorder.log(step, logs)
        told = normalize(logs, recording.trainer)
        summary |= told.summary
        for phase, numbers in (("train", told.train), ("eval", told.eval)):
            steps |= {(phase, step, name): value for name, value in numbers.items()}
    recorder.end("FINISHED", recording.lines[-1]["global_step"])
    return steps, summary


def test_the_report(recordings, record_property):
    """Of all distinct keys that the recorded trainers log, by trainer and version, all are known."""
    keys = defaultdict(set)
    for recording in recordings:
        bare = {key.removeprefix(_EVAL) for logs in recording.logs for key in logs}
        keys[recording.trainer, recording.trl] |= bare
    report = {
        f"{trainer} {trl}": (sum(catalog.find(key, trainer, trl) is not None for key in found), len(found))
        for (trainer, trl), found in sorted(keys.items())
    }
    for run, (known, total) in report.items():
        record_property(run, f"{known}/{total}")
        print(f"{run}: {known}/{total} keys known")  # noqa: T201  # the report, seen with pytest -rP
    assert all(known == total for known, total in report.values())
