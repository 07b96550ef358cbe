"""The tables of remote support: a part of `appliance.catalog.schema`, which says what holds for all."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, Table, Text

from appliance.catalog.columns import UtcText
from appliance.catalog.metadata import metadata
from appliance.catalog.metadata import text as text_column

# --- support_sessions.py ---------------------------------------------------------------------------------------------

support_sessions = Table(
    "support_sessions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("opened_by", Text, nullable=False),
    Column("opened_utc", UtcText, nullable=False),
    Column("expires_utc", UtcText, nullable=False),
    Column("ended_utc", UtcText),
    text_column("ended_by"),
    Column("ending", Text),
    sqlite_autoincrement=True,
)
support_visits = Table(
    "support_visits",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("session", ForeignKey("support_sessions.id"), nullable=False, index=True),
    Column("person", Text, nullable=False),  # the key ID of the certificate
    Column("serial", Text, nullable=False),
    Column("began_utc", UtcText, nullable=False),
    Column("ended_utc", UtcText),
    text_column("sha256"),  # of the recording, as the audit has it
    sqlite_autoincrement=True,
)

support_events = Table(
    "support_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("visit", ForeignKey("support_visits.id"), nullable=False, index=True),
    Column("at_milliseconds", Integer, nullable=False),  # since the visit began
    Column("kind", Text, nullable=False),  # i, typed; o, shown
    Column("text", Text, nullable=False),
    sqlite_autoincrement=True,
)
