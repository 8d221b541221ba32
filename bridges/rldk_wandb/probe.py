"""Is W&B configured and reachable? Found without starting wandb, and without making a run."""

from __future__ import annotations

import base64
import configparser
import json
import netrc
import os
import tempfile
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit

from rldk.bridge import Probed

if TYPE_CHECKING:
    from collections.abc import Iterator

_SERVER: Final = "https://api.wandb.ai"
_ANSWER_S: Final = 6.0
_MOST_BYTES: Final = 100_000
_QUESTION: Final = b'{"query": "query { viewer { username entity } }"}'
_ACCESS: Final = frozenset({401, 403})
_ELSEWHERE: Final = range(300, 400)
_OFF: Final = frozenset({"disabled", "offline", "dryrun"})
_LOG_IN: Final = "run: wandb login, or set WANDB_API_KEY, or WANDB_MODE=offline"


def probe() -> Iterator[Probed]:
    """Tell W&B's mode, whether its folder can be written, and whether there is a key that the server takes.

    Whether the server takes a run is not tried: a run would stay, or the project that it made.
    """
    if find_spec("wandb") is None:
        told, remedy = "wandb is not installed", "pip install 'rldk[wandb]' to record there"
        yield Probed(what="library", state="note", told=told, remedy=remedy)
        return
    mode = _mode()
    yield Probed(what="mode", state="note" if mode == "disabled" else "ok", told=mode)
    if mode == "disabled":
        return
    yield _folder()
    if mode in _OFF:
        return
    server = _configured("base_url", "WANDB_BASE_URL") or _SERVER
    key, whence = _key(server)
    if not key:
        is_asked = bool(os.environ.get("WANDB_MODE") or os.environ.get("WANDB_BASE_URL"))
        told = "no API key: wandb.init would ask for one, and fails where nobody answers"
        yield Probed(what="login", state="warning" if is_asked else "note", told=told, remedy=_LOG_IN)
    else:
        yield Probed(what="login", state="ok", told=f"an API key is there ({whence})")
    asked = _asked(server, key)
    yield asked
    if asked.state == "ok":
        told = "not tried: a run would stay there; the server was asked " + (
            "whose the key is, and no more" if key else "without a key, and no more"
        )
        yield Probed(what="write", state="note", told=told)


def _mode() -> str:
    if os.environ.get("WANDB_DISABLED", "").lower() in {"true", "1", "yes", "on"}:
        return "disabled"
    mode = _configured("mode", "WANDB_MODE") or "online"
    return "offline" if mode == "dryrun" else mode


def _configured(name: str, variable: str) -> str:
    """A setting as wandb finds it: in the environment, else in the folder's settings, else in the user's."""
    told = os.environ.get(variable, "")
    folder = Path(os.environ.get("WANDB_DIR") or ".")
    user = Path(os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb")
    for path in (folder / "wandb" / "settings", user / "settings"):
        if not told:
            told = _setting(path, name)
    return told


def _setting(path: Path, name: str) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path)
        return parser.get("default", name, fallback="")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return ""


def _key(server: str) -> tuple[str, str]:
    if key := os.environ.get("WANDB_API_KEY", ""):
        return key, "WANDB_API_KEY"
    path = os.environ.get("NETRC")
    for name in [path] if path else [str(Path.home() / ".netrc"), str(Path.home() / "_netrc")]:
        try:
            found = netrc.netrc(name).authenticators(urlsplit(server).hostname or "")
        except (OSError, netrc.NetrcParseError):
            continue
        if found and found[2]:
            return found[2], name
    return "", ""


def _folder() -> Probed:
    folder = Path(os.environ.get("WANDB_DIR") or ".")
    there = folder / "wandb" if (folder / "wandb").is_dir() else folder
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".rldk-doctor-"):
            pass
    except OSError as error:
        told = f"{folder.absolute()} cannot be written ({error.strerror}): wandb would use a temporary folder"
        return Probed(what="folder", state="warning", told=told, remedy="set WANDB_DIR to a folder that can")
    told = f"{there.absolute()} can be written: a file was made there and removed again"
    return Probed(what="folder", state="ok", told=told)


def _asked(server: str, key: str) -> Probed:
    shown = _shown(server)
    if not shown.startswith(("http://", "https://")):
        told, remedy = f"{shown} is no address of a server", "set WANDB_BASE_URL to http://... or https://..."
        return Probed(what="reach", state="problem", told=told, remedy=remedy)
    secret = base64.b64encode(f"api:{key}".encode()).decode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Basic {secret}"} if key else {})
    request = urllib.request.Request(f"{server.rstrip('/')}/graphql", _QUESTION, headers)  # noqa: S310  # checked above
    state: Literal["warning", "note"] = "warning" if key else "note"
    try:
        with _opener().open(request, timeout=_ANSWER_S) as answer:
            told = json.loads(answer.read(_MOST_BYTES))
    except HTTPError as error:
        with error:
            return _refused(request.full_url, error, key, state)
    except (OSError, ValueError, URLError) as error:
        told = f"{shown} does not answer ({getattr(error, 'reason', error)})"
        remedy = "check the network and WANDB_BASE_URL, or set WANDB_MODE=offline and sync later"
        return Probed(what="reach", state=state, told=told, remedy=remedy)
    data = told.get("data") if isinstance(told, dict) else None
    viewer = data.get("viewer") if isinstance(data, dict) else None
    if not isinstance(viewer, dict):
        return _unknown_key(shown, key)
    who = viewer.get("username") or viewer.get("entity") or "a user"
    return Probed(what="reach", state="ok", told=f"{shown} answers, and knows the key as {who}'s")


def _opener() -> urllib.request.OpenerDirector:
    """One that goes where it is sent and nowhere else: urllib's own takes the key along to any host."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _shown(address: str) -> str:
    """An address without its path, and without what may be secret; words where it is none."""
    try:
        where = urlsplit(address)
        port = f":{where.port}" if where.port else ""
    except ValueError:
        return "what is given"
    return f"{where.scheme}://{where.hostname}{port}"


def _refused(asked: str, error: HTTPError, key: str, state: Literal["warning", "note"]) -> Probed:
    shown, remedy = _shown(asked), "check WANDB_BASE_URL, and the server"
    if error.code in _ACCESS:
        return _unknown_key(shown, key)
    told = f"{shown} answers with HTTP {error.code}"
    if error.code in _ELSEWHERE and (location := error.headers.get("Location")):
        target = _shown(_joined(asked, location))
        told += f" and leads to {target}: not followed" + (", for the key is not meant for it" if key else "")
        remedy = f"if {target} is W&B's server, set WANDB_BASE_URL to its address; otherwise see who answers"
    return Probed(what="reach", state=state, told=told, remedy=remedy)


def _joined(asked: str, location: str) -> str:
    try:
        return urljoin(asked, location)
    except ValueError:
        return location


def _unknown_key(shown: str, key: str) -> Probed:
    if not key:
        return Probed(what="reach", state="ok", told=f"{shown} answers")
    return Probed(what="login", state="problem", told=f"{shown} does not take the API key", remedy=_LOG_IN)
