"""`rldk check` judges runs that are over, with an exit code; `rldk explain` shows an alert's numbers."""

from __future__ import annotations

import json
import math
import os

import pytest
from typer.testing import CliRunner

from rldk import event as event_json
from rldk.cli import app
from rldk.health.rules import built_in
from rldk.journal import Journal
from rldk.recorder import Recorder, Run
from rldk.report import closing
from rldk.settings import Settings
from tests.health._checkpoints import save, weights
from tests.health._events import begin, event


def rldk(*words):
    """Call a command."""
    return CliRunner().invoke(app, [*map(str, words)])


def write(path, events):
    """Write a journal."""
    path.write_bytes(b"".join(event_json.encode(each) + b"\n" for each in events))
    return path


def run(run_id, losses, trainer="SFT", **told):
    """The events of a run with these losses."""
    logs = [event(step, {"loss": loss}, run_id=run_id) for step, loss in enumerate(losses, 1)]
    return [begin(trainer, run_id=run_id, **told), *logs]


WELL = [1.0] * 30
BROKEN = [*[1.0] * 11, math.nan, math.nan, *[1.0] * 17]
LEAPT = [*[1.0] * 15, *[1.6] * 15]


@pytest.fixture
def well(tmp_path):
    """The journal of a run that is well."""
    return write(tmp_path / "well_events.jsonl", run("well", WELL))


@pytest.fixture
def broken(tmp_path):
    """The journal of a run whose loss breaks at step 12."""
    return write(tmp_path / "broken_events.jsonl", run("broken", BROKEN))


@pytest.fixture
def leapt(tmp_path):
    """The journal of a run whose loss leaps at step 16."""
    return write(tmp_path / "leapt_events.jsonl", run("leapt", LEAPT))


@pytest.fixture
def recorded(tmp_path):
    """A run that RLDK has recorded and reported, with an alert."""
    path = tmp_path / "rec" / "rec_events.jsonl"
    recorder = Recorder(Journal(path), Run(run_id="rec", trainer="SFT"), settings=Settings())
    recorder.begin(0, [])
    for step, loss in enumerate(BROKEN, 1):
        recorder.emit("metrics", step, {"loss": loss})
    recorder.end("FINISHED", len(BROKEN), teller=closing)
    return path


def test_a_run_that_is_well_ends_with_zero(well):
    """And says which rules could not judge, and why."""
    done = rldk("check", well)
    assert done.exit_code == 0, done.output
    assert "well: ok  SFT, 30 logs to step 30" in done.stdout
    assert "cannot judge this run" in done.stdout
    assert "grad_norm was not logged" in done.stdout
    assert "kl_drift" not in done.stdout  # it is about others


def test_each_alert_is_a_line(broken):
    """When it began and when it was over."""
    done = rldk("check", broken)
    assert done.exit_code == 1
    assert "broken: critical" in done.stdout
    assert "step     12  critical  Non-finite values: loss is nan" in done.stdout
    assert (
        "step     14  over  Non-finite values: over since step 14; it was critical since step 12"
        in done.stdout
    )


@pytest.mark.parametrize(
    ("fail_on", "code"), [("info", 1), ("warning", 1), ("critical", 0), ("never", 0), (None, 0)]
)
def test_the_exit_code_is_by_what_the_user_finds_bad(leapt, fail_on, code):
    """A warning is no failure unless it is asked to be one."""
    options = [] if fail_on is None else ["--fail-on", fail_on]
    done = rldk("check", leapt, *options)
    assert done.exit_code == code
    assert "warning  Loss spike" in done.stdout


def test_never_is_never(broken):
    """However bad it is."""
    assert rldk("check", broken, "--fail-on", "never").exit_code == 0


def test_several_runs_are_counted(well, broken, leapt):
    """In how many a rule could judge, fired, and how early; the worst of all makes the code."""
    done = rldk("check", well, broken, leapt, "--json", "--fail-on", "warning")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert [each["run_id"] for each in told["runs"]] == ["well", "broken", "leapt"]
    tally = {each["rule"]: each for each in told["tally"]}
    assert tally["loss_spike"] == {
        "rule": "loss_spike",
        "judged": 3,
        "fired": 1,
        "severity": "warning",
        "median_share": 0.6,
    }
    assert tally["nonfinite"]["median_share"] == 0.4
    assert "nonfinite_eval" not in tally
    assert "kl_drift" not in tally
    shown = rldk("check", well, broken, leapt).stdout
    assert "3 runs" in shown
    assert "60%" in shown


