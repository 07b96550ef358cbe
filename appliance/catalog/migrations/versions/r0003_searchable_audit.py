"""The audit can be searched: who acted from where, on which study, with what outcome; each row says its format.

The table is made anew and its rows are copied: they stay in format 1 of the chain, which has no text in the new
columns, and verify as before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.rename_table("audit", "audit_before")
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at_utc", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("actor_kind", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("study", sa.Text(), server_default="", nullable=False),
        sa.Column("outcome", sa.Text(), server_default="", nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("format", sa.Integer(), server_default="1", nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.execute(
        "INSERT INTO audit (id, at_utc, actor, action, subject, details, chain) "
        "SELECT id, at_utc, actor, action, subject, details, chain FROM audit_before ORDER BY id"
    )
    op.drop_table("audit_before")
    op.create_index("ix_audit_at_utc", "audit", ["at_utc"])
    op.create_index("ix_audit_actor", "audit", ["actor"])
    op.create_index("ix_audit_action", "audit", ["action"])
    op.create_index("ix_audit_address", "audit", ["address"], sqlite_where=sa.text("address <> ''"))
    op.create_index("ix_audit_study", "audit", ["study"], sqlite_where=sa.text("study <> ''"))
    op.create_index("ix_audit_outcome", "audit", ["outcome"], sqlite_where=sa.text("outcome <> 'done'"))
