"""`rldk diff` shows the comparison as tables, as JSON and as a plot, with an exit code."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from rldk.cli import app
from tests.diff._runs import ARGS, write

WIDTHS = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}


def rldk(*words):
    """Call the command on a terminal of 80 columns without colours."""
    return CliRunner(env=WIDTHS).invoke(app, ["diff", *map(str, words)])


def higher(step, metrics):
    """More reward from step 12 on, NaN from step 30 on, and a metric of one's own with a long name."""
    changed = {"reward_mean": metrics["reward_mean"] + 1.0} if step >= 12 else {}
    broken = {"kl_mean": math.nan} if step >= 30 else {}
    return metrics | changed | broken | {"reward_components/a_reward_with_a_long_name_mean": 1.0}


@pytest.fixture
def base(tmp_path):
    """A run."""
    return write(tmp_path / "base", "base")


@pytest.fixture
def other(tmp_path):
    """Another one, with another learning rate."""
    return write(tmp_path / "other", "other[b]", higher, args=ARGS | {"learning_rate": 2e-6})


def test_equal_runs_end_with_0(base):
    """And say so."""
    done = rldk(base, base)
    assert done.exit_code == 0, done.output
    assert "same config; 4 metrics agree at each of 40 steps" in done.stdout
    assert "parts at" not in done.stdout


def test_what_differs_is_shown_within_80_columns(base, other):
    """Metrics, settings, health; exit code 1."""
    done = rldk(base, other)
    assert done.exit_code == 1, done.output
    assert "A  base  GRPO, steps 1 to 40, FINISHED" in done.stdout
    assert "B  other[b]  GRPO" in done.stdout
    assert re.search(r"reward_mean +12 +0\.3367 +1\.337 .*\*", done.stdout)
    assert re.search(r"kl_mean +30 +0\.3 +nan +nan\*", done.stdout)
    assert re.search(r"learning_rate +1e-06 +2e-06", done.stdout)
    assert "only in B: reward_components/a_reward_with_a_long_name_mean" in done.stdout
    tables = [line for line in done.stdout.splitlines() if re.search(r" {3}|\u2500", line)]
    assert max(map(len, tables)) <= 80
    assert "\x1b" not in done.stdout


def test_all_shows_what_is_the_same_and_times(base, other):
    """Which do not count."""
    assert "tokens_per_second" not in rldk(base, other).stdout
    shown = rldk(base, other, "--all").stdout
    assert re.search(r"lr +9?", shown)
    assert "eval/loss" in re.sub(r"\s", "", shown)


@pytest.mark.parametrize(
    ("a", "b", "shown"),
    [
        (math.nan, math.nan, "nan "),
        (math.inf, math.inf, "inf "),
        (-math.inf, -math.inf, "-inf "),
        (0.5, math.nan, "nan*"),
        (0.5, math.inf, "inf*"),
        (-math.inf, 0.5, "-inf*"),
        (math.inf, math.nan, "nan*"),
    ],
)
def test_what_is_not_finite_is_named_and_marked_where_it_is_apart(tmp_path, a, b, shown):
    """With `--all`, also where both have the same."""
    mine, theirs = (write(tmp_path, name, _ending(value)) for name, value in (("a", a), ("b", b)))
    (line,) = re.findall(r"^ ?kl_mean .*$", rldk(mine, theirs, "--all").stdout, re.MULTILINE)
    assert re.search(rf" {re.escape(shown)} ?$", line), line


def _ending(value):
    return lambda step, metrics: metrics | ({"kl_mean": value} if step >= 30 else {})


def test_json_is_strict_and_whole(base, other):
    """One document; NaN is a name, and what was not told is not there."""
    done = rldk(base, other, "--json")
    told = json.loads(done.stdout, parse_constant=pytest.fail)
    assert (done.exit_code, told["schema"], told["is_same"]) == (1, 1, False)
    assert (told["a"]["run_id"], told["b"]["run_id"]) == ("base", "other[b]")
    metrics = {(one["phase"], one["name"]): one for one in told["metrics"]}
    assert metrics["train", "kl_mean"]["first"] == {"step": 30, "kind": "not finite", "a": 0.3, "b": "NaN"}
    assert metrics["train", "lr"]["first"] is None
    assert told["settings"] == [{"name": "learning_rate", "a": 1e-6, "b": 2e-6, "is_place": False}]
    assert told["steps"]["eval"] == {"both": 4, "only_a": 0, "only_b": 0, "first_only": None}


