"""What was destroyed, on whose word, and what of it is still to be done where."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "destruction_certificates",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("request", sa.Integer(), nullable=True),
        sa.Column("authority", sa.Text(), nullable=False),
        sa.Column("begun_utc", sa.Text(), nullable=False),
        sa.Column("closed_utc", sa.Text(), nullable=True),
        sa.Column("completed_utc", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_destruction_certificates")),
        sa.UniqueConstraint("label", name=op.f("uq_destruction_certificates_label")),
        sa.UniqueConstraint("request", name=op.f("uq_destruction_certificates_request")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "destroyed_studies",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("certificate", sa.Integer(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("instances", sa.Integer(), server_default="0", nullable=False),
        sa.Column("bytes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("first_received_utc", sa.Text(), nullable=False),
        sa.Column("last_received_utc", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("elsewhere", sa.Text(), nullable=False),
        sa.Column("exports", sa.Integer(), server_default="0", nullable=False),
        sa.Column("destroyed_utc", sa.Text(), nullable=False),
        sa.Column("removed_utc", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["certificate"],
            ["destruction_certificates.id"],
            name=op.f("fk_destroyed_studies_certificate_destruction_certificates"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_destroyed_studies")),
        sa.UniqueConstraint("study", name=op.f("uq_destroyed_studies_study")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_destroyed_studies_certificate"), "destroyed_studies", ["certificate"], unique=False
    )
    op.create_index(op.f("ix_destroyed_studies_digest"), "destroyed_studies", ["digest"], unique=False)
    op.create_table(
        "destroyed_objects",
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study"], ["destroyed_studies.id"], name=op.f("fk_destroyed_objects_study_destroyed_studies")
        ),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_destroyed_objects")),
    )
    op.create_index(op.f("ix_destroyed_objects_study"), "destroyed_objects", ["study"], unique=False)
    op.create_table(
        "destroyed_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("destroyed_utc", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"], ["study_keys.id"], name=op.f("fk_destroyed_keys_key_id_study_keys")
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_destroyed_keys")),
    )
    op.create_index(op.f("ix_destroyed_keys_manifest"), "destroyed_keys", ["manifest"], unique=False)
    op.create_table(
        "tombstones_owed",
        sa.Column("destination", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["destination"], ["destinations.id"], name=op.f("fk_tombstones_owed_destination_destinations")
        ),
        sa.ForeignKeyConstraint(
            ["study"], ["destroyed_studies.id"], name=op.f("fk_tombstones_owed_study_destroyed_studies")
        ),
        sa.PrimaryKeyConstraint("destination", "study", name=op.f("pk_tombstones_owed")),
    )
    op.create_index(op.f("ix_tombstones_owed_study"), "tombstones_owed", ["study"], unique=False)
    op.create_table(
        "destruction_places",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("certificate", sa.Integer(), nullable=False),
        sa.Column("destination", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("changed_utc", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["certificate"],
            ["destruction_certificates.id"],
            name=op.f("fk_destruction_places_certificate_destruction_certificates"),
        ),
        sa.ForeignKeyConstraint(
            ["destination"], ["destinations.id"], name=op.f("fk_destruction_places_destination_destinations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_destruction_places")),
        sa.UniqueConstraint(
            "certificate", "destination", name=op.f("uq_destruction_places_certificate_destination")
        ),
        sqlite_autoincrement=True,
    )
