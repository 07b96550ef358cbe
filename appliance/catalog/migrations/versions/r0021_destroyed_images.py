"""Which images a destroyed key has sealed: an archive may hold others under it, about which nobody has decided."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None
works_with = "0017"
although = (
    "software that doesn't know these tables takes what was spared under a destroyed key for destroyed, and destroys it: "
    "none without them was ever released to a clinic, so no box goes back to one"
)


def upgrade() -> None:
    op.create_table(
        "destroyed_images",
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"], ["study_keys.id"], name=op.f("fk_destroyed_images_key_id_study_keys")
        ),
        sa.PrimaryKeyConstraint("key_id", "object_id", name=op.f("pk_destroyed_images")),
    )
    op.create_table(
        "spared_images",
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"], ["study_keys.id"], name=op.f("fk_spared_images_key_id_study_keys")
        ),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_spared_images")),
    )
    op.create_index(op.f("ix_spared_images_study"), "spared_images", ["study"], unique=False)
