"""`rldk doctor` examines versions, settings and disk, tells which rules are blinded, and has an exit code."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rldk import versions
from rldk.cli import app
from rldk.doctor import machine
from rldk.doctor.configuration import configured
from rldk.doctor.defaults import Asked, Said, ask
from rldk.doctor.finding import Finding
from rldk.doctor.sight import REPORTERS
from rldk.doctor.values import faults
from tests.cli._tail_runs import Writer

FINE = ["eval_strategy=steps", "eval_steps=10", "logging_steps=1", "save_steps=10", "max_steps=1000"]


def run(*arguments):
    """Call the command in this process, without a tracker."""
    return CliRunner().invoke(app, ["doctor", "--offline", *map(str, arguments)])


def options(*given):
    """Give each as --set."""
    return [part for each in given for part in ("--set", each)]


@pytest.fixture(autouse=True)
def _without_children(monkeypatch):
    """TRL's defaults and torch's devices take seconds to be asked for; tests of their own ask."""
    monkeypatch.setattr("rldk.doctor.defaults.ask", lambda *_: None)
    monkeypatch.setattr("rldk.doctor.child.BESIDE", ())


def test_all_fine_is_0():
    """A configuration in which every rule that is about the trainer can judge."""
    told = run("--trainer", "SFT", *options(*FINE))
    assert told.exit_code == 0, told.stdout
    assert "rules will judge" in told.stdout


def test_a_blind_rule_is_found():
    """Exit code 1, the rule and why."""
    told = run("--trainer", "GRPO", *options(*FINE, "beta=0"))
    assert told.exit_code == 1
    assert "kl_drift: beta is 0" in told.stdout


def test_json_tells_each_rule():
    """One document: findings, and for each rule what is to be expected."""
    document = json.loads(run("--trainer", "GRPO", *options("beta=0", "logging_steps=10"), "--json").stdout)
    rules = {each["rule"]: each for each in document["rules"]}
    assert document["schema"] == 1
    assert (rules["kl_drift"]["outlook"], rules["entropy_collapse"]["first_step"]) == ("blind", 150)
    assert {each["area"] for each in document["findings"]} >= {"versions", "settings", "disk"}
    assert all(each["state"] in {"ok", "note", "warning", "problem"} for each in document["findings"])


def test_a_journal_is_a_configuration(tmp_path):
    """What a run was trained with."""
    writer = Writer(tmp_path, beta=0.0, max_steps=30)
    writer.journal.close()
    told = run("--config", writer.path)
    assert (told.exit_code, "health of GRPO" in told.stdout) == (1, True)


def test_rules_of_ones_own_are_examined(tmp_path):
    """A TOML file of rules, as everywhere."""
    path = tmp_path / "rules.toml"
    path.write_text('[[rule]]\nname = "mine"\nwhen = "kl_mean > 1"\nseverity = "warning"\n')
    told = run("--trainer", "GRPO", *options("beta=0"), "--rules", path)
    assert "mine" in told.stdout, told.stdout + str(told.exception)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--set", "beta=0"], 2), (["--trainer", "X"], 2), (["--config", "/no/such/thing"], 3)],
)
def test_misuse_and_what_cannot_be_read(arguments, code):
    """Exit codes 2 and 3, in one line."""
    done = subprocess.run(
        [sys.executable, "-m", "rldk", "doctor", "--offline", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)


def test_an_argument_that_nobody_knows_is_told(monkeypatch):
    """With the one that was meant; what TRL has without a plain default is known, too."""
    told = {"beta": 0.0, "num_train_epochs": 3.0, "lr_scheduler_kwargs": None}
    monkeypatch.setattr("rldk.doctor.defaults.ask", lambda *_: Said(told))
    given = ("num_train_epoch=3", "qqq=1", "beta=0.1", "lr_scheduler_kwargs=null")
    document = json.loads(run("--trainer", "GRPO", *options(*given), "--json").stdout)
    found = {each["what"]: each["remedy"] for each in document["findings"] if each["area"] == "arguments"}
    assert found == {"num_train_epoch": "write num_train_epochs", "qqq": "leave it out"}


def test_without_trl_a_run_tells_which_arguments_there_are(tmp_path):
    """And with neither nobody can say."""
    writer = Writer(tmp_path, beta=0.0, max_steps=30)
    writer.journal.close()
    assert "Config has no such argument" in run("--config", writer.path, "--set", "bta=1").stdout
    assert "Config has no such argument" not in run("--trainer", "GRPO", "--set", "bta=1").stdout


@pytest.mark.real
def test_defaults_are_those_of_the_installed_trl():
    """What nobody gives has TRL's value."""
    said = ask(
        "GRPO", 120.0, Asked({"learning_rate": "1e-5", "report_to": "none", "no_such": 1}, is_all=True)
    )
    assert said is not None
    assert (said.defaults["logging_steps"], said.defaults["eval_strategy"]) == (10, "no")
    assert said.defaults["eval_steps"] is None
    assert said.faults == []


