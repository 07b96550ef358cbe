"""What was destroyed, on whose word, and what of it is still to be done where: the certificates and their obligations.

The only writer of the tables in `appliance.catalog.tombstone_tables`, with `destroyed_keys` and `moving`. A certificate covers one
approved request; its studies are destroyed one by one, each in a transaction of its own, and from then on every archive owes two
things, which wait as deliveries do until they are carried out:

::

    OWED ──the tombstones of all studies lie there──▶ LAID ──a newer backup proved, older ones made unreadable──▶ DONE
      └──────────────────────── the archive was taken off this box, or moved ──────────────▶ GIVEN_UP ◀──┘

The place that a moved archive has left is an archive of its own, and no longer this box's (`appliance.catalog.destinations.leave`).

What was destroyed before an archive came to this box is owed to nobody: so each archive is looked through once, and once more in each
life of the box, for what is known as destroyed (`unlooked`).

Two people decide about the images that the box knows. An archive that it was not restored from may hold more of the same study, under
the same key: so a tombstone names the images too, and whoever carries it out spares the others (`appliance.replication.burial`).

No row names a patient, or a study by its UID: a digest under a key of this box tells whether a UID was destroyed here.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Row, and_, delete, func, insert, or_, select, update

from appliance.catalog import erasure, settings
from appliance.catalog.columns import utc_text
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.destroyed_keys import Tombstone, decide, remember
from appliance.catalog.erasure import Erased
from appliance.catalog.schema import destinations
from appliance.catalog.tombstone_tables import (
    destroyed_objects,
    destroyed_studies,
    destruction_certificates,
    destruction_places,
    tombstones_owed,
)
from appliance.errors import Unknown
from appliance.model import DestinationId, ObjectId, Uid
from appliance.replication.place import where

_DIGEST_KEY: Final = "destruction.digest-key"
_SIGNS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U
TAKEN_OFF: Final = "it was taken off this box"
MOVED: Final = "it was given another place"
"""Why an archive is given up."""


class PlaceState(StrEnum):
    """How far an archive is with a certificate."""

    OWED = "OWED"
    LAID = "LAID"
    DONE = "DONE"
    GIVEN_UP = "GIVEN_UP"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate as recorded. `authority` is JSON: who asked, who approved, when, how; `request` is None for what a box that came back found
    in an archive, and `authority` says where and as what then (`appliance.catalog.obeying`)."""

    id: int
    label: str
    request: int | None
    authority: Mapping[str, Any]
    begun_utc: datetime
    closed_utc: datetime | None
    completed_utc: datetime | None


@dataclass(frozen=True, slots=True)
class DestroyedStudy:
    """A study that was. `study` is the row id it had, `elsewhere` how many images went where in clear."""

    id: int
    certificate: int
    study: int
    digest: str
    instances: int
    bytes: int
    first_received_utc: datetime
    last_received_utc: datetime
    why: Mapping[str, Any]
    elsewhere: Mapping[str, int]
    exports: int
    destroyed_utc: datetime
    removed_utc: datetime | None


@dataclass(frozen=True, slots=True)
class Place:
    """An archive of a certificate; `name` is its name now, `kind` its kind, `where` where it is, `reason` why it could not be done yet,
    or is given up."""

    certificate: int
    destination: DestinationId
    name: str
    kind: str
    where: str
    state: PlaceState
    reason: str
    detail: Mapping[str, Any]
    changed_utc: datetime


@dataclass(frozen=True, slots=True)
class Owed:
    """A tombstone to lay: over which document, and which objects lose their meaning."""

    manifest: str
    study: int
    objects: tuple[ObjectId, ...]


# --- destroying ------------------------------------------------------------------------------------------------------


def begin(tx: Transaction, request: int | None, authority: Mapping[str, Any], now: datetime) -> Certificate:
    """The certificate of a request, begun if it is its first study."""
    if request is not None:
        for found in _certificates(tx, destruction_certificates.c.request == request):
            return found
    values = {
        "label": _label(tx, now, is_asked_for=request is not None),
        "request": request,
        "authority": dict(authority),
        "begun_utc": now,
    }
    tx.execute(insert(destruction_certificates).values(**values))
    (found,) = _certificates(tx, destruction_certificates.c.label == values["label"])
    return found


def _label(tx: Transaction, now: datetime, *, is_asked_for: bool) -> str:
    """The number of the next certificate.

    A box that came back, or is about to, may have forgotten some: its numbers go on where its backup ended, and end with signs by chance.
    """
    last = tx.execute(select(func.max(destruction_certificates.c.id))).scalar() or 0
    label = f"D-{now.year}-{last + 1:04d}"
    if is_asked_for and settings.get(tx, settings.RESTORED) is None:
        return label
    return f"{label}-{''.join(secrets.choice(_SIGNS) for _ in range(4))}"


