"""The tables of what was destroyed: a part of `appliance.catalog.schema`, which says what holds for all.

The key of a destroyed study is not among them: its row in `study_keys` stays, without the key, so that nothing which still
speaks of that key (an intake log, an old manifest, an old backup) can bring it back.
"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, PrimaryKeyConstraint, Table, Text, UniqueConstraint

from appliance.catalog.columns import JsonText, UtcText
from appliance.catalog.metadata import count as count_column
from appliance.catalog.metadata import metadata
from appliance.catalog.metadata import text as text_column

# --- tombstones.py ---------------------------------------------------------------------------------------------------

destruction_certificates = Table(
    "destruction_certificates",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("label", Text, nullable=False, unique=True),
    Column(
        "request", Integer, unique=True
    ),  # what it carries out; NULL: destroyed on another's word, by a tombstone
    Column("authority", JsonText, nullable=False),  # who asked, who approved, when, by what method
    Column("begun_utc", UtcText, nullable=False),
    Column("closed_utc", UtcText),  # since when all its studies are destroyed on this box
    Column("completed_utc", UtcText),  # since when every place has done its part
    sqlite_autoincrement=True,
)

destroyed_studies = Table(
    "destroyed_studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("certificate", ForeignKey("destruction_certificates.id"), nullable=False, index=True),
    Column("study", Integer, nullable=False, unique=True),  # the row id that it had: never used twice
    Column("digest", Text, nullable=False, index=True),  # of its UID, under a key of this box
    count_column("instances"),
    count_column("bytes"),
    Column("first_received_utc", UtcText, nullable=False),
    Column("last_received_utc", UtcText, nullable=False),
    Column("why", JsonText, nullable=False),  # the rule and its source
    Column("elsewhere", JsonText, nullable=False),  # destination → how many images it was given in clear
    count_column("exports"),
    Column("destroyed_utc", UtcText, nullable=False),
    Column("removed_utc", UtcText),  # since when its sealed objects are gone from this disk
    sqlite_autoincrement=True,
)

destroyed_objects = Table(
    "destroyed_objects",
    metadata,
    Column("object_id", Text, primary_key=True),
    Column("study", ForeignKey("destroyed_studies.id"), nullable=False, index=True),
)

destroyed_keys = Table(
    "destroyed_keys",
    metadata,
    Column("key_id", ForeignKey("study_keys.id"), primary_key=True),
    Column("manifest", Text, nullable=False, index=True),  # the document, in every archive, that told of it
    Column("certificate", Text, nullable=False),  # a label; of another box's life, perhaps
    Column("destroyed_utc", UtcText, nullable=False),
)

destroyed_images = Table(  # for good, unlike `destroyed_objects`: what else lies under such a key was decided about by nobody
    "destroyed_images",
    metadata,
    Column("key_id", ForeignKey("study_keys.id"), nullable=False),
    Column("object_id", Text, nullable=False),
    PrimaryKeyConstraint("key_id", "object_id"),
)

spared_images = (
    Table(  # what was found under a destroyed key in an archive, and the study that it was taken into
        "spared_images",
        metadata,
        Column("object_id", Text, primary_key=True),
        Column("key_id", ForeignKey("study_keys.id"), nullable=False),
        Column(
            "study", Integer, nullable=False, index=True
        ),  # the row id, which outlives the study: never used twice
    )
)

tombstones_owed = Table(
    "tombstones_owed",
    metadata,
    Column("destination", ForeignKey("destinations.id"), nullable=False),
    Column("manifest", Text, nullable=False),
    Column("study", ForeignKey("destroyed_studies.id"), nullable=False, index=True),
    PrimaryKeyConstraint("destination", "study"),
)

destruction_places = Table(
    "destruction_places",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("certificate", ForeignKey("destruction_certificates.id"), nullable=False),
    Column("destination", ForeignKey("destinations.id"), nullable=False),
    Column("state", Text, nullable=False),
    text_column("reason"),
    Column("detail", JsonText, nullable=False),
    Column("changed_utc", UtcText, nullable=False),
    UniqueConstraint("certificate", "destination"),
    sqlite_autoincrement=True,
)