@pytest.mark.real
def test_the_trainers_own_class_refuses_values(tmp_path, monkeypatch):
    """Those of a file, too; in its own words, and with how many processes would make it well."""
    monkeypatch.setattr("rldk.doctor.defaults.ask", ask)
    path = tmp_path / "grpo.yaml"
    path.write_text(
        "trainer: GRPO\nper_device_train_batch_size: 7\nnum_generations: 8\nmodel_name_or_path: x\n"
    )
    document = json.loads(run("--config", path, "--json").stdout)
    (told,) = [each for each in document["findings"] if each["area"] == "arguments"]
    assert (told["what"], told["state"]) == ("GRPOConfig", "problem")
    assert told["told"] == "generation_batch_size (7) must be divisible by num_generations (8)"
    assert told["remedy"] == "give other values, or train in 8 processes"


@dataclasses.dataclass
class Config:
    """A class of arguments as TRL's are."""

    output_dir: str
    use_cpu: bool = False
    bf16: bool | None = None
    fp16: bool = False
    beta: float = 0.0
    learning_rate: float = 1e-5
    logging_steps: float = 10
    max_steps: int = -1
    save_strategy: str = "steps"
    world_size: int | None = None  # as PPO's; others have a property

    def __post_init__(self):
        """Refuse what cannot be, and what the machine cannot do."""
        if self.save_strategy not in {"no", "steps"} or not self.use_cpu:
            said = f"{self.save_strategy} is\n no strategy"
            raise ValueError(said)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"beta": "abc"}, ("beta", "'abc' is of the wrong type: expected `float`, got `str`")),
        (
            {"logging_steps": "abc"},
            ("logging_steps", "'abc' is of the wrong type: expected `float`, got `str`"),
        ),
        ({"max_steps": 1.5}, ("max_steps", "1.5 is of the wrong type: expected `int`, got `float`")),
        ({"max_steps": -5}, ("max_steps", "-5 is less than -1, the least that it can be")),
        ({"learning_rate": "-1"}, ("learning_rate", "-1.0 is less than 0, the least that it can be")),
        ({"save_strategy": "never"}, ("Config", "never is no strategy")),
        ({"beta": "1e-3", "max_steps": -1, "bf16": True, "other": "abc", "use_cpu": False}, None),
    ],
)
def test_values_that_will_not_do_are_problems(given, found):
    """Of the wrong type, out of range, or refused by the class; whatever the machine is."""
    told = [(each.what, each.told) for each in faults(Config, given, is_all=True)]
    assert told == ([found] if found else [])


@pytest.mark.parametrize("text", ["wandb,mlflow", "['wandb','mlflow']", '["wandb", "mlflow"]', "all"])
def test_trackers_of_the_trainer_are_told_however_they_are_written(text):
    """As a list, as text, or as all there are."""
    from rldk.doctor.sight import reports

    (told,) = reports(configured(None, "DPO", [f"report_to={text}"]), ["mlflow", "wandb"])
    assert (told.what, told.state) == ("mlflow, wandb", "ok")


def test_a_tracker_that_the_trainer_does_not_know_is_a_warning():
    """With the one that was meant."""
    document = json.loads(run("--trainer", "DPO", "--set", "report_to=tensorbord", "--json").stdout)
    (told,) = [each for each in document["findings"] if each["area"] == "report_to"]
    assert (told["what"], told["state"], told["remedy"]) == ("tensorbord", "warning", "write tensorboard")


@pytest.mark.real
def test_the_trackers_of_the_installed_trainers_are_known():
    """None of them is called unknown."""
    code = "from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK as k; print(*k)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= REPORTERS


def found(findings):
    """Each finding's state, by what was looked at."""
    return {each.what: each.state for each in findings}


