"""Which files of a checkpoint folder hold its weights, and which tensors are in them?"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec

from rldk.errors import SourceError
from rldk.health.checkpoints import pickle_file, safetensors_file
from rldk.health.checkpoints.tensors import MOST_TENSORS, DamagedError, damaged, shown, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import FileIO
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from rldk.health.checkpoints.tensors import Tensor

# In the order in which transformers and PEFT look for them
_KNOWN: Final = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
_UNREAD: Final[dict[str, str]] = {
    "pytorch_model_fsdp*": "a state of FSDP",
    "*.distcp": "shards of torch.distributed.checkpoint",
    "global_step*": "a state of DeepSpeed",
    "mp_rank_*": "a state of DeepSpeed",
    "consolidated*.pth": "weights in Meta's own form",
    "*.gguf": "weights of llama.cpp",
    "flax_model*": "weights of Flax",
    "tf_model*": "weights of TensorFlow",
}
_SHARD: Final = re.compile(r"-\d{5}-of-(\d{5})\.safetensors$")
_INDEX: Final = ".index.json"
_LONGEST_INDEX: Final = 100_000_000
_MOST_OPEN: Final = 4


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def measure(folder: Path) -> dict[str, int | float]:
    """Count the files of a checkpoint (`files`) and their bytes (`size_bytes`); empty where there is none."""
    if not folder.is_dir():
        return {}
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "size_bytes": sum(sizes)}


def holds_weights(folder: Path) -> bool:
    """Whether a folder holds weights, be it in a form that is not read."""
    names = (*_KNOWN, "*.safetensors", "*/adapter_model.safetensors", *_UNREAD)
    return folder.is_dir() and any(next(folder.glob(name), None) is not None for name in names)


class Weights:
    """The tensors of a checkpoint, whose files are open while they are read; a context manager.

    A file that is open can still be read when the checkpoint is deleted meanwhile.

    Attributes:
        folder: The checkpoint.
        format: `safetensors` or `bin`; empty where nothing could be read.
        tensors: By name, in the order in which they lie in their files.
        problems: What is not read, and why, by a short name.
    """

    def __init__(self, folder: Path) -> None:
        """Find the tensors of a checkpoint.

        Raises:
            SourceError: There is no such folder, or its weights are damaged.
        """
        self.folder = folder
        self.problems: dict[str, str] = {}
        self._open: OrderedDict[Path, FileIO] = OrderedDict()
        try:
            if not folder.is_dir():
                raise SourceError(str(folder), "there is no such folder", "check the path")
            files = self._files()
            self.format = "" if not files else "safetensors" if files[0].suffix == ".safetensors" else "bin"
            self.tensors = self._found(files)
        except OSError as error:
            raise unreadable(folder, error) from error

    def file(self, tensor: Tensor) -> FileIO:
        """The open file of a tensor.

        Raises:
            OSError: It is gone, or may not be read.
        """
        self._open[tensor.path] = file = self._open.pop(tensor.path, None) or _opened(tensor.path)
        while len(self._open) > _MOST_OPEN:  # the training needs its file handles itself
            self._open.popitem(last=False)[1].close()
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._open.values():
            file.close()

    def _files(self) -> list[Path]:
        self._map: dict[str, str] = {}
        for name in _KNOWN:
            path = self.folder / name
            if path.is_file():
                return self._shards(path) if name.endswith(_INDEX) else [path]
        found = sorted(path for path in self.folder.glob("*.safetensors") if path.is_file())
        found = found or sorted(path for path in self.folder.glob("*/adapter_model.safetensors"))
        for path in found:
            whole = _SHARD.search(path.name)
            if whole and int(whole[1]) != len(found):
                reason = f"{len(found)} of its {int(whole[1])} shards are there, and no index"
                raise DamagedError(self.folder, reason, "copy the whole checkpoint")
        if not found:
            self._tell_of_nothing()
        return found

    def _shards(self, index: Path) -> list[Path]:
        if index.stat().st_size > _LONGEST_INDEX:
            raise damaged(index, f"it has more than {_LONGEST_INDEX:,} bytes")
        try:
            self._map = msgspec.json.decode(index.read_bytes(), type=_Index).weight_map
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise damaged(index, f"it is no index of shards ({error})") from error
        suffix = index.name.removesuffix(_INDEX).rpartition(".")[2]
        names = sorted(set(self._map.values()))
        for name in names:
            if "/" in name or "\\" in name or "\0" in name or not name.endswith(f".{suffix}"):
                reason = f"it names {shown(name)!r}, which is no shard beside it"
                raise SourceError(str(index), reason, "do not use this checkpoint: it may mean harm")
        missing = [name for name in names if not (self.folder / name).is_file()]
        if missing:
            reason = f"{len(missing)} of its {len(names)} shards are not there, such as {shown(missing[0])}"
            raise DamagedError(self.folder, reason, "copy the whole checkpoint, or save it again")
        return [self.folder / name for name in names]

    def _found(self, files: Iterable[Path]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for path in files:
            read = safetensors_file if path.suffix == ".safetensors" else pickle_file
            inner = "" if path.parent == self.folder else f"{path.parent.name}/"
            for tensor in read.tensors(path):
                if self._map.get(tensor.name, path.name) == path.name:
                    named = msgspec.structs.replace(tensor, name=inner + tensor.name) if inner else tensor
                    found[named.name] = named
        missing = [name for name in self._map if name not in found]
        if missing:
            reason = f"{len(missing)} tensors of its index are in no shard, such as {shown(missing[0])}"
            raise damaged(self.folder, reason)
        if len(found) > MOST_TENSORS:
            raise SourceError(str(self.folder), f"it holds {len(found):,} tensors", "give a smaller one")
        return found

    def _tell_of_nothing(self) -> None:
        for pattern, what in _UNREAD.items():
            for path in sorted(self.folder.glob(pattern))[:1]:
                self.problems["weights"] = f"{shown(path.name)} is {what}, which is not read"
                return
        self.problems["weights"] = "it holds no file of weights that is known (.safetensors, .bin)"


def _opened(path: Path) -> FileIO:
    file = path.open("rb", buffering=0)
    if hasattr(os, "posix_fadvise"):  # the system then reads farther ahead: a fifth less time from a disk
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return file
