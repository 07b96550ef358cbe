"""The first tables: received, owed, known, audited."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at_utc", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "destinations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("takes", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), server_default="", nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("breaker_failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("breaker_open_until_utc", sa.Text(), nullable=True),
        sa.Column("breaker_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("last_success_utc", sa.Text(), nullable=True),
        sa.Column("removed", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_destinations")),
        sa.UniqueConstraint("name", name=op.f("uq_destinations_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ae_title", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("admitted_utc", sa.Text(), nullable=False),
        sa.Column("last_seen_utc", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
        sa.UniqueConstraint("ae_title", "address", name=op.f("uq_devices_ae_title_address")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "door",
        sa.Column("ae_title", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("first_seen_utc", sa.Text(), nullable=False),
        sa.Column("last_seen_utc", sa.Text(), nullable=False),
        sa.Column("calls", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("ae_title", "address", name=op.f("pk_door")),
    )
    op.create_index(op.f("ix_door_last_seen_utc"), "door", ["last_seen_utc"], unique=False)
    op.create_table(
        "patients",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.Text(), server_default="", nullable=False),
        sa.Column("issuer", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("name_folded", sa.Text(), server_default="", nullable=False),
        sa.Column("birth_date", sa.Text(), server_default="", nullable=False),
        sa.Column("sex", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patients")),
        sa.UniqueConstraint(
            "patient_id",
            "issuer",
            "name_folded",
            "birth_date",
            name=op.f("uq_patients_patient_id_issuer_name_folded_birth_date"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "processes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_utc", sa.Text(), nullable=False),
        sa.Column("beat_utc", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_processes")),
    )
    op.create_table(
        "settings",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("changed_utc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_settings")),
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("at_utc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_failures")),
    )
    op.create_index(op.f("ix_sign_in_failures_address"), "sign_in_failures", ["address"], unique=False)
    op.create_index(op.f("ix_sign_in_failures_at_utc"), "sign_in_failures", ["at_utc"], unique=False)
    op.create_index(op.f("ix_sign_in_failures_login"), "sign_in_failures", ["login"], unique=False)
    op.create_table(
        "study_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_utc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study_keys")),
    )
    op.create_index(
        op.f("ix_study_keys_study_instance_uid"), "study_keys", ["study_instance_uid"], unique=False
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("1"), nullable=False),
        sa.Column("language", sa.Text(), server_default="", nullable=False),
        sa.Column("created_utc", sa.Text(), nullable=False),
        sa.Column("changed_utc", sa.Text(), nullable=False),
        sa.Column("last_sign_in_utc", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("login", name=op.f("uq_users_login")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "rules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("destination", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("modality", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["destination"], ["destinations.id"], name=op.f("fk_rules_destination_destinations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rules")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_rules_destination"), "rules", ["destination"], unique=False)
    op.create_table(
        "studies",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("patient", sa.Integer(), nullable=False),
        sa.Column("study_date", sa.Text(), server_default="", nullable=False),
        sa.Column("study_time", sa.Text(), server_default="", nullable=False),
        sa.Column("accession_number", sa.Text(), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("referring_physician_name", sa.Text(), server_default="", nullable=False),
        sa.Column("modalities", sa.Text(), server_default="", nullable=False),
        sa.Column("instances", sa.Integer(), server_default="0", nullable=False),
        sa.Column("bytes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("duplicates", sa.Integer(), server_default="0", nullable=False),
        sa.Column("search_folded", sa.Text(), server_default="", nullable=False),
        sa.Column("patient_conflict", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_received_utc", sa.Text(), nullable=False),
        sa.Column("last_received_utc", sa.Text(), nullable=False),
        sa.Column("change", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["patient"], ["patients.id"], name=op.f("fk_studies_patient_patients")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
        sa.UniqueConstraint("study_instance_uid", name=op.f("uq_studies_study_instance_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_studies_change"), "studies", ["change"], unique=False)
    op.create_index(op.f("ix_studies_patient"), "studies", ["patient"], unique=False)
    op.create_index(
        "ix_studies_search",
        "studies",
        ["study_date", "study_time", "id", "modalities", "search_folded"],
        unique=False,
    )
    op.create_table(
        "web_sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user", sa.Integer(), nullable=False),
        sa.Column("created_utc", sa.Text(), nullable=False),
        sa.Column("seen_utc", sa.Text(), nullable=False),
        sa.Column("expires_utc", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("agent", sa.Text(), server_default="", nullable=False),
        sa.Column("csrf", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["user"], ["users.id"], name=op.f("fk_web_sessions_user_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_web_sessions")),
    )
    op.create_index(op.f("ix_web_sessions_expires_utc"), "web_sessions", ["expires_utc"], unique=False)
    op.create_index(op.f("ix_web_sessions_user"), "web_sessions", ["user"], unique=False)
    op.create_table(
        "manifests",
        sa.Column("destination", sa.Integer(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=False),
        sa.Column("dirty_utc", sa.Text(), nullable=True),
        sa.Column("written_utc", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["destination"], ["destinations.id"], name=op.f("fk_manifests_destination_destinations")
        ),
        sa.ForeignKeyConstraint(["study"], ["studies.id"], name=op.f("fk_manifests_study_studies")),
        sa.PrimaryKeyConstraint("destination", "study", name=op.f("pk_manifests")),
    )
    op.create_index(
        "ix_manifests_dirty",
        "manifests",
        ["destination", "dirty_utc"],
        unique=False,
        sqlite_where=sa.text("dirty_utc IS NOT NULL"),
    )
    op.create_table(
        "series",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), server_default="", nullable=False),
        sa.Column("series_number", sa.Text(), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("body_part_examined", sa.Text(), server_default="", nullable=False),
        sa.Column("laterality", sa.Text(), server_default="", nullable=False),
        sa.Column("manufacturer", sa.Text(), server_default="", nullable=False),
        sa.Column("manufacturer_model_name", sa.Text(), server_default="", nullable=False),
        sa.Column("station_name", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["study"], ["studies.id"], name=op.f("fk_series_study_studies")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("study", "series_instance_uid", name=op.f("uq_series_study_series_instance_uid")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "instances",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("series", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=False),
        sa.Column("instance_number", sa.Text(), server_default="", nullable=False),
        sa.Column("rows", sa.Integer(), server_default="0", nullable=False),
        sa.Column("columns", sa.Integer(), server_default="0", nullable=False),
        sa.Column("number_of_frames", sa.Integer(), server_default="0", nullable=False),
        sa.Column("image_laterality", sa.Text(), server_default="", nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("sealed_bytes", sa.Integer(), nullable=False),
        sa.Column("intake", sa.Text(), nullable=False),
        sa.Column("origin_name", sa.Text(), server_default="", nullable=False),
        sa.Column("origin_address", sa.Text(), server_default="", nullable=False),
        sa.Column("received_utc", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), server_default="0", nullable=False),
        sa.Column("patient_conflict", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("other_patient", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["key_id"], ["study_keys.id"], name=op.f("fk_instances_key_id_study_keys")),
        sa.ForeignKeyConstraint(
            ["other_patient"], ["patients.id"], name=op.f("fk_instances_other_patient_patients")
        ),
        sa.ForeignKeyConstraint(["series"], ["series.id"], name=op.f("fk_instances_series_series")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
        sa.UniqueConstraint("object_id", name=op.f("uq_instances_object_id")),
        sa.UniqueConstraint(
            "series", "sop_instance_uid", "version", name=op.f("uq_instances_series_sop_instance_uid_version")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_instances_sop_instance_uid"), "instances", ["sop_instance_uid"], unique=False)
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("destination", sa.Integer(), nullable=False),
        sa.Column("instance", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_utc", sa.Text(), nullable=True),
        sa.Column("lease_until_utc", sa.Text(), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("created_utc", sa.Text(), nullable=False),
        sa.Column("changed_utc", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["destination"], ["destinations.id"], name=op.f("fk_deliveries_destination_destinations")
        ),
        sa.ForeignKeyConstraint(
            ["instance"], ["instances.id"], name=op.f("fk_deliveries_instance_instances")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("destination", "instance", name=op.f("uq_deliveries_destination_instance")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_deliveries_instance"), "deliveries", ["instance"], unique=False)
    op.create_index(
        "ix_deliveries_open",
        "deliveries",
        ["destination", "state", "created_utc"],
        unique=False,
        sqlite_where=sa.text("state <> 'CONFIRMED'"),
    )
    op.create_index(
        "ix_deliveries_pending",
        "deliveries",
        ["destination", sa.literal_column("priority DESC"), "id"],
        unique=False,
        sqlite_where=sa.text("state = 'PENDING'"),
    )
    op.create_index(
        "ix_deliveries_sending",
        "deliveries",
        ["lease_until_utc"],
        unique=False,
        sqlite_where=sa.text("state = 'SENDING'"),
    )
    op.create_index(
        "ix_deliveries_waiting",
        "deliveries",
        ["destination", "next_attempt_utc"],
        unique=False,
        sqlite_where=sa.text("state = 'WAITING'"),
    )
    op.create_table(
        "delivery_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("delivery", sa.Integer(), nullable=False),
        sa.Column("at_utc", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery"], ["deliveries.id"], name=op.f("fk_delivery_events_delivery_deliveries")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_events")),
    )
    op.create_index(op.f("ix_delivery_events_delivery"), "delivery_events", ["delivery"], unique=False)
