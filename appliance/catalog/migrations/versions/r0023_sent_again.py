"""Which images were sent again in place of lost ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None
works_with = "0017"


def upgrade() -> None:
    op.add_column(
        "instances", sa.Column("stands_in", sa.Boolean(), server_default=sa.text("0"), nullable=False)
    )
