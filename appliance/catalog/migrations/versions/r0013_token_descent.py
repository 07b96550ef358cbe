"""Which token a token was made with: whoever takes one back takes back what came of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("api_tokens") as table:
        table.add_column(sa.Column("made_with", sa.Integer(), nullable=True))
        table.create_foreign_key(
            op.f("fk_api_tokens_made_with_api_tokens"), "api_tokens", ["made_with"], ["id"]
        )
        table.create_index(op.f("ix_api_tokens_made_with"), ["made_with"], unique=False)
