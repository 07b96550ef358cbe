"""Since when somebody waits for an image that is not on this disk."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("evictions", sa.Column("wanted_utc", sa.Text(), nullable=True))
    op.create_index(
        "ix_evictions_wanted",
        "evictions",
        ["study", "instance"],
        unique=False,
        sqlite_where=sa.text("wanted_utc IS NOT NULL"),
    )
