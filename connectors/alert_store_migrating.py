"""Bringing the alert database's schema up to date, one process at a time."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from connectors.alert_store_engine import Database
from connectors.alert_store_tables import VERSION_TABLE, metadata
from connectors.errors import Misconfigured, StoreMissing, StoreUnavailable

SCRIPTS = Path(__file__).with_name("migrations")
_MIGRATION_LOCK = 7_836_443_518_401
"""PostgreSQL's advisory locks are numbers; this one is ours, drawn at random."""


def migrate(database: Database, *, create: bool = True, target: str = "head") -> None:
    """Bring the schema up to ``target``; does nothing where it is. Safe while others do the same.

    Args:
        database: which one.
        create: whether to make the schema, and for SQLite the file and its folder, where there is none.
        target: a revision; the newest one but for tests of older ones.

    Raises:
        StoreMissing: if there is none and it is not to be made.
        StoreUnavailable: if it cannot be reached or is locked for too long.
        Misconfigured: if it holds something else, or was made by a newer version.
    """
    scripts = _scripts()
    wanted = scripts.get_current_head() if target == "head" else target
    if create and database.path is not None:
        _make_file(database, database.path)
    with database.reading() as connection:
        now = _revision(connection, database, scripts)
    if now == wanted:
        return
    if now is None and not create:
        raise StoreMissing(f"{database.name} has no tables yet")
    with database.writing() as connection:
        if not database.sqlite:  # SQLite's transaction is a lock already
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'")
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        if _revision(connection, database, scripts) != wanted:
            _upgrade(connection, target)


def is_current(database: Database) -> bool:
    """Return whether the schema is of this version; changes nothing. Raises as ``migrate`` without ``create`` does."""
    scripts = _scripts()
    with database.reading() as connection:
        now = _revision(connection, database, scripts)
    if now is None:
        raise StoreMissing(f"{database.name} has no tables yet")
    return now == scripts.get_current_head()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def _upgrade(connection: Connection, target: str) -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every step to whoever runs a daemon
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def _revision(connection: Connection, database: Database, scripts: ScriptDirectory) -> str | None:
    """Return the schema's revision, None where there is no schema; raise where it is not one that we know."""
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE not in tables:
        _require_room(connection, database, tables)
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars().all()
    if len(found) != 1:
        raise Misconfigured(f"{database.name} is damaged: its table {VERSION_TABLE} has {len(found)} rows, not one")
    known = {script.revision for script in scripts.walk_revisions()}
    if found[0] not in known:
        raise Misconfigured(
            f"{database.name} was made by a newer Vedette (its schema is {found[0]}, this one knows up to"
            f" {scripts.get_current_head()}): update Vedette, or use another database"
        )
    return str(found[0])


def _require_room(connection: Connection, database: Database, tables: set[str]) -> None:
    """Raise where somebody else's tables are. A file is one program's; a PostgreSQL database may be many programs'."""
    strangers = sorted(tables if database.sqlite else tables & set(metadata.tables))
    if strangers:
        raise Misconfigured(
            f"{database.name} holds something else (table {strangers[0]}): use another database"
            f"{'' if database.sqlite else ', or another schema'}"
        )
    if not database.sqlite:
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding != "UTF8":
            raise Misconfigured(f"{database.name} is encoded in {encoding}: make it with ENCODING 'UTF8'")


def _make_file(database: Database, path: Path) -> None:
    """Make folder and file, and have readers and one writer not wait for each other (write-ahead log)."""
    if path.exists() and path.stat().st_size > 0:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise StoreUnavailable(f"{database.name} cannot be made: {error.strerror}") from error
    # Another process that makes it too holds the lock for a moment, and SQLite does not wait for this one; whoever
    # comes first sets it for good. Some file systems know no such log: then readers wait.
    with suppress(StoreUnavailable):
        database.raw(_use_log)


def _use_log(cursor: Any) -> None:
    cursor.execute("PRAGMA journal_mode = WAL")
