"""An expression is read and never run: what is not allowed is refused, what is allowed never raises."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rldk.errors import RuleError
from rldk.event import Event
from rldk.health.expressions import condition
from rldk.health.operands import NoValueError
from rldk.health.window import Window

SERIES = {
    "loss": [3.0, 2.5, 2.0, 2.5, 1.0, 0.5, 0.25, -0.5],
    "reward_mean": [0.0, 0.1, -0.1, 0.3, 0.2, 0.4, 0.5, 0.75],
    "odd/name": [1e300, 0.0, -1e300, 5.0, 7.0, 1e-300, 0.0, 2.0],
    "clip_frac": [0.0] * 8,
}
ARGS = {"beta": 0.04, "fp16": False, "model": "toy"}


def seen(series=SERIES, args=ARGS):
    """A window that has seen these values, one log for each."""
    window = Window({"train": {*series, "broken", "gone"}, "eval": set()})
    window.begin(event("run", 0, {}, {"trainer": "GRPOTrainer", "args": args}))
    for step in range(max(map(len, series.values()), default=0)):
        window.add("train", event("metrics", step + 1, {name: s[step] for name, s in series.items()}))
    return window


def event(kind, step, metrics, told=None):
    """An event of a run."""
    rest = {"wall_time": 0.0, "rng": {}, "data_slice": {}, "notes": []}
    return Event(kind=kind, step=step, metrics=metrics, model_info=told or {}, **rest)


WINDOW = seen()


def value(text, window=WINDOW):
    """Whether the expression holds; None where it has no value."""
    try:
        return condition(text, "train", "t").holds(window)[0]
    except NoValueError:
        return None


def why_no_value(text, window=WINDOW):
    """Why the expression has no value."""
    with pytest.raises(NoValueError) as error:
        condition(text, "train", "t").holds(window)
    return str(error.value)


def why_refused(text):
    """What the error says."""
    with pytest.raises(RuleError) as error:
        condition(text, "train", "rules.toml, rule 'x', when")
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("loss.real > 1", "."),
        ("loss[0] > 1", "["),
        ("().__class__ > 1", "."),
        ('__import__("os") > 1', "__import__"),
        ('eval("1") > 1', "eval"),
        ('open("/etc/passwd") > 1', "open"),
        ("(lambda: 1)() > 1", ":"),
        ("loss > 1 if loss else loss < 1", "loss > 1 if loss else loss < 1"),
        ("(loss := 1) > 0", ":"),
        ("[x for x in loss] > 1", "["),
        ("max(x for x in loss) > 1", "max(x for x in loss)"),
        ('f"{loss}" > 1', "f"),
        ("loss > 1; loss < 1", ";"),
        ("loss in (1, 2)", "loss in (1, 2)"),
        ("loss is 1", "loss is 1"),
        ("loss // 2 > 1", "loss // 2"),
        ("loss % 2 > 1", "%"),
        ("loss << 2 > 1", "loss << 2"),
        ("~loss > 1", "~"),
        ("loss ** 17 > 1", "17"),
        ("2 ** loss > 1", "loss"),
        ("9 ** 9 ** 9 > 1", "9 ** 9"),
        ("loss > 1e999", "1e999"),
        ("loss > 123456789012345678901", "123456789012345678901"),
        ("loss > 0x1F", "0"),
        ("loss > 1_000", "1"),
        ("loss > 1and loss < 2", "1"),
        ("loss > 1j", "1"),
        ("loss > True", "True"),
        ("loss == None", "None"),
        ('loss == "1"', '"1"'),
        ("loss", "loss"),
        ("1", "1"),
        ("not loss", "loss"),
        ("loss and 1 < 2", "loss"),
        ("(loss > 1) + 1 > 1", "loss > 1"),
        ("-(loss > 1) > 1", "loss > 1"),
        ("median(loss) > 1", "median(loss)"),
        ("median(loss, 0) > 1", "0"),
        ("median(loss, 513) > 1", "513"),
        ("median(loss, 2.5) > 1", "2.5"),
        ("median(loss, n) > 1", "n"),
        ("median(loss + 1, 5) > 1", "loss + 1"),
        ("median(loss, n=5) > 1", "="),
        ("median(*loss, 5) > 1", "*loss"),
        ("baseline(loss, 65) > 1", "65"),
        ("previous(loss, 2) > 1", "previous(loss, 2)"),
        ("std(loss, 1) > 1", "1"),
        ("median > 1", "median"),
        ("is_nan(loss) > 1", "is_nan(loss)"),
        ("is_nan(1)", "1"),
        ('is_nan(metric("eval:loss"))', 'is_nan(metric("eval:loss"))'),
        ('metric("a:b") > 1', 'metric("a:b")'),
        ('metric("gpu*") > 1', 'metric("gpu*")'),
        ('metric("") > 1', 'metric("")'),
        ("metric(loss) > 1", "loss"),
        ("arg(beta) > 1", "beta"),
        ("medain(loss, 5) > 1", "medain"),
        ("log(loss)(1) > 1", "log(loss)"),
        ("loss > 1 and ", "d"),
        ("loss reward", "r"),
        ("loss > 1)", ")"),
        ("λ > 1", "λ"),
        ('metric("é") > loss.x', "."),
        ("loss \x00 > 1", "\x00"),
        ('metric("a\x00") > 1', '"a\x00"'),
        ('metric("\ud800") > 1', '"\ud800"'),
        ("+loss > 1", "+loss"),
        ("await loss", "await loss"),
        ("loss = 1", "="),
        ("loss ! 1", "!"),
        ('metric("a) > 1', '"'),
    ],
)
def test_what_is_not_allowed_is_refused_with_a_caret_below_it(text, marked):
    """The error shows the place, and tells what is allowed."""
    told = why_refused(text)
    assert told.startswith("rules.toml, rule 'x', when: ")
    reason, line, carets, allowed = told.split("\n")
    assert allowed.startswith("allowed are numbers, names of metrics")
    assert len(reason) > len("rules.toml, rule 'x', when: ")
    start, end = carets.index("^"), len(carets)
    visible = "".join(each if each.isprintable() else "?" for each in marked)
    assert line[start:end] == visible


def test_a_name_that_is_nearly_a_function_is_told():
    """A slip of the pen is put right."""
    assert "did you mean median(metric, n)?" in why_refused("medain(loss, 5) > 1")


def test_the_place_is_shown_within_a_long_line_too():
    """Sixty characters about the place are shown."""
    told = why_refused("loss > 1 and " * 40 + "loss.real > 1" + " and loss > 1" * 20).split("\n")
    assert told[2].index("^") == told[1].index(".real")
    assert len(told[1]) < 80


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "loss > 1" + " " * 990 + "or loss < 2",
        "(" * 400 + "loss" + ")" * 400 + " > 1",
        "-" * 990 + "1 > 0",
        "not " * 240 + "loss > 1",
        "loss > " + "1 + " * 200 + "1",
        "abs(" * 60 + "loss" + ")" * 60 + " > 1 and " + "abs(" * 70 + "loss" + ")" * 70 + " > 1",
        "(" * 500,
    ],
)
def test_what_is_too_long_or_too_deep_is_refused(text):
    """No expression can fill the stack or the memory."""
    assert why_refused(text)


@given(
    st.text(max_size=120) | st.text(alphabet="()+-*/<>=!,.\"' 0123456789eE_abnotrdmi\n[]{}:\\", max_size=120)
)
def test_random_text_is_read_or_refused(text):
    """Nothing but a RuleError comes of any text, and nothing but no value of what was read."""
    try:
        read = condition(text, "train", "t")
    except RuleError:
        return
    assert value(read.text) in {True, False, None}


WORDS = [
    *(
        "loss",
        "reward_mean",
        "gone",
        "median(loss, 3)",
        'metric("odd/name")',
        "1",
        "0",
        "1e308",
        "-",
        "+",
        "*",
    ),
    *(
        "**",
        "/",
        "(",
        ")",
        "<",
        ">=",
        "==",
        "and",
        "or",
        "not",
        "2",
        "exp(",
        "log(",
        "is_nan(loss)",
        "lambda",
    ),
    *("missing(gone)", 'arg("beta")', "if", "else", ",", '"', "for", "in", "import", "None", "[", "f'"),
]


@given(st.lists(st.sampled_from(WORDS), max_size=16).map(" ".join))
def test_random_words_of_the_language_are_read_or_refused(text):
    """The same, of texts that are nearly expressions."""
    try:
        read = condition(text, "train", "t")
    except RuleError:
        return
    assert value(read.text) in {True, False, None}


def sane(function, *args):
    """What a function makes of numbers that are known; None where that is no finite number."""
    if None in args:
        return None
    try:
        result = function(*args)
    except (ArithmeticError, ValueError):
        return None
    return result if not isinstance(result, complex) and math.isfinite(result) else None


def statistic(name, n, metric):
    """The text of a statistic, and what Python's own library makes of the numbers."""
    values = SERIES[metric]
    shown = metric if metric.isidentifier() else f'metric("{metric}")'
    last = values[-n:]
    known = {
        "median": lambda: statistics.median(last),
        "mean": lambda: math.fsum(last) / n,
        "min": lambda: min(last),
        "max": lambda: max(last),
        "std": lambda: float(statistics.stdev(last)),
        "baseline": lambda: statistics.median(values[:n]),
        "lag": lambda: values[-1 - n],
        "change": lambda: values[-1] - values[-1 - n],
    }
    needed = n + (name in {"lag", "change"})
    return f"{name}({shown}, {n})", sane(known[name]) if needed <= len(values) else None


