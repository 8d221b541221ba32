"""What is wrong with a checkpoint is found, and what only looks so is not."""

import pytest

from rldk.health import checkpoints
from tests.health._checkpoints import save, weights

torch = pytest.importorskip("torch")


def found(folder, previous=None, first=None):
    """What is found, by rule."""
    told = checkpoints.analyse(folder, previous, first)
    assert [each["rule"] for each in told.facts["findings"]] == [each.rule for each in told.findings]
    return {each.rule: each for each in told.findings}


def changed(tensors, by=0.001):
    """The weights some steps later."""
    return {name: each + by * torch.randn_like(each) for name, each in tensors.items()}


def test_nothing_is_wrong_with_a_healthy_checkpoint(tmp_path):
    """Whose weights have moved a little."""
    a, b = save(tmp_path / "a", weights()), save(tmp_path / "b", changed(weights()))
    assert found(b, a, a) == {}
    assert found(a) == {}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_number_that_is_none_is_critical(tmp_path, number, dtype):
    """One is enough; its tensor is named."""
    tensors = {name: each.to(dtype) for name, each in weights().items()}
    tensors["model.layers.1.up.weight"][3, 3] = number
    folder = save(tmp_path / "c", tensors)
    finding = found(folder)["checkpoint_nonfinite"]
    assert finding.severity == "critical"
    assert finding.evidence == {"nonfinite_count": 1, "tensors": 1, "model.layers.1.up.weight": 1}
    assert "1 of 392 weights are NaN or infinite, in model.layers.1.up.weight" in finding.message
    assert checkpoints.is_finite(folder) is False


def test_a_finite_checkpoint_is_said_to_be(tmp_path):
    """With the largest numbers of its type."""
    tensors = {"w": torch.full((10_000,), 3e38), "v": torch.full((10_000,), 65504, dtype=torch.float16)}
    assert checkpoints.is_finite(save(tmp_path / "c", tensors)) is True


def test_the_same_weights_again_are_found(tmp_path):
    """Bit by bit; one bit more is a change."""
    a, b = save(tmp_path / "a", weights()), save(tmp_path / "b", weights())
    assert found(b, a, a)["checkpoint_unchanged"].severity == "warning"
    tensors = weights()
    tensors["model.norm.weight"][0] = 1 + 2**-23
    assert found(save(tmp_path / "c", tensors), a, a) == {}


def test_a_zero_that_has_changed_its_sign_is_a_change(tmp_path):
    """Though the difference is 0."""
    a = save(tmp_path / "a", {"w": torch.tensor([0.0, 1.0])})
    assert "checkpoint_unchanged" not in found(save(tmp_path / "b", {"w": torch.tensor([-0.0, 1.0])}), a)


def test_changes_too_small_for_their_squares_are_changes(tmp_path):
    """In float32 these would vanish."""
    a = save(tmp_path / "a", {"w": torch.full((10,), 1e-30)})
    b = save(tmp_path / "b", {"w": torch.full((10,), 2e-30)})
    told = checkpoints.analyse(b, a)
    assert told.metrics["relative_change"] == pytest.approx(1)
    assert told.findings == []


def test_a_part_that_is_frozen_is_no_finding(tmp_path):
    """As all but the adapter is."""
    tensors = weights()
    tensors["model.layers.0.up.weight"] += 1e-3
    assert found(save(tmp_path / "b", tensors), save(tmp_path / "a", weights())) == {}


def test_a_layer_that_has_become_all_zero_is_dead(tmp_path):
    """Whether the previous or the first checkpoint tells."""
    tensors = changed(weights())
    tensors["model.layers.2.down.weight"].zero_()
    a, b = save(tmp_path / "a", weights()), save(tmp_path / "b", tensors)
    for earlier in [(a, None), (None, a), (a, a)]:
        told = checkpoints.analyse(b, *earlier)
        assert [each.rule for each in told.findings] == ["checkpoint_dead_layers"]
        assert "model.layers.2.down.weight" in told.findings[0].message
        assert told.metrics["dead_tensors"] == 1
    assert found(b) == {}


def test_rows_that_have_become_zero_are_found(tmp_path):
    """As many as have; those that were are not counted."""
    old = weights(size=64)
    old["model.layers.0.up.weight"][:4] = 0
    new = changed(old)
    new["model.layers.0.up.weight"][:7] = 0
    a, b = save(tmp_path / "a", old), save(tmp_path / "b", new)
    finding = found(b, a)["checkpoint_dead_layers"]
    assert finding.evidence == {"dead_tensors": 0, "dead_rows": 3}


def test_what_is_zero_from_the_start_is_not_dead(tmp_path):
    """LoRA's B matrices, biases, and the embedding of the padding token."""
    tensors = weights() | {"lora_B.weight": torch.zeros(8, 8), "bias": torch.zeros(8)}
    tensors["embed.weight"] = torch.cat([torch.zeros(1, 8), torch.randn(7, 8)])
    later = tensors | changed(weights())
    a, b = save(tmp_path / "a", tensors), save(tmp_path / "b", later)
    assert found(b, a, a) == {}
    assert found(a) == {}


@pytest.mark.parametrize("names", [["model.layers.1.up.weight"], list(weights())])
def test_layers_that_grow_tenfold_explode(tmp_path, names):
    """One of them, or all together."""
    tensors = changed(weights())
    for name in names:
        tensors[name] *= 20
    a, b = save(tmp_path / "a", weights()), save(tmp_path / "b", tensors)
    told = checkpoints.analyse(b, a, a)
    (finding,) = told.findings
    assert finding.rule == "checkpoint_exploding_layers"
    assert finding.evidence["growth"] == pytest.approx(20, rel=0.01)
    assert finding.evidence["median_growth"] == pytest.approx(1 if len(names) == 1 else 20, rel=0.01)
    assert told.metrics["exploding_tensors"] == len(names)


def test_growth_from_nearly_nothing_is_no_explosion(tmp_path):
    """LoRA's B grows a thousandfold from the first checkpoint on, to the size of the others."""
    tiny = {f"layers.{i}.lora_B.weight": 1e-5 * torch.randn(8, 4) for i in range(6)}
    others = {f"layers.{i}.lora_A.weight": 0.01 * torch.randn(4, 8) for i in range(6)} | {
        "bias": torch.ones(8)
    }
    grown = {name: 1000 * each for name, each in tiny.items()}
    a = save(tmp_path / "a", tiny | others | {"zero": torch.zeros(8)})
    assert found(save(tmp_path / "b", grown | changed(others, 1e-5) | {"zero": torch.ones(8)}), a, a) == {}


def test_a_new_finding_needs_an_earlier_checkpoint(tmp_path):
    """Large weights alone are none."""
    assert found(save(tmp_path / "c", {"w": torch.full((10, 10), 1e6), "v": torch.ones(4, 4)})) == {}
