"""RLDK writes where it is told to: no link and no run id leads it away, and not everybody may write there."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rldk import files
from rldk.cursor import Cursor, CursorFile
from rldk.errors import JournalError, TargetError
from rldk.event import Event
from rldk.export import replacing
from rldk.identity import safe_name
from rldk.ingest import ingest_runs
from rldk.integrations.trl.event_writer import _AppendedFile
from rldk.journal import Journal
from rldk.recorder import Recorder, Run
from rldk.report import closing
from rldk.report.outputs import write_all
from rldk.report.story import Story
from rldk.settings import Settings
from rldk.staging import stage
from rldk.testing.doubles import MemorySink
from tests.security._secrets import FORMS

HOSTILE_IDS = (
    *(
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "~/x",
        "a/../../b",
        "a\\..\\b",
        "C:\\x",
        "a:b",
        "\0",
        "a\0b",
    ),
    *(
        "a\nb",
        "\x1b[31m",
        "\u202egpj",
        "é" * 300,
        "x" * 5000,
        "CON",
        "nul.txt",
        "COM1",
        " ",
        "",
        "-rf",
        "*?<>|",
    ),
    *("\udc80raw", ".hidden", "a.", "$(reboot)", "`id`", "%2e%2e%2f", FORMS["hugging face"]),
)


@pytest.fixture
def victim(tmp_path):
    """A file of somebody's, which nothing may change."""
    path = tmp_path / "precious"
    path.write_text("precious")
    yield path
    assert path.read_text() == "precious"
    assert not path.is_symlink()


def recorded(folder, run_id="r", teller=closing):
    """A run, recorded into a tracker and reported on as in a training; all files lie in the folder."""
    run = Run(run_id=safe_name(run_id) or "r", trainer="GRPO", facts={"args": {"lr": 1.0}})
    journal = Journal(folder / f"{run.run_id}_events.jsonl")
    recorder = Recorder(journal, run, settings=Settings(close_deadline_s=5.0))
    recorder.begin(0, [MemorySink()])
    for step in range(1, 4):
        recorder.log(step, {"loss": 1.0 / step, "reward": 0.5})
    recorder.end("FAILED", 3, teller=teller)
    return journal.path


def test_a_link_in_the_place_of_the_journal_is_refused(tmp_path, victim):
    """The error says what lies there, and what to do."""
    link = tmp_path / "r_events.jsonl"
    link.symlink_to(victim)
    with pytest.raises(JournalError, match=r"is a symbolic link.*choose"):
        Journal(link)


def test_a_link_that_leads_nowhere_makes_no_file_there(tmp_path):
    """As a link to a file that a user's shell would read."""
    nowhere = tmp_path / "not" / "yet"
    nowhere.parent.mkdir()
    (tmp_path / "r_events.jsonl").symlink_to(nowhere)
    with pytest.raises(JournalError):
        Journal(tmp_path / "r_events.jsonl")
    assert not nowhere.exists()


def test_the_system_itself_refuses_a_link_that_comes_between(tmp_path, victim, monkeypatch):
    """Somebody puts it there just after it was looked for."""
    link = tmp_path / "x"
    link.symlink_to(victim)
    monkeypatch.setattr(Path, "is_symlink", lambda _: False)
    with pytest.raises(OSError, match="symbolic link"):
        files.append(link)
    monkeypatch.undo()


def test_a_pipe_in_the_place_of_the_journal_is_refused(tmp_path):
    """To open it would wait for ever."""
    os.mkfifo(tmp_path / "r_events.jsonl")
    opened = []

    def attempt():
        with pytest.raises(JournalError, match="no regular file"):
            Journal(tmp_path / "r_events.jsonl")
        opened.append(True)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(10)
    assert opened


def test_a_folder_that_is_a_link_is_where_the_user_wants_it(tmp_path):
    """Scratch disks are linked so."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "scratch")
    recorded(tmp_path / "out")
    assert (tmp_path / "scratch" / "r_events.jsonl").is_file()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "r_memory.lock",
            "r_memory.cursor",
            "r_memory.tmp",
            "r_metrics.csv",
            "r_alerts.json",
            "r_post_mortem.md",
        ),
        *("r_final_report.json", "r_report.html", ".r_report.html.new", ".r_metrics.csv.new"),
    ],
)
def test_a_link_in_the_place_of_any_other_file_is_not_followed(tmp_path, victim, name):
    """The journal is whole; the other files take the link's place, but for a lock, which is left alone."""
    folder = tmp_path / "rldk"
    folder.mkdir()
    (folder / name).symlink_to(victim)
    journal = recorded(folder)
    assert len(ingest_runs(journal)) == 3
    if not name.endswith((".lock", ".tmp", ".new")):
        assert not (folder / name).is_symlink()
        assert (folder / name).stat().st_size > 0


