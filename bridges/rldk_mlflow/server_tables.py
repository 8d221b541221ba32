"""How are the tables of a database server read: by SQLAlchemy, with the driver that is installed."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from rldk.errors import MissingDependencyError
from rldk_mlflow import client
from rldk_mlflow.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_AT_ONCE: Final = 50_000
_DRIVERS: Final = {"postgresql": ("psycopg", "psycopg2"), "mysql": ("mysqldb", "pymysql")}
"""By engine: what SQLAlchemy takes for a URL that names none, and what else may be installed."""

_MODULES: Final = {"mysqldb": "MySQLdb"}
_PACKAGES: Final = {"psycopg2": "psycopg2-binary", "mysqldb": "mysqlclient"}


class MissingDriverError(MissingDependencyError):
    """The library through which a database server is spoken to is not installed."""

    def __init__(self, uri: str, driver: str) -> None:
        package = _PACKAGES.get(driver, driver)
        said = f"reading {client.without_secrets(uri)} needs {driver}, which is not installed"
        super(MissingDependencyError, self).__init__(f"{said}; run: pip install {package}")


@contextmanager
def opened(uri: str) -> Iterator[ServerTables]:
    """Connect to a database server.

    Raises:
        StoreError: It refuses, or does not answer as expected.
        OSError: No one listens there.
        MissingDependencyError: SQLAlchemy, or the driver, is not installed.
    """
    if find_spec("sqlalchemy") is None:
        extras = "mlflow,postgresql" if uri.startswith("postgresql") else "mlflow"
        raise MissingDependencyError(f"reading {client.without_secrets(uri)}", "sqlalchemy", extras)
    sqlalchemy = importlib.import_module("sqlalchemy")
    try:
        url = _with_driver(_parsed(sqlalchemy, uri))
        client.knock(uri)
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
        with engine.connect() as connection:
            yield ServerTables(connection.execution_options(stream_results=True))
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        raise StoreError(f"the database says: {reason}", "check the tracking URI and its password") from error
    except ImportError as error:
        raise MissingDriverError(uri, error.name or uri.partition(":")[0]) from error


def _parsed(sqlalchemy: Any, uri: str) -> Any:  # noqa: ANN401  # a module without which this is not reached
    try:
        return sqlalchemy.make_url(uri)
    except ValueError as error:
        raise StoreError(f"it is no URL of a database: {error}", "check the tracking URI") from error


def _with_driver(url: Any) -> Any:  # noqa: ANN401  # sqlalchemy.URL, which not everyone has
    engine, _, driver = url.drivername.partition("+")
    known = _DRIVERS.get(engine, ())
    if driver or not known:
        return url
    found = next((each for each in known if find_spec(_MODULES.get(each, each)) is not None), None)
    if found is None:
        raise MissingDriverError(url.render_as_string(hide_password=True), known[-1])
    return url.set(drivername=f"{engine}+{found}")


class ServerTables:
    """The tables of a database to which there is a connection."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401  # sqlalchemy.Connection
        self._connection = connection
        self._sql = importlib.import_module("sqlalchemy")

    def names(self) -> set[str]:
        """Which tables there are."""
        return set(self._sql.inspect(self._connection).get_table_names())

    def rows(
        self, table: str, columns: Sequence[str], where: Mapping[str, object]
    ) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Read the rows in which columns have these values, many at once."""
        named = {name: self._sql.column(name) for name in (*columns, *where)}
        query = self._sql.select(*(named[name] for name in columns)).select_from(self._sql.table(table))
        for column, value in where.items():
            query = query.where(named[column] == value)
        with self._connection.execute(query) as result:
            yield from result.partitions(_AT_ONCE)
