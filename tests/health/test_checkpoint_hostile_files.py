"""A checkpoint that is broken, or made to do harm, is refused with a reason, and runs no code."""

import json
import os
import pickle
import shutil
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rldk.errors import SourceError
from rldk.health import checkpoints
from rldk.health.checkpoints import arithmetic, safetensors_file
from tests.health._checkpoints import save, save_shards, weights, write_header

torch = pytest.importorskip("torch")


def refused(folder):
    """The sentence with which a checkpoint is refused."""
    assert checkpoints.is_finite(folder) is None
    with pytest.raises(SourceError) as error:
        checkpoints.analyse(folder)
    return str(error.value)


def entry(shape, begin, end, dtype="F32"):
    """What a header says of a tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


LIES = {
    "too large": {"w": entry([2], 0, 4)},
    "behind the end": {"w": entry([2], 8, 16)},
    "a hole": {"v": entry([1], 0, 4), "w": entry([1], 8, 12)},
    "an overlap": {"v": entry([2], 0, 8), "w": entry([1], 4, 8)},
    "an end that is not reached": {"w": entry([1], 0, 4)},
    "below nothing": {"w": entry([-1], 0, 8)},
    "an end before its beginning": {"w": entry([0], 8, 0)},
    "immense": {"w": entry([2**62, 2**62], 0, 8)},
    "of no number": {"w": entry([1.5], 0, 8)},
    "of an unknown type": {"w": entry([2], 0, 8, "F1024")},
    "without offsets": {"w": {"dtype": "F32", "shape": [2]}},
    "no dictionary": [1],
    "a name for nothing": {"w": None},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(tmp_path, lie):
    """As the library refuses it."""
    from safetensors import SafetensorError, safe_open

    folder = write_header(tmp_path / "c", LIES[lie], bytes(8))
    assert str(folder) in refused(folder)
    with pytest.raises(SafetensorError):
        safe_open(folder / "model.safetensors", "pt")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"w":' * 50_000])
def test_a_header_that_is_no_json_is_refused(tmp_path, text):
    """Nested as deeply as may be."""
    assert "header" in refused(write_header(tmp_path / "c", text))


@pytest.mark.parametrize("length", [9, 2**40, 2**63, 2**64 - 1])
def test_a_header_that_is_longer_than_its_file_is_refused(tmp_path, length):
    """Nothing of its length is set aside."""
    assert "fewer" in refused(write_header(tmp_path / "c", b"{}", length=length))


def test_a_huge_header_is_not_read(tmp_path, monkeypatch):
    """The library's own limit."""
    monkeypatch.setattr(safetensors_file, "LONGEST_HEADER", 100)
    assert "more than 100" in refused(save(tmp_path / "c", weights()))


@given(cut=st.integers(0, 2000), is_bin=st.booleans())
def test_a_truncated_file_is_refused(tmp_path_factory, cut, is_bin):
    """Wherever it ends."""
    name = "pytorch_model.bin" if is_bin else "model.safetensors"
    folder = save(tmp_path_factory.mktemp("c"), weights(), name)
    path = folder / name
    path.write_bytes(path.read_bytes()[: min(cut, path.stat().st_size - 1)])
    assert "damaged" in refused(folder) or "no zip" in refused(folder)


@given(at=st.floats(0, 1), bits=st.integers(1, 255), is_bin=st.booleans())
def test_a_flipped_byte_never_shows_as_another_error(tmp_path_factory, at, bits, is_bin):
    """It gives numbers, or is refused."""
    name = "pytorch_model.bin" if is_bin else "model.safetensors"
    folder = save(tmp_path_factory.mktemp("c"), weights(layers=1, size=2), name)
    data = bytearray((folder / name).read_bytes())
    data[int(at * (len(data) - 1))] ^= bits
    (folder / name).write_bytes(data)
    try:
        checkpoints.analyse(folder)
    except SourceError:
        assert checkpoints.is_finite(folder) is None


@given(data=st.binary(max_size=80))
def test_any_pickle_is_read_or_refused(tmp_path_factory, data):
    """Whatever its opcodes are."""
    folder = tmp_path_factory.mktemp("c")
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02" + data)
    try:
        checkpoints.analyse(folder)
    except SourceError:
        assert checkpoints.is_finite(folder) is None


class Harm:
    """Its pickle calls a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.told = (function, arguments)

    def __reduce__(self):
        return self.told


@pytest.mark.parametrize(
    ("function", "arguments"),
    [(os.system, ("touch harm",)), (eval, ("1",)), (getattr, ({}, "clear")), (torch.load, ("x",))],
)
def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch, function, arguments):
    """It is named instead."""
    monkeypatch.chdir(tmp_path)
    folder = save(tmp_path / "c", weights() | {"x": Harm(function, *arguments)}, "pytorch_model.bin")
    assert function.__name__ in refused(folder)
    assert "may run code" in refused(folder)
    assert not (tmp_path / "harm").exists()


def test_a_pickle_that_asks_for_terabytes_gets_none(tmp_path):
    """A memo's number is no reason to set memory aside, nor a length."""
    for data in (b"\x80\x02Nr\xff\xff\xff\xff.", b"\x80\x04\x8e" + (2**50).to_bytes(8, "little") + b"."):
        with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as archive:
            archive.writestr("m/data.pkl", data)
        try:
            assert checkpoints.analyse(tmp_path).facts["tensors"] == 0
        except SourceError as error:
            assert "damaged" in str(error)  # noqa: PT017  # one of the two does not end in an error