def test_settings_are_examined():
    """A value that cannot be, and a name that nobody knows: with the name that was meant."""
    told = list(machine.environment({"RLDK_LINGR_S": "1", "RLDK_BATCH_EVENTS": "none", "RLDK_DEBUG": "1"}))
    assert found(told) == {"RLDK_LINGR_S": "warning", "environment": "problem"}
    assert told[0].remedy == "write RLDK_LINGER_S"
    assert found(machine.environment({"RLDK_LINGER_S": "1"})) == {"environment": "ok"}


def test_the_disk_is_examined(tmp_path):
    """The folder need not be there, and is not made; where nothing can be written is a problem."""
    assert [each.state for each in machine.disk(tmp_path / "a" / "b")] == ["ok"]
    assert not (tmp_path / "a").exists()
    assert [each.state for each in machine.disk(Path("/proc/self/rldk"))] == ["problem"]


@pytest.mark.parametrize("below", ["", "out"])
def test_a_file_is_no_folder(tmp_path, below):
    """Neither it nor a folder in it can be made, though a file could be written beside it."""
    path = tmp_path / "train.py"
    path.touch()
    (told,) = machine.disk(path / below)
    assert (told.state, told.told) == ("problem", f"{path if below else 'it'} is a file")


def test_a_full_disk_is_a_warning(tmp_path, monkeypatch):
    """Less than a GiB is soon gone."""
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    assert [each.state for each in machine.disk(tmp_path)] == ["warning"]


@pytest.mark.parametrize(
    ("version", "bounds", "is_fit"),
    [
        ("3.17.2", ">=3.1,<3.18", True),
        ("3.18.0", "<3.18,>=3.1", False),
        ("2.13.0+cpu", ">=2.6", True),
        ("1.0", "==1.0.*", True),
        ("1.1", "==1.0.*", False),
        ("1.4.2", "~=1.4.0", True),
        ("1.5.0", "~=1.4.0", False),
        ("2.0", "!=2.0", False),
        ("5.0.0rc1", "", True),
    ],
)
def test_versions_are_compared(version, bounds, is_fit):
    """As packages write what they need."""
    assert versions.fits(version, bounds) is is_fit


def test_what_is_installed_here_fits():
    """The pinned versions are those that go together."""
    assert versions.misfits() == []


def test_a_misfit_is_told():
    """Who asks for what, what there is, and the command that mends it."""
    (told,) = versions.misfits([("rldk", "wandb>=99,<100 ; extra == 'wandb'"), ("trl", "numpy<0")])
    assert "asks for wandb >=99,<100" in told.told
    assert told.remedy == "pip install 'wandb>=99,<100'"


@pytest.mark.parametrize(
    ("who", "condition", "is_told"),
    [
        ("trl", "", True),
        ("trl", "; python_version < '3'", False),
        ("trl", "; python_version >= '3'", True),
        ("trl", "; sys_platform == 'win32'", sys.platform == "win32"),
        ("trl", "; (extra == 'dev')", False),
        ("rldk", "; extra == 'trl'", True),
        ("rldk", "; sys_platform == 'none' and extra == 'trl'", False),
        ("trl", "; nonsense", False),
    ],
)
def test_a_need_of_other_places_is_none(who, condition, is_told):
    """What is asked for on another platform, with another Python or in another's extra binds nobody here."""
    pytest.importorskip("torch")
    assert bool(versions.misfits([(who, f"torch<1 {condition}")])) is is_told


def test_ppo_needs_a_trl_that_has_it(monkeypatch):
    """The newest TRL has no PPOTrainer."""
    monkeypatch.setattr(machine, "installed", lambda _: "1.16.0")
    told = [each for each in machine.versions("PPO") if each.state == "problem"]
    assert [each.remedy for each in told] == ["pip install 'trl<=1.12.0'"]


def test_what_others_say_cannot_write_on_the_terminal(monkeypatch):
    """A name of an argument's, or a server's answer, with control characters and a secret in it."""
    finding = Finding("x", "a\x1b[2J", "problem", "http://me:hunter2@host \x07 \r", "do\nthis")
    monkeypatch.setattr("rldk.cli.doctor._examined", lambda *_: [finding])
    told = run()
    assert (told.exit_code, told.stdout.count("\n")) == (1, 2)
    assert not set(told.stdout) & set("\x1b\x07\r")
    assert "hunter2" not in told.stdout
