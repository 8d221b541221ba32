"""Which texts are secrets: they are hidden before anything is written."""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal

HIDDEN: Final = "[hidden]"

_DEEPEST: Final = 64
_SHORT: Final = 256
_MOST_ROUNDS: Final = 8

_STRONG_KEY: Final = re.compile(
    r"passw(or)?d|passphrase|(^|_)pwd|secret|credential|authori[sz]ation|(^|_)bearer|cookie|webhook"
    r"|(private|access|account|api|signing|encryption|master|deploy|ssh|storage|subscription)_?key"
    r"|shared_access|conn(ection)?_?str(ing)?($|_)|(^|_)(dsn|netrc|kubeconfig)($|_)"
)
_WEAK_KEY: Final = re.compile(r"(^|_)(tokens?|auth|jwt|pat|sig|signature|sas)$")
_NEAR_TOKEN: Final = re.compile(
    r"(^|_)(pad|eos|bos|unk|sep|cls|mask|stop|image|audio|video|special|think|num|n|max|min|new|total|additional"
    r"|extra|start|end|begin|decoder|forced|suppress|bad|prefix|suffix|middle|completion|prompt|input|output"
    r"|generated|generation|response|truncated|mean|avg|per|seen|boi|eoi|vocab|added|logit)_(\w+_)?tokens?$"
)
_MAYBE_KEY: Final = re.compile(r"(^|_)(keys?|tokens?|auth)(_(id|value|text|string|hex))?$")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_WORD: Final = re.compile(r"[^a-z0-9]+")

_PLAIN_VALUE: Final = re.compile(
    r"[-+]?[\d.,_]+(?:e[-+]?\d+)?|true|false|none|null|nan|auto|yes|no|<[^<>]{0,40}>|\[(?:hidden|[A-Z]{2,8})\]",
    re.IGNORECASE,
)
"""What no secret is: a number, a word such as None, a tokenizer's special token, what is hidden already."""
_CHANGE: Final = re.compile(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])")
_PIECE: Final = re.compile(r"[A-Za-z0-9+=]{16,}")