def test_a_folder_of_runs_is_checked_as_a_whole_or_in_part(well, broken, tmp_path):
    """By id."""
    assert rldk("check", tmp_path).exit_code == 1
    done = rldk("check", tmp_path, "--runs", "well")
    assert done.exit_code == 0
    assert "broken" not in done.stdout
    assert rldk("check", tmp_path, "--runs", "nobody").exit_code == 2


def test_a_trainer_state_is_a_run(tmp_path):
    """As transformers leaves it in a checkpoint, without RLDK."""
    logs = [
        {"step": step, "loss": 1.0, "grad_norm": math.nan if step > 20 else 1.0, "epoch": 0.1}
        for step in range(1, 31)
    ]
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"global_step": 30, "log_history": logs}))
    done = rldk("check", path)
    assert done.exit_code == 1, done.output
    assert "step     21  critical  Non-finite values: grad_norm is nan" in done.stdout


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint with its weights and the log of a run that is well; gives the folder."""
    folder = save(tmp_path / "checkpoint-30", weights())
    logs = [{"step": step, "loss": 1.0, "epoch": 0.1} for step in range(1, 31)]
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 30, "log_history": logs}))
    return folder


def torn(path):
    """Leave half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("more", [(), ("--all",)])
def test_rules_of_checkpoints_are_not_called_blind_where_the_weights_were_weighed(checkpoint, more):
    """What was found in the weights stands above; the log alone leaves them blind."""
    done = rldk("check", checkpoint, *more)
    assert done.exit_code == 0, done.output
    assert "nothing is wrong with the weights" in done.stdout
    assert "30 logs to step 30" in done.stdout
    assert "checkpoint_" not in done.stdout
    assert "checkpoint_nonfinite" in rldk("check", checkpoint / "trainer_state.json", "--all").stdout


def test_damaged_weights_are_a_finding_and_hide_nothing(checkpoint):
    """The log is judged all the same."""
    torn(checkpoint / "model.safetensors")
    done = rldk("check", checkpoint)
    assert done.exit_code == 1, done.output
    assert "checkpoint_damaged  critical" in done.stdout
    assert "30 logs to step 30" in done.stdout
    told = json.loads(rldk("check", checkpoint, "--json").stdout)
    (finding,) = told["checkpoints"][0]["analysis"]["findings"]
    assert (finding["rule"], len(told["runs"])) == ("checkpoint_damaged", 1)
    assert rldk("check", checkpoint, "--fail-on", "never").exit_code == 0


@pytest.mark.parametrize("what", ["weights", "log"])
def test_the_half_that_cannot_be_read_hides_not_the_other(checkpoint, what):
    """It is told, and the code is that of what cannot be read."""
    if what == "log":
        torn(checkpoint / "trainer_state.json")
    else:
        header = json.dumps({"w": {"dtype": "F13", "shape": [1], "data_offsets": [0, 1]}}).encode()
        whole = len(header).to_bytes(8, "little") + header + b"\0"
        (checkpoint / "model.safetensors").write_bytes(whole)
    done = rldk("check", checkpoint)
    assert done.exit_code == 3, done.output
    assert ("30 logs to step 30" if what == "weights" else "nothing is wrong with the weights") in done.stdout
    assert done.stderr.startswith("rldk: cannot read ")


def test_json_is_strict_and_whole(broken):
    """NaN is a name, and each alert has its numbers."""
    done = rldk("check", broken, "--json")

    def no_constant(name):
        raise ValueError(name)

    told = json.loads(done.stdout, parse_constant=no_constant)
    (one,) = told["runs"]
    assert (one["run_id"], one["trainer"], one["points"], one["last_step"]) == ("broken", "SFT", 30, 30)
    assert one["alerts"][0] == {
        "id": "nonfinite@12",
        "rule": "nonfinite",
        "state": "firing",
        "severity": "critical",
        "step": 12,
        "since_step": 12,
        "message": "Non-finite values: loss is nan",
        "evidence": {"loss": "NaN"},
    }
    assert one["alerts"][1]["state"] == "ok"
    assert one["health"]["verdict"] == "critical"
    assert {each["rule"] for each in one["health"]["rules"]} == {rule.name for rule in built_in()}


