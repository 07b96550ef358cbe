"""Notices, who was told, what leaves the box, and what each person wants to hear."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("words", sa.Text(), server_default="", nullable=False),
        sa.Column("fix", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("raised_utc", sa.Text(), nullable=False),
        sa.Column("over_utc", sa.Text(), nullable=True),
        sa.Column("acknowledged_utc", sa.Text(), nullable=True),
        sa.Column("acknowledged_by", sa.Integer(), nullable=True),
        sa.Column("escalated", sa.Integer(), server_default="0", nullable=False),
        sa.Column("escalated_utc", sa.Text(), nullable=True),
        sa.Column("change", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["acknowledged_by"], ["users.id"], name=op.f("fk_notices_acknowledged_by_users")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
        sa.UniqueConstraint("change", name=op.f("uq_notices_change")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_notices_to_acknowledge",
        "notices",
        ["id"],
        unique=False,
        sqlite_where=sa.text("severity = 'critical' AND acknowledged_utc IS NULL AND state <> 'OVER'"),
    )
    op.create_table(
        "notice_receipts",
        sa.Column("notice", sa.Integer(), nullable=False),
        sa.Column("user", sa.Integer(), nullable=False),
        sa.Column("told_utc", sa.Text(), nullable=False),
        sa.Column("read_utc", sa.Text(), nullable=True),
        sa.Column("digest_utc", sa.Text(), nullable=True),
        sa.Column("digest", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["notice"], ["notices.id"], name=op.f("fk_notice_receipts_notice_notices")),
        sa.ForeignKeyConstraint(["user"], ["users.id"], name=op.f("fk_notice_receipts_user_users")),
        sa.PrimaryKeyConstraint("notice", "user", name=op.f("pk_notice_receipts")),
    )
    op.create_index(
        "ix_notice_receipts_digest",
        "notice_receipts",
        ["user"],
        unique=False,
        sqlite_where=sa.text("digest = 1 AND digest_utc IS NULL"),
    )
    op.create_index(
        "ix_notice_receipts_unread",
        "notice_receipts",
        ["user"],
        unique=False,
        sqlite_where=sa.text("read_utc IS NULL"),
    )
    op.create_table(
        "alert_states",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("since_utc", sa.Text(), nullable=False),
        sa.Column("gone_utc", sa.Text(), nullable=True),
        sa.Column("notice", sa.Integer(), nullable=True),
        sa.Column("told_utc", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["notice"], ["notices.id"], name=op.f("fk_alert_states_notice_notices")),
        sa.PrimaryKeyConstraint("kind", "subject", name=op.f("pk_alert_states")),
    )
    op.create_table(
        "alert_rules",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("changes", sa.Text(), nullable=False),
        sa.Column("changed_utc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_alert_rules")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("notice", sa.Integer(), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("urgency", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_utc", sa.Text(), nullable=False),
        sa.Column("lease_until_utc", sa.Text(), nullable=True),
        sa.Column("expires_utc", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("created_utc", sa.Text(), nullable=False),
        sa.Column("changed_utc", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["notice"], ["notices.id"], name=op.f("fk_outbox_notice_notices")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("message_id", name=op.f("uq_outbox_message_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_changed_utc", "outbox", ["changed_utc"], unique=False)
    op.create_index(op.f("ix_outbox_notice"), "outbox", ["notice"], unique=False)
    op.create_index(
        "ix_outbox_open",
        "outbox",
        ["channel", "next_attempt_utc"],
        unique=False,
        sqlite_where=sa.text("state IN ('WAITING', 'SENDING')"),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), server_default="", nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("on_lan", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("breaker_failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("breaker_open_until_utc", sa.Text(), nullable=True),
        sa.Column("breaker_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("last_success_utc", sa.Text(), nullable=True),
        sa.Column("removed", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_utc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
        sa.UniqueConstraint("name", name=op.f("uq_webhooks_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "notice_preferences",
        sa.Column("user", sa.Integer(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("changed_utc", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["users.id"], name=op.f("fk_notice_preferences_user_users")),
        sa.PrimaryKeyConstraint("user", name=op.f("pk_notice_preferences")),
    )