def bury(
    tx: Transaction,
    certificate: Certificate,
    erased: Erased,
    *,
    why: Mapping[str, Any],
    elsewhere: Mapping[str, int],
    exports: int,
    manifest: str,
    archives: Sequence[DestinationId],
    now: datetime,
) -> None:
    """Record that a study was destroyed, and what every archive owes because of it."""
    done = tx.execute(
        insert(destroyed_studies).values(
            certificate=certificate.id,
            study=erased.study,
            digest=digest(tx, erased.study_instance_uid, now),
            instances=erased.instances,
            bytes=erased.bytes,
            first_received_utc=erased.first_received_utc,
            last_received_utc=erased.last_received_utc,
            why=dict(why),
            elsewhere=dict(elsewhere),
            exports=exports,
            destroyed_utc=now,
        )
    )
    assert done.inserted_primary_key is not None
    number = int(done.inserted_primary_key[0])
    if erased.objects:
        tx.execute(
            insert(destroyed_objects), [{"object_id": each, "study": number} for each in erased.objects]
        )
    remember(tx, Tombstone(erased.keys, certificate.label, now, erased.objects), manifest)
    decide(tx, erased.study)
    for each in archives:
        tx.exec_driver_sql(
            "INSERT INTO tombstones_owed (destination, manifest, study) VALUES (?, ?, ?)"
            " ON CONFLICT (destination, study) DO NOTHING",
            (each, manifest, number),
        )
    owe(tx, certificate, archives, now)


def owe(tx: Transaction, certificate: Certificate, archives: Iterable[DestinationId], now: datetime) -> None:
    """Record that these archives have a part in a certificate; one that has it already stays as far as it is."""
    for each in archives:
        tx.exec_driver_sql(
            "INSERT INTO destruction_places (certificate, destination, state, detail, changed_utc)"
            " VALUES (?, ?, 'OWED', '{}', ?) ON CONFLICT (certificate, destination) DO NOTHING",
            (certificate.id, each, utc_text(now)),
        )


def found_as(tx: Transaction, label: str) -> Certificate | None:
    """The certificate of what was found in an archive as destroyed by the certificate `label`, as long as no archive has begun with it."""
    begun = select(destruction_places.c.certificate).where(destruction_places.c.state != PlaceState.OWED)
    found = _certificates(
        tx,
        and_(
            destruction_certificates.c.request.is_(None),
            destruction_certificates.c.completed_utc.is_(None),
            func.json_extract(destruction_certificates.c.authority, "$.found_as") == label,
            destruction_certificates.c.id.not_in(begun),
        ),
    )
    return found[-1] if found else None


def retell(tx: Transaction, certificate: int, authority: Mapping[str, Any]) -> None:
    """Change what a certificate says of its authority: more was found that was destroyed by the same."""
    this = destruction_certificates.c.id == certificate
    tx.execute(update(destruction_certificates).where(this).values(authority=dict(authority)))


def close(tx: Transaction, certificate: int, now: datetime) -> None:
    """All studies of it are destroyed on this box: its archives may go on."""
    tx.execute(
        update(destruction_certificates)
        .where(destruction_certificates.c.id == certificate, destruction_certificates.c.closed_utc.is_(None))
        .values(closed_utc=now)
    )


def complete(tx: Transaction, certificate: int, now: datetime) -> None:
    """Every place has done its part; which objects those were need not be remembered any longer."""
    tx.execute(
        update(destruction_certificates)
        .where(destruction_certificates.c.id == certificate)
        .values(completed_utc=now)
    )
    of_it = select(destroyed_studies.c.id).where(destroyed_studies.c.certificate == certificate)
    tx.execute(delete(destroyed_objects).where(destroyed_objects.c.study.in_(of_it)))


def to_remove(conn: Reading, limit: int) -> list[tuple[int, list[ObjectId]]]:
    """Destroyed studies (ids here) whose sealed objects are still to be removed from this disk, with those."""
    ids = conn.execute(
        select(destroyed_studies.c.id)
        .where(destroyed_studies.c.removed_utc.is_(None))
        .order_by(destroyed_studies.c.id)
        .limit(limit)
    ).scalars()
    return [(int(each), _objects(conn, int(each))) for each in ids]