NAMED = {"loss": -0.5, "reward_mean": 0.75, "gone": None, 'metric("odd/name")': 2.0, 'arg("beta")': 0.04}
LEAVES = (
    st.sampled_from(sorted(NAMED)).map(lambda name: (name, NAMED[name]))
    | st.sampled_from(["0", "1", "2.5", "1e3", ".5"]).map(lambda text: (text, float(text)))
    | st.builds(
        statistic,
        st.sampled_from(["median", "mean", "min", "max", "std", "baseline", "lag", "change"]),
        st.integers(2, 10),
        st.sampled_from(["loss", "reward_mean", "clip_frac"]),
    )
)
CALCULATED = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}
FUNCTIONS = {"abs": abs, "log": math.log, "exp": math.exp, "sqrt": math.sqrt}


def bigger(numbers):
    """Numbers made of numbers."""
    return (
        st.tuples(numbers, st.sampled_from(sorted(CALCULATED)), numbers).map(
            lambda t: (f"({t[0][0]} {t[1]} {t[2][0]})", sane(CALCULATED[t[1]], t[0][1], t[2][1]))
        )
        | st.tuples(st.sampled_from(sorted(FUNCTIONS)), numbers).map(
            lambda t: (f"{t[0]}({t[1][0]})", sane(FUNCTIONS[t[0]], t[1][1]))
        )
        | numbers.map(lambda n: (f"(-{n[0]})", None if n[1] is None else -n[1]))
        | st.tuples(numbers, st.sampled_from([-2, 0, 0.5, 2, 3])).map(
            lambda t: (f"({t[0][0]}) ** {t[1]}", sane(math.pow, t[0][1], float(t[1])))
        )
    )


