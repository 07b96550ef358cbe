"""The table of freezes: a part of `appliance.catalog.schema`, which says what holds for all."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table, Text

from appliance.catalog.columns import JsonText, UtcText
from appliance.catalog.metadata import metadata
from appliance.catalog.metadata import text as text_column

# --- freezes.py ------------------------------------------------------------------------------------------------------

freezes = Table(
    "freezes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("why", Text, nullable=False),  # vanished, altered, reported, by-hand
    Column("evidence", JsonText, nullable=False),  # counts, never an object
    text_column("reason"),  # what a person wrote who began it
    Column("begun_by", Text, nullable=False),
    Column("begun_utc", UtcText, nullable=False),
    text_column("released_by"),
    Column("released_utc", UtcText),
    text_column("release_reason"),
    sqlite_autoincrement=True,
)
