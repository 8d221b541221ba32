"""The numbers of a checkpoint are those that torch computes from the loaded tensors."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rldk.health import checkpoints
from rldk.health.checkpoints import arithmetic
from tests.health._checkpoints import save, weights

torch = pytest.importorskip("torch")

FLOATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu")
OTHERS = ("int64", "int32", "int16", "int8", "uint8", "uint16", "bool")


@pytest.fixture
def small_pieces(monkeypatch):
    """Have every tensor read in many pieces."""
    monkeypatch.setattr(arithmetic, "PIECE", 48)


def every_code(dtype):
    """All values of a type of one or two bytes; random bits of the wider ones."""
    kind = getattr(torch, dtype)
    if kind.itemsize == 1:
        return torch.arange(256, dtype=torch.uint8).view(kind)
    if kind.itemsize == 2:
        return torch.arange(-(2**15), 2**15, dtype=torch.int16).view(kind)
    torch.manual_seed(1)
    return torch.randint(0, 256, (4096 * kind.itemsize,), dtype=torch.uint8).view(kind)


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_number_of_a_type_is_counted_rightly(tmp_path, dtype):
    """NaN, the infinities, zeros and the smallest numbers, too."""
    codes = every_code(dtype)
    told = checkpoints.analyse(save(tmp_path / "c", {"w": codes}))
    wide = codes.double()
    assert told.metrics["nonfinite_count"] == int((~wide.isfinite()).sum())
    assert told.metrics["zero_frac"] == int((wide == 0).sum()) / len(wide)
    finite = codes.view(torch.uint8).view(len(codes), -1)[wide.isfinite()].flatten().view(codes.dtype)
    told = checkpoints.analyse(save(tmp_path / "f", {"w": finite}))
    assert told.metrics["norm"] == pytest.approx(float(finite.double().norm()), rel=1e-5)
    assert told.metrics["nonfinite_count"] == 0
    assert next(iter(told.facts["dtypes"].values())) == len(finite)


@pytest.mark.parametrize("dtype", OTHERS)
def test_whole_numbers_are_in_no_norm(tmp_path, dtype):
    """Codes of quantised weights, masks and positions: counted, and said to be left out."""
    tensors = {"code": torch.ones(6, dtype=getattr(torch, dtype)), "w": torch.ones(4)}
    told = checkpoints.analyse(save(tmp_path / "c", tensors))
    assert told.metrics["parameters"] == 4
    assert told.metrics["norm"] == 2
    assert sorted(told.facts["dtypes"].values()) == [4, 6]
    assert "1 tensors" in told.facts["unavailable"]["other_tensors"]


@pytest.mark.parametrize("now", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("before", ["float32", "bfloat16"])
def test_changes_are_what_torch_computes(tmp_path, small_pieces, now, before):
    """Relative L2 and cosine, over all tensors and for each, also between types."""
    old = {name: each.to(getattr(torch, before)) for name, each in weights(0).items()}
    new = {
        name: (each + 0.01 * torch.randn_like(each)).to(getattr(torch, now))
        for name, each in weights(0).items()
    }
    told = checkpoints.analyse(save(tmp_path / "b", new), save(tmp_path / "a", old))
    v, w = (torch.cat([x.double().flatten() for x in each.values()]) for each in (old, new))
    assert told.metrics["relative_change"] == pytest.approx(float((w - v).norm() / v.norm()), rel=1e-5)
    assert told.metrics["cosine"] == pytest.approx(float(w @ v / (w.norm() * v.norm())), rel=1e-6)
    for change in told.facts["largest_changes"]:
        v, w = old[change["tensor"]].double(), new[change["tensor"]].double()
        assert change["relative_change"] == pytest.approx(float((w - v).norm() / v.norm()), rel=1e-5)
        assert change["norm"] == pytest.approx(float(w.norm()), rel=1e-5)


def test_previous_and_first_are_told_apart(tmp_path):
    """Each has its own change."""
    a, b, c = (save(tmp_path / str(k), {"w": torch.full((4, 4), k)}) for k in (1.0, 2.0, 3.0))
    told = checkpoints.analyse(c, b, a).metrics
    assert told["relative_change"] == pytest.approx(0.5)
    assert told["relative_change_first"] == pytest.approx(2)
    assert told["cosine"] == told["cosine_first"] == pytest.approx(1)


def test_the_largest_changes_come_first_and_are_ten_at_most(tmp_path):
    """In their order."""
    old = {f"w{i}": torch.ones(4) for i in range(20)}
    new = {f"w{i}": torch.full((4,), 1 + i / 100) for i in range(20)}
    told = checkpoints.analyse(save(tmp_path / "b", new), save(tmp_path / "a", old)).facts["largest_changes"]
    assert [each["tensor"] for each in told] == [f"w{i}" for i in range(19, 9, -1)]


@given(
    numbers=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=60),
    piece=st.sampled_from([16, 64, 2**19]),
)
def test_any_numbers_in_any_pieces(tmp_path_factory, numbers, piece):
    """No float32 is too large or too small for the norm."""
    folder = save(tmp_path_factory.mktemp("c"), {"w": torch.tensor(numbers, dtype=torch.float32)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "PIECE", piece)
        told = checkpoints.analyse(folder).metrics
    assert told.get("norm", 0) == pytest.approx(math.hypot(*numbers), rel=1e-6, abs=1e-300)
    assert told.get("parameters", 0) == len(numbers)


def test_empty_tensors_and_single_numbers(tmp_path):
    """Of no dimension, and of none in one of them."""
    tensors = {"scale": torch.tensor(3.0), "none": torch.zeros(0, 4), "w": torch.full((2, 2), 2.0)}
    told = checkpoints.analyse(save(tmp_path / "b", tensors), save(tmp_path / "a", tensors))
    assert told.metrics["norm"] == 5
    assert told.metrics["parameters"] == 5
    assert told.facts["tensors"] == 3
    assert told.metrics["relative_change"] == 0


def test_tied_weights_count_once(tmp_path):
    """Two names of the same bytes, as torch.save keeps them."""
    shared = torch.ones(4, 4)
    told = checkpoints.analyse(save(tmp_path / "c", {"a": shared, "b": shared}, "pytorch_model.bin"))
    assert told.metrics["parameters"] == 16
    assert told.facts["tensors"] == 1


def test_a_transposed_tensor_is_compared_in_its_own_order(tmp_path):
    """Its bytes lie in another order than its dimensions."""
    old = {"w": torch.arange(1.0, 7).view(2, 3).t(), "v": torch.arange(24.0).view(2, 3, 4)[:, :, 1:2].clone()}
    new = {"w": 2 * old["w"], "v": old["v"]}
    told = checkpoints.analyse(
        save(tmp_path / "b", new, "pytorch_model.bin"), save(tmp_path / "a", old, "pytorch_model.bin")
    )
    v = torch.cat([each.flatten() for each in old.values()])
    assert told.metrics["relative_change"] == pytest.approx(float(old["w"].norm() / v.norm()))


def test_memory_does_not_grow_with_a_tensor(tmp_path):
    """What is held at a time are pieces."""
    ruler = arithmetic.Ruler()
    folder = save(tmp_path / "c", {"w": torch.zeros(1000, 1000), "v": torch.zeros(4_000_000)})
    with checkpoints.folder.Weights(folder) as opened:
        for tensor in opened.tensors.values():
            ruler.measure(tensor, opened, [(tensor, opened), (tensor, opened)])
    held = [*ruler._raw.values(), *ruler._numbers.values(), ruler._is_zero]
    assert sum(each.nbytes for each in held) < 10 * arithmetic.PIECE


def test_the_share_that_is_trained_is_what_the_caller_knows(tmp_path):
    """A checkpoint does not tell."""
    folder = save(tmp_path / "c", weights())
    assert checkpoints.analyse(folder, trainable=(25, 100)).metrics["trainable_frac"] == 0.25
    assert "trainable_frac" not in checkpoints.analyse(folder).metrics
