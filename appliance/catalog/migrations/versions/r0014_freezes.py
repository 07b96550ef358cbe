"""When nothing was overwritten or removed, why, and who let it go on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "freezes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("begun_by", sa.Text(), nullable=False),
        sa.Column("begun_utc", sa.Text(), nullable=False),
        sa.Column("released_by", sa.Text(), server_default="", nullable=False),
        sa.Column("released_utc", sa.Text(), nullable=True),
        sa.Column("release_reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_freezes")),
        sqlite_autoincrement=True,
    )
