"""The tables of notices, alerts and messages: a part of `appliance.catalog.schema`, which says what holds for all."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table, Text, text

from appliance.catalog.columns import JsonText, UtcText
from appliance.catalog.metadata import count as count_column
from appliance.catalog.metadata import flag as flag_column
from appliance.catalog.metadata import metadata
from appliance.catalog.metadata import text as text_column

# --- notices.py ------------------------------------------------------------------------------------------------------

notices = Table(
    "notices",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("severity", Text, nullable=False),
    text_column("subject"),
    text_column("words"),  # shown in the console only: what leaves the box is the title of the kind
    text_column("fix"),
    Column("state", Text, nullable=False),
    Column("raised_utc", UtcText, nullable=False),
    Column("over_utc", UtcText),
    Column("acknowledged_utc", UtcText),
    Column("acknowledged_by", ForeignKey("users.id")),
    count_column("escalated"),  # steps of the escalation that are done
    Column("escalated_utc", UtcText),
    Column("change", Integer, nullable=False, unique=True),  # grows with every change of any notice
    sqlite_autoincrement=True,
)
Index(
    "ix_notices_to_acknowledge",
    notices.c.id,
    sqlite_where=text("severity = 'critical' AND acknowledged_utc IS NULL AND state <> 'OVER'"),
)

notice_receipts = Table(
    "notice_receipts",
    metadata,
    Column("notice", ForeignKey("notices.id"), nullable=False),
    Column("user", ForeignKey("users.id"), nullable=False),
    Column("told_utc", UtcText, nullable=False),
    Column("read_utc", UtcText),
    Column("digest_utc", UtcText),  # when it went into the day's e-mail; NULL: it has not
    flag_column("digest"),  # whether it is to go into the day's e-mail
    PrimaryKeyConstraint("notice", "user"),
)
Index("ix_notice_receipts_unread", notice_receipts.c.user, sqlite_where=text("read_utc IS NULL"))
Index(
    "ix_notice_receipts_digest",
    notice_receipts.c.user,
    sqlite_where=text("digest = 1 AND digest_utc IS NULL"),
)

# --- alerts.py -------------------------------------------------------------------------------------------------------

alert_states = Table(
    "alert_states",
    metadata,
    Column("kind", Text, nullable=False),
    text_column("subject"),
    Column("since_utc", UtcText, nullable=False),
    Column("gone_utc", UtcText),  # since when it has not been seen; NULL while it is
    Column("notice", ForeignKey("notices.id")),  # NULL while the trouble has not stood long enough
    Column("told_utc", UtcText),
    PrimaryKeyConstraint("kind", "subject"),
)

alert_rules = Table(
    "alert_rules",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("changes", JsonText, nullable=False),
    Column("changed_utc", UtcText, nullable=False),
)

# --- outbox.py -------------------------------------------------------------------------------------------------------

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False),  # an e-mail address, or the id of a webhook
    Column("notice", ForeignKey("notices.id"), index=True),
    Column("message_id", Text, nullable=False, unique=True),  # the same at every attempt
    text_column("subject"),
    Column("content", JsonText),  # NULL once nothing will be sent any more
    Column("state", Text, nullable=False),
    count_column("urgency"),
    count_column("attempts"),
    Column("next_attempt_utc", UtcText, nullable=False),
    Column("lease_until_utc", UtcText),
    Column("expires_utc", UtcText, nullable=False),
    text_column("reason"),
    Column("created_utc", UtcText, nullable=False),
    Column("changed_utc", UtcText, nullable=False),
    sqlite_autoincrement=True,
)
Index(
    "ix_outbox_open",
    outbox.c.channel,
    outbox.c.next_attempt_utc,
    sqlite_where=text("state IN ('WAITING', 'SENDING')"),
)
Index("ix_outbox_changed_utc", outbox.c.changed_utc)

# --- webhooks.py, notice_preferences.py ------------------------------------------------------------------------------

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("url", Text, nullable=False),
    text_column("secret"),
    Column("format", Text, nullable=False),
    Column("options", JsonText, nullable=False),
    flag_column("on_lan"),
    count_column("breaker_failures"),
    Column("breaker_open_until_utc", UtcText),
    text_column("breaker_reason"),
    Column("last_success_utc", UtcText),
    flag_column("removed"),
    Column("created_utc", UtcText, nullable=False),
    sqlite_autoincrement=True,
)

notice_preferences = Table(
    "notice_preferences",
    metadata,
    Column("user", ForeignKey("users.id"), primary_key=True),
    Column("value", JsonText, nullable=False),
    Column("changed_utc", UtcText, nullable=False),
)
