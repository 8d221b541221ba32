"""Every form in which weights are saved by trainers is read, and others are said not to be."""

import json
import struct

import pytest

from rldk.health import checkpoints
from tests.health._checkpoints import save, save_shards, weights, write_header

torch = pytest.importorskip("torch")

FORMS = {
    "one file": save,
    "shards": save_shards,
    "bin": lambda folder, tensors: save(folder, tensors, "pytorch_model.bin"),
    "shards of bin": lambda folder, tensors: save_shards(folder, tensors, "pytorch_model", "bin"),
    "adapter": lambda folder, tensors: save(folder, tensors, "adapter_model.safetensors"),
    "adapter bin": lambda folder, tensors: save(folder, tensors, "adapter_model.bin"),
    "named adapter": lambda folder, tensors: (
        save(folder / "mine", tensors, "adapter_model.safetensors").parent
    ),
    "other name": lambda folder, tensors: save(folder, tensors, "weights.safetensors"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_weights_give_the_same_numbers(tmp_path, form):
    """In whatever form they are saved."""
    expected = checkpoints.analyse(save(tmp_path / "a", weights())).metrics
    told = checkpoints.analyse(FORMS[form](tmp_path / "b", weights()))
    assert told.metrics["parameters"] == expected["parameters"] == 392
    assert told.metrics["norm"] == pytest.approx(expected["norm"], rel=1e-12)
    assert told.facts["tensors"] == 7
    assert told.facts["format"] == ("bin" if "bin" in form else "safetensors")


@pytest.mark.parametrize("form", FORMS)
def test_changes_are_seen_in_every_form(tmp_path, form):
    """Twice the weights are as far from them as they are long."""
    old, new = weights(), {name: 2 * each for name, each in weights().items()}
    told = checkpoints.analyse(FORMS[form](tmp_path / "b", new), FORMS[form](tmp_path / "a", old))
    assert told.metrics["relative_change"] == pytest.approx(1)
    assert told.metrics["cosine"] == pytest.approx(1)


def test_the_header_is_read_as_the_library_reads_it(tmp_path):
    """Names, shapes and types."""
    from safetensors import safe_open

    from rldk.health.checkpoints import safetensors_file

    tensors = weights() | {"half": torch.ones(2, 3, dtype=torch.bfloat16), "none": torch.ones(0, 2)}
    path = save(tmp_path / "c", tensors) / "model.safetensors"
    found = {each.name: (each.dtype, list(each.shape)) for each in safetensors_file.tensors(path)}
    with safe_open(path, "pt") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  # it is no dictionary
        assert found == {name: (each.get_dtype(), each.get_shape()) for name, each in slices.items()}


def test_a_bin_is_read_as_torch_reads_it(tmp_path):
    """Views, parameters, nested dictionaries and types without a storage of their own."""
    tensors = {
        "view": torch.arange(10.0)[2:5],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "small": torch.ones(3, dtype=torch.float8_e4m3fn),
        "deep": {"w": torch.full((2, 2), 2.0)},
        "version": 3,
    }
    told = checkpoints.analyse(save(tmp_path / "c", tensors, "pytorch_model.bin"))
    assert told.metrics["norm"] ** 2 == pytest.approx(4 + 9 + 16 + 2 + 3 + 16)
    assert told.facts["dtypes"] == {"F32": 9, "F8_E4M3": 3}


def test_a_state_dict_of_a_module_is_read(tmp_path):
    """It is an OrderedDict with an attribute of its own."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    told = checkpoints.analyse(save(tmp_path / "c", module.state_dict(), "pytorch_model.bin"))
    assert told.metrics["parameters"] == 8 + 8
    assert told.facts["dtypes"]["I64"] == 1


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("pytorch_model_fsdp.bin", "FSDP"),
        ("global_step10/mp_rank_00_model_states.pt", "DeepSpeed"),
        ("pytorch_model_fsdp_0/__0_0.distcp", "FSDP"),
        ("model.gguf", "llama.cpp"),
        ("optimizer.pt", "no file of weights"),
    ],
)
def test_forms_that_are_not_read_are_named(tmp_path, name, what):
    """With a reason, and without a number that nobody has measured."""
    path = tmp_path / "c" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"?")
    told = checkpoints.analyse(tmp_path / "c")
    assert what in told.facts["unavailable"]["weights"]
    assert told.metrics == {"files": 1, "size_bytes": 1}
    assert checkpoints.is_finite(tmp_path / "c") is None


def test_optimizer_states_are_never_read(tmp_path):
    """Nor arguments, whatever is in them."""
    folder = save(tmp_path / "c", weights())
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (folder / name).write_bytes(b"broken")
    told = checkpoints.analyse(folder)
    assert told.facts["tensors"] == 7
    assert told.metrics["files"] == 5


def test_the_policy_of_ppo_is_said_to_be_without_its_value_head(tmp_path):
    """PPOTrainer.save_model saves the policy alone."""
    told = checkpoints.analyse(save(tmp_path / "c", weights()), trainer="PPO")
    assert "value head" in told.facts["unavailable"]["value_head"]
    assert "parts" not in told.facts


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_value_head_beside_the_policy_is_a_part(tmp_path, prefix):
    """As in the state of PolicyAndValueWrapper, whose backbone has two names."""
    backbone = torch.ones(3, 3)
    tensors = {
        f"{prefix}policy.lm_head.weight": torch.ones(4),
        f"{prefix}value_model.model.w": backbone,
        f"{prefix}value_model.score.weight": torch.full((4,), 2.0),
        f"{prefix}critic_backbone.w": backbone,
    }
    told = checkpoints.analyse(save(tmp_path / "c", tensors, "pytorch_model.bin"), trainer="PPO")
    assert told.facts["parts"]["policy"] == {"parameters": 4, "norm": 2}
    assert told.facts["parts"]["value_model"] == {"parameters": 13, "norm": 5}
    assert "value_head" not in told.facts["unavailable"]
    assert told.metrics["parameters"] == 17


def test_tensors_of_another_shape_are_not_compared(tmp_path):
    """A vocabulary that has grown; the rest is compared, and how many were not is said."""
    old, new = {"a": torch.ones(4), "e": torch.ones(3, 2)}, {"a": torch.ones(4), "e": torch.ones(5, 2)}
    told = checkpoints.analyse(save(tmp_path / "b", new), save(tmp_path / "a", old))
    assert told.metrics["relative_change"] == 0
    assert "1 of 2 tensors" in told.facts["unavailable"]["changes"]
    assert not told.findings


def test_types_of_less_than_a_byte_are_counted_only(tmp_path):
    """Their bytes are compared, but are no numbers here."""
    header = {"w": {"dtype": "F4", "shape": [4, 4], "data_offsets": [0, 8]}}
    told = checkpoints.analyse(write_header(tmp_path / "c", header, bytes(8)))
    assert told.facts["dtypes"] == {"F4": 16}
    assert "norm" not in told.metrics


def test_the_facts_can_be_written_as_json(tmp_path, make_event):
    """Whatever is in the weights, the event is strict JSON and comes back."""
    from rldk.event import decode, encode

    broken = {"w": torch.tensor([float("nan"), float("inf"), 1.0])}
    told = checkpoints.analyse(save(tmp_path / "b", broken), save(tmp_path / "a", {"w": torch.ones(3)}))
    line = encode(make_event(metrics=told.metrics, model_info={"run_id": "r", "analysis": told.facts}))
    json.loads(line, parse_constant=pytest.fail)
    assert decode(line).model_info["analysis"]["findings"][0]["rule"] == "checkpoint_nonfinite"


def test_a_file_without_tensors(tmp_path):
    """It is a checkpoint of nothing."""
    folder = write_header(tmp_path / "c", {"__metadata__": {"format": "pt"}})
    told = checkpoints.analyse(folder)
    assert told.facts["tensors"] == 0
    assert struct.unpack("<Q", (folder / "model.safetensors").read_bytes()[:8])[0]
    assert checkpoints.is_finite(folder) is None
