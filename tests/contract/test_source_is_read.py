"""The reader finds a metric's name in each way that TRL has of writing one."""

from __future__ import annotations

import textwrap

import pytest


@pytest.fixture
def keys_of(trl_metrics, tmp_path):
    """Read the names that a trainer writes, given the body of its class and what stands around it."""

    def read(body, *, bases="Trainer", before="", trainer="SFT"):
        code = f"{before}\nclass {trainer}Trainer({bases}):\n{textwrap.indent(textwrap.dedent(body), '    ')}"
        (tmp_path / "trainer").mkdir(exist_ok=True)
        (tmp_path / "trainer" / f"{trainer.lower()}_trainer.py").write_text(code)
        for cached in (trl_metrics._modules, trl_metrics._text, trl_metrics._tree):
            cached.cache_clear()
        return trl_metrics.trainer_keys(tmp_path, trainer)

    return read


@pytest.mark.parametrize(
    ("statement", "keys"),
    [
        ('self._metrics[mode]["a/b"].append(1)', {"a/b"}),
        ('self._metrics["train"]["a"] = [1]', {"a"}),
        ('self._metrics[mode][f"rewards/{name}/mean"].append(1)', {"rewards/{name}/mean"}),
        ('self._stored_metrics[mode]["a"].append(1)', {"a"}),
        ('self.stats["a"].append(1)', {"a"}),
        ('self.stats = {"a": [], "b": []}', {"a", "b"}),
        ('metrics = {}; metrics["a"] = 1', {"a"}),
        ('metrics = {"a": 1}', {"a"}),
        ('metrics: dict = {"a": 1}', {"a"}),
        ('logs["a"] = 1', {"a"}),
        ('logs.update({"a": 1})', {"a"}),
        ('self.log({"a": 1})', {"a"}),
        ('super().log({"a": 1})', {"a"}),
        ('metrics["eval_a"] = 1', {"a"}),
        ('prefix = "eval_" if mode else ""\nmetrics[f"{prefix}a"] = 1', {"a"}),
        ('prefix = "x_"\nmetrics[prefix + "a"] = 1', {"x_a"}),
        (
            'for s in ["a", "b"]:\n    for m in ("c", "d"):\n        logs[f"{m}/{s}"] = 1',
            {"c/a", "c/b", "d/a", "d/b"},
        ),
    ],
)
def test_what_is_written_is_found(keys_of, statement, keys):
    """Appended, assigned, updated, in loops and in f-strings."""
    assert keys_of(f"def f(self):\n{textwrap.indent(statement, '    ')}") == keys


@pytest.mark.parametrize(
    "statement",
    [
        'x = logs["a"]',
        'if "a" in logs: pass',
        'self._logs["prompt"].extend(x)',
        'wandb.log({"completions": table})',
        "metrics[name] = 1",  # a user's own
        "kl = metrics[0]",
        'batch["input_ids"] = 1',
    ],
)
def test_what_is_not_logged_is_not_found(keys_of, statement):
    """What is read, what goes elsewhere, and what only a run can tell."""
    assert keys_of(f"def f(self):\n    {statement}") == set()


def test_what_is_deleted_before_it_is_logged_is_not_found(keys_of):
    """KTO keeps sums and counts there until it logs their quotient."""
    body = """
    def loss(self):
        metrics["a_sum"] = 1
        metrics["kl"] = 1
    def log(self, logs):
        for s in ["a"]:
            logs[f"{s}"] = self._stored_metrics[mode][f"{s}_sum"]
            del self._stored_metrics[mode][f"{s}_sum"]
    """
    assert keys_of(body) == {"a", "kl"}


def test_a_default_is_a_value(keys_of):
    """An argument's default is one text that it may have."""
    assert keys_of('def f(self, prefix: str = "eval"):\n    metrics[f"{prefix}_a"] = 1') == {"a"}


def test_what_a_base_class_writes_is_found(keys_of, tmp_path):
    """Bases inside TRL are read too, under the name that they were imported by."""
    (tmp_path / "experimental" / "kto").mkdir(parents=True)
    base = tmp_path / "experimental" / "kto" / "kto_trainer.py"
    base.write_text('class KTOTrainer:\n    def f(self):\n        metrics["a"] = 1\n')
    before = "from ..experimental.kto.kto_trainer import KTOTrainer as _KTOTrainer"
    body = 'def g(self):\n    metrics["b"] = 1'
    assert keys_of(body, bases="_KTOTrainer", before=before, trainer="KTO") == {"a", "b"}
    assert keys_of(body, bases="_KTOTrainer", before=before, trainer="SFT") == {"a", "b"}


def test_what_a_metric_function_returns_is_found(keys_of, tmp_path):
    """Reward's default compute_metrics, at 0.23, is a function of TRL's own."""
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "utils.py").write_text('def accuracy(p):\n    return {"accuracy": 1}\n')
    assert keys_of("def f(self):\n    compute_metrics = accuracy") == {"accuracy"}


def test_a_trainer_that_is_not_there_has_no_keys(keys_of, trl_metrics, tmp_path):
    """PPO is gone from 1.13 on."""
    keys_of("pass")
    assert trl_metrics.trainer_keys(tmp_path, "PPO") == set()