COMPARED = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}
NUMBERS = st.recursive(LEAVES, bigger, max_leaves=6)


def chained(first, others):
    """A chain of comparisons, which ends at the first that fails."""
    text, left = first
    text += "".join(f" {sign} {other[0]}" for sign, other in others)
    for sign, (_, right) in others:
        if left is None or right is None:
            return text, None
        if not COMPARED[sign](left, right):
            return text, False
        left = right
    return text, True


def joined(word, tests):
    """Conditions with `and` or `or` between them: from left to right, as far as is needed."""
    text = "(" + f" {word} ".join(each[0] for each in tests) + ")"
    ends = word == "or"
    for _, holds in tests:
        if holds is None or holds is ends:
            return text, holds
    return text, not ends


CHAINS = st.builds(
    chained, NUMBERS, st.lists(st.tuples(st.sampled_from(sorted(COMPARED)), NUMBERS), min_size=1, max_size=3)
)
TESTS = st.recursive(
    CHAINS | st.sampled_from([("missing(gone)", True), ("missing(loss)", False), ("is_nan(loss)", False)]),
    lambda tests: (
        st.builds(joined, st.sampled_from(["and", "or"]), st.lists(tests, min_size=2, max_size=3))
        | tests.map(lambda each: (f"(not ({each[0]}))", None if each[1] is None else not each[1]))
    ),
    max_leaves=4,
)


