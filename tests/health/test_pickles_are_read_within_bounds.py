"""A pickle of a few bytes can ask for all time and memory there is; it gets what its length is worth."""

from __future__ import annotations

import zipfile

import pytest

from rldk.doctor import saved_args
from rldk.errors import SourceError
from rldk.health.checkpoints import pickle_file

BEGIN, END = b"\x80\x02", b"."
NONE_TO_THE_27 = b"N" + 27 * b"22\x87"  # a tuple of one tuple three times, and so on: 3**27 of None
CALLED = b"ctorch._utils\n_rebuild_parameter\n"
BOMBS = {
    "a key whose hash takes forever": (b"}" + NONE_TO_THE_27 + b"Ns", "more often"),
    "keys whose hash takes forever": (b"}(" + NONE_TO_THE_27 + b"Nu", "more often"),
    "a dictionary of them": (b"(" + NONE_TO_THE_27 + b"Nd", "more often"),
    "a set of them": (b"\x8f(" + NONE_TO_THE_27 + b"\x90", "more often"),
    "a frozen set of them": (b"(" + NONE_TO_THE_27 + b"\x91", "more often"),
    "a thousand copies of arguments": (
        b"(" + b"N" * 9_000 + b"tq\0" + CALLED + b"q\1" + b"(" + b"h\1h\0R" * 1_000 + b"t",
        "more often",
    ),
    "the same with classes": (
        b"(" + b"N" * 9_000 + b"tq\0" + CALLED + b"q\1" + b"(" + b"h\1h\0\x81" * 1_000 + b"t",
        "more often|were given",
    ),
    "keys that collide": (b"}\x8a\x08" + (2**61 - 1).to_bytes(8, "little") + b"Ns", "too large a number"),
    "8 GiB of bytes": (b"\x96" + (2**33).to_bytes(8, "little"), "torch.save does not write"),
    "a memo that collides": (b"Np2305843009213693951\n", "torch.save does not write"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("read", [saved_args.read, pickle_file.tensors], ids=["arguments", "weights"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_what_stands_for_too_much_is_refused(tmp_path, read, bomb):
    """Wherever a pickle is read."""
    data, said = BOMBS[bomb]
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        archive.writestr("x/data.pkl", BEGIN + data + END)
    with pytest.raises(SourceError, match=said):
        read(tmp_path / "x.bin")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", [b"ctorch\nSize\n", b"ccollections\nOrderedDict\n"])
def test_a_list_is_not_copied_again_and_again(tmp_path, name):
    """By what takes no list when torch has written it."""
    data = b"](" + b"N" * 9_000 + b"eq\0" + name + b"q\1" + b"(" + b"h\1h\0\x85R" * 1_000 + b"t"
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        archive.writestr("x/data.pkl", BEGIN + data + END)
    with pytest.raises(SourceError, match="cannot be read"):
        pickle_file.tensors(tmp_path / "x.bin")


@pytest.mark.real
def test_a_checkpoint_of_many_tensors_is_within_bounds(tmp_path):
    """Named by numbers, too; what torch writes uses each value about once."""
    torch = pytest.importorskip("torch")
    told = {f"w{number}": torch.zeros(()) for number in range(3000)} | {7: torch.zeros(2), (1, 2): "key"}
    torch.save(told, tmp_path / "x.bin")
    assert len(pickle_file.tensors(tmp_path / "x.bin")) == 3001
