"""The picture fits every terminal, shows what matters, and sends it no control character."""

from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rldk.cli import app
from rldk.tail.following import Follower
from rldk.tail.glyphs import clean, number, signed, sparkline
from rldk.tail.picture import Size, lines
from rldk.tail.standing import document, standing
from rldk.tail.trace import Point, Trace
from tests.cli._tail_runs import Writer

HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n\u202eevil\x00" + "é" * 3


@pytest.fixture
def told(tmp_path):
    """A standing with everything: an alert, an evaluation, resources, a name that would clear the screen."""
    writer = Writer(tmp_path, max_steps=200)
    writer.logs(1, 40, kl_mean=2.5, **{HOSTILE: math.nan, "huge": 1.7e308, "tiny": -5e-324})
    writer.add("metrics", 40, {"loss": 10**400}, phase="eval")
    sample = {"host_cpu_percent": 50.0, "host_memory_used_frac": 0.5, "gpu0_util_percent": 99}
    writer.add("resource", 40, sample)
    writer.alert(40)
    follower = Follower(writer.path)
    follower.read()
    yield standing(follower, writer.time + 1)
    writer.journal.close()


@pytest.mark.parametrize("width", [1, 20, 40, 79, 80, 116, 117, 140, 300])
@pytest.mark.parametrize("height", [1, 4, 10, 24, 50, 200])
def test_it_fits(told, width, height):
    """No line is wider than the terminal, and there are no more than it has; the least is 20 by 4."""
    drawn = lines(told, Size(width, height))
    assert len(drawn) <= max(height, 4)
    assert all(line.cell_len <= max(width, 20) for line in drawn)


@pytest.mark.parametrize("size", [Size(80, 24), Size(140, 40), Size(80, 24, is_plain=True)])
def test_no_control_character_reaches_the_terminal(told, size):
    """Names, messages and ids are cleaned; the terminal gets its own codes alone."""
    for line in lines(told, size):
        assert line.plain.isprintable()
    out = io.StringIO()
    console = Console(file=out, width=size.width, color_system=None, highlight=False)
    console.print(*lines(told, size), sep="\n")
    assert not set(out.getvalue()) & set("\x1b\x00\x07\r\u202e")


def test_plain_terminals_get_ascii(told):
    """Where the encoding knows no blocks, none is sent."""
    assert all(line.plain.isascii() for line in lines(told, Size(100, 30, is_plain=True)))


def test_80_by_24_shows_what_matters(told):
    """The run, its progress, the first metrics, the verdict, the alert, the trackers and the resources."""
    text = "\n".join(line.plain for line in lines(told, Size(80, 24)))
    for shown in (
        "abc  GRPO",
        "● running",
        "step 40 of 200",
        "20%",
        "1 steps/s",
        "2 min 40 s left",
        "reward_mean",
        "kl_mean",
        "eval/loss",
        "health     critical  firing: kl_drift",
        "rules cannot judge",
        "40 critical KL drift: far off",
        "mlflow  has nothing so far, 44 events wait",
        "cpu 50% · memory 50%",
        "gpu0 99%",
    ):
        assert shown in text, text


def test_globs_choose_metrics(told, tmp_path):
    """Only what is asked for is listed, evaluations by their prefix."""
    follower = Follower(tmp_path / "abc_events.jsonl")
    follower.read()
    rows = standing(follower, 0.0, ["reward*", "eval/*"]).rows
    assert [row.name for row in rows] == ["reward_mean", "eval/loss"]


@pytest.mark.parametrize(
    ("trained", "evaluated", "shown"), [(0, 30, 25), (30, 30, 6), (22, 30, 6), (5, 30, 20)]
)
def test_evaluations_have_the_room_that_training_leaves(tmp_path, trained, evaluated, shown):
    """A quarter at least; 25 rows fit here."""
    writer = Writer(tmp_path)
    for phase, count in (("train", trained), ("eval", evaluated)):
        writer.add("metrics", 1, {f"m{place:02}": 1.0 for place in range(count)}, phase=phase)
    writer.journal.close()
    follower = Follower(writer.path)
    follower.read()
    drawn = [line.plain for line in lines(standing(follower, 0.0), Size(140, 30))]
    assert sum(line.startswith("eval/") for line in drawn) == shown
    assert sum(line.startswith(("m0", "m1", "m2")) for line in drawn) == 25 - shown
    assert f"and {trained + evaluated - 25} more" in "\n".join(drawn)


