"""The alert database's schema comes up to date from any version, once, and never takes over what is not ours."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from connectors.alert_store import AlertStore
from connectors.alert_store_engine import Database
from connectors.alert_store_migrating import migrate
from connectors.alert_store_tables import VERSION_TABLE, metadata
from connectors.errors import Misconfigured, StoreMissing
from tests.connectors.alert_rows import number, row
from tests.postgres_server import PostgresServer

OLD_ROW = """
INSERT INTO incidents (id, stream, entity, kind, name, site, tier, severity, phase, sequence, first_step, started_us,
    opened_us, time_us, told_us, reason, explanation, model_version, flapping, note)
VALUES (:id, 'air', 'a', 'anomaly', '', '', 1, 'info', 'opened', 0, 1, 2, 3, 4, 5, 'why', '{}', '', false, '')
"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/100%/state/alerts.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """The database there."""
    database = Database(url)
    yield database
    database.close()


def test_the_migrations_make_the_tables_that_we_use(database: Database) -> None:
    """Protects from a table or column that was changed here and not there."""
    migrate(database)
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_an_older_database_is_brought_up_to_date_with_its_rows(url: str, database: Database) -> None:
    """Protects what was kept before an update."""
    migrate(database, target="0001")
    with database.writing() as connection:
        connection.execute(text(OLD_ROW), {"id": number(1)})
    store = AlertStore(url)
    (kept,) = store.incidents()
    assert (kept.id, kept.reason, kept.context) == (number(1), "why", ())
    assert store.label(number(1), "true", "", None, "kim", 1) is not None
    store.close()


def test_all_may_begin_at_once(url: str) -> None:
    """Protects replicas that start together on an empty database."""
    together = threading.Barrier(4)

    def begin(n: int) -> None:
        store = AlertStore(url)
        together.wait()
        store.keep([row(n)])
        store.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(begin, range(4)))
    store = AlertStore(url)
    assert len(store.incidents()) == 4
    store.close()


def test_processes_may_begin_at_once(tmp_path: Path) -> None:
    """Protects replicas on one machine: SQLite's locks are between processes."""
    program = "import sys; from connectors.alert_store import AlertStore; AlertStore(sys.argv[1]).migrate()"
    command = [sys.executable, "-c", program, f"sqlite:///{tmp_path}/alerts.db"]
    processes = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    with sqlite3.connect(tmp_path / "alerts.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM label_revision").fetchone() == (1,)
    connection.close()


def test_a_newer_database_is_left_alone(url: str, database: Database) -> None:
    """Protects from an old program that writes into a schema that it does not know."""
    migrate(database)
    with database.writing() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    store = AlertStore(url)
    with pytest.raises(Misconfigured, match=r"newer Vedette .*9999.*update Vedette"):
        store.keep([row()])
    store.close()


def test_other_peoples_tables_are_left_alone(url: str, database: Database) -> None:
    """Protects another program's database that was named by mistake."""
    if database.path is not None:
        database.path.parent.mkdir(parents=True)
        database.path.touch()
    with database.writing() as connection:
        connection.execute(text("CREATE TABLE incidents (theirs INTEGER)"))
    store = AlertStore(url)
    with pytest.raises(Misconfigured, match="holds something else"):
        store.keep([row()])
    store.close()


def test_a_shared_server_may_hold_other_tables(postgres: PostgresServer) -> None:
    """Protects PostgreSQL databases that several programs share."""
    url = postgres.fresh()
    database = Database(url)
    with database.writing() as connection:
        connection.execute(text("CREATE TABLE invoices (theirs INTEGER)"))
    database.close()
    store = AlertStore(url)
    store.keep([row()])
    store.close()


def test_a_server_database_that_cannot_hold_our_text_is_refused(postgres: PostgresServer) -> None:
    """Protects from finding out with the first ümlaut."""
    store = AlertStore(postgres.database("ENCODING 'SQL_ASCII' TEMPLATE template0"))
    with pytest.raises(Misconfigured, match="ENCODING 'UTF8'"):
        store.keep([row()])
    store.close()


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """Protects a file that was named by mistake."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 100)
    before = path.read_bytes()
    with pytest.raises(Misconfigured, match="no SQLite database"):
        AlertStore(f"sqlite:///{path}").keep([row()])
    assert path.read_bytes() == before


def test_nothing_is_made_unasked(url: str, database: Database) -> None:
    """Protects a command line with a mistyped path from an empty answer and an empty database."""
    store = AlertStore(url, create=False)
    with pytest.raises(StoreMissing):
        store.incidents()
    assert database.path is None or not database.path.parent.exists()
    migrate(database)
    assert store.incidents() == []
    store.close()
