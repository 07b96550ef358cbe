"""An image of the box's own that goes the way of every other, from the association to the catalog, and stays nowhere.

The deep examination sends it (`appliance.health.deep`). Reception treats it as any other: it is negotiated, sealed, made
durable and acknowledged. Only `accept` tells it apart: its row, and all that is owed for it, are written and taken back
in the same transaction, so that no list, total, delivery, alarm or audit ever holds it; a note says where its
ciphertext lies, until the examination has opened it.

Whoever calls is known by an AE title that nobody else can say, since it carries a proof under the root key, and by coming
from this machine itself; and the study is one that follows from the title. A device of the clinic can't be taken for it,
nor can anybody on the network have an image dropped by it.

======  ==========  =======================================================
at      characters  of the calling AE title
======  ==========  =======================================================
0       5           drawn, base 32
5       11          the first 55 bits of HMAC-SHA-256 over them, base 32
======  ==========  =======================================================

Chose this over a device that is admitted while the examination lasts, as the wizard's test study has it: that leaves a
row in the audit each time, and what the crash of either side leaves behind would become a patient of the clinic.
Rejected: to record it and to remove it again; between the two, somebody sees it and the courier sends it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.box import Box
from appliance.catalog import Reading, Transaction, settings
from appliance.model import AETitle, KeyId, ObjectId, Origin, Received, Uid

_NOTE: Final = "health.rehearsed"
_DRAWN, _PROOF = 5, 11


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Whom to call as, and which study to send."""

    calling: AETitle
    study_instance_uid: Uid


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One image that was taken as far as the catalog: where it lies now, or why it could not be recorded."""

    sop_instance_uid: Uid
    object_id: ObjectId
    key_id: KeyId
    wrapped_key: bytes
    cause: str


def new_rehearsal(box: Box) -> Rehearsal:
    """One that there has never been."""
    drawn = _base32(secrets.token_bytes(5))[:_DRAWN]
    calling = AETitle(drawn + _proof(box, drawn))
    return Rehearsal(calling, _study(box, calling))


def calls(box: Box, calling: AETitle, address: str) -> bool:
    """Whether it is a rehearsal that calls, from this machine's own `address`."""
    return address == box.config.dicom.own_address and _is_proven(box, calling)


def is_own(box: Box, origin: Origin) -> bool:
    """Whether what comes from `origin`, which the door has let in, is of a rehearsal."""
    return _is_proven(box, AETitle(origin.name))


def is_rehearsed(box: Box, received: Received) -> bool:
    """Whether `received`, which the door has let in, is of a rehearsal, and not an image of the clinic."""
    calling = AETitle(received.origin.name)
    return _is_proven(box, calling) and received.header.study_instance_uid == _study(box, calling)


def note(tx: Transaction, received: Sequence[Received], cause: str, now: datetime) -> None:
    """Say that these were recorded, and taken back; or why they could not be. Those of another rehearsal are forgotten."""
    for study in {each.header.study_instance_uid for each in received}:
        kept = settings.get(tx, _NOTE)
        rows = kept["images"] if kept is not None and kept["study"] == study else []
        rows += [
            {
                "sop_instance_uid": each.header.sop_instance_uid,
                "object_id": each.stored.object_id,
                "key_id": each.stored.key_id,
                "wrapped_key": base64.b64encode(each.stored.wrapped_key).decode("ascii"),
                "cause": cause,
            }
            for each in received
            if each.header.study_instance_uid == study
        ]
        settings.put(tx, _NOTE, {"study": study, "images": rows}, now)


def noted(reading: Reading, study_instance_uid: Uid | None = None) -> list[Rehearsed]:
    """What came of the rehearsal with that study; without one, of whichever was noted last."""
    kept = settings.get(reading, _NOTE)
    if kept is None or study_instance_uid not in (None, kept["study"]):
        return []
    return [
        Rehearsed(
            Uid(each["sop_instance_uid"]),
            ObjectId(each["object_id"]),
            KeyId(each["key_id"]),
            base64.b64decode(each["wrapped_key"]),
            each["cause"],
        )
        for each in kept["images"]
    ]


def clear(box: Box) -> None:
    """Remove what the last rehearsal, or one that was cut short, has left: its objects, and then the note that names them."""
    with box.catalog.reading() as reading:
        left = noted(reading)
    if not left:
        return
    for each in left:
        box.objects.remove(each.object_id)
    with box.catalog.transaction() as tx:
        settings.remove(tx, _NOTE)


def _is_proven(box: Box, calling: AETitle) -> bool:
    if len(calling) != _DRAWN + _PROOF:
        return False
    return hmac.compare_digest(calling[_DRAWN:].encode(), _proof(box, calling[:_DRAWN]).encode())


def _proof(box: Box, drawn: str) -> str:
    return _base32(_mac(box, f"caller:{drawn}"))[:_PROOF]


def _study(box: Box, calling: AETitle) -> Uid:
    """Its Study Instance UID: 120 bits under the arc of UUIDs (PS3.5 B.2)."""
    return Uid(f"2.25.{int.from_bytes(_mac(box, f'study:{calling}')[:15], 'big')}")


def _mac(box: Box, what: str) -> bytes:
    return hmac.digest(box.root.derive("rehearsal"), what.encode(), hashlib.sha256)


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii")
