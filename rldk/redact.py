"""Which texts are secrets: they are hidden before anything is written."""

from __future__ import annotations

import re
from typing import Any, Final

HIDDEN: Final = "[hidden]"

_SECRET_KEY: Final = re.compile(
    r"passw(or)?d|passwd|passphrase|pwd|secret|credential|authori[sz]ation|bearer|cookie"
    r"|private_?key|access_?key|api_?key|(^|[_\-.])(tokens?|auth)$",
    re.IGNORECASE,
)
_SPECIAL_TOKEN: Final = re.compile(
    r"(^|_)(pad|eos|bos|unk|sep|cls|mask|stop|image|audio|video|special|think|num|n|max|min|new|total)_tokens?$",
    re.IGNORECASE,
)
_MAYBE_SECRET_KEY: Final = re.compile(r"key|token|auth", re.IGNORECASE)
_RANDOM_TEXT: Final = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])[\w\-+/=.]{20,}")

_SECRET_VALUE: Final = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bwandb_v\d_\w{20,}|\bdapi[0-9a-f]{32}\b|\bxox[abprs]-[\w-]{10,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|(?<=Bearer )\S+"
)
_URL_USER: Final = re.compile(r"(?<=://)(?:[^\s/@:]*:\S*|[^\s/@]+)@")
_USER: Final = re.compile(r"(?<![\w/:@.-])[^\s/@:'\"]+:[^\s/@'\"]+@(?=[\w.])")
_URL_QUERY: Final = re.compile(
    r"(?<=[?&])([\w-]*(?:key|token|secret|password|passwd|sig|signature)=)[^&\s#]+", re.IGNORECASE
)


def redact(value: Any, key: str = "") -> Any:  # noqa: ANN401  # any JSON value
    """Hide secrets at every depth: values of secret keys, known forms of tokens, passwords in URLs."""
    if isinstance(value, dict):
        return {k: redact(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact(v, key) for v in value]
    if not isinstance(value, str) or not value:
        return value
    return HIDDEN if _is_secret(key, value) else redact_text(value)


def redact_text(text: str) -> str:
    """Hide known forms of tokens, and user names, passwords and keys in URLs, within a text."""
    return _URL_QUERY.sub(rf"\1{HIDDEN}", _URL_USER.sub(f"{HIDDEN}@", _SECRET_VALUE.sub(HIDDEN, text)))


def redact_sentence(text: str) -> str:
    """Do what `redact_text` does, and hide what looks like user and password before any host."""
    return _USER.sub(f"{HIDDEN}@", redact_text(text))


def _is_secret(key: str, value: str) -> bool:
    if _SPECIAL_TOKEN.search(key):
        return False
    if _SECRET_KEY.search(key):
        return True
    return bool(_MAYBE_SECRET_KEY.search(key) and _RANDOM_TEXT.fullmatch(value))
