"""Sessions of remote support, and what was typed and shown in each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "support_sessions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("opened_utc", sa.Text(), nullable=False),
        sa.Column("expires_utc", sa.Text(), nullable=False),
        sa.Column("ended_utc", sa.Text(), nullable=True),
        sa.Column("ended_by", sa.Text(), server_default="", nullable=False),
        sa.Column("ending", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_support_sessions")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "support_visits",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("session", sa.Integer(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("began_utc", sa.Text(), nullable=False),
        sa.Column("ended_utc", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["session"], ["support_sessions.id"], name=op.f("fk_support_visits_session_support_sessions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_support_visits")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_support_visits_session"), "support_visits", ["session"], unique=False)
    op.create_table(
        "support_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("visit", sa.Integer(), nullable=False),
        sa.Column("at_milliseconds", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["visit"], ["support_visits.id"], name=op.f("fk_support_events_visit_support_visits")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_support_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_support_events_visit"), "support_events", ["visit"], unique=False)
