"""Which run or project of which W&B server does a source name?

Either `wandb://ENTITY/PROJECT/ID`, on the server that wandb is configured for, or the address of a page as
the browser shows it, `https://HOST/ENTITY/PROJECT/runs/ID`; without what follows the project, all its runs.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

SCHEME: Final = "wandb://"

_CLOUD: Final = frozenset({"wandb.ai", "www.wandb.ai", "app.wandb.ai", "api.wandb.ai"})
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
    def base_url(self) -> str | None:
        """Whom to ask for it; None for the server that wandb is configured for."""
        page, configured = urlsplit(self.origin), urlsplit(os.environ.get("WANDB_BASE_URL", ""))
        if not self.origin or page.hostname in _CLOUD:
            return None
        is_same = configured.netloc.rpartition("@")[2] in {page.netloc, f"api.{page.netloc}"}
        return None if is_same else self.origin


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
    if not page.hostname or page.fragment.startswith("/") or len(parts) < 2 or not all(parts):  # noqa: PLR2004  # entity, project
        return None  # behind # is where MLflow's pages have their names
    entity, project, *rest = parts
    port = f":{page.port}" if page.port else ""
    host = f"[{page.hostname}]" if ":" in page.hostname else page.hostname
    origin = f"{page.scheme}://{host}{port}"
    if rest[:1] == [_RUNS] and rest[1:] and rest[1] not in _TABS:
        return Address(entity, project, rest[1], origin)
    is_file = "." in project and "wandb" not in page.hostname
    is_project = set(rest) <= _TABS and entity not in _NO_ENTITY and not is_file
    return Address(entity, project, "", origin) if is_project else None
