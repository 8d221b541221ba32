"""Which run or experiment does a source name, and at which tracking server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from rldk_mlflow import client

_URI: Final = r"(?P<uri>[A-Za-z][\w+.\-]+:.*|databricks)"
_RUN: Final = r"(?P<run_id>[0-9A-Za-z][\w\-]{0,255})"
_GRAMMAR: Final = (
    re.compile(rf"runs:/+{_RUN}/?"),
    re.compile(rf"{_URI}#(?:[^#?]*/)?runs/{_RUN}(?:[/?#].*)?"),
    re.compile(rf"{_URI}#/experiments/(?P<experiment>\d+)(?:[/?].*)?"),  # a page of MLflow's UI
    re.compile(rf"{_URI}#experiments/(?P<experiment>.+)", re.DOTALL),
    re.compile(r"(?P<uri>(?:sqlite|postgresql|mysql|mssql)(?:\+\w+)?://[^#]+)"),  # all runs of a database
)


class Place(NamedTuple):
    """What a source names.

    Attributes:
        uri: The tracking URI; None for the one that MLflow is configured to.
        run_id: The run; None where the source names an experiment, or all of them.
        experiment: The experiment's id or name; None where the source names a run, or all experiments.
    """

    uri: str | None = None
    run_id: str | None = None
    experiment: str | None = None

    @classmethod
    def parse(cls, source: str) -> Place | None:
        """Read a source; None for one that is not of MLflow's form."""
        matches = (form.fullmatch(source) for form in _GRAMMAR)
        return next((cls(**match.groupdict()) for match in matches if match), None)

    def reachable_uri(self) -> str:
        """The tracking URI with the secrets that the configuration may hold for it.

        Raises:
            MissingDependencyError: MLflow, which alone knows where it is configured to, is not installed.
        """
        if self.uri is not None and self.uri.startswith("sqlite"):
            return self.uri
        configured = client.configured_uri(must=self.uri is None)
        is_configured = self.uri is None or self.uri.rstrip("/") == client.without_secrets(configured).rstrip(
            "/"
        )
        return configured if self.uri is None or is_configured else self.uri


def database_at(source: str) -> Place | None:
    """Take a source for the path of a SQLite file; None where there is no file."""
    try:
        path = Path(source)
        return Place(f"sqlite:///{path.absolute()}") if path.is_file() else None
    except (OSError, ValueError):
        return None


def source_of(uri: str, run_id: str) -> str:
    """Name a run so that it is found from any folder."""
    return f"{_absolute(uri)}#runs/{run_id}"


def _absolute(uri: str) -> str:
    scheme, found, path = uri.partition(":///")
    if found and scheme.startswith("sqlite"):
        return f"{scheme}:///{Path(path).absolute()}"
    return uri.rstrip("/") if ":" in uri or uri == "databricks" else Path(uri).absolute().as_uri()
