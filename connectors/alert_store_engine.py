"""How to get to the alert database: an engine for a URL, its transactions, and what its errors mean to us."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DataError, DisconnectionError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.pool import ConnectionPoolEntry

from connectors.errors import ConnectorError, Misconfigured, StoreMissing, StoreRefused, StoreUnavailable

ALLOWED = "sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_IDLE = 2
"""Connections that wait for their next use: one that writes, one that reads. Others are closed at once."""
_CONNECT_S = 5
_LOCK_S = 10
"""How long a transaction waits for another one's locks."""
_STATEMENT_S = 30
_POSTGRES_ARGUMENTS: dict[str, Any] = {
    "connect_timeout": _CONNECT_S,
    # A server whose machine died answers nothing: without these a thread would wait for it for two hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": _STATEMENT_S * 1000,
    "client_encoding": "utf8",
    "prepare_threshold": None,  # prepared statements fail behind poolers that hand out another connection each time
}
_WRITES = "vedette_writes"


class Database:
    """One alert database: SQLite or PostgreSQL. Connects on first need; may be used from several threads.

    Raises:
        Misconfigured: if the URL cannot be used, or its driver is not installed; no message holds the password.
    """

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.name = _name(self.url)
        """What messages call it: without user and password."""
        self._engine = _engine(self.url, self.sqlite)
        self._writer = self._engine.execution_options(**{_WRITES: True})

    @property
    def path(self) -> Path | None:
        """Return the file, where it is one."""
        return Path(str(self.url.database)) if self.sqlite else None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection within a transaction that only reads; errors come out as ours."""
        with self._transaction(self._engine) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection within a transaction that may write: all of it is durable afterwards, or nothing is."""
        with self._transaction(self._writer) as connection:
            yield connection

    def raw(self, do: Callable[[Any], None]) -> None:
        """Call ``do`` with a cursor outside of any transaction; SQLite's settings need that."""
        with translated(self.name):
            connection = self._engine.raw_connection()
            try:
                do(connection.cursor())
            finally:
                connection.close()

    def close(self) -> None:
        """Let go of all idle connections."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        if self.path is not None and not self.path.exists():
            # SQLite would make an empty file in a folder that happens to be there.
            raise StoreMissing(f"there is no alert database at {self.path}")
        with translated(self.name), engine.begin() as connection:
            yield connection


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn what SQLAlchemy and the drivers raise into our errors; ``name`` says which database."""
    try:
        yield
    except ConnectorError:
        raise
    except (DataError, IntegrityError, OverflowError) as error:
        raise StoreRefused(f"{name} refuses the row: {_short(error)}") from error
    except SQLAlchemyError as error:
        if isinstance(error, StatementError) and isinstance(error.orig, TypeError | ValueError):
            raise StoreRefused(f"the row cannot be written: {_short(error)}") from error
        if _no_database(error):
            raise Misconfigured(f"{name} is no SQLite database: name another file, or move it away") from error
        raise StoreUnavailable(f"{name}: {_short(error)}") from error
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{name}: {_short(error)}") from error


def _no_database(error: SQLAlchemyError) -> bool:
    return isinstance(error, StatementError) and "file is not a database" in str(error.orig)


def _short(error: BaseException) -> str:
    """Return the first line of what the driver said: SQLAlchemy's own words repeat the statement and its values."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise Misconfigured(f"the database's URL cannot be read; allowed: {ALLOWED}") from None
    if url.drivername not in _DRIVERS:
        raise Misconfigured(f"there is no database for {url.drivername}://; allowed: {ALLOWED}")
    if url.get_backend_name() == "sqlite" and (not url.database or url.database == ":memory:"):
        raise Misconfigured("a database in memory keeps nothing; write sqlite:///PATH")
    return url.set(drivername=_DRIVERS[url.drivername])


def _name(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return f"the alert database {url.database}"
    where = f"{url.host or url.query.get('host') or 'localhost'}{f':{url.port}' if url.port else ''}"
    return f"the alert database {url.database or ''} at {where}"


def _engine(url: URL, sqlite: bool) -> Engine:
    if sqlite:
        engine = create_engine(url, hide_parameters=True, pool_size=_IDLE, connect_args={"timeout": _LOCK_S})
        file = _File(str(url.database))
        event.listen(engine, "connect", file.connected)
        event.listen(engine, "checkout", file.checked)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    arguments = {name: value for name, value in _POSTGRES_ARGUMENTS.items() if name not in url.query}
    try:
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=2,
            pool_timeout=_LOCK_S,
            pool_pre_ping=True,
            connect_args=arguments,
        )
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"PostgreSQL needs a driver that is not installed ({error.name}): pip install 'vedette[postgres]'"
        ) from None
    event.listen(engine, "begin", _begin_postgres)
    return engine


class _File:
    """SQLite's file, under the connections to it that wait for their next use.

    They are kept since the last one that closes writes the whole log back into the file, and waits for the disk. One
    that outlives its file, deleted or replaced, would write where nobody reads: it is not used again.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def connected(self, connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        """Leave transactions to us, schema changes included, and have foreign keys hold."""
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        record.info["file"] = self._identity()

    def checked(self, connection: sqlite3.Connection, record: ConnectionPoolEntry, proxy: object) -> None:
        """Have the pool connect anew where this is another file by now."""
        if record.info.get("file") != self._identity():
            raise DisconnectionError("the file was replaced")

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _begin_sqlite(connection: Connection) -> None:
    """Begin; who writes takes the lock at once, since one who reads first and writes then may find it gone."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgres(connection: Connection) -> None:
    connection.exec_driver_sql(
        f"SET LOCAL statement_timeout = '{_STATEMENT_S}s'; SET LOCAL lock_timeout = '{_LOCK_S}s'"
    )
