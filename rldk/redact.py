"""Which settings are secrets: they are hidden before anything is written."""

from __future__ import annotations

import re
from typing import Any, Final

HIDDEN: Final = "[hidden]"

_SECRET_KEY: Final = re.compile(
    r"(^|[_\-.])(token|secret|password|passwd|pwd|credentials?|api_?key|access_?key|private_?key|auth)$",
    re.IGNORECASE,
)
_SPECIAL_TOKEN: Final = re.compile(
    r"(^|_)(pad|eos|bos|unk|sep|cls|mask|stop|image|audio|video)_token$", re.IGNORECASE
)
_SECRET_VALUE: Final = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}"
    r"|wandb_v\d_\w{20,}|dapi[0-9a-f]{32})\b"
)
_URL_USER: Final = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.\-]*://)[^/\s@]+@", re.IGNORECASE)


def redact(value: Any, key: str = "") -> Any:  # noqa: ANN401  # any JSON value
    """Hide secrets at every depth: values of secret keys, known forms of tokens, passwords in URLs."""
    if isinstance(value, dict):
        return {k: redact(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact(v, key) for v in value]
    if not isinstance(value, str) or not value:
        return value
    if _SECRET_KEY.search(key) and not _SPECIAL_TOKEN.search(key):
        return HIDDEN
    return redact_text(value)


def redact_text(text: str) -> str:
    """Hide known forms of tokens, and user names and passwords in URLs, within a text."""
    return _SECRET_VALUE.sub(HIDDEN, _URL_USER.sub(rf"\g<scheme>{HIDDEN}@", text))