def last_destroyed(conn: Reading) -> int:
    """The id here of the study destroyed last; 0 when none was."""
    return int(conn.execute(select(func.max(destroyed_studies.c.id))).scalar() or 0)


def removed(tx: Transaction, study: int, now: datetime) -> None:
    """The sealed objects of a destroyed study (id here) are gone from this disk."""
    tx.execute(update(destroyed_studies).where(destroyed_studies.c.id == study).values(removed_utc=now))


# --- archives --------------------------------------------------------------------------------------------------------


def owed(conn: Reading, destination_id: DestinationId, limit: int) -> list[Owed]:
    """The tombstones to lay in an archive, the oldest first."""
    rows = conn.execute(
        select(tombstones_owed)
        .where(tombstones_owed.c.destination == destination_id)
        .order_by(tombstones_owed.c.study)
        .limit(limit)
    ).all()
    return [Owed(row.manifest, row.study, tuple(_objects(conn, row.study))) for row in rows]


def lay(tx: Transaction, destination_id: DestinationId, done: Owed) -> None:
    """A tombstone lies in an archive."""
    tx.execute(
        delete(tombstones_owed).where(
            tombstones_owed.c.destination == destination_id, tombstones_owed.c.study == done.study
        )
    )


def unlooked(conn: Reading, destination_id: DestinationId, life: int, limit: int) -> tuple[int, list[str]]:
    """The documents in an archive that were not looked at yet for keys that are destroyed; and up to where `looked` counts then.

    `life` is how often the box has come back: in each it looks anew, since what it knows is another archive's then.
    """
    told = settings.get(conn, f"{settings.LOOKED_THROUGH}.{destination_id}", {})
    begin = int(told["upto"]) if told.get("life") == life else 0
    # Rows are added and never removed: their own numbers say which are new.
    found = conn.exec_driver_sql(
        "SELECT rowid, manifest FROM destroyed_keys WHERE rowid > ? ORDER BY rowid LIMIT ?", (begin, limit)
    ).all()
    return (found[-1][0] if found else begin), [*dict.fromkeys(str(each[1]) for each in found)]


def looked(tx: Transaction, destination_id: DestinationId, life: int, upto: int, now: datetime) -> None:
    """The documents that `unlooked` gave are as they should be."""
    settings.put(tx, f"{settings.LOOKED_THROUGH}.{destination_id}", {"life": life, "upto": upto}, now)


def say_why(tx: Transaction, destination_id: DestinationId, study: int, reason: str, now: datetime) -> None:
    """Note why a tombstone can't be laid yet, for a destroyed study (id here); nothing is written that is known."""
    tx.exec_driver_sql(
        "UPDATE destruction_places SET reason = ?, changed_utc = ? WHERE destination = ? AND state = 'OWED' AND reason <> ?"
        " AND certificate = (SELECT certificate FROM destroyed_studies WHERE id = ?)",
        (reason, utc_text(now), destination_id, reason, study),
    )


