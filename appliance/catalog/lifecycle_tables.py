"""The tables of keeping and destroying: a part of `appliance.catalog.schema`, which says what holds for all.

What was decided about a study outlives the study, so holds and requests name it without a foreign key: a destroyed study
must leave neither a row that blocks it nor a gap in who decided what.
"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table, Text
from sqlalchemy import text as literal

from appliance.catalog.columns import JsonText, UtcText
from appliance.catalog.metadata import count, metadata
from appliance.catalog.metadata import text as text_column

# --- holds.py --------------------------------------------------------------------------------------------------------

holds = Table(
    "holds",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),  # legal, access
    Column("study", Integer),  # a studies.id, or NULL: the whole patient, with what is yet to come
    Column("patient", Integer, nullable=False),  # a patients.id
    # As received, so that the hold falls on the same person under another spelling of the name, too.
    text_column("patient_id"),
    text_column("issuer"),
    Column("reason", Text, nullable=False),
    Column("placed_by", Text, nullable=False),
    Column("placed_utc", UtcText, nullable=False),
    text_column("released_by"),
    Column("released_utc", UtcText),
    text_column("release_reason"),
    sqlite_autoincrement=True,
)
Index("ix_holds_in_force", holds.c.id, sqlite_where=literal("released_utc IS NULL"))
Index("ix_holds_study", holds.c.study, sqlite_where=literal("study IS NOT NULL"))

# --- visits.py -------------------------------------------------------------------------------------------------------

visits = Table(
    "visits",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("patient", Integer, nullable=False, index=True),  # a patients.id
    # As received, so that the visit is one of the same person under another spelling of the name, too.
    text_column("patient_id"),
    text_column("issuer"),
    Column("day", Text, nullable=False),
    Column("entered_by", Text, nullable=False),
    Column("entered_utc", UtcText, nullable=False),
    text_column("withdrawn_by"),
    Column("withdrawn_utc", UtcText),
    text_column("withdraw_reason"),
    sqlite_autoincrement=True,
)
Index("ix_visits_number", visits.c.patient_id, sqlite_where=literal("patient_id <> ''"))

# --- retention_rules.py ----------------------------------------------------------------------------------------------

retention_rules = Table(
    "retention_rules",
    metadata,
    Column(
        "id", Integer, primary_key=True
    ),  # the newest row of a record type and start is the one that holds
    Column("record_type", Text, nullable=False),
    Column("starts", Text, nullable=False),  # last-entry, majority
    Column("years", Integer),  # NULL: the clinic has no figure of its own any more
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at_utc", UtcText, nullable=False),
    sqlite_autoincrement=True,
)

# --- retention_dates.py ----------------------------------------------------------------------------------------------

retention_dates = Table(
    "retention_dates",
    metadata,
    Column("study", ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True),
    Column("keep_until", Text, nullable=False),  # YYYY-MM-DD, the last day; 9999-12-31 when no rule is known
    Column("rule", Text, nullable=False),  # the id of the rule that decides
)
# What a list is read from: in its order, with what it is counted by.
Index("ix_retention_dates_due", retention_dates.c.keep_until, retention_dates.c.study, retention_dates.c.rule)

# --- destructions.py -------------------------------------------------------------------------------------------------

destruction_requests = Table(
    "destruction_requests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("state", Text, nullable=False),  # open, approved, carried-out, withdrawn, expired
    Column("method", Text, nullable=False),  # destroy, anonymise
    Column("reason", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_utc", UtcText, nullable=False),
    Column("expires_utc", UtcText, nullable=False),
    text_column("approved_by"),
    Column("approved_utc", UtcText),
    text_column("ended_by"),
    Column("ended_utc", UtcText),
    text_column("end_reason"),
    Column("digest", Text, nullable=False),  # SHA-256 over what was asked: the list that both have seen
    sqlite_autoincrement=True,
)
Index(
    "ix_destruction_requests_standing",
    destruction_requests.c.id,
    sqlite_where=literal("state IN ('open', 'approved')"),
)

destruction_items = Table(
    "destruction_items",
    metadata,
    Column("request", ForeignKey("destruction_requests.id"), nullable=False),
    Column("study", Integer, nullable=False, index=True),  # a studies.id
    Column("study_instance_uid", Text, nullable=False),
    Column("state", Text, nullable=False),  # standing, left-out, carried-out
    Column("keep_until", Text, nullable=False),
    Column("decision", JsonText, nullable=False),  # as it was when it was asked: each rule with its source
    Column("digest", Text, nullable=False),  # SHA-256 over decision and content of the study
    text_column("left_out_because"),
    Column("left_out_utc", UtcText),
    text_column("certificate"),
    Column("carried_out_utc", UtcText),
    PrimaryKeyConstraint("request", "study"),
)

# --- evictions.py ----------------------------------------------------------------------------------------------------

evictions = Table(
    "evictions",
    metadata,
    Column("instance", ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True),
    Column("study", Integer, nullable=False, index=True),  # a studies.id
    Column("whereabouts", Text, nullable=False),  # leaving, away, coming
    Column("dataset_sha256", Text, nullable=False),
    Column("sealed_sha256", Text, nullable=False),
    Column("places", JsonText, nullable=False),  # the destinations where it was read back, by id
    Column("changed_utc", UtcText, nullable=False),
    Column("wanted_utc", UtcText),  # since when somebody waits for it; null: nobody
)
# What a crash may have cut, and what somebody waits for: few, whatever is away.
Index("ix_evictions_unsettled", evictions.c.instance, sqlite_where=literal("whereabouts <> 'away'"))
Index(
    "ix_evictions_wanted",
    evictions.c.study,
    evictions.c.instance,
    sqlite_where=literal("wanted_utc IS NOT NULL"),
)

# --- tier_tags.py ----------------------------------------------------------------------------------------------------

tier_tags = Table(
    "tier_tags",
    metadata,
    Column("study", ForeignKey("studies.id", ondelete="CASCADE"), nullable=False),
    Column("destination", ForeignKey("destinations.id"), nullable=False),
    Column("tier", Text, nullable=False),  # hot, warm, cold, deep: what was said last
    Column("deepest", Text, nullable=False),  # how far down the bucket may have moved it
    Column("changed_utc", UtcText, nullable=False),
    Column(
        "settled_utc", UtcText
    ),  # the changed_utc at which every image had its tag; null: not all have it yet
    count("said_to"),  # the last instance that has its tag, while not all have it; 0: none
    PrimaryKeyConstraint("study", "destination"),
)
