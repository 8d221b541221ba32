"""Checkpoints as trainers save them, made by the libraries that do so."""

from __future__ import annotations

import json


def weights(seed=0, layers=3, size=8):
    """A few tensors with the names of a model."""
    import torch

    torch.manual_seed(seed)
    names = [f"model.layers.{i}.{part}.weight" for i in range(layers) for part in ("up", "down")]
    return {name: torch.randn(size, size) for name in names} | {"model.norm.weight": torch.ones(size)}


def save(folder, tensors, name="model.safetensors"):
    """Save tensors as one file; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".safetensors"):
        from safetensors.torch import save_file

        save_file(tensors, folder / name, metadata={"format": "pt"})
    else:
        import torch

        torch.save(tensors, folder / name)
    return folder


def save_shards(folder, tensors, stem="model", suffix="safetensors"):
    """Save tensors as two shards and their index; gives the folder."""
    parts = [dict(list(tensors.items())[i::2]) for i in (0, 1)]
    names = [f"{stem}-0000{i}-of-00002.{suffix}" for i in (1, 2)]
    for name, part in zip(names, parts, strict=True):
        save(folder, part, name)
    where = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def write_header(folder, header, data=b"", length=None):
    """Write a .safetensors file by hand; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = (len(text) if length is None else length).to_bytes(8, "little")
    (folder / "model.safetensors").write_bytes(size + text + data)
    return folder