@settings(max_examples=150)
@given(TESTS.filter(lambda each: len(each[0]) <= 1000))
def test_an_expression_means_what_arithmetic_says(each):
    """Random expressions hold where the same arithmetic, done beside it by hand, says that they do."""
    text, expected = each
    assert value(text) is expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("loss / clip_frac > 1", "loss / clip_frac divides by zero"),
        ("log(loss) > 1", "log(loss) is not defined for these values"),
        ("sqrt(loss) > 1", "sqrt(loss) is not defined for these values"),
        ("loss ** 0.5 > 1", "loss ** 0.5 is not defined for these values"),
        ("clip_frac ** -1 > 1", "clip_frac ** -1 is not defined for these values"),
        ("exp(exp(1e3)) > 1", "exp(1e3) is beyond the floats"),
        ("1e300 * 1e300 > 1", "1e300 * 1e300 is beyond the floats"),
        ('std(metric("odd/name"), 8) > 1', 'std(metric("odd/name"), 8) is beyond the floats'),
        ("median(loss, 9) > 1", "loss has 8 points so far, and median(loss, 9) needs 9"),
        ("baseline(loss) > 1", "loss has 8 points so far, and baseline(loss) needs 10"),
        ("gone > 1", "GRPO does not log gone"),
        ("is_nan(gone)", "GRPO does not log gone"),
        ('arg("gamma") > 1', "the run tells no number for its argument gamma"),
        ('arg("model") > 1', "the run tells no number for its argument model"),
        ('metric("eval:loss") > 1', "no evaluation has logged loss"),
    ],
)
def test_what_has_no_value_says_why(text, reason):
    """Nothing raises, and nothing is taken for well that cannot be seen."""
    assert why_no_value(text) == reason


def test_a_broken_number_is_no_operand_but_can_be_asked_for():
    """NaN and the infinities leave a condition unanswered; `is_nan` answers for NaN."""
    window = seen({"loss": [1.0, 2.0, math.nan], "reward_mean": [1.0, 2.0, math.inf]})
    assert why_no_value("loss > 1", window) == "loss is nan"
    assert why_no_value("median(loss, 2) > 1", window) == "loss is nan"
    assert why_no_value("reward_mean > 1", window) == "reward_mean is inf"
    assert value("is_nan(loss)", window) is True
    assert value("is_nan(reward_mean)", window) is False
    assert value("not is_nan(loss) and loss > 1", window) is False
    assert value("missing(loss)", window) is False


def test_statistics_are_those_of_the_last_logged_points():
    """What is not in a log has its newest value; points are counted, not steps."""
    window = seen({"loss": [1.0, 5.0, 3.0]})
    window.add("train", event("metrics", 400, {"reward_mean": 1.0}))
    for text, number in {
        "loss": 3.0,
        "previous(loss)": 5.0,
        "lag(loss, 2)": 1.0,
        "change(loss, 2)": 2.0,
        "median(loss, 3)": 3.0,
        "baseline(loss, 2)": 3.0,
        "noise(loss, 3)": 1.4826 * 3.0 / math.sqrt(2),
    }.items():
        holds, evidence = condition(f"{text} > -9", "train", "t").holds(window)
        assert holds
        assert evidence == {text: pytest.approx(number)}


def test_what_is_not_needed_is_not_asked():
    """As in Python, `and` and `or` end at the first that decides."""
    holds, evidence = condition("loss < 0 or gone > 1 or clip_frac > 1", "train", "t").holds(WINDOW)
    assert holds
    assert evidence == {"loss": -0.5}


def test_an_expression_may_go_over_several_lines():
    """TOML has texts of several lines."""
    assert value("\n  loss < 1\n  and\treward_mean > 0\r\n") is True