def test_what_is_told_first_is_what_a_trainer_comes_down_to(told):
    """The panels' order, then evaluations, then the rest."""
    names = [row.name for row in told.rows]
    assert names[:3] == ["reward_mean", "kl_mean", "loss"]
    assert names.index("eval/loss") < names.index("huge")


def test_the_document_is_strict_json(told, tmp_path):
    """NaN and the infinities are spelled, and names are as they were written."""
    answer = CliRunner().invoke(app, ["tail", str(tmp_path), "--json"])
    assert "NaN," not in answer.stdout.replace('"NaN"', "")
    back = json.loads(answer.stdout)
    assert back["schema"] == 1
    assert back["metrics"]["eval/loss"]["value"] == "Infinity"
    assert back["metrics"][HOSTILE]["value"] == "NaN"
    assert back["health"]["firing"] == ["kl_drift"]
    assert back["delivery"][0]["events"] == 44


def test_secrets_are_hidden(tmp_path):
    """A metric that is named by an address with a password shows neither on the screen nor in JSON."""
    writer = Writer(tmp_path)
    writer.add("metrics", 1, {"http://user:hunter2@host/x": 1.0})
    writer.journal.close()
    follower = Follower(writer.path)
    follower.read()
    told = standing(follower, writer.time)
    shown = "".join(line.plain for line in lines(told, Size(80, 24))) + str(document(told, ""))
    assert "hunter2" not in shown


def points(*values):
    """A value for each step from 1 on."""
    return [Point(step, value) for step, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("values", "width", "drawn"),
    [
        ((1, 2, 3, 4, 5, 6, 7, 8), 8, "▁▂▃▄▅▆▇█"),
        ((1, 1, 1), 8, "▄▄▄"),
        ((0.1, 0.1, 0.1, 0.1, 0.1), 2, "▄▄"),
        ((1, math.nan, 2, math.inf), 8, "▁!█!"),
        ((-1.7e308, 1.7e308), 8, "▁█"),
        ((1, 1, 5, 5), 2, "▁█"),
        ((math.nan,), 8, "!"),
        ((), 8, " "),
        ((1.0,), 0, ""),
    ],
)
def test_sparklines(values, width, drawn):
    """From the least to the greatest; constants in the middle; what is not finite stands out."""
    assert sparkline(points(*values), 1, max(len(values), 1), width) == drawn


def test_sparklines_share_their_steps():
    """A metric that is logged seldom shows its last value until the next; before the first, nothing."""
    seldom = [Point(3, 1.0), Point(6, 2.0)]
    assert sparkline(seldom, 1, 8, 8) == "  ▁▁▁███"


def test_thinned_traces_keep_their_shape():
    """Of 10,000 points about 500 are kept, evenly, and the newest always."""
    trace = Trace()
    for step in range(10_000):
        trace.add(step, float(step))
    steps = [point.step for point in trace.points()]
    assert 256 <= len(steps) <= 514
    assert (steps[0], steps[-1], trace.change) == (0, 9999, 10.0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.5, "0.5"), (-0.00012345, "-1.23e-4"), (12345.6, "12,346"), (1e300, "1e300"),
     (math.nan, "NaN"), (-math.inf, "-inf")],
)  # fmt: skip
def test_numbers_are_short(value, shown):
    """At most ten letters each."""
    assert number(value) == shown
    assert len(shown) <= 10


def test_texts_are_cleaned():
    """Each character that is not printable is shown as one that is."""
    assert clean("a\x1b[31mb\n\u202e") == "a\ufffd[31mb\ufffd\ufffd"
    assert clean("é", is_plain=True) == "?"
    assert signed(math.nan) == ""