_FORMS: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}"
    r"|sk-(?:(?:proj|svcacct|admin|None|ant|or|lf)-[\w-]{16,}|[A-Za-z0-9]{20,})"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|gl(?:pat|ptt|dt|rt|cbt|ft|soat|imt|agent)-[\w-]{16,}"
    r"|A[KS]IA[0-9A-Z]{16}(?![0-9A-Za-z])|ABIA[0-9A-Z]{16}(?![0-9A-Za-z])"
    r"|wandb_v\d_\w{20,}|dapi[0-9a-f]{32}|dkea[0-9a-f]{32}|dose[0-9a-f]{32}"
    r"|xox[abceoprs]-[\w-]{10,}|xapp-[\w-]{16,}|npm_[A-Za-z0-9]{30,}|pypi-A[\w-]{30,}"
    r"|[srp]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9]{16,}|SG\.[\w-]{16,}\.[\w-]{16,}|SK[0-9a-f]{32}"
    r"|AIza[\w-]{35}|ya29\.[\w-]{16,}|GOCSPX-[\w-]{20,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|eyJhcGlf[\w+/=-]{20,}"
    r"|gsk_[A-Za-z0-9]{30,}|xai-[A-Za-z0-9]{30,}|nvapi-[\w-]{30,}|r8_[A-Za-z0-9]{30,}|pplx-[A-Za-z0-9]{30,}"
    r"|hv[sb]\.[\w-]{20,}|dop_v1_[0-9a-f]{40,}|lsv2_(?:pt|sk)_\w{20,}|tskey-[\w-]{16,}|rpa_[A-Za-z0-9]{30,}"
    r"|\d{8,10}:[A-Za-z0-9_-]{35}(?![\w-])"
    r")|(?<=/bot)\d{8,10}:[A-Za-z0-9_-]{30,}"
)
_LONG_WORD: Final = re.compile(r"[\w-]{14,}")
_WEBHOOK: Final = re.compile(
    r"((?:hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)|discord(?:app)?\.com/api/webhooks"
    r"|webhook\.office\.com/webhookb2|hooks\.zapier\.com/hooks)/)[^\s\"'<>\\]+"
)
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r".*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_HEADER: Final = re.compile(
    r"(\bBearer\s{1,4}|\bbearer\s{1,4}(?=[^\s\"']{16}))([^\s\"',;\\]+)"
    r"|(\bBasic\s{1,4})([A-Za-z0-9+/]{6,}={0,2})(?![\w+/=])"
)
_NETRC: Final = re.compile(
    r"(\b(?:machine\s{1,4}\S{1,256}|default)\s{1,4}login\s{1,4}\S{1,256}\s{1,4}password\s{1,4})\S+",
    re.IGNORECASE,
)
_SAID_KEY: Final = re.compile(
    r"((?:api[ _-]?key|wandb[ ._]login)\b[^\n]{0,40}?)\b[0-9a-f]{32,64}\b", re.IGNORECASE
)
_HINTS: Final = (
    *("passw", "passphrase", "pwd", "secret", "cred", "auth", "bearer", "cookie", "webhook", "key", "shared"),
    *("conn", "dsn", "netrc", "token", "jwt", "pat", "sig", "sas", "login", "basic", "code"),
)
"""Words without one of which nothing is a secret by the name before it; to look for each is quick."""
_QUERY: Final = re.compile(r"(?<=[?&;])([\w.\-%]{1,64}=)([^&\s#;\"'<>\\]+)")
_QUERY_NAME: Final = re.compile(r"key|token|secret|passw(or)?d|sig(nature)?|credential|auth|code|sas|pwd")
_NAME: Final = re.compile(
    r"(?<![\w.\-])(?P<dashes>-{1,2})?(?P<name>[A-Za-z_][\w.\-]{1,63})(?P<closed>\\{0,4}[\"'])?"
    r"(?P<sign>\s{0,4}(?:=(?!=)|:(?!:))>?\s{0,4}|(?(dashes)(?:\s{0,2},\s{0,2}(?=\\{0,4}[\"'])|\s{1,4}(?=[^\s\-]))|(?!)))"
)
_VALUE: Final = re.compile(
    r"(?:(?:Bearer|Basic|Token|Digest|ApiKey)\s{1,4})?"
    r"(?:\\{1,4}[\"'](?P<escaped>[^\"'\\]*+)|\"(?P<double>(?:[^\"\\]|\\.)*+)|'(?P<single>(?:[^'\\]|\\.)*+)"
    r"|(?P<bare>[^\s,;&\"'(){}<>\\|]++))",
    re.DOTALL,
)
_TALK: Final = re.compile(r"[a-z]{1,32}'?[a-z]{0,2} [a-z(`]")
"""Two words: what follows a colon in the midst of a line is no password then, but the sentence going on."""
_WORD: Final = re.compile(r"\\{0,4}[\"']?(?P<word>[^\s,;&=:\"'(){}<>\\|]{1,512})")
_URL_END: Final = re.compile(r"[\s\"'<>\\]")
_AUTHORITY_END: Final = re.compile(r"[/?#]")
_QUERY_BEGIN: Final = re.compile(r"[?#]")
_PORT: Final = re.compile(r"\d{1,5}(?!\d)")
_DATABASE: Final = re.compile(
    r"(?:postgres(?:ql)?|mysql|mariadb|mssql|oracle|rediss?|mongodb|amqps?)[\w+]*$", re.IGNORECASE
)
_USER: Final = re.compile(r"(?<![^\s'\"])[^\s/@'\"]++@(?=[\w.])")
_BEFORE_USER: Final = re.compile(r"[^=(,;\[{<]*$")
_NO_PASSWORD: Final = re.compile(r"[-+]?[\d.]*(?:e[-+]?\d+)?", re.IGNORECASE)


def redact(value: Any, key: str = "") -> Any:  # noqa: ANN401  # any JSON value
    """Hide secrets at every depth, in keys too: values of secret keys, forms of tokens, passwords in URLs.

    It never raises, gives the same for what it has given, and leaves what holds no secret as it is.

    Args:
        value: Any JSON value. Bytes that hold a secret become text; what is nested too deep is hidden.
        key: The name that the value goes by, with dots between those of nested ones.
    """
    return _redact(value, key, 0)


def redact_text(text: str) -> str:
    """Hide known forms of tokens, passwords in URLs, headers and command lines, within a text."""
    return _remembered(text) if len(text) <= _SHORT else _settled(text)


def redact_sentence(text: str) -> str:
    """Do what `redact_text` does, and hide what looks like user and password before any host."""
    text = redact_text(text)
    without_user = _USER.sub(_without_user, text) if "@" in text else text
    return text if without_user == text else redact_text(without_user)


