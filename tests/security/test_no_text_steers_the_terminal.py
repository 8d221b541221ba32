"""No foreign name, id or message steers the terminal or forges a line, whatever command shows it."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rldk.cli.visible import visible
from tests.cli._commands import rldk
from tests.diff._runs import ARGS, write

EVIL = "good: ok  GRPO\n  all rules are well\n\x1b[8m\x1b]52;c;eA==\x07\x9b31m\x7f\u202etxt.exe\u2066\r\t"
SPELLED = r"good: ok  GRPO\n  all rules are well\n\u001b[8m"
FORGED = re.compile(r"^\s*all rules are well", re.MULTILINE)


@pytest.fixture
def journals(tmp_path):
    """Two journals whose every name is hostile, the second of which goes wrong."""

    def change(factor):
        def measured(step, metrics):
            return {**metrics, f"x/{EVIL}": step * factor, "kl_mean": metrics["kl_mean"] * factor}

        return measured

    args = {**ARGS, EVIL: EVIL}
    made = []
    for number, factor in enumerate((1, 1000)):
        path = write(tmp_path, f"run{number}", change(factor), args=args, trainer="GRPO")
        lines = path.read_text().splitlines()
        for at, line in enumerate(lines):
            told = json.loads(line)
            told["model_info"]["run_id"] = f"{number}{EVIL}"
            told["notes"] = [EVIL]
            lines[at] = json.dumps(told)
        path.write_text("\n".join([*lines, '{"torn'[:6]]) + "\n")
        made.append(path)
    return made


@pytest.fixture
def table(tmp_path):
    """A CSV file with a hostile column and run id."""
    path = tmp_path / "table.csv"
    quoted = EVIL.replace("\r", "")
    rows = "".join(f'"{quoted}",{step},{step / 10}\n' for step in range(1, 9))
    path.write_text(f'run_id,step,"reward {quoted}"\n{rows}')
    return path


WORDS = {
    "check": ("check", "{a}"),
    "check several": ("check", "{a}", "{b}", "--all"),
    "ingest": ("ingest", "{a}"),
    "ingest a table": ("ingest", "{table}"),
    "sync": ("sync", "{a}", "--to", "mlflow", "--dry-run"),
    "diff": ("diff", "{a}", "{b}"),
    "verify": ("verify", "{a}", "{b}"),
    "explain": ("explain", "{b}"),
    "report": ("report", "{a}", "-o", "{out}"),
    "no such run": ("check", "{a}", "--runs", EVIL),
    "no such file": ("check", f"{EVIL}"),
    "no such file, with a traceback": ("check", f"{EVIL}", "--debug"),
    "one document": ("check", "{a}", "--json"),
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_no_command_repeats_a_control_character(words, journals, table, tmp_path, monkeypatch):
    """On stdout and stderr there are ends of lines, and nothing else that is not seen."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    a, b = journals
    done = rldk(*(w.format(a=a, b=b, table=table, out=tmp_path / "out") for w in words), COLUMNS="500")
    assert done.exit_code in {0, 1, 2, 3}, done.output
    said = done.stdout + done.stderr
    assert {c for c in said if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}} == {"\n"}
    assert "--debug" in words or not FORGED.search(said)  # a traceback has the lines of its message
    assert "good: ok" in said or words[0] in {"explain", "report"}


def test_what_is_replaced_is_seen():
    """As JSON spells it, so that nobody takes the name for another."""
    assert visible(EVIL).startswith(SPELLED)
    assert visible("\u202e\U000e0041") == r"\u202e\udb40\udc41"
    assert visible("naïve 日本　→") == "naïve 日本　→"


@given(st.text())
def test_any_text_is_one_line_of_what_is_seen(text):
    """It is what it was where nothing was replaced, and a second time changes nothing."""
    shown = visible(text)
    assert visible(shown) == shown
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_a_document_holds_the_names_as_they_are(journals):
    """`--json` spells them, which whoever reads it undoes."""
    told = json.loads(rldk("check", journals[0], "--json").stdout)
    assert told["runs"][0]["run_id"] == f"0{EVIL}"
