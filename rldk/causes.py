"""What lies behind an error of somebody else's?"""

from __future__ import annotations

import re
import socket
from typing import Final

_SERVER: Final = re.compile(r"https?://[^/\s'\"]+")


def in_short(error: BaseException) -> str:
    """Name an error in a few words: of layers around a connection that failed, the server and why."""
    return unreached(error) or f"{type(error).__name__}: {error}"


def unreached(error: BaseException) -> str:
    """Say which server was not reached, and why; nothing where an error is about something else."""
    root, server = _root(error), _SERVER.search(str(error))
    if server and root is not error and isinstance(root, ConnectionError | TimeoutError | socket.gaierror):
        return f"{server[0]} cannot be reached: {root.strerror or root}"
    return ""


def _root(error: BaseException) -> BaseException:
    """The innermost error that a traceback would show; of a circle of causes, the last that is new."""
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        error = inner
        seen.add(id(error))
        inner = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return error
