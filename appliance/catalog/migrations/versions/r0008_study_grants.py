"""Studies shown to one user, and which images say that a name is in their pixels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "study_grants",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=False),
        sa.Column("user", sa.Integer(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("made_utc", sa.Text(), nullable=False),
        sa.Column("expires_utc", sa.Text(), nullable=False),
        sa.Column("revoked_utc", sa.Text(), nullable=True),
        sa.Column("revoked_by", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["study"], ["studies.id"], name=op.f("fk_study_grants_study_studies")),
        sa.ForeignKeyConstraint(["user"], ["users.id"], name=op.f("fk_study_grants_user_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_grants")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_study_grants_study"), "study_grants", ["study"], unique=False)
    op.create_index(op.f("ix_study_grants_user"), "study_grants", ["user"], unique=False)
    op.add_column(
        "instances", sa.Column("burned_in_annotation", sa.Text(), server_default="", nullable=False)
    )
