"""Which names say that what they name is a secret."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal, NamedTuple

Kind = Literal["strong", "weak", "maybe", ""]
"""What a name says of its value: that it is a secret, mostly is one, or is one where it looks random."""

_KINDS: Final[tuple[Kind, ...]] = ("", "maybe", "weak", "strong")
_LONGEST: Final = 256

_STRONG: Final = re.compile(
    r"passw(or)?d|passphrase|(^|_)pwd|secret|credential|authori[sz]ation|(^|_)bearer|cookie|webhook"
    r"|(private|access|account|api|signing|encryption|master|deploy|ssh|storage|subscription)_?key"
    r"|shared_access|conn(ection)?_?str(ing)?($|_)|(^|_)(dsn|netrc|kubeconfig)($|_)"
    r"|[a-z0-9]_pass$|(^|_)(db|smtp|imap|ftp|pg|mysql|redis|mongo|ldap|mail|user|admin|root|login|ssh|key)pass$"
    r"|(^|_)(openai|anthropic|hf|hugging_?face|wandb|mlflow|aws|azure|gcp|google|gemini|groq|mistral|cohere"
    r"|deepseek|fireworks|together|replicate|openrouter|perplexity|xai|nvidia|ngc|github|gitlab|databricks"
    r"|neptune|comet|clearml|langsmith|langfuse|tavily|serper|serpapi|stripe|sendgrid|twilio)_?keys?$"
)
_WEAK: Final = re.compile(r"(^|_)(tokens?|auth|jwt|pat|pass|sig|signature|sas)$")
_NEAR: Final = re.compile(
    r"(^|_)(pad|eos|bos|unk|sep|cls|mask|stop|image|audio|video|special|think|num|n|max|min|new|total|additional"
    r"|extra|start|end|begin|decoder|forced|suppress|bad|prefix|suffix|middle|completion|prompt|input|output"
    r"|generated|generation|response|truncated|mean|avg|per|seen|boi|eoi|vocab|added|logit)_(\w+_)?tokens?$"
    r"|(^|_)(forward|backward|first|second|third|next|last|final|single|one|two|multi|full|dry|low|high|band"
    r"|all|any|each|every|per|num|n|max|min|test|tests|train|training|eval|warmup|fusion|graph)_pass$"
)
_MAYBE: Final = re.compile(r"(^|_)(keys?|tokens?|auth)(_(id|value|text|string|hex))?$")
_COUNT: Final = re.compile(
    r"^(n|num|max|min|mean|total)_|_(length|len|count|size|min|max|mean|std|timeout|ttl|age|seconds|secs?|s|ms"
    r"|minutes|hours|days|interval|retries|attempts|limit|rate|ratio|frac|accuracy|loss|score|rewards?|steps?)$"
)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_WORD: Final = re.compile(r"[^a-z0-9]+")
_MEASURED: Final = frozenset({"metrics", "points", "evidence"})
"""Below them a name is a metric's, which is called as its author likes, and a number is what was measured."""
_FOLDERS: Final = frozenset({"PWD", "OLDPWD"})


def words(name: str) -> str:
    """Spell a name in lower case, with one underscore between its words."""
    return _NOT_WORD.sub("_", _HUMP.sub("_", name[-_LONGEST:]).lower()).strip("_")


@lru_cache(maxsize=4096)
def is_friend(name: str) -> bool:
    """Whether it only looks like a secret's name, as `pad_token` and `forward_pass` do."""
    return _NEAR.search(words(name)) is not None


@lru_cache(maxsize=4096)
def kind(name: str) -> Kind:
    """What a name by itself says of its value."""
    spelled = words(name)
    if _NEAR.search(spelled):
        return ""
    if _STRONG.search(spelled):
        return "strong"
    if _WEAK.search(spelled):
        return "weak"
    return "maybe" if _MAYBE.search(spelled) else ""


def is_folder(name: str, value: str) -> bool:
    """Whether it is the shell's variable of the working folder, and no password."""
    return name in _FOLDERS and value.startswith("/")


class Named(NamedTuple):
    """What the names on the way to a value say of it: no name takes back what one above it has said."""

    path: str = ""
    kind: Kind = ""
    is_measured: bool = False

    def below(self, name: str) -> Named:
        """Go one name down, or several, with dots between."""
        return _below(self, name[-_LONGEST:])

    def hides_number(self, number: float) -> bool:
        """Whether a number is a secret: zero and one are flags, and what is counted or measured is told."""
        is_value = number == number and number not in {0, 1, float("inf"), -float("inf")}  # noqa: PLR0124  # no NaN
        return self.kind == "strong" and not self.is_measured and is_value


@lru_cache(maxsize=4096)
def _below(above: Named, name: str) -> Named:
    for part in name.split("."):
        above = _one_below(above, part)
    return above


def _one_below(above: Named, name: str) -> Named:
    path = f"{above.path}.{name}"[-_LONGEST:] if above.path else name
    is_measured = above.is_measured or name in _MEASURED
    if above.kind == "strong":
        return Named(path, "strong", is_measured=above.is_measured)
    if is_friend(name):
        return Named(path, "", is_measured)
    own = kind(name)
    together = kind(path) if own in {"", "maybe"} else own  # as in {"api": {"key": ...}}
    said = max(above.kind, own, together, key=_KINDS.index)
    is_count = said == "strong" and _COUNT.search(words(name)) is not None
    return Named(path, said, is_measured or is_count)
