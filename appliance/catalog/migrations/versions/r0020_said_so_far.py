"""How many images of a study have their tag already, where a run ended in the middle of one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None
works_with = "0017"


def upgrade() -> None:
    op.add_column("tier_tags", sa.Column("said_to", sa.Integer(), server_default="0", nullable=False))
