"""When patients were last seen, as somebody has entered it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None
works_with = "0017"
although = (
    "software that doesn't know this table calls studies due that a visit keeps longer, and two people may destroy them: "
    "none without it was ever released to a clinic, so no box goes back to one"
)


def upgrade() -> None:
    op.create_table(
        "visits",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("patient", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.Text(), server_default="", nullable=False),
        sa.Column("issuer", sa.Text(), server_default="", nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("entered_by", sa.Text(), nullable=False),
        sa.Column("entered_utc", sa.Text(), nullable=False),
        sa.Column("withdrawn_by", sa.Text(), server_default="", nullable=False),
        sa.Column("withdrawn_utc", sa.Text(), nullable=True),
        sa.Column("withdraw_reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_visits")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_visits_patient"), "visits", ["patient"], unique=False)
    op.create_index("ix_visits_number", "visits", ["patient_id"], sqlite_where=sa.text("patient_id <> ''"))
