"""How far away each study may lie in each bucket, by the tags that the box has set there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None
works_with = "0017"


def upgrade() -> None:
    op.create_table(
        "tier_tags",
        sa.Column("study", sa.Integer(), nullable=False),
        sa.Column("destination", sa.Integer(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("deepest", sa.Text(), nullable=False),
        sa.Column("changed_utc", sa.Text(), nullable=False),
        sa.Column("settled_utc", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["destination"], ["destinations.id"], name=op.f("fk_tier_tags_destination_destinations")
        ),
        sa.ForeignKeyConstraint(
            ["study"], ["studies.id"], name=op.f("fk_tier_tags_study_studies"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study", "destination", name=op.f("pk_tier_tags")),
    )
