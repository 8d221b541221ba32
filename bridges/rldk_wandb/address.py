"""Which run or project of which W&B server does a source name?

Either `wandb://ENTITY/PROJECT/ID`, on the server that wandb is configured for, or the address of a page as
the browser shows it, `https://HOST/ENTITY/PROJECT/runs/ID`; without what follows the project, all its runs.
Whoever is asked gets the user's API key, so that only the server is asked for which wandb is configured.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

SCHEME: Final = "wandb://"

_CLOUD: Final = "wandb.ai"
# wandb 0.31's default server is https://api.forge.coreweave.com, whose pages are below /wandb (its urls.py).
_FORGE: Final = frozenset({"forge.coreweave.com", "api.forge.coreweave.com"})
_FORGE_PATH: Final = "wandb"
_DEFAULT_PORTS: Final = frozenset({80, 443})
_RUNS: Final = "runs"
_TABS: Final = frozenset({"overview", "workspace", "table", "charts", _RUNS})
_NO_ENTITY: Final = frozenset({"mlflow", "api", "ajax-api", "experiments"})


class Address(NamedTuple):
    """Where a run or a whole project is.

    Attributes:
        entity: User or team.
        project: The project's name.
        run_id: W&B's id of the run; empty for all runs of the project.
        origin: The server of the page, without user, password and query; empty for `wandb://`.
    """

    entity: str
    project: str
    run_id: str = ""
    origin: str = ""

    def __str__(self) -> str:
        """What names it, and can be read by `parsed`; holds no secret."""
        parts = [self.entity, self.project, *([self.run_id] if self.run_id else [])]
        if self.origin and self.run_id:
            parts.insert(2, _RUNS)
        head = f"{self.origin}/" if self.origin else SCHEME
        return head + "/".join(quote(part, safe="") for part in parts)

    def of(self, run_id: str) -> Address:
        """Name a run of this project."""
        return self._replace(run_id=run_id)

    @property
    def is_foreign(self) -> bool:
        """Whether it is on a server for which wandb is not configured, which must not get the user's key."""
        return bool(self.origin) and not _is_wandbs(urlsplit(self.origin))


def parsed(source: str) -> Address | None:
    """Read a source; None where it is neither."""
    if source.startswith(SCHEME):
        parts = _parts(source.removeprefix(SCHEME))
        return Address(*parts) if len(parts) in {2, 3} and all(parts) else None
    try:
        page = urlsplit(source)
        return _of_page(page, _parts(page.path)) if page.scheme in {"http", "https"} else None
    except ValueError:  # a port that is no number, brackets that are no IPv6 address
        return None


def _parts(path: str) -> list[str]:
    return [unquote(part) for part in path.strip("/").split("/")]


def _of_page(page: SplitResult, parts: list[str]) -> Address | None:
    if not page.hostname or page.fragment.startswith("/"):
        return None  # behind # is where MLflow's pages have their names
    port = f":{page.port}" if page.port else ""
    host = f"[{page.hostname}]" if ":" in page.hostname else page.hostname
    origin = f"{page.scheme}://{host}{port}"
    if page.hostname in _FORGE and parts[0] == _FORGE_PATH:
        origin, parts = f"{origin}/{_FORGE_PATH}", parts[1:]
    if len(parts) < 2 or not all(parts):  # noqa: PLR2004  # entity, project
        return None
    entity, project, *rest = parts
    if rest[:1] == [_RUNS] and rest[1:] and rest[1] not in _TABS:
        return Address(entity, project, rest[1], origin)
    # Any page on the web may have two names: without a run in it, only a page of W&B's is a project.
    is_project = set(rest) <= _TABS and entity not in _NO_ENTITY and _is_wandbs(page)
    return Address(entity, project, "", origin) if is_project else None


def _is_wandbs(page: SplitResult) -> bool:
    """Whether a page is on W&B's cloud, or on the server for which wandb is configured."""
    host = page.hostname or ""
    if host in _FORGE or host == _CLOUD or host.endswith(f".{_CLOUD}"):
        return True
    try:
        return _place(page) == _place(urlsplit(_configured()))
    except ValueError:
        return False


def _place(page: SplitResult) -> tuple[str, int | None]:
    """Host and port; the pages of a server api.X are on X or app.X."""
    host = (page.hostname or "").removeprefix("api.").removeprefix("app.")
    return host, None if page.port in _DEFAULT_PORTS else page.port


def _configured() -> str:
    """The server for which wandb is configured: by the environment, here, or by `wandb login --host`."""
    if url := os.environ.get("WANDB_BASE_URL"):
        return url
    here = Path(os.environ.get("WANDB_DIR") or ".", "wandb", "settings")
    everywhere = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb", "settings")
    said = configparser.ConfigParser(interpolation=None)
    try:
        said.read([everywhere.expanduser(), here.expanduser()])
    except (configparser.Error, ValueError, RuntimeError):  # wandb reads no such file either; or no home
        return ""
    return said.get("default", "base_url", fallback="")
