"""Holds, the clinic's own rules of retention, until when each study is kept, and requests to destroy."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=True),
        sa.Column("patient", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.Text(), server_default="", nullable=False),
        sa.Column("issuer", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("placed_by", sa.Text(), nullable=False),
        sa.Column("placed_utc", sa.Text(), nullable=False),
        sa.Column("released_by", sa.Text(), server_default="", nullable=False),
        sa.Column("released_utc", sa.Text(), nullable=True),
        sa.Column("release_reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_holds_in_force", "holds", ["id"], sqlite_where=sa.text("released_utc IS NULL"))
    op.create_index("ix_holds_study", "holds", ["study"], sqlite_where=sa.text("study IS NOT NULL"))
    op.create_table(
        "retention_rules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("record_type", sa.Text(), nullable=False),
        sa.Column("starts", sa.Text(), nullable=False),
        sa.Column("years", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at_utc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_rules")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "retention_dates",
        sa.Column("study", sa.Integer(), nullable=False),
        sa.Column("keep_until", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study"], ["studies.id"], name=op.f("fk_retention_dates_study_studies"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study", name=op.f("pk_retention_dates")),
    )
    op.create_index("ix_retention_dates_due", "retention_dates", ["keep_until", "study", "rule"])
    op.create_table(
        "destruction_requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_utc", sa.Text(), nullable=False),
        sa.Column("expires_utc", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), server_default="", nullable=False),
        sa.Column("approved_utc", sa.Text(), nullable=True),
        sa.Column("ended_by", sa.Text(), server_default="", nullable=False),
        sa.Column("ended_utc", sa.Text(), nullable=True),
        sa.Column("end_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_destruction_requests")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_destruction_requests_standing",
        "destruction_requests",
        ["id"],
        sqlite_where=sa.text("state IN ('open', 'approved')"),
    )
    op.create_table(
        "destruction_items",
        sa.Column("request", sa.Integer(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("keep_until", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("left_out_because", sa.Text(), server_default="", nullable=False),
        sa.Column("left_out_utc", sa.Text(), nullable=True),
        sa.Column("certificate", sa.Text(), server_default="", nullable=False),
        sa.Column("carried_out_utc", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["request"],
            ["destruction_requests.id"],
            name=op.f("fk_destruction_items_request_destruction_requests"),
        ),
        sa.PrimaryKeyConstraint("request", "study", name=op.f("pk_destruction_items")),
    )
    op.create_index(op.f("ix_destruction_items_study"), "destruction_items", ["study"])
    op.create_index(
        "ix_instances_other_patient",
        "instances",
        ["other_patient", "series"],
        sqlite_where=sa.text("other_patient IS NOT NULL"),
    )