def test_all_shows_every_rule(well):
    """Those that are well, and why the others are not."""
    done = rldk("check", well, "--all")
    assert "zero_gradients" in done.stdout
    assert "kl_drift" in done.stdout


def test_rules_of_ones_own_are_asked(well, tmp_path):
    """And can change RLDK's."""
    mine = tmp_path / "mine.toml"
    mine.write_text('[[rule]]\nname = "too_high"\nwhen = "loss > 0.5"\nseverity = "critical"\n')
    done = rldk("check", well, "--rules", mine)
    assert done.exit_code == 1
    assert "step      1  critical" in done.stdout
    mine.write_text("[[rule]]\nname = 1\n")
    refused = rldk("check", well, "--rules", mine)
    assert refused.exit_code == 2
    assert "mine.toml" in refused.stderr


def test_limits_are_asked(well):
    """As alert_thresholds, by name and number."""
    done = rldk("check", well, "--threshold", "loss_spike=1", "--threshold", "kl_divergence=0.1", "--all")
    assert done.exit_code == 0
    assert "limit_loss_spike" in done.stdout


@pytest.mark.parametrize(
    "given", ["kl_divergence", "kl_divergence=", "kl=1", "memory_usage=5", "loss_spike=nan", ""]
)
def test_a_limit_that_is_none_is_refused(well, given):
    """With what to give."""
    done = rldk("check", well, "--threshold", given)
    assert done.exit_code == 2
    assert "cannot be used; give" in done.stderr


def test_what_was_judged_in_the_run_is_not_looked_at(recorded, tmp_path):
    """The rules of now are asked, of what was logged."""
    mine = tmp_path / "mine.toml"
    mine.write_text("[change.nonfinite]\nenabled = false\n")
    assert rldk("check", recorded).exit_code == 1
    done = rldk("check", recorded, "--rules", mine)
    assert "Non-finite" not in done.stdout


def test_the_backtest_finds_what_the_run_itself_found(recorded):
    """Event by event, the same."""
    told = json.loads(rldk("check", recorded, "--json").stdout)["runs"][0]
    live = [json.loads(each) for each in recorded.read_text().splitlines()]
    alerts = [each["model_info"]["alert"] for each in live if each["kind"] == "alert"]
    keys = ("rule", "state", "severity", "since_step", "message", "evidence")
    assert [[each[key] for key in keys] for each in told["alerts"]] == [
        [each[key] for key in keys] for each in alerts
    ]
    assert told["health"] == live[-1]["model_info"]["health"]


HOSTILE = {
    "nothing": b"",
    "no_json": b"\x00\xff\xfe" * 100,
    "half_a_line": event_json.encode(event(1, {"loss": 1.0}))[:40],
    "lists": b"[[[[[[]]]]]]\n" * 3,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_run_is_said_to_be_none(tmp_path, content):
    """Exit code 3, or a run without data; never a traceback."""
    path = tmp_path / "r_events.jsonl"
    path.write_bytes(content)
    for words in (["check", path], ["check", path, "--json"], ["explain", path]):
        done = rldk(*words)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert done.exit_code in {0, 3}
    assert rldk("check", tmp_path / "nowhere").exit_code == 3


@pytest.mark.parametrize(
    "told",
    [
        {"versions": [1], "args": "x", "units": 3, "trainer": None},
        {"versions": {"trl": {}}, "args": {"beta": [], "num_generations": "many"}, "units": {"loss": []}},
        {"trainer": "[bold]x[/bold]\x1b[31m", "args": None, "config": [], "versions": None, "units": None},
    ],
)
def test_a_run_that_tells_nonsense_of_itself_is_judged_by_its_numbers(tmp_path, told):
    """Types that nobody expects, in everything that a run tells of itself."""
    first = event(0, {}, "run", **told)
    path = write(tmp_path / "r_events.jsonl", [first, *run("r", BROKEN)[1:]])
    done = rldk("check", path)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 1
    assert "Non-finite values: loss is nan" in done.stdout


def test_checkpoints_and_alerts_of_others_are_no_trouble(tmp_path):
    """Findings that are none, a run that tells of none."""
    odd = [
        event(1, {"nonfinite_count": 1.0}, "checkpoint", analysis=told, checkpoint=3)
        for told in ([], {"findings": [1, {"rule": "checkpoint_nonfinite", "evidence": [], "severity": "x"}]})
    ]
    path = write(tmp_path / "r_events.jsonl", [begin(), *odd, event(2, {"x": 1}, "alert", alert=[])])
    for words in (["check", path], ["check", path, "--json"], ["explain", path]):
        done = rldk(*words)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception


def test_a_name_of_raw_bytes_is_written(tmp_path):
    """A folder, as some systems make them."""
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.mkdir(folder)  # noqa: PTH102  # a name that is no text
    path = os.path.join(folder, "r_events.jsonl")  # noqa: PTH118
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"".join(event_json.encode(each) + b"\n" for each in run("r", BROKEN)))
    done = rldk("check", path, "--json")
    assert isinstance(done.exception, SystemExit), done.exception
    assert json.loads(done.stdout)["runs"][0]["run_id"] == "r"
    assert isinstance(rldk("check", path).exception, SystemExit)