def test_a_dictionary_that_holds_itself_ends(tmp_path):
    """Ten thousand times."""
    loop = {}
    loop.update({str(i): loop for i in range(100)})
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(loop, protocol=2))
    assert checkpoints.analyse(tmp_path).facts["tensors"] == 0


def test_a_packed_bin_is_refused(tmp_path):
    """torch.save packs nothing; a small zip may unpack to anything."""
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", bytes(1000))
    assert "packed" in refused(tmp_path)


def test_an_old_bin_is_refused(tmp_path):
    """That of torch before 1.6 is a bare pickle."""
    folder = save(tmp_path / "c", {})
    (folder / "model.safetensors").unlink()
    torch.save(weights(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert "no zip" in refused(folder)


def test_a_view_with_gaps_is_refused(tmp_path):
    """Its bytes hold more than the tensor."""
    folder = save(tmp_path / "c", {"w": torch.ones(4, 4)[:, :2]}, "pytorch_model.bin")
    assert "gaps" in refused(folder)


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin", ".."]
)
def test_an_index_that_names_files_elsewhere_is_refused(tmp_path, name):
    """Whether they are there or not."""
    save(tmp_path, weights(), "other.safetensors")
    folder = save_shards(tmp_path / "c", weights())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    assert "no shard" in refused(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weight_map": {"w": 1}}', '{"weight_map": 5}', "[" * 100_000]
)
def test_an_index_that_is_none_is_refused(tmp_path, text):
    """With its name."""
    (tmp_path / "model.safetensors.index.json").write_text(text)
    assert "index" in refused(tmp_path)


def test_missing_shards_and_tensors_are_counted(tmp_path):
    """Numbers of a part would be taken for those of the whole."""
    folder = save_shards(tmp_path / "c", weights())
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "1 of its 2 shards" in refused(folder)
    (folder / "model.safetensors.index.json").unlink()
    assert "no index" in refused(folder)
    save_shards(tmp_path / "c", weights())
    save(folder, {"other": torch.ones(2)}, "model-00002-of-00002.safetensors")
    assert "3 tensors of its index are in no shard" in refused(folder)


def test_what_is_no_folder_is_refused(tmp_path):
    """Nor a file, nor a pipe in the place of one."""
    assert "no such folder" in refused(tmp_path / "none")
    (tmp_path / "file").touch()
    assert "no such folder" in refused(tmp_path / "file")
    os.mkfifo(tmp_path / "model.safetensors")
    assert "no file of weights" in checkpoints.analyse(tmp_path).facts["unavailable"]["weights"]


@pytest.mark.parametrize("shards", [False, True])
def test_a_previous_checkpoint_that_is_deleted_meanwhile_is_said_to_be_gone(tmp_path, monkeypatch, shards):
    """What is open can be read to its end; a shard that was not yet opened cannot."""
    form = save_shards if shards else save
    a, b = form(tmp_path / "a", weights(0)), form(tmp_path / "b", weights(1))
    measure = arithmetic.Ruler.measure

    def measure_and_delete(ruler, *arguments):
        told = measure(ruler, *arguments)
        shutil.rmtree(a, ignore_errors=True)
        return told

    monkeypatch.setattr(arithmetic.Ruler, "measure", measure_and_delete)
    told = checkpoints.analyse(b, a)
    assert told.metrics["parameters"] == 392
    assert ("relative_change" in told.metrics) is not shards
    assert ("gone" in told.facts["unavailable"].get("relative_change", "")) is shards


def test_a_checkpoint_that_is_deleted_meanwhile_is_refused(tmp_path, monkeypatch):
    """By save_total_limit, say."""
    folder = save_shards(tmp_path / "c", weights())
    measure = arithmetic.Ruler.measure

    def measure_and_delete(ruler, *arguments):
        told = measure(ruler, *arguments)
        shutil.rmtree(folder, ignore_errors=True)
        return told

    monkeypatch.setattr(arithmetic.Ruler, "measure", measure_and_delete)
    with pytest.raises(SourceError, match="gone"):
        checkpoints.analyse(folder)


def test_a_file_that_is_cut_while_it_is_read_is_refused(tmp_path, monkeypatch):
    """Were it mapped into memory, the process would be killed."""
    monkeypatch.setattr(arithmetic, "PIECE", 4096)
    folder = save(tmp_path / "c", {"w": torch.ones(100_000)})
    squares = arithmetic._squares

    def squares_and_cut(numbers):
        os.truncate(folder / "model.safetensors", 1000)
        return squares(numbers)

    monkeypatch.setattr(arithmetic, "_squares", squares_and_cut)
    with pytest.raises(SourceError, match="shorter"):
        checkpoints.analyse(folder)


def test_names_of_tensors_are_shortened_and_made_printable(tmp_path):
    """A file can hold any text as a name."""
    name = "x\n\x1b[31m" + "y" * 100_000
    told = checkpoints.analyse(save(tmp_path / "c", {name: torch.tensor([float("nan")])}))
    message = told.findings[0].message
    assert len(message) < 400
    assert message.isprintable()