def move(
    tx: Transaction,
    certificate: int,
    destination_id: DestinationId,
    state: PlaceState,
    now: datetime,
    *,
    reason: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Record how far an archive is, and why no further; what is known already keeps the moment since when it is so."""
    values: dict[str, Any] = {"state": state, "reason": reason, "changed_utc": now}
    if detail is not None:
        values["detail"] = dict(detail)
    tx.execute(
        update(destruction_places)
        .where(
            destruction_places.c.certificate == certificate,
            destruction_places.c.destination == destination_id,
            or_(destruction_places.c.state != state, destruction_places.c.reason != reason),
        )
        .values(**values)
    )


def give_up(
    tx: Transaction, certificate: int, destination_id: DestinationId, now: datetime, *, reason: str
) -> None:
    """An archive was taken off this box before it had done its part, or moved: nothing there can be changed any more."""
    move(tx, certificate, destination_id, PlaceState.GIVEN_UP, now, reason=reason)
    of_it = select(destroyed_studies.c.id).where(destroyed_studies.c.certificate == certificate)
    tx.execute(
        delete(tombstones_owed).where(
            tombstones_owed.c.destination == destination_id, tombstones_owed.c.study.in_(of_it)
        )
    )


def still_to_lay(conn: Reading, certificate: int, destination_id: DestinationId) -> int:
    """How many tombstones of a certificate an archive lacks."""
    return int(
        conn.execute(
            select(func.count())
            .select_from(tombstones_owed)
            .join(destroyed_studies, destroyed_studies.c.id == tombstones_owed.c.study)
            .where(
                tombstones_owed.c.destination == destination_id,
                destroyed_studies.c.certificate == certificate,
            )
        ).scalar_one()
    )


# --- looking ---------------------------------------------------------------------------------------------------------


def certificates(conn: Reading, limit: int = 100, *, unfinished: bool = False) -> list[Certificate]:
    """The certificates, the latest first; with `unfinished`, those that are not complete, the oldest first."""
    if unfinished:
        return _certificates(conn, destruction_certificates.c.completed_utc.is_(None))
    rows = conn.execute(
        select(destruction_certificates).order_by(destruction_certificates.c.id.desc()).limit(limit)
    )
    return [_certificate(row) for row in rows]


def unfinished_since(conn: Reading) -> list[datetime]:
    """When each destruction whose certificate is not complete was begun, the oldest first."""
    which = destruction_certificates.c.completed_utc.is_(None)
    return sorted(each.begun_utc for each in _certificates(conn, which))


def certificate(conn: Reading, label: str) -> Certificate:
    """One certificate. Raises `Unknown`."""
    for found in _certificates(conn, destruction_certificates.c.label == label):
        return found
    raise Unknown("there is no such certificate", hint="look at the list of destructions")


def studies_of(conn: Reading, certificate_id: int) -> list[DestroyedStudy]:
    """The studies of a certificate, in the order in which they were destroyed."""
    rows = conn.execute(
        select(destroyed_studies)
        .where(destroyed_studies.c.certificate == certificate_id)
        .order_by(destroyed_studies.c.id)
    )
    return [DestroyedStudy(**row._mapping) for row in rows]


def places(conn: Reading, certificate_id: int) -> list[Place]:
    """The archives of a certificate, by name; one that was removed keeps the name it has now."""
    rows = conn.execute(
        select(destruction_places, destinations.c.name, destinations.c.kind, destinations.c.options)
        .join(destinations, destinations.c.id == destruction_places.c.destination)
        .where(destruction_places.c.certificate == certificate_id)
        .order_by(destinations.c.name)
    )
    return [
        Place(
            certificate=row.certificate,
            destination=DestinationId(row.destination),
            name=row.name,
            kind=row.kind,
            where=where(row.kind, row.options),
            state=PlaceState(row.state),
            reason=row.reason,
            detail=row.detail,
            changed_utc=row.changed_utc,
        )
        for row in rows
    ]


def was_destroyed(conn: Reading, study_instance_uid: Uid) -> tuple[Certificate, DestroyedStudy] | None:
    """The certificate of a study that was destroyed here, the latest; None if none of that UID was."""
    key = settings.get(conn, _DIGEST_KEY)
    if key is None:
        return None
    row = conn.execute(
        select(destroyed_studies)
        .where(destroyed_studies.c.digest == _digest(key, study_instance_uid))
        .order_by(destroyed_studies.c.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    (found,) = _certificates(conn, destruction_certificates.c.id == row.certificate)
    return found, DestroyedStudy(**row._mapping)


def returning(conn: Reading, study_instance_uids: Iterable[Uid]) -> dict[Uid, str]:
    """Those of these studies that were destroyed here and of which nothing is here: each with its certificate's label."""
    if settings.get(conn, _DIGEST_KEY) is None:
        return {}
    found = {}
    for uid in study_instance_uids:
        if not erasure.is_here(conn, uid) and (known := was_destroyed(conn, uid)) is not None:
            found[uid] = known[0].label
    return found


def digest(tx: Transaction, study_instance_uid: Uid, now: datetime) -> str:
    """HMAC-SHA256 of a UID under a key of this box, in hexadecimal: it is found again, and says nothing."""
    key = settings.get(tx, _DIGEST_KEY)
    if key is None:
        key = secrets.token_hex(32)
        settings.put(tx, _DIGEST_KEY, key, now)
    return _digest(key, study_instance_uid)


def _digest(key: str, study_instance_uid: Uid) -> str:
    return hmac.new(bytes.fromhex(key), study_instance_uid.encode(), hashlib.sha256).hexdigest()


def _objects(conn: Reading, study: int) -> list[ObjectId]:
    query = select(destroyed_objects.c.object_id).where(destroyed_objects.c.study == study)
    return [ObjectId(each) for each in conn.execute(query.order_by(destroyed_objects.c.object_id)).scalars()]


def _certificates(conn: Reading, which: Any) -> list[Certificate]:
    query = select(destruction_certificates).where(which).order_by(destruction_certificates.c.id)
    return [_certificate(row) for row in conn.execute(query)]


def _certificate(row: Row[*tuple[Any, ...]]) -> Certificate:
    return Certificate(**row._mapping)
