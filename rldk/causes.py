"""What lies behind an error of somebody else's?"""

from __future__ import annotations

import re
import socket
from typing import Final

_SERVER: Final = re.compile(r"https?://[^/\s'\"]+")


def in_short(error: BaseException) -> str:
    """Name an error in a few words: of layers around a connection that failed, the server and why."""
    root, server = error, _SERVER.search(str(error))
    while (inner := root.__cause__ or root.__context__) is not None:
        root = inner
    if server and root is not error and isinstance(root, ConnectionError | TimeoutError | socket.gaierror):
        return f"{server[0]} cannot be reached: {root.strerror or root}"
    return f"{type(error).__name__}: {error}"
