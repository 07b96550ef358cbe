"""DIMSE command sets, decoded and encoded by hand (PS3.7 6.3, 9.3, annex E). Pure.

Chose this over the library's primitives, because a C-STORE response costs it 399 µs and this 5, and because a command
set from the wire is hostile until every length in it is checked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from appliance.errors import NotUnderstood
from appliance.model import Uid

MAX_COMMAND_BYTES: Final = 64 * 1024
"""A command set beyond this is no command set: real ones have a few hundred bytes."""

NO_DATA_SET: Final = 0x0101
_RESPONSE: Final = 0x8000
_ELEMENT: Final = struct.Struct("<HHL")
_US: Final = struct.Struct("<H")
_UL: Final = struct.Struct("<L")
_PDV: Final = struct.Struct(">BBLLBB")


class Operation(IntEnum):
    """Command Field (0000,0100) of the requests that are told apart here (PS3.7 E.1)."""

    C_STORE = 0x0001
    C_ECHO = 0x0030
    C_CANCEL = 0x0FFF


@dataclass(frozen=True, slots=True)
class Command:
    """The elements of a command set that matter on the receiving side; an absent UID is empty."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: Uid
    sop_instance_uid: Uid

    @property
    def is_response(self) -> bool:
        return bool(self.field & _RESPONSE)


def read_command(encoded: bytes | bytearray | memoryview) -> Command:
    """The command set in `encoded` (always Implicit VR Little Endian, PS3.7 6.3.1).

    Raises `NotUnderstood` if it is none: lengths that do not add up, no Command Field, no Message ID in a request.
    """
    values: dict[int, bytes] = {}
    offset, size = 0, len(encoded)
    while offset < size:
        if offset + 8 > size:
            raise NotUnderstood("the command set ends in the middle of an element")
        group, element, length = _ELEMENT.unpack_from(encoded, offset)
        offset += 8
        if group != 0 or offset + length > size:
            raise NotUnderstood("the command set holds an element that does not belong there")
        values[element] = bytes(encoded[offset : offset + length])
        offset += length
    field = _number(values, 0x0100)
    # A request numbers itself in (0000,0110); C-CANCEL and responses name another in (0000,0120)
    message_id = _number(values, 0x0110 if 0x0110 in values else 0x0120)
    has_data_set = 0x0800 in values and _number(values, 0x0800) != NO_DATA_SET
    return Command(
        field, message_id, has_data_set, _uid(values, 0x0002, 0x0003), _uid(values, 0x1000, 0x1001)
    )


def response(
    request: Command, status: int, *, offending_element: int | None = None, error_comment: str = ""
) -> bytes:
    """The encoded command set that answers `request` with `status` and no data set.

    `offending_element` is a tag, `error_comment` at most 64 plain characters (PS3.7 annex C).
    """
    elements = [
        _element(0x0002, _padded(request.sop_class_uid)) if request.sop_class_uid else b"",
        _element(0x0100, _US.pack(request.field | _RESPONSE)),
        _element(0x0120, _US.pack(request.message_id)),
        _element(0x0800, _US.pack(NO_DATA_SET)),
        _element(0x0900, _US.pack(status)),
    ]
    if offending_element is not None:
        elements.append(
            _element(0x0901, struct.pack("<HH", offending_element >> 16, offending_element & 0xFFFF))
        )
    if error_comment:
        comment = error_comment.encode("ascii")
        elements.append(_element(0x0902, comment + b" " * (len(comment) % 2)))
    if request.sop_instance_uid:
        elements.append(_element(0x1000, _padded(request.sop_instance_uid)))
    encoded = b"".join(elements)
    return _element(0x0000, _UL.pack(len(encoded))) + encoded


def command_pdus(context_id: int, command: bytes, max_pdu_bytes: int) -> bytes:
    """P-DATA-TF PDUs that carry `command` on `context_id` (PS3.8 9.3.5).

    `max_pdu_bytes` is what the peer takes in one PDU, 0 for no limit (PS3.8 D.1).
    """
    room = max(max_pdu_bytes - 6, 2) if max_pdu_bytes else len(command)
    if len(command) <= room:
        return _PDV.pack(4, 0, len(command) + 6, len(command) + 2, context_id, 3) + command
    room -= room % 2
    pdus = []
    for start in range(0, len(command), room):
        part = command[start : start + room]
        last = start + room >= len(command)
        pdus.append(_PDV.pack(4, 0, len(part) + 6, len(part) + 2, context_id, 3 if last else 1) + part)
    return b"".join(pdus)


def _number(values: dict[int, bytes], element: int) -> int:
    value = values.get(element, b"")
    if len(value) != 2:
        raise NotUnderstood(f"the command set has no readable (0000,{element:04X})")
    return int(_US.unpack(value)[0])


def _uid(values: dict[int, bytes], *elements: int) -> Uid:
    value = next((values[element] for element in elements if element in values), b"").strip(b" \0")
    if len(value) > 64 or not value.isascii() or not (value == b"" or value.decode("ascii").isprintable()):
        raise NotUnderstood("the command set names something that is not a UID")
    return Uid(value.decode("ascii"))


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, element, len(value)) + value


def _padded(uid: Uid) -> bytes:
    value = uid.encode("ascii")
    return value + b"\0" * (len(value) % 2)
