"""What others have written is read and never run, and what they have named is no code and no markup."""

from __future__ import annotations

import ast
import io
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rldk.cli import app
from rldk.errors import RLDKError
from rldk.event import Event
from rldk.export import write
from rldk.ingest import ingest_runs
from rldk.report.page import _POLICY

HOME = Path(__file__).parents[2]
SOURCES = sorted(
    path for part in ("rldk", "bridges", "tools", "examples") for path in (HOME / part).rglob("*.py")
)
OWN_LOGGER = "logging.getLogger(__name__)"
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "breakpoint"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "dill.load", "joblib.load"),
    *(
        "torch.load",
        "numpy.load",
        "np.load",
        "pd.read_pickle",
        "pandas.read_pickle",
        "marshal.loads",
        "shelve.open",
    ),
    *(
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "os.system",
        "os.popen",
        "tempfile.mktemp",
        "xml.sax.parse",
    ),
}

ENDS = {name.rpartition(".")[2] for name in FORBIDDEN}


def calls(path):
    """Each call in a file."""
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


def runs_what_it_reads(call):
    """Whether it is one of the forbidden ones, or has a shell read the command."""
    name = getattr(call.func, "attr", "") or getattr(call.func, "id", "")
    is_forbidden = name in ENDS and ast.unparse(call.func) in FORBIDDEN
    return is_forbidden or any(
        key.arg == "shell" and ast.unparse(key.value) != "False" for key in call.keywords
    )


def test_no_call_can_run_what_it_reads():
    """No pickle, no YAML, no text as code, no shell, no file name that somebody could foresee."""
    found = [(path, call) for path in SOURCES for call in calls(path)]
    assert len(found) > 10_000
    assert [(path, call.lineno) for path, call in found if runs_what_it_reads(call)] == []


def test_every_module_logs_through_the_redactor():
    """`rldk.redact.logger` is the one way to a logger of ours; others' loggers are only made quiet."""
    own = [path for path in SOURCES if path.parts[len(HOME.parts)] in {"rldk", "bridges"}]
    assert [path for path in own if OWN_LOGGER in path.read_text()] == []


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return Path.touch, (Path(self.canary),)


@pytest.fixture
def canary(tmp_path):
    """A file that is there once foreign code has run."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "foreign code was run"


def zipped(pickled):
    """What torch.save would write of it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/version", "3\n")
    return out.getvalue()


def record(data):
    """A TensorBoard record whose checksums nobody has worked out."""
    return struct.pack("<Q", len(data)) + b"\0" * 4 + data + b"\0" * 4


YAML = """
run_id: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["{canary}"]]
x: !!python/name:os.system
"""
STATE = """
{{"global_step": 1, "log_history": [{{"step": 1, "loss": 1, "__reduce__": ["os.system", "touch {canary}"]}}]}}
"""


def foreign(folder, canary):
    """Write one of each kind of source that could be made to run code, and give how each is asked for."""
    bomb = pickle.dumps(Bomb(canary))
    checkpoint = folder / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text(STATE.format(canary=canary))
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (checkpoint / name).write_bytes(zipped(bomb))
    bare = folder / "checkpoint-2"
    bare.mkdir()
    (bare / "trainer_state.json").write_bytes(bomb)
    (bare / "pytorch_model.bin").write_bytes(bomb)
    runs = folder / "mlruns" / "0" / "abc"
    (runs / "metrics").mkdir(parents=True)
    (runs / "params").mkdir()
    (runs / "metrics" / "loss").write_text("1700000000000 0.5 1\n")
    (runs / "params" / "x").write_text(f"!!python/object/apply:os.system ['touch {canary}']")
    (runs / "meta.yaml").write_text(YAML.format(canary=canary))
    (folder / "mlruns" / "0" / "meta.yaml").write_text(YAML.format(canary=canary))
    wandb = folder / "wandb" / "offline-run-20261125_101500-abc"
    wandb.mkdir(parents=True)
    (wandb / "run-abc.wandb").write_bytes(b":W&B\xbe\xe1\0" + bomb)
    (wandb / "files").mkdir()
    (wandb / "files" / "config.yaml").write_text(YAML.format(canary=canary))
    (folder / "events.out.tfevents.1.x").write_bytes(record(bomb) + bomb)
    for name in (
        "x.csv",
        "x.jsonl",
        "x.parquet",
        "x.db",
        "x.pkl",
        "x.npy",
        "x.gz",
        "x.zst",
        "x_events.jsonl",
    ):
        (folder / name).write_bytes(bomb)
    return sorted(
        [*folder.iterdir(), runs, wandb, wandb / "run-abc.wandb", checkpoint / "trainer_state.json"]
    )


def test_no_source_runs_when_it_is_read(tmp_path, canary):
    """Each is read, or refused."""
    for source in foreign(tmp_path / "foreign", canary):
        with suppress(RLDKError):
            ingest_runs(str(source))


@pytest.mark.parametrize("command", ["check", "ingest", "report"])
def test_no_command_runs_it_either(tmp_path, canary, command):
    """Also that which reads weights."""
    for source in foreign(tmp_path / "foreign", canary):
        out = ["-o", str(tmp_path / f"out-{source.name}")] if command == "report" else []
        done = CliRunner().invoke(app, [command, str(source), *out])
        assert done.exit_code in {0, 1, 2, 3}, done.output


def test_the_bomb_is_one(tmp_path):
    """Whoever unpickles it runs it."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "boom")))  # noqa: S301  # that it does is what is tested
    assert (tmp_path / "boom").exists()


def test_the_page_may_load_nothing():
    """Its policy allows styles and pictures within the page, and no script, frame, form or connection."""
    rules = dict(rule.split(" ", 1) for rule in _POLICY.split("; "))
    assert rules == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_texts_of_a_table_come_back_letter_for_letter(tmp_path):
    """What a spreadsheet takes for a formula is data here; docs/security.md tells how to import it."""
    names = ["=1+2", "+1", "-1", "@x", "\t=1", "=cmd|' /C calc'!A0"]
    journal = tmp_path / "x.jsonl"
    lines = [
        Event(step=1, time=1.0 + n, wall_time=0.0, metrics={name: 1.0}, rng={}, data_slice={},
              model_info={"run_id": "=2+3", "phase": "train", "raw": True}, notes=[])
        for n, name in enumerate(names)
    ]  # fmt: skip
    from rldk.event import encode

    journal.write_bytes(b"".join(encode(line) + b"\n" for line in lines))
    table = ingest_runs(journal)
    write(table, tmp_path / "table.csv")
    again = ingest_runs(tmp_path / "table.csv")
    assert set(names) <= set(again.columns)
    assert again["run_id"].unique().tolist() == table["run_id"].unique().tolist()
