"""A-ASSOCIATE as the requestor: which contexts to propose, how the request is encoded, what the answer says. Pure.

Byte layouts are those of PS3.8 9.3.2 to 9.3.4, big endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from appliance.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from appliance.errors import OperatorNeeded, Transient
from appliance.model import AETitle, Uid

VERIFICATION: Final = Uid("1.2.840.10008.1.1")
IMPLICIT_VR_LITTLE_ENDIAN: Final = Uid("1.2.840.10008.1.2")
EXPLICIT_VR_LITTLE_ENDIAN: Final = Uid("1.2.840.10008.1.2.1")
FALLBACKS: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
"""What a stored object can be re-encoded as, in the order of preference."""

CONTEXTS_PER_ASSOCIATION: Final = 128
"""Presentation context ids are the odd numbers from 1 to 255 (PS3.8 9.3.2.2)."""

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"

_OFFERED_PDU_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to call, and as whom."""

    address: str
    port: int
    called: AETitle
    calling: AETitle

    def __str__(self) -> str:
        return f"{self.called} at {self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Proposal:
    """One presentation context to propose: a SOP class in one transfer syntax."""

    sop_class_uid: Uid
    transfer_syntax_uid: Uid


def plan_associations(wanted: Iterable[tuple[Uid, Uid]]) -> list[tuple[Proposal, ...]]:
    """The contexts to propose so that every (SOP class, stored transfer syntax) in `wanted` can be sent.

    Each stored syntax gets a context of its own, so that the receiver cannot trade it for another, and each SOP class
    one for Explicit and one for Implicit VR Little Endian. What exceeds 128 contexts goes to further associations;
    one SOP class is never split unless it alone exceeds them. Pure.
    """
    by_class: dict[Uid, dict[Uid, None]] = {}
    for sop_class_uid, transfer_syntax_uid in wanted:
        by_class.setdefault(sop_class_uid, {})[transfer_syntax_uid] = None
    associations: list[tuple[Proposal, ...]] = []
    room: list[Proposal] = []
    for sop_class_uid, stored in by_class.items():
        own = [Proposal(sop_class_uid, each) for each in stored if each not in FALLBACKS]
        fallbacks = [Proposal(sop_class_uid, each) for each in FALLBACKS]
        per_association = CONTEXTS_PER_ASSOCIATION - len(fallbacks)
        for first in range(0, max(len(own), 1), per_association):
            group = own[first : first + per_association] + fallbacks
            if len(room) + len(group) > CONTEXTS_PER_ASSOCIATION:
                associations.append(tuple(room))
                room = []
            room.extend(group)
    if room:
        associations.append(tuple(room))
    return associations


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def encode_request(peer: Peer, ids: Mapping[int, Proposal]) -> bytes:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    value = (
        struct.pack(">HH", 1, 0)
        + peer.called.encode().ljust(16)
        + peer.calling.encode().ljust(16)
        + bytes(32)
    )
    value += _item(0x10, _APPLICATION_CONTEXT)
    for context, proposal in ids.items():
        value += _item(
            0x20,
            bytes([context, 0, 0, 0])
            + _item(0x30, proposal.sop_class_uid.encode())
            + _item(0x40, proposal.transfer_syntax_uid.encode()),
        )
    value += _item(
        0x50,
        _item(0x51, struct.pack(">L", _OFFERED_PDU_BYTES))
        + _item(0x52, IMPLEMENTATION_CLASS_UID.encode())
        + _item(0x55, IMPLEMENTATION_VERSION_NAME.encode()),
    )
    return struct.pack(">BBL", 1, 0, len(value)) + value


def decode_answer(body: bytes, ids: Mapping[int, Proposal]) -> tuple[dict[Proposal, int], int]:
    """The accepted contexts of an A-ASSOCIATE-AC (PS3.8 9.3.3) and the peer's maximum PDU length (0 = unlimited).

    An answer whose maximum length is missing gets the smallest that every implementation takes.
    """
    accepted: dict[Proposal, int] = {}
    max_pdu = 16382
    if len(body) < 68:
        raise ValueError("an answer that is cut short")
    for kind, value in _items(body, 68):
        if kind == 0x21 and value[2] == 0 and value[0] in ids:
            proposal = ids[value[0]]
            syntax = next((each for sub, each in _items(value, 4) if sub == 0x40), b"")
            if syntax.rstrip(b"\0 ").decode("ascii", "replace") == proposal.transfer_syntax_uid:
                accepted[proposal] = value[0]
        elif kind == 0x50:
            for sub, each in _items(value, 0):
                if sub == 0x51:
                    (max_pdu,) = struct.unpack(">L", each)
    return accepted, max_pdu


def _items(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(data):
        kind, _, length = struct.unpack_from(">BBH", data, at)
        if at + 4 + length > len(data):
            raise ValueError("an item is longer than its PDU")
        yield kind, data[at + 4 : at + 4 + length]
        at += 4 + length


_REJECTIONS: Mapping[tuple[int, int], tuple[str, str]] = MappingProxyType(
    {
        (1, 1): ("gives no reason", "look at its DICOM log"),
        (1, 2): ("does not support this application context", "look at its DICOM log"),
        (1, 3): (
            "does not know our AE title {calling}",
            "add {calling} and this box's address to its device list",
        ),
        (1, 7): ("is not called {called}", "correct the AE title of this destination"),
        (2, 1): ("gives no reason", "look at its DICOM log"),
        (2, 2): ("does not support this protocol version", "look at its DICOM log"),
        (3, 1): ("is congested", ""),
        (3, 2): ("has reached its limit of connections", ""),
    }
)
"""(source, reason) of A-ASSOCIATE-RJ (PS3.8 table 9-21) in words."""


def rejection(peer: Peer, result: int, source: int, reason: int) -> Transient | OperatorNeeded:
    """A rejected association: "permanent" needs a person, "transient" only time."""
    words, hint = _REJECTIONS.get((source, reason), ("gives no reason", "look at its DICOM log"))
    message = f"{peer} rejects the association: it {words.format(called=peer.called, calling=peer.calling)}"
    hint = hint.format(called=peer.called, calling=peer.calling)
    if result == 1:
        return OperatorNeeded(message, hint=hint or "look at its DICOM log")
    return Transient(message, hint=hint)
