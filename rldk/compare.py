"""Where do two homes of one run differ? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_KEY: Final = ["run_id", "phase", "step"]


def differing_cells(left: pd.DataFrame, right: pd.DataFrame) -> dict[str, int]:
    """Count for each column of two TrainingMetrics tables the cells that differ.

    Rows are matched by run, phase and step; a row that only one side has differs in every column.
    NaN equals NaN, missing equals missing, and nothing else is forgiven.

    Returns:
        Column name to count, for the columns of either side, in the left one's order.
    """
    left, right = left.set_index(_KEY), right.set_index(_KEY)
    rows = left.index.union(right.index)
    alone = len(rows) - len(left.index.intersection(right.index))
    both = left.index.intersection(right.index)
    columns = list(dict.fromkeys([*left.columns, *right.columns]))
    return {name: alone + _differing(_cells(left, name, both), _cells(right, name, both)) for name in columns}


def _cells(table: pd.DataFrame, name: str, rows: pd.Index) -> NDArray[np.object_]:
    if name not in table.columns:
        return np.full(len(rows), None, dtype=object)
    column = table[name].reindex(rows)
    return np.array(
        [None if missing else v for v, missing in zip(column, column.isna(), strict=True)], dtype=object
    )


def _differing(left: NDArray[np.object_], right: NDArray[np.object_]) -> int:
    return sum(not _is_same(a, b) for a, b in zip(left, right, strict=True))


def _is_same(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (left != left and right != right)  # noqa: PLR0124  # NaN
    return type(left) is type(right) and left == right
