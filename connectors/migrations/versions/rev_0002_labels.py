"""Operators' labels, and what incidents looked like."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of labels; older incidents have an empty context."""
    op.add_column("incidents", sa.Column("context", sa.Text, nullable=False, server_default=sa.text("'[]'")))
    op.create_table(
        "labels",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("incident_id", sa.Text, sa.ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("until_us", sa.BigInteger),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("withdrawn_us", sa.BigInteger),
        sa.Column("withdrawn_by", sa.Text),
        sa.Column("silenced", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    acts = sa.text("withdrawn_us IS NULL")
    op.create_index("labels_revision", "labels", ["revision"])
    op.create_index("labels_incident", "labels", ["incident_id"])
    op.create_index(
        "labels_one_acts", "labels", ["incident_id"], unique=True, sqlite_where=acts, postgresql_where=acts
    )  # fmt: skip
    counter = op.create_table(
        "label_revision",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(counter, [{"id": 1, "value": 0}])