class _Hiding(logging.Filter):
    """Hides secrets in what a line of the log is made of, and in its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, without its secrets; the template stays, for others group by it."""
        if record.args:
            told = record.args
            record.args = (
                {name: _said(each, str(name)) for name, each in told.items()}
                if isinstance(told, Mapping)
                else tuple(map(_said, told))
            )
        else:
            record.msg = _said(record.msg)
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact_text(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        if not logging.getLogger(record.name).hasHandlers():
            # Then Python shows the bare message, amid the trainer's output, and nobody knew who says it
            record.msg = f"{record.name.partition('.')[0]}: {record.msg}"
        return True


_HIDING: Final = _Hiding()


def logger(name: str) -> logging.Logger:
    """Give the logger of a module: whatever it is told, no secret gets into a line.

    Args:
        name: The module's name.
    """
    found = logging.getLogger(name)
    found.addFilter(_HIDING)  # a second time changes nothing
    return found


def _said(value: object, key: str = "") -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    hidden = _redact(text, key, 0)
    return value if hidden == text else hidden


def _redact(value: Any, key: str, depth: int) -> Any:  # noqa: ANN401  # the same
    if isinstance(value, str):
        return HIDDEN if value and _is_secret(key, value) else redact_text(value)
    if isinstance(value, bytes | bytearray):
        text = bytes(value).decode("utf-8", "replace")
        hidden = _redact(text, key, depth)
        return value if hidden == text else hidden
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return value
    if depth >= _DEEPEST:
        return HIDDEN
    if isinstance(value, dict):
        return _redacted_mapping(value, key, depth + 1)
    return _redacted_items(list(value), key, depth + 1)


def _redacted_mapping(told: dict[Any, Any], key: str, depth: int) -> dict[Any, Any]:
    hidden: dict[Any, Any] = {}
    for name, value in told.items():
        shown = redact_text(name) if isinstance(name, str) else name
        while shown in hidden:  # two names that differ in their secrets alone
            shown = f"{shown}'"
        path = str(name) if not key else f"{key}.{name}"
        hidden[shown] = _redact(value, path if isinstance(name, str) else key, depth)
    return hidden


def _redacted_items(items: list[Any], key: str, depth: int) -> list[Any]:
    """Items, among which a secret may follow its option, as in a command line."""
    hidden, option = [], ""
    for item in items:
        hidden.append(_redact(item, option or key, depth))
        name = item.lstrip("-") if isinstance(item, str) and item.startswith("-") else ""
        option = name if _kind(name) in {"strong", "weak"} else ""
    return hidden


@lru_cache(maxsize=4096)
def _kind(key: str) -> Literal["strong", "weak", "maybe", ""]:
    """What a name says of its value: that it is a secret, mostly is one, or is one where it looks random."""
    words = _NOT_WORD.sub("_", _HUMP.sub("_", key[-_SHORT:]).lower()).strip("_")
    if _NEAR_TOKEN.search(words):
        return ""
    if _STRONG_KEY.search(words):
        return "strong"
    if _WEAK_KEY.search(words):
        return "weak"
    return "maybe" if _MAYBE_KEY.search(words) else ""


def _is_secret(key: str, value: str) -> bool:
    kind = _kind(key) if key else ""
    if not kind or value == HIDDEN:
        return False
    if kind == "strong":
        return not _is_folder(key, value)
    return _PLAIN_VALUE.fullmatch(value) is None if kind == "weak" else _is_random(value)


def _is_folder(name: str, value: str) -> bool:
    """Whether it is the shell's variable of the working folder, and no password."""
    return name.endswith("PWD") and value.startswith(("/", ".", "~"))


def _is_random(text: str) -> bool:
    """Whether nobody would have thought of it: a long piece in which letters and digits alternate."""
    return any(len(_CHANGE.findall(piece)) >= 3 for piece in _PIECE.findall(text[:4096]))  # noqa: PLR2004  # a date has two


@lru_cache(maxsize=4096)
def _remembered(text: str) -> str:
    return _settled(text)


def _settled(text: str) -> str:
    """Hide until nothing more is found, so that what is hidden once stays as it is."""
    for _ in range(_MOST_ROUNDS):
        hidden = _once(text)
        if hidden == text:
            return text
        text = hidden
    return text


def _once(text: str) -> str:
    if "PRIVATE KEY" in text:
        text = _PEM.sub(HIDDEN, text)
    if "://" in text:
        text = _urls(text)
    if "hook" in text:
        text = _WEBHOOK.sub(rf"\1{HIDDEN}", text)
    if _LONG_WORD.search(text):
        text = _FORMS.sub(HIDDEN, text)
    words = text.lower()
    return _named(text, words) if any(hint in words for hint in _HINTS) else text


def _named(text: str, words: str) -> str:
    """Hide what is a secret by the name, or the word, before it."""
    if "bearer" in words or "basic" in words:
        text = _HEADER.sub(_header, text)
    if "login" in words and "password" in words:
        text = _NETRC.sub(rf"\1{HIDDEN}", text)
    if "api" in words or "wandb" in words:
        text = _SAID_KEY.sub(rf"\1{HIDDEN}", text)
    if "=" in text and ("?" in text or "&" in text or ";" in text):
        text = _QUERY.sub(_queried, text)
    return _assigned(text)


def _header(found: re.Match[str]) -> str:
    if found[1]:
        return f"{found[1]}{HIDDEN}"
    try:
        is_user = b":" in base64.b64decode(found[4], validate=True)
    except (binascii.Error, ValueError):
        is_user = False
    return f"{found[3]}{HIDDEN}" if is_user else found[0]


def _queried(found: re.Match[str]) -> str:
    name, value = found[1][:-1], found[2]
    words = _NOT_WORD.sub("_", _HUMP.sub("_", name).lower())
    is_secret = _kind(name) == "strong" or (_QUERY_NAME.search(words) and not _NEAR_TOKEN.search(words))
    return f"{found[1]}{HIDDEN}" if is_secret and not _PLAIN_VALUE.fullmatch(value) else found[0]


def _assigned(text: str) -> str:
    """Hide the values of names that say that they are secrets; those of others are looked into."""
    told, at = [], 0
    for found in _NAME.finditer(text):
        if found.start() >= at and (kind := _kind(found["name"])):
            start, end = _value(text, found, kind)
            if start < end:
                told += [text[at:start], HIDDEN]
                at = end
    return "".join([*told, text[at:]]) if told else text


def _value(text: str, found: re.Match[str], kind: str) -> tuple[int, int]:
    """Where the secret begins and ends that has a name; the same twice where there is none."""
    is_prose = (
        ":" in found["sign"] and not found["closed"] and text[found.end() : found.end() + 1] not in {"'", '"'}
    )
    if kind == "maybe" or (kind == "weak" and is_prose):  # the word must look random
        word = _WORD.match(text, found.end())
        return word.span("word") if word and _is_random(word["word"]) else (0, 0)
    value = _VALUE.match(text, found.end())
    if value is None:
        return 0, 0
    said = value[value.lastgroup or 0]
    is_plain = _PLAIN_VALUE.fullmatch(said) is not None and (kind == "weak" or is_prose)
    is_hidden = said.startswith(HIDDEN) or not said or _is_folder(found["name"], said)
    is_talk = (
        is_prose and _TALK.match(text, found.end()) and text[: found.start()].rpartition("\n")[2].strip(" -#")
    )
    return (0, 0) if is_plain or is_hidden or is_talk else value.span(value.lastgroup or 0)


def _urls(text: str) -> str:
    """Hide the user and the password of each URL; the scheme and the host stay."""
    first, *rest = text.split("://")
    told, scheme = [first], first
    for body in rest:
        told.append(_without_login(body, scheme))
        scheme = body
    return "://".join(told)


def _without_login(body: str, before: str) -> str:
    if "@" not in body or body.startswith(f"{HIDDEN}@"):
        return body
    end = _URL_END.search(body)
    url = body[: end.start()] if end else body
    if "@" not in url:
        return body
    cut = _AUTHORITY_END.search(url)
    authority = url[: cut.start()] if cut else url
    user, colon, rest = authority.partition("@")[0].partition(":")
    is_port = "@" not in authority and _PORT.match(rest) is not None and not _DATABASE.search(before[-24:])
    if not (colon or "@" in authority) or "[" in user.replace(HIDDEN, "") or is_port:
        return body
    # A password may hold a slash, or another @
    at = _QUERY_BEGIN.split(url, maxsplit=1)[0].rfind("@") if colon else authority.rfind("@")
    at = url.rfind("@") if at < 0 else at
    return body if url[:at] in {"git", HIDDEN} else f"{HIDDEN}{body[at:]}"


def _without_user(found: re.Match[str]) -> str:
    told = found[0][:-1]
    user, _, password = told.partition(":")
    name = _BEFORE_USER.search(user)
    start = name.start() if name else 0
    if not user[start:] or _NO_PASSWORD.fullmatch(password):
        return found[0]
    return f"{told[:start]}{HIDDEN}@"
