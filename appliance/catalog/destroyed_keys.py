"""Which keys are destroyed, and which images they had sealed: what every archive is told in the place of a manifest.

The only writer of `destroyed_keys` and `destroyed_images`. Rows are added and never removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from appliance.catalog.columns import utc_moment, utc_text
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.tombstone_tables import destroyed_images, destroyed_keys
from appliance.model import KeyId, ObjectId


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
    """These images were decided about, whose keys are destroyed. They are noted with the first: which it was makes no difference."""
    rows = [(each, tombstone.keys[0]) for each in tombstone.objects or () if tombstone.keys]
    if rows:
        tx.exec_driver_sql(
            "INSERT INTO destroyed_images (object_id, key_id) VALUES (?, ?) ON CONFLICT (object_id) DO NOTHING",
            rows,
        )


def _images_under(conn: Reading, keys: Sequence[KeyId]) -> tuple[ObjectId, ...] | None:
    """The images that were destroyed with these keys; None where that was not written down."""
    query = select(destroyed_images.c.object_id).where(destroyed_images.c.key_id.in_(keys))
    found = [ObjectId(each) for each in conn.execute(query.order_by(destroyed_images.c.object_id)).scalars()]
    return tuple(found) or None


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
