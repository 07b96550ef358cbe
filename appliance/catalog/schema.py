"""The tables. One module writes each of them; the comment before a table names it.

Chose SQLAlchemy Core over an ORM because every query here is a sentence about rows, and the hot ones run as compiled
strings. A change of a table is a new revision in `appliance.catalog.migrations`; a test compares what the revisions
build with what is declared here, down to the text of each statement.

Foreign keys are named by the noun they point to (``series.study`` is a ``studies.id``). Dates and times of DICOM (DA,
TM) are text as received; our own moments are `UtcText` and end in ``_utc``. Absent text is empty, never NULL, unless
NULL says something else.

SQLite uses a partial index only when the query repeats its condition as *literal* text: write
``deliveries.c.state == literal_column("'PENDING'")``, not a bound parameter.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from appliance.catalog import (  # noqa: F401 - the tables there belong to these
    access_tables,
    freeze_tables,
    lifecycle_tables,
    notice_tables,
    support_tables,
    tombstone_tables,
)
from appliance.catalog.columns import JsonText, UtcText
from appliance.catalog.metadata import count as _count
from appliance.catalog.metadata import flag as _flag
from appliance.catalog.metadata import metadata as metadata  # noqa: PLC0414 - of this module, for others
from appliance.catalog.metadata import text as _text

REVISION = "0022"
"""The revision of `appliance.catalog.migrations` that builds exactly these tables."""

# --- what was received: instances.py ---------------------------------------------------------------------------------
# Row ids show in addresses of the console, so they are never used twice (AUTOINCREMENT).

patients = Table(
    "patients",
    metadata,
    Column("id", Integer, primary_key=True),
    _text("patient_id"),
    _text("issuer"),
    _text("name"),
    _text("name_folded"),
    _text("birth_date"),
    _text("sex"),
    # The same ID with another name or birth date is another row: people are never merged silently.
    UniqueConstraint("patient_id", "issuer", "name_folded", "birth_date"),
    sqlite_autoincrement=True,
)

studies = Table(
    "studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_instance_uid", Text, nullable=False, unique=True),
    Column("patient", ForeignKey("patients.id"), nullable=False, index=True),
    _text("study_date"),
    _text("study_time"),
    _text("accession_number"),
    _text("description"),
    _text("referring_physician_name"),
    _text("modalities"),  # sorted, joined by backslashes
    _count("instances"),
    _count("bytes"),  # of the Part 10 files inside
    _count("duplicates"),  # instances kept beside another of the same identity
    _text("search_folded"),  # folded name, patient ID, accession number, description
    _flag("patient_conflict"),  # an instance names another person than the study's patient
    Column("first_received_utc", UtcText, nullable=False),
    Column("last_received_utc", UtcText, nullable=False),
    Column("change", Integer, nullable=False, index=True),  # of counters "study_change", at the latest change
    sqlite_autoincrement=True,
)
# Holds everything that `studies.find` looks at, in the order in which it answers: see there.
Index(
    "ix_studies_search",
    studies.c.study_date,
    studies.c.study_time,
    studies.c.id,
    studies.c.modalities,
    studies.c.search_folded,
)

# The clock is judged by the latest of all, in transactions for which every image waits.
Index("ix_studies_last_received", studies.c.last_received_utc)
# Only those that a person must look at: to count them costs what they are, not what is kept.
Index("ix_studies_conflict", studies.c.id, sqlite_where=text("patient_conflict = 1"))

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study", ForeignKey("studies.id"), nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    _text("modality"),
    _text("series_number"),
    _text("description"),
    _text("body_part_examined"),
    _text("laterality"),
    _text("manufacturer"),
    _text("manufacturer_model_name"),
    _text("station_name"),
    UniqueConstraint("study", "series_instance_uid"),
    sqlite_autoincrement=True,
)

instances = Table(
    "instances",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("series", ForeignKey("series.id"), nullable=False),
    Column("sop_instance_uid", Text, nullable=False, index=True),
    Column("sop_class_uid", Text, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    _text("instance_number"),
    _count("rows"),
    _count("columns"),
    _count("number_of_frames"),
    _text("image_laterality"),
    _text("burned_in_annotation"),  # YES, NO, or not said
    Column("object_id", Text, nullable=False, unique=True),
    Column("key_id", ForeignKey("study_keys.id"), nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("sealed_bytes", Integer, nullable=False),
    Column("intake", Text, nullable=False),
    _text("origin_name"),
    _text("origin_address"),
    Column("received_utc", UtcText, nullable=False),
    _count("version"),  # 0 the first; 1, 2, … other bytes under the same identity
    _flag("patient_conflict"),
    Column("other_patient", ForeignKey("patients.id")),  # whom it names, if not the study's patient
    UniqueConstraint("series", "sop_instance_uid", "version"),
    sqlite_autoincrement=True,
)
# Whom a study concerns besides its patient: few, and asked for before anything is destroyed.
Index(
    "ix_instances_other_patient",
    instances.c.other_patient,
    instances.c.series,
    sqlite_where=text("other_patient IS NOT NULL"),
)

# --- counters.py -----------------------------------------------------------------------------------------------------

counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Integer, nullable=False),
)

# --- study_keys.py ---------------------------------------------------------------------------------------------------

study_keys = Table(
    "study_keys",
    metadata,
    Column("id", Text, primary_key=True),  # a KeyId
    Column(
        "study_instance_uid", Text, nullable=False, index=True
    ),  # may have several keys; empty once destroyed
    Column(
        "wrapped", LargeBinary, nullable=False
    ),  # empty once destroyed: the row stays, so that no key comes back
    Column("created_utc", UtcText, nullable=False),
)

# --- destinations.py, rules.py, devices.py ---------------------------------------------------------------------------

destinations = Table(
    "destinations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("takes", Text, nullable=False),
    Column("options", JsonText, nullable=False),
    _text("secret"),
    _flag("paused"),
    _count("breaker_failures"),
    Column("breaker_open_until_utc", UtcText),
    _text("breaker_reason"),
    Column("last_success_utc", UtcText),
    _flag("removed"),
    sqlite_autoincrement=True,
)

rules = Table(
    "rules",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("destination", ForeignKey("destinations.id"), nullable=False, index=True),
    Column("device", Text),  # an AE title; NULL matches every device
    Column("modality", Text),  # NULL matches every modality
    _count("priority"),
    sqlite_autoincrement=True,
)

devices = Table(
    "devices",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("ae_title", Text, nullable=False),
    Column("address", Text, nullable=False),
    _text("name"),
    Column("port", Integer),  # where it listens, if it does
    Column("admitted_utc", UtcText, nullable=False),
    Column("last_seen_utc", UtcText),
    UniqueConstraint("ae_title", "address"),
    sqlite_autoincrement=True,
)

door = Table(
    "door",
    metadata,
    Column("ae_title", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("first_seen_utc", UtcText, nullable=False),
    Column("last_seen_utc", UtcText, nullable=False, index=True),
    _count("calls"),
    PrimaryKeyConstraint("ae_title", "address"),
)

# --- deliveries.py ---------------------------------------------------------------------------------------------------

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("destination", ForeignKey("destinations.id"), nullable=False),
    Column("instance", ForeignKey("instances.id"), nullable=False, index=True),
    Column("state", Text, nullable=False),
    _count("priority"),
    _count("attempts"),
    Column("next_attempt_utc", UtcText),
    Column("lease_until_utc", UtcText),
    Column("receipt", JsonText),
    _text("reason"),
    Column("created_utc", UtcText, nullable=False),
    Column("changed_utc", UtcText, nullable=False),
    UniqueConstraint("destination", "instance"),
    sqlite_autoincrement=True,
)
# What may be claimed, in the order in which it leaves; what waits for its time; what may have lost its courier.
Index(
    "ix_deliveries_pending",
    deliveries.c.destination,
    deliveries.c.priority.desc(),
    deliveries.c.id,
    sqlite_where=text("state = 'PENDING'"),
)
Index(
    "ix_deliveries_waiting",
    deliveries.c.destination,
    deliveries.c.next_attempt_utc,
    sqlite_where=text("state = 'WAITING'"),
)
Index("ix_deliveries_sending", deliveries.c.lease_until_utc, sqlite_where=text("state = 'SENDING'"))
# What is not done, for lists and summaries: small, however much has been delivered.
Index(
    "ix_deliveries_open",
    deliveries.c.destination,
    deliveries.c.state,
    deliveries.c.created_utc,
    sqlite_where=text("state <> 'CONFIRMED'"),
)

delivery_events = Table(
    "delivery_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("delivery", ForeignKey("deliveries.id"), nullable=False, index=True),
    Column("at_utc", UtcText, nullable=False),
    Column("event", Text, nullable=False),
    Column("state", Text, nullable=False),
    _text("note"),
)

manifests = Table(
    "manifests",
    metadata,
    Column("destination", ForeignKey("destinations.id"), nullable=False),
    Column("study", ForeignKey("studies.id"), nullable=False),
    Column("dirty_utc", UtcText),  # since when the one in the bucket is out of date; NULL when it is not
    Column("written_utc", UtcText),
    PrimaryKeyConstraint("destination", "study"),
)
Index(
    "ix_manifests_dirty",
    manifests.c.destination,
    manifests.c.dirty_utc,
    sqlite_where=text("dirty_utc IS NOT NULL"),
)

# --- audit_log.py ----------------------------------------------------------------------------------------------------

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),  # 1, 2, 3, … without a gap
    Column("at_utc", UtcText, nullable=False),
    Column("actor", Text, nullable=False),
    _text("actor_kind"),  # person, device, process, visitor
    _text("address"),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    _text("study"),  # the Study Instance UID of the one study it concerns
    _text("outcome"),  # done, refused, failed
    Column("details", JsonText, nullable=False),
    Column("format", Integer, nullable=False, server_default="1"),  # of the chain: appliance.audit.chain
    Column("chain", LargeBinary, nullable=False),
)
# What the viewer filters by. An index holds the row id too, so each gives its rows the newest first.
Index("ix_audit_at_utc", audit.c.at_utc)
Index("ix_audit_actor", audit.c.actor)
Index("ix_audit_action", audit.c.action)
Index("ix_audit_address", audit.c.address, sqlite_where=text("address <> ''"))
Index("ix_audit_study", audit.c.study, sqlite_where=text("study <> ''"))
Index("ix_audit_outcome", audit.c.outcome, sqlite_where=text("outcome <> 'done'"))

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True),  # always 1
    Column("count", Integer, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("mac", LargeBinary, nullable=False),
)

# --- settings.py, processes.py ---------------------------------------------------------------------------------------

settings = Table(
    "settings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", JsonText, nullable=False),
    Column("changed_utc", UtcText, nullable=False),
)

processes = Table(
    "processes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("pid", Integer, nullable=False),
    Column("started_utc", UtcText, nullable=False),
    Column("beat_utc", UtcText, nullable=False),
    Column("detail", JsonText, nullable=False),
)

# --- operator_settings.py --------------------------------------------------------------------------------------------

operator_settings = Table(
    "operator_settings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", JsonText, nullable=False),  # of a secret: sealed, in hexadecimal
    Column("changed_utc", UtcText, nullable=False),
)

setting_changes = Table(
    "setting_changes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at_utc", UtcText, nullable=False),
    Column("actor", Text, nullable=False),
    Column("key", Text, nullable=False, index=True),
    Column("old", JsonText),  # NULL: the default, or a secret
    Column("new", JsonText),
    Column("undoes", ForeignKey("setting_changes.id")),
    sqlite_autoincrement=True,
)

# --- samples.py ------------------------------------------------------------------------------------------------------

samples = Table(
    "samples",
    metadata,
    Column("id", Integer, primary_key=True),  # the order in which they were written, whatever the clock said
    Column("grain", Text, nullable=False),
    Column("at_utc", UtcText, nullable=False),
    Column("figures", JsonText, nullable=False),
    UniqueConstraint("grain", "at_utc"),
    sqlite_autoincrement=True,
)
Index("ix_samples_grain_id", samples.c.grain, samples.c.id)

sender_days = Table(
    "sender_days",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("ae_title", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("day", Text, nullable=False),  # in the box's own time zone, YYYY-MM-DD
    _count("instances"),
    UniqueConstraint("ae_title", "address", "day"),
    sqlite_autoincrement=True,
)

# --- people.py -------------------------------------------------------------------------------------------------------

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("login", Text, nullable=False, unique=True),
    _text("name"),
    Column("role", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("1")),
    _text("language"),
    Column("created_utc", UtcText, nullable=False),
    Column("changed_utc", UtcText, nullable=False),
    Column("last_sign_in_utc", UtcText),
    sqlite_autoincrement=True,
)

former_logins = Table(
    "former_logins",
    metadata,
    Column("login", Text, primary_key=True),  # nobody else's ever: the audit may name it
    Column("user", ForeignKey("users.id"), nullable=False, index=True),
    Column("until_utc", UtcText, nullable=False),
)

web_sessions = Table(
    "web_sessions",
    metadata,
    Column("id", Text, primary_key=True),  # SHA-256 of what the cookie holds
    Column("user", ForeignKey("users.id"), nullable=False, index=True),
    Column("created_utc", UtcText, nullable=False),
    Column("seen_utc", UtcText, nullable=False),
    Column("expires_utc", UtcText, nullable=False, index=True),
    _text("address"),
    _text("agent"),
    _text("csrf"),
    _text("proof"),  # how its person got in: a word of `appliance.identity.stages`
    Column("confirmed_utc", UtcText, nullable=False),  # when that person last proved who it is
)

sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("login", Text, nullable=False, index=True),
    Column("address", Text, nullable=False, index=True),
    _text("kind"),
    Column("at_utc", UtcText, nullable=False, index=True),
)
