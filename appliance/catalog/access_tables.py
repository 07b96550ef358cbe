"""The tables of second factors, links and grants, and of what is half open: a part of `appliance.catalog.schema`, which
says what holds for all."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from appliance.catalog.columns import JsonText, UtcText
from appliance.catalog.metadata import count as count_column
from appliance.catalog.metadata import metadata
from appliance.catalog.metadata import text as text_column

# --- second_factors.py -----------------------------------------------------------------------------------------------

one_time_codes = Table(
    "one_time_codes",
    metadata,
    Column("user", ForeignKey("users.id"), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),  # the secret, under the root key
    count_column("last_step"),  # the time step of the last code that was accepted: none is accepted twice
    Column("created_utc", UtcText, nullable=False),
    Column("confirmed_utc", UtcText),  # NULL until one code has shown that the telephone has the secret
)

passkeys = Table(
    "passkeys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("user", ForeignKey("users.id"), nullable=False, index=True),
    Column("credential_id", LargeBinary, nullable=False, unique=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("host", Text, nullable=False),  # the name under which it was made: it works under no other
    text_column("name"),
    count_column("sign_count"),
    Column("transports", JsonText, nullable=False),
    Column("created_utc", UtcText, nullable=False),
    Column("last_used_utc", UtcText),
    Column("blocked_utc", UtcText),  # its counter went back: somebody has a copy
    sqlite_autoincrement=True,
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("user", ForeignKey("users.id"), nullable=False, index=True),
    Column("created_utc", UtcText, nullable=False),
    Column("used_utc", UtcText),
)

# --- half_open.py ----------------------------------------------------------------------------------------------------

half_open_sign_ins = Table(
    "half_open_sign_ins",
    metadata,
    Column("id", Text, primary_key=True),  # SHA-256 of what the cookie holds
    Column("user", ForeignKey("users.id"), nullable=False, index=True),
    Column("stage", Text, nullable=False),
    Column("created_utc", UtcText, nullable=False),
    Column("expires_utc", UtcText, nullable=False, index=True),
    text_column("password_hash"),  # the one that was fitted: a new password ends what the old one began
    text_column("agent"),
    count_column("tries"),
)

challenges = Table(
    "challenges",
    metadata,
    Column("holder", Text, nullable=False),  # the digest of whose browser must answer
    Column("purpose", Text, nullable=False),
    Column("challenge", LargeBinary, nullable=False),
    Column("expires_utc", UtcText, nullable=False, index=True),
    PrimaryKeyConstraint("holder", "purpose"),
)

# --- account_links.py ------------------------------------------------------------------------------------------------

account_links = Table(
    "account_links",
    metadata,
    Column("id", Text, primary_key=True),  # SHA-256 of what the link holds
    Column("user", ForeignKey("users.id"), nullable=False, unique=True),  # a new link replaces the one before
    Column("made_by", Text, nullable=False),
    Column("made_utc", UtcText, nullable=False),
    Column("expires_utc", UtcText, nullable=False),
)

# --- grants.py -------------------------------------------------------------------------------------------------------

study_grants = Table(
    "study_grants",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study", ForeignKey("studies.id"), nullable=False, index=True),
    Column("user", ForeignKey("users.id"), nullable=False, index=True),
    Column("by", Text, nullable=False),
    text_column("reason"),
    Column("made_utc", UtcText, nullable=False),
    Column("expires_utc", UtcText, nullable=False),
    Column("revoked_utc", UtcText),
    text_column("revoked_by"),
    sqlite_autoincrement=True,
)

# --- api_tokens.py ---------------------------------------------------------------------------------------------------

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),  # SHA-256 of the token
    Column("user", ForeignKey("users.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("scopes", JsonText, nullable=False),  # words of `appliance.identity.permissions`
    Column("created_utc", UtcText, nullable=False),
    Column("expires_utc", UtcText, nullable=False),
    Column("last_used_utc", UtcText),
    text_column("last_address"),
    Column("revoked_utc", UtcText),
    text_column("revoked_by"),
    Column("made_with", Integer, index=True),  # the row id of the token that asked for it, if one did
    sqlite_autoincrement=True,
)

# --- emergencies.py --------------------------------------------------------------------------------------------------

emergencies = Table(
    "emergencies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("grant", ForeignKey("study_grants.id"), nullable=False, unique=True),
    Column("reviewed_utc", UtcText),
    text_column("reviewed_by"),
    text_column("finding"),
    sqlite_autoincrement=True,
)