def test_the_runs_of_one_source_are_compared(base, other):
    """Chosen by id; the second source may be left out."""
    other.rename(base.parent / other.name)
    assert rldk(base.parent).exit_code == 1
    write(base.parent, "third")
    assert rldk(base.parent, "--runs", "base", "--runs", "third").exit_code == 0
    many = rldk(base.parent)
    assert (many.exit_code, "choose with --runs" in many.stderr) == (3, True)
    assert rldk(base.parent, base, "--runs", "a", "--runs", "b", "--runs", "c").exit_code == 2


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
@pytest.mark.filterwarnings("error")
def test_what_parts_is_drawn(base, other, tmp_path, ending):
    """In the format that the name says, without a warning of matplotlib's."""
    path = tmp_path / f"plot.{ending}"
    done = rldk(base, other, "--plot", path)
    assert done.exit_code == 1, done.output
    assert "drawn in" in done.stdout
    head = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert path.read_bytes().startswith(head)


def test_the_plot_names_runs_metrics_and_partings(base, other, tmp_path):
    """As text, in SVG; a name that looks like a formula or markup is only a name."""

    def odd(step, metrics):
        return metrics | {"a$_b^{<&": float(step)}

    mine, theirs = write(tmp_path, "m", odd), write(tmp_path, "n", lambda step, m: odd(step * 2, m))
    assert rldk(mine, theirs, "--plot", tmp_path / "plot.svg").exit_code == 1
    svg = (tmp_path / "plot.svg").read_text()
    assert "a$_b^{&lt;&amp;" in svg
    assert "parts at 1<" in svg
    rldk(base, other, "--plot", tmp_path / "plot.svg")
    svg = (tmp_path / "plot.svg").read_text()
    for text in ("A  base", "B  other[b]", "reward_mean", "parts at 12", "parts at 30", "same config but"):
        assert text in svg


def test_equal_runs_are_drawn_too(base, tmp_path):
    """Their main metrics."""
    assert rldk(base, base, "--plot", tmp_path / "plot.svg").exit_code == 0
    svg = (tmp_path / "plot.svg").read_text()
    assert "reward_mean" in svg
    assert "parts at" not in svg


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, 1e308, -1e308, 5e-324])
@pytest.mark.filterwarnings("error")
def test_any_numbers_are_drawn(base, tmp_path, value):
    """Also such as no axis can show."""
    hard = write(tmp_path, "hard", lambda _, metrics: metrics | {"kl_mean": value, "reward_mean": value})
    done = rldk(base, hard, "--plot", tmp_path / "plot.png")
    assert done.exit_code == 1, done.output


def test_a_long_run_is_drawn_by_its_median(base, tmp_path):
    """Thousands of points make no thousands of lines."""
    long = [write(tmp_path, name, steps=range(1, 4001), every=0) for name in ("one", "two")]
    for path in long:
        rldk(base, path, "--plot", tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").stat().st_size < 400_000


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("{base}", "nowhere"), 3, "nowhere"),
        (("{base}", "{base}", "--plot", "p.jpeg"), 2, "a name that ends in one of .png, .svg, .pdf"),
        (("{base}", "{base}", "--plot", "/nowhere/p.png"), 2, "/nowhere/p.png"),
        (("{base}", "{base}", "--rtol", "-1"), 2, "a number from 0 on"),
        (("{base}", "{base}", "--rtol", "x"), 2, "see rldk diff --help"),
        (("{base}", "{base}", "--metrics", "nothing"), 2, "reward_mean"),
        (("{base}", "{base}", "--adapter", "nobody"), 2, "no adapter named 'nobody'"),
        (("{base}", "{base}", "{base}"), 2, "see rldk diff --help"),
        (("{base}",), 3, "name the second run"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(base, words, code, said):
    """With what to give instead."""
    done = rldk(*(word.format(base=base) for word in words))
    assert (done.exit_code, said in done.stderr) == (code, True), done.output
    assert done.stderr.count("\n") == 1


def test_without_matplotlib_the_extra_is_named(base, other):
    """And nothing else of the command needs it."""
    program = (
        "import sys; sys.modules['matplotlib'] = None; from rldk.cli import app; app(sys.argv[1:], 'rldk')"
    )
    command = [sys.executable, "-c", program, "diff", str(base), str(other)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    done = subprocess.run([*command, "--plot", "p.png"], capture_output=True, text=True, check=False)
    assert (done.returncode, "pip install 'rldk[report]'" in done.stderr) == (2, True), done.stderr
