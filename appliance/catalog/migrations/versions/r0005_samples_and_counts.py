"""A small time series, the days on which devices sent, and running counts of what is kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COUNTS = (
    "SELECT 'studies', count(*) FROM studies",
    "SELECT 'instances', coalesce(sum(instances), 0) FROM studies",
    "SELECT 'bytes', coalesce(sum(bytes), 0) FROM studies",
    "SELECT 'duplicates', coalesce(sum(duplicates), 0) FROM studies",
    "SELECT 'confirmed:' || destination, count(*) FROM deliveries WHERE state = 'CONFIRMED' GROUP BY destination",
)


def upgrade() -> None:
    op.create_table(
        "samples",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("grain", sa.Text(), nullable=False),
        sa.Column("at_utc", sa.Text(), nullable=False),
        sa.Column("figures", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_samples")),
        sa.UniqueConstraint("grain", "at_utc", name=op.f("uq_samples_grain_at_utc")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_samples_grain_id", "samples", ["grain", "id"], unique=False)
    op.create_table(
        "sender_days",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ae_title", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("instances", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sender_days")),
        sa.UniqueConstraint("ae_title", "address", "day", name=op.f("uq_sender_days_ae_title_address_day")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_studies_conflict", "studies", ["id"], unique=False, sqlite_where=sa.text("patient_conflict = 1")
    )
    for counted in _COUNTS:
        op.execute(f"INSERT INTO counters (name, value) {counted}")
