"""What does a checkpoint folder hold?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def measure(folder: Path) -> dict[str, int | float]:
    """Count the files of a checkpoint and their bytes; empty where there is no such folder."""
    if not folder.is_dir():
        return {}
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "size_bytes": sum(sizes)}
