"""How does an SQLite database of MLflow come to be: whole, or not at all."""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from rldk.errors import SinkClosedError
from rldk_mlflow import client

if TYPE_CHECKING:
    from pathlib import Path

_HALF: Final = re.compile(r"\btable \S+ already exists|duplicate column name")


def connect(uri: str) -> Any:  # noqa: ANN401  # MlflowClient is not typed
    """Open MLflow's client, and make the SQLite database that it is for where there is none.

    MLflow makes its tables one after the other. Killed meanwhile, it leaves a database that it can neither
    use nor complete; so it works on a file of another name first.

    Raises:
        SinkClosedError: The database is such a half.
        OSError: No database server listens there.
    """
    path = client.local_path(uri) if uri.startswith("sqlite:") else None
    if path is None:
        return client.connect(uri)
    if not path.exists() and path.parent.is_dir():
        _make(path)
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return client.connect(uri)
    except (SQLAlchemyError, client.library().exceptions.MlflowException) as error:
        if _HALF.search(str(error)):
            what = "holds a part of MLflow's tables, as it leaves them when it is killed while it makes them"
            raise SinkClosedError(f"{path} {what}; move it away, and run the same again") from error
        raise


def _make(path: Path) -> None:
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        client.connect(f"sqlite:///{scratch}")
        try:
            os.link(scratch, path)
        except OSError:  # somebody else was sooner, or the file system knows no links
            if not path.exists():
                scratch.rename(path)
    finally:
        scratch.unlink(missing_ok=True)
