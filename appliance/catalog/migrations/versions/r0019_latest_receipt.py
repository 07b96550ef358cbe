"""When the latest of all studies was received, without reading them all."""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None
works_with = "0017"


def upgrade() -> None:
    op.create_index("ix_studies_last_received", "studies", ["last_received_utc"], unique=False)
