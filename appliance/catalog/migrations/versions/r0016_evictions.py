"""Which images are not on this disk because an archive has them proven whole."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evictions",
        sa.Column("instance", sa.Integer(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=False),
        sa.Column("whereabouts", sa.Text(), nullable=False),
        sa.Column("dataset_sha256", sa.Text(), nullable=False),
        sa.Column("sealed_sha256", sa.Text(), nullable=False),
        sa.Column("places", sa.Text(), nullable=False),
        sa.Column("changed_utc", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance"],
            ["instances.id"],
            name=op.f("fk_evictions_instance_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_evictions")),
    )
    op.create_index(op.f("ix_evictions_study"), "evictions", ["study"], unique=False)
    op.create_index(
        "ix_evictions_unsettled",
        "evictions",
        ["instance"],
        unique=False,
        sqlite_where=sa.text("whereabouts <> 'away'"),
    )
