"""How messages and the state of their incidents get into the alert store: two INSERTs, whatever the number of rows.

On SQLite one statement holds all rows of a batch. Python lets go of its lock (GIL) for every step of SQLite, and has to
wrest it from the loop again, which computes: row by row, that was about two such changes a message, and slowed the
loop. PostgreSQL's driver sends many rows at once by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Connection, literal_column
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import and_, case, or_

from connectors.alert_store_queries import INCIDENT_FIELDS
from connectors.alert_store_tables import incidents
from connectors.errors import StoreRefused

_ENDED: tuple[ColumnElement[str], ...] = (literal_column("'resolved'"), literal_column("'corrected'"))
_NO_TEXT: ColumnElement[str] = literal_column("''")
_NO_CONTEXT: ColumnElement[str] = literal_column("'[]'")
_PARAMETERS = 30_000
"""Of one statement; SQLite takes 32,766 (SQLITE_MAX_VARIABLE_NUMBER)."""

Insert = sqlite.Insert | postgresql.Insert


class BatchInsert:
    """An INSERT that is made once, and run with any number of rows, in their order. May be used from several threads.

    Args:
        statement: into one table; none but the rows' values may be parameters of it.
    """

    def __init__(self, statement: Insert) -> None:
        self._statement = statement

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows, each of which has a value for every column.

        Raises:
            StoreRefused: if a value cannot be written. The database's own errors come as SQLAlchemy's.
        """
        if connection.dialect.name != "sqlite":
            connection.execute(self._statement, rows)
            return
        most = _PARAMETERS // len(self._sqlite.columns)
        for first in range(0, len(rows), most):
            some = rows[first : first + most]
            connection.exec_driver_sql(self._sqlite.text(len(some)), self._sqlite.values(some))

    @cached_property
    def _sqlite(self) -> _SqliteText:
        return _SqliteText(self._statement)


class _SqliteText:
    """The words of an INSERT for SQLite, and its values as SQLite takes them."""

    def __init__(self, statement: Insert) -> None:
        dialect = sqlite.dialect(paramstyle="qmark")
        table = statement.table
        self.columns: list[tuple[str, Callable[[Any], Any] | None]] = [
            (column.name, column.type.dialect_impl(dialect).bind_processor(dialect)) for column in table.columns
        ]
        compiled = statement.compile(dialect=dialect, column_keys=[name for name, _ in self.columns])
        self._row = f"({', '.join('?' * len(self.columns))})"
        self._before, found, self._after = str(compiled).partition(self._row)
        if not found or "?" in self._after:
            raise ValueError(f"only the values of a row may be parameters: {compiled}")

    def text(self, rows: int) -> str:
        return self._before + ", ".join([self._row] * rows) + self._after

    def values(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
        try:
            return tuple(
                row[name] if written is None else written(row[name]) for row in rows for name, written in self.columns
            )
        except (TypeError, ValueError) as error:
            raise StoreRefused(f"the row cannot be written: {error}") from error


def incident_upsert(statement: Insert) -> Insert:
    """Return ``statement``, an INSERT into incidents, that changes what is there only where the new row is newer."""
    new = statement.excluded
    ended = or_(*(new.phase == phase for phase in _ENDED))
    changed: dict[str, ColumnElement[Any]] = {name: new[name] for name in INCIDENT_FIELDS if name != "id"}
    changed |= {
        "reason": case((and_(ended, incidents.c.reason != _NO_TEXT), incidents.c.reason), else_=new.reason),
        "explanation": case((ended, incidents.c.explanation), else_=new.explanation),
        "context": case((new.context != _NO_CONTEXT, new.context), else_=incidents.c.context),
    }
    return statement.on_conflict_do_update(
        index_elements=[incidents.c.id], set_=changed, where=new.sequence > incidents.c.sequence
    )
