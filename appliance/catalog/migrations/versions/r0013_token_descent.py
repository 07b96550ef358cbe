"""Which token a token was made with: whoever takes one back takes back what came of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_tokens", sa.Column("made_with", sa.Integer(), nullable=True))
    op.create_index(op.f("ix_api_tokens_made_with"), "api_tokens", ["made_with"], unique=False)