def test_the_long_format_follows_no_link(tmp_path, victim):
    """Nor does its torn tail cut off another's file."""
    (tmp_path / "lines.jsonl").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        _AppendedFile(tmp_path / "lines.jsonl")


def test_what_replaces_a_file_has_a_name_that_nobody_can_foresee(tmp_path, victim):
    """And is new: whoever guessed it would be told so, and not written to."""
    names = set()
    for _ in range(2):
        with replacing(tmp_path / "table.csv") as new:
            names.add(new.name)
            new.write_text("x")
    assert len(names) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "table.csv"]


def test_a_name_that_was_taken_after_all_is_an_error(tmp_path, victim, monkeypatch):
    """O_EXCL follows no link and takes over no file."""
    monkeypatch.setattr(files, "token_hex", lambda _: "guessed")
    (tmp_path / ".guessed.table.csv.new").symlink_to(victim)
    with pytest.raises(TargetError), replacing(tmp_path / "table.csv"):
        pass


def test_a_cursor_that_cannot_be_replaced_leaves_no_rest(tmp_path):
    """A folder lies in its place."""
    recorded(tmp_path)
    file = CursorFile(tmp_path / "r_events.jsonl", "other")
    file.path.mkdir()
    with pytest.raises(OSError, match="irectory"):
        file.save(Cursor(journal=1.0))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("umask", "file", "folder"),
    [(0o000, 0o664, 0o775), (0o002, 0o664, 0o775), (0o022, 0o644, 0o755), (0o077, 0o600, 0o700)],
)
def test_the_umask_decides_who_may_read_and_nobody_else_may_write(tmp_path, umask, file, folder):
    """All that is written in a training and beside it, also where the umask takes nothing away."""
    before = os.umask(umask)
    try:
        recorded(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a" / "b").iterdir()}
    assert modes == {file}
    assert {stat.S_IMODE((tmp_path / part).stat().st_mode) for part in ("a", "a/b")} == {folder}


def test_copies_of_foreign_sources_are_their_owners_alone(tmp_path, monkeypatch):
    """The cache lies in a home that others may be able to look into."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "run.csv").write_text("step,loss\n1,0.5\n")
    before = os.umask(0)
    try:
        (staged,) = stage(adapter_of(tmp_path / "run.csv"), str(tmp_path / "run.csv"))
    finally:
        os.umask(before)
    made = [path for path in (tmp_path / "cache").rglob("*") if path.is_dir()]
    assert staged.path.parent in made
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}


def adapter_of(path):
    """The adapter that reads it."""
    from rldk.sources import find_adapter

    return find_adapter(str(path))


def all_below(folder):
    """Every file and folder there is."""
    return set(folder.rglob("*"))


@pytest.mark.parametrize("run_id", HOSTILE_IDS, ids=lambda run_id: ascii(run_id)[:20])
def test_a_hostile_run_id_stays_in_the_folder(tmp_path, run_id):
    """In a training, in the reports of a foreign run, and in the copy that a sync makes."""
    out, reports = tmp_path / "out", tmp_path / "reports"
    path = recorded(out, run_id, teller=None)
    assert path.parent == out
    assert len(ingest_runs(path)) == 3
    foreign = Event(
        kind="metrics", step=1, time=1.0, wall_time=0.0, metrics={"loss": 1.0}, rng={}, data_slice={},
        model_info={"run_id": run_id, "phase": "train"}, notes=[],
    )  # fmt: skip
    for written in write_all(Story.of([foreign]), reports):
        assert written.parent == reports
        assert FORMS["hugging face"] not in written.name
    assert {path.parent for path in all_below(tmp_path) if path.is_file()} == {out, reports}


@given(run_id=st.text(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_run_id_is_one_short_plain_name(tmp_path, run_id):
    """On any system."""
    name = safe_name(run_id)
    assert (tmp_path / name).parent == tmp_path
    assert 0 < len(name.encode()) <= 200
    assert name.isascii()
    assert not set(name) & set('/\\:*?"<>|\0\n ')
    assert not name.startswith(".")