def test_secrets_in_what_is_checked_stay_there(tmp_path):
    """In no message, number or reason."""
    token = "hf_" + "a" * 30
    odd = {"rule": "checkpoint_nonfinite", "message": f"see {token}", "evidence": {"where": token}}
    seen = event(1, {"nonfinite_count": 1.0}, "checkpoint", analysis={"findings": [odd]})
    path = write(tmp_path / "r_events.jsonl", [begin(), seen])
    assert token not in rldk("check", path).output
    assert token not in rldk("check", path, "--json").output


def test_explain_shows_the_numbers_of_an_alert_again(recorded):
    """The numbers, the steps around, what to do."""
    done = rldk("explain", f"{recorded}#nonfinite@12")
    assert done.exit_code == 0, done.output
    assert "nonfinite@12  critical, over at step 14" in done.stdout
    assert "Non-finite values: loss is nan" in done.stdout
    assert "The points around step 12" in done.stdout
    assert "advice: stop, and go on from the last checkpoint" in done.stdout
    assert "source: https://" in done.stdout


def test_explain_judges_a_run_that_was_not(broken):
    """One that others recorded, or an older RLDK."""
    assert "nonfinite@12" in rldk("explain", f"{broken}#nonfinite@12").stdout
    assert "nonfinite@12" in rldk("explain", broken).stdout


def test_explain_takes_the_file_of_alerts(recorded):
    """Which has its journal beside it."""
    alerts = recorded.with_name("rec_alerts.json")
    assert "nonfinite@12" in rldk("explain", alerts).stdout
    assert "nonfinite@12" in rldk("explain", f"{alerts}#nonfinite@12").stdout
    alerts.rename(alerts.with_name("other_alerts.json"))
    done = rldk("explain", alerts.with_name("other_alerts.json"))
    assert done.exit_code == 3
    assert "is not beside it" in done.stderr


def test_explain_tells_of_a_run_without_alerts(well):
    """In a sentence."""
    done = rldk("explain", well)
    assert (done.exit_code, done.stdout) == (0, "run well has no alert\n")


@pytest.mark.parametrize("rule", [rule.name for rule in built_in()])
def test_explain_tells_what_a_rule_is_about(rule):
    """By its name: what, how, of whom, what to do."""
    done = rldk("explain", rule)
    assert done.exit_code == 0
    for what in ("what: ", "rule: ", "of: ", "lasting: ", "advice: ", "source: "):
        assert what in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("{recorded}#nonfinite@13", 2, "an alert of run rec: nonfinite@12"),
        ("{recorded}#kl_drift@12", 2, "an alert of run rec"),
        ("{recorded}#nonfinite@" + "9" * 19, 2, "an alert of run rec"),
        ("nowhere#nonfinite@" + "9" * 5000, 3, "nowhere"),
        ("no_such_rule", 3, "no rule is called so; check the path; docs/health.md lists the rules"),
        ("kl_drif", 3, "no rule is called so; check the path, or name a rule near it: kl_drift"),
        ("nowhere#kl_drift@1", 3, "nowhere"),
    ],
)
def test_what_cannot_be_explained_is_said(recorded, words, code, said):
    """With what there is in its place."""
    done = rldk("explain", words.format(recorded=recorded))
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == code
    assert said in done.stderr


def test_explain_wants_one_run(well, broken, tmp_path):
    """Several have several alerts of one name."""
    done = rldk("explain", tmp_path)
    assert done.exit_code == 3
    assert "it holds 2 runs" in done.stderr
