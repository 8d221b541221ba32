"""Which texts are secrets: they are hidden before anything is written."""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from rldk.secret_names import Named, is_folder, is_friend, kind, words

HIDDEN: Final = "[hidden]"

_DEEPEST: Final = 64
_SHORT: Final = 256
_MOST_ROUNDS: Final = 8

_PLAIN_VALUE: Final = re.compile(
    r"[-+]?[\d.,_]+(?:e[-+]?\d+)?|true|false|none|null|nan|auto|yes|no|<[^<>]{0,40}>|\[(?:hidden|[A-Z]{2,8})\]",
    re.IGNORECASE,
)
"""What no secret is: a number, a word such as None, a tokenizer's special token, what is hidden already."""
_LONG_NUMBER: Final = re.compile(r"\d{6,}")
_CHANGE: Final = re.compile(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])")
_PIECE: Final = re.compile(r"[A-Za-z0-9+=]{16,}")
_USER_OPTIONS: Final = frozenset({"-u", "--user", "-U", "--proxy-user"})

_FORMS: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_[A-Za-z0-9]{20,}|hf_oauth_[\w-]{16,}(?:\.[\w-]+)*|api_org_[A-Za-z0-9]{20,}"
    r"|dckr_[po]at_[\w-]{16,}|glsa_\w{16,}|glc_[A-Za-z0-9+/=]{30,}"
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
_LOGIN: Final = re.compile(
    r"((?<!\S)(?:-u|-U|--user|--proxy-user)(?:\s{1,4}|=))(?!\d{1,10}:\d{1,10}(?![^\s;\"']))"
    r"(?:\"[^\s:\"/]{1,64}:[^\"\n]+\"|'[^\s:'/]{1,64}:[^'\n]+'|[^\s:\"'/]{1,64}:[^\s\"']+)"
)
_SAID_KEY: Final = re.compile(
    r"((?:api[ _-]?key|wandb[ ._]login)\b[^\n]{0,40}?)\b[0-9a-f]{32,64}\b", re.IGNORECASE
)
_HINTS: Final = (
    *("pass", "pwd", "secret", "cred", "auth", "bearer", "cookie", "webhook", "key", "shared"),
    *("conn", "dsn", "netrc", "token", "jwt", "pat", "sig", "sas", "login", "basic", "code", "curl"),
)
"""Words without one of which nothing is a secret by the name before it; to look for each is quick."""
_QUERY: Final = re.compile(r"(?<=[?&;])([\w.\-%]{1,64}=)([^&\s#;\"'<>\\]+)")
_QUERY_NAME: Final = re.compile(
    r"key|token|secret|passw(or)?d|pass$|sig(nature)?|credential|auth|code|sas|pwd"
)
_NAME: Final = re.compile(
    r"(?<![\w.\-])(?P<dashes>-{1,2})?(?P<name>[A-Za-z_][\w.\-]{1,63})(?P<closed>\\{0,4}[\"'])?"
    r"(?P<sign>\s{0,4}(?:=(?!=)|:(?!:))>?\s{0,4}|(?(dashes)(?:\s{0,2},\s{0,2}(?=\\{0,4}[\"'])|\s{1,4}(?=[^\s\-]))|(?!)))"
)
_BARE: Final = (
    r"(?:[^\s\"'\\;&,|()\[\]{}<>`]"
    r"|\([^\s\"'()]{0,256}\)|\[[^\s\"'\[\]]{0,256}\]|\{[^\s\"'{}]{0,256}\}"
    r"|[(\[{](?![\s\"'\\]|\Z|\w{1,64}=)|[)\]}>`](?![\s\"'\\)\]}>`,.;:&|]|\Z)|<(?!/|[A-Za-z]{1,10}[\s/>])"
    r"|[;&,|](?![\s\"'\\;&,|)\]}]|\Z|[\w.%-]{1,64}\s{0,2}=)"
    r"(?!(?<=;)[\w.%-]{1,64}(?: [\w.%-]{1,64}){1,2}\s{0,2}=)"
    r"|\\(?![nrtu\"'\\\s]|\Z))"
)
"""A piece of a value without quotes: it goes on to white space or a quote, unless what follows is not of it.

A bracket is of it that closes one within it, or that more follows; so is a comma, but not before a space
or `name=`.
"""
_VALUE: Final = re.compile(
    r"(?:(?:Bearer|Basic|Token|Digest|ApiKey)\s{1,4})?(?:(?:[\[(]\s{0,4}"
    r"|\{\s{0,4}\\{0,4}[\"'][\w.\-]{1,64}\\{0,4}[\"']\s{0,4}:\s{0,4})(?=\\{0,4}[\"']))?"
    r"(?:\\{1,4}[\"'](?P<escaped>[^\"'\\]*+)|\"(?P<double>(?:[^\"\\]|\\.)*+)|'(?P<single>(?:[^'\\]|\\.)*+)"
    rf"|(?P<bare>(?![;&,|)\]}}<>]){_BARE}++))",
    re.DOTALL,
)
_TALK: Final = re.compile(r"[a-z]{1,32}'?[a-z]{0,2} [a-z(`]")
"""Two words: what follows a colon in the midst of a line is no password then, but the sentence going on."""
_LINE: Final = 128
_HEADER_NAME: Final = re.compile(r"x-[\w-]{1,60}|(?:private|job|deploy)-token", re.IGNORECASE)
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

    What a key says holds for all that is below it. A number is hidden where the key leaves no doubt, unless
    it is below `metrics`; what is true, false or null stays. It never raises, gives the same for what it has
    given, and leaves what holds no secret as it is.

    Args:
        value: Any JSON value. Bytes that hold a secret become text; what is nested too deep is hidden.
        key: The name that the value goes by, with dots between those of nested ones.
    """
    return _redact(value, Named().below(key) if key else Named(), 0)


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
    hidden = redact(text, key)
    return value if hidden == text else hidden


def _redact(value: Any, named: Named, depth: int) -> Any:  # noqa: ANN401  # the same
    if isinstance(value, str):
        return HIDDEN if value and _is_secret(named, value) else redact_text(value)
    if isinstance(value, bytes | bytearray):
        text = bytes(value).decode("utf-8", "replace")
        hidden = _redact(text, named, depth)
        return value if hidden == text else hidden
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return HIDDEN if isinstance(value, int | float) and named.hides_number(value) else value
    if depth >= _DEEPEST:
        return HIDDEN
    if isinstance(value, dict):
        return _redacted_mapping(value, named, depth + 1)
    return _redacted_items(list(value), named, depth + 1)


def _redacted_mapping(told: dict[Any, Any], named: Named, depth: int) -> dict[Any, Any]:
    hidden: dict[Any, Any] = {}
    for name, value in told.items():
        shown = redact_text(name) if isinstance(name, str) else name
        while shown in hidden:  # two names that differ in their secrets alone
            shown = f"{shown}'"
        hidden[shown] = _redact(value, named.below(name) if isinstance(name, str) else named, depth)
    return hidden


def _redacted_items(items: list[Any], named: Named, depth: int) -> list[Any]:
    """Items, among which a secret may follow its option, as in a command line."""
    hidden, option, is_curl = [], "", False
    for item in items:
        hidden.append(_redact(item, named.below(option) if option else named, depth))
        is_curl = is_curl or item == "curl"
        name = item.lstrip("-") if isinstance(item, str) and item.startswith("-") else ""
        is_login = is_curl and name != "" and item in _USER_OPTIONS
        option = "password" if is_login else name if kind(name) in {"strong", "weak"} else ""
    return hidden


def _is_secret(named: Named, value: str) -> bool:
    if not named.kind or value == HIDDEN:
        return False
    if named.kind == "strong":
        return not is_folder(named.path.rpartition(".")[2], value)
    return _PLAIN_VALUE.fullmatch(value) is None if named.kind == "weak" else _is_random(value)


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
    lower = text.lower()
    return _named(text, lower) if any(hint in lower for hint in _HINTS) else text


def _named(text: str, lower: str) -> str:
    """Hide what is a secret by the name, or the word, before it."""
    if "bearer" in lower or "basic" in lower:
        text = _HEADER.sub(_header, text)
    if "curl" in lower:
        text = _LOGIN.sub(rf"\1{HIDDEN}", text)
    if "login" in lower and "password" in lower:
        text = _NETRC.sub(rf"\1{HIDDEN}", text)
    if "api" in lower or "wandb" in lower:
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
    is_secret = kind(name) == "strong" or (_QUERY_NAME.search(words(name)) and not is_friend(name))
    return f"{found[1]}{HIDDEN}" if is_secret and not _PLAIN_VALUE.fullmatch(value) else found[0]


def _assigned(text: str) -> str:
    """Hide the values of names that say that they are secrets; those of others are looked into."""
    told, at = [], 0
    for found in _NAME.finditer(text):
        if found.start() >= at and kind(found["name"]):
            start, end = _value(text, found)
            if start < end:
                told += [text[at:start], HIDDEN]
                at = end
    return "".join([*told, text[at:]]) if told else text


def _value(text: str, found: re.Match[str]) -> tuple[int, int]:
    """Where the secret begins and ends that has a name; the same twice where there is none."""
    said, begin = kind(found["name"]), found.end()
    is_prose = ":" in found["sign"] and not found["closed"] and not text.startswith(("'", '"'), begin)
    if said == "maybe" or (said == "weak" and is_prose and not _HEADER_NAME.fullmatch(found["name"])):
        word = _WORD.match(text, begin)  # it must look random
        return word.span("word") if word and _is_random(word["word"]) else (0, 0)
    is_queried = text.startswith(HIDDEN, begin) and text[found.start() - 1 : found.start()] in {"?", "&", ";"}
    if is_queried or is_folder(found["name"], text[begin : begin + 1]):
        return 0, 0  # before it is looked for how far it goes: there may be thousands of them
    value = _VALUE.match(text, begin)
    if value is None or (is_prose and _is_talk(text, found)):
        return 0, 0
    told = value[value.lastgroup or 0]
    is_plain = said == "weak" or (is_prose and not _LONG_NUMBER.fullmatch(told))
    return (0, 0) if _is_no_secret(value, is_plain) else value.span(value.lastgroup or 0)


def _is_no_secret(value: re.Match[str], may_be_plain: bool) -> bool:  # noqa: FBT001  # private
    told = value[value.lastgroup or 0]
    if not told or told == HIDDEN or (value.lastgroup != "bare" and told.startswith(HIDDEN)):
        return True
    return may_be_plain and _PLAIN_VALUE.fullmatch(told.strip("()[]{}") or told) is not None


def _is_talk(text: str, found: re.Match[str]) -> bool:
    """Whether a sentence goes on behind the colon: something else is before the name in its line."""
    if _TALK.match(text, found.end()) is None:
        return False
    nearest = max(0, found.start() - _LINE)
    line = text.rfind("\n", nearest, found.start()) + 1 or nearest
    return text[line : found.start()].strip(" -#") != ""


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
