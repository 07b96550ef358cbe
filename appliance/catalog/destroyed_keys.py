"""Which keys are destroyed, and which images they had sealed: what every archive is told in the place of a manifest.

The only writer of `destroyed_keys` and `destroyed_images`, whose rows are added and never removed, and of `spared_images`.
What nobody had decided about is taken into a study again (`appliance.replication.burial`), and noted with it: when people decide about
that study, they have decided about this too, wherever else it lies under its old key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from appliance.catalog.columns import utc_moment, utc_text
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.tombstone_tables import destroyed_images, destroyed_keys
from appliance.model import DestinationId, KeyId, ObjectId


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What an archive is told in the place of a manifest: these keys are destroyed, with the images that were decided about.

    `objects` are those images; None where earlier software destroyed them, which did not say: then it is all under the keys.
    JSON-able by `as_told`.
    """

    keys: tuple[KeyId, ...]
    certificate: str
    destroyed_utc: datetime
    objects: tuple[ObjectId, ...] | None = None

    def as_told(self) -> dict[str, Any]:
        """The form in a manifest."""
        told = {
            "keys": list(self.keys),
            "certificate": self.certificate,
            "at_utc": utc_text(self.destroyed_utc),
        }
        return told if self.objects is None else told | {"objects": list(self.objects)}

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Tombstone:
        """The inverse. Raises KeyError, TypeError or ValueError for what is none."""
        return cls(
            tuple(KeyId(str(each)) for each in told["keys"]),
            str(told["certificate"]),
            utc_moment(str(told["at_utc"])),
            tuple(ObjectId(str(each)) for each in told["objects"]) if "objects" in told else None,
        )


def remember(tx: Transaction, tombstone: Tombstone, manifest: str) -> None:
    """Keys are destroyed, and the document `manifest` tells of it in every archive."""
    text = utc_text(tombstone.destroyed_utc)
    for key_id in tombstone.keys:
        tx.exec_driver_sql(
            "INSERT INTO destroyed_keys (key_id, manifest, certificate, destroyed_utc) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (key_id) DO NOTHING",
            (key_id, manifest, tombstone.certificate, text),
        )
    remember_images(tx, tombstone)


def remember_images(tx: Transaction, tombstone: Tombstone) -> None:
    """These images were decided about, whose keys are destroyed. Each is noted with every key: which it was makes no difference."""
    rows = [(key_id, object_id) for key_id in tombstone.keys for object_id in tombstone.objects or ()]
    if rows:
        tx.exec_driver_sql(_NOTE, rows)


_NOTE = "INSERT INTO destroyed_images (key_id, object_id) VALUES (?, ?) ON CONFLICT DO NOTHING"


def _images_under(conn: Reading, keys: Sequence[KeyId]) -> tuple[ObjectId, ...] | None:
    """The images that were destroyed with these keys; None where that was not written down for each."""
    rows = conn.execute(
        select(destroyed_images.c.object_id, destroyed_images.c.key_id).where(
            destroyed_images.c.key_id.in_(keys)
        )
    ).all()
    if {row.key_id for row in rows} != set(keys):
        return None
    return tuple(sorted({ObjectId(row.object_id) for row in rows}))


def lies_under(conn: Reading, manifest: str) -> list[Tombstone]:
    """The tombstones that belong into the document `manifest`, in every archive."""
    rows = conn.execute(
        select(destroyed_keys)
        .where(destroyed_keys.c.manifest == manifest)
        .order_by(destroyed_keys.c.destroyed_utc, destroyed_keys.c.key_id)
    )
    by_certificate: dict[tuple[str, datetime], list[KeyId]] = {}
    for row in rows:
        by_certificate.setdefault((row.certificate, row.destroyed_utc), []).append(KeyId(row.key_id))
    return [
        Tombstone(tuple(keys), label, at, _images_under(conn, keys))
        for (label, at), keys in by_certificate.items()
    ]


# --- what is spared ------------------------------------------------------------------------------------------------------


def spare(tx: Transaction, object_id: ObjectId, key_id: KeyId, study: int) -> None:
    """An image that lies in an archive under a destroyed key was taken into a study (row id) of this box."""
    tx.exec_driver_sql(
        "INSERT INTO spared_images (object_id, key_id, study) VALUES (?, ?, ?)"
        " ON CONFLICT (object_id) DO UPDATE SET study = excluded.study",
        (object_id, key_id, study),
    )


def spared(conn: Reading, object_ids: Iterable[ObjectId]) -> dict[ObjectId, int]:
    """Those of these images that were taken in, each with the study (row id), where that is still here."""
    rows = conn.exec_driver_sql(
        "SELECT object_id, study FROM spared_images"
        " WHERE object_id IN (SELECT value FROM json_each(?)) AND study IN (SELECT id FROM studies)",
        (json.dumps(list(object_ids)),),
    )
    return {ObjectId(row[0]): int(row[1]) for row in rows}


def spared_into(conn: Reading, study: int) -> int:
    """How many images were taken into a study (row id)."""
    return int(
        conn.exec_driver_sql("SELECT count(*) FROM spared_images WHERE study = ?", (study,)).scalar_one()
    )


def decide(tx: Transaction, study: int) -> None:
    """A study (row id) is destroyed: with it what was taken into it is decided about."""
    rows = tx.exec_driver_sql("SELECT key_id, object_id FROM spared_images WHERE study = ?", (study,)).all()
    if rows:
        tx.exec_driver_sql(_NOTE, [tuple(row) for row in rows])
        tx.exec_driver_sql("DELETE FROM spared_images WHERE study = ?", (study,))


def is_settled(conn: Reading, study: int, destination_id: DestinationId) -> bool:
    """Whether an archive has all of a study (row id) that it is owed, and a manifest that tells of it."""
    open_ = conn.exec_driver_sql(
        "SELECT 1 FROM deliveries AS d JOIN instances AS i ON i.id = d.instance JOIN series AS s ON s.id = i.series"
        " WHERE s.study = ? AND d.destination = ? AND d.state NOT IN ('CONFIRMED', 'CANCELLED') LIMIT 1",
        (study, destination_id),
    ).first()
    unwritten = conn.exec_driver_sql(
        "SELECT 1 FROM manifests WHERE study = ? AND destination = ? AND (dirty_utc IS NOT NULL OR written_utc IS NULL)",
        (study, destination_id),
    ).first()
    return open_ is None and unwritten is None
