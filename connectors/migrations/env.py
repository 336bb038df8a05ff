"""Alembic's entry: runs the revisions on the connection that it is handed, within that connection's transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from connectors.alert_store_tables import VERSION_TABLE, metadata


def run() -> None:
    """Bring the connection's database to where Alembic's command says."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
    with context.begin_transaction():
        context.run_migrations()


run()
