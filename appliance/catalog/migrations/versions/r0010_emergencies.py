"""Emergency access to studies, and its review."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "emergencies",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("grant", sa.Integer(), nullable=False),
        sa.Column("reviewed_utc", sa.Text(), nullable=True),
        sa.Column("reviewed_by", sa.Text(), server_default="", nullable=False),
        sa.Column("finding", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["grant"], ["study_grants.id"], name=op.f("fk_emergencies_grant_study_grants")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_emergencies")),
        sa.UniqueConstraint("grant", name=op.f("uq_emergencies_grant")),
        sqlite_autoincrement=True,
    )
