"""The other side of an association, as raw as a test needs it: it can tell every lie that the protocol has room for."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
PATIENCE_SECONDS = 90.0


@dataclass
class Rejected(Exception):
    code: tuple[int, int, int]


@dataclass
class Aborted(Exception):
    source: int
    reason: int


class Closed(Exception):
    pass


def element(number: int, value: bytes, group: int = 0) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", group, number, len(value)) + value


def command(
    field: int, message_id: int = 1, sop_class: str = "", instance: str = "", *, data_set: bool = True
) -> bytes:
    body = element(0x0002, sop_class.encode()) if sop_class else b""
    body += element(0x0100, struct.pack("<H", field)) + element(0x0110, struct.pack("<H", message_id))
    body += element(0x0800, struct.pack("<H", 0 if data_set else 0x0101))
    body += element(0x1000, instance.encode()) if instance else b""
    return element(0, struct.pack("<L", len(body))) + body


def pdv(context_id: int, control: int, data: bytes, length: int | None = None) -> bytes:
    return struct.pack(">LBB", len(data) + 2 if length is None else length, context_id, control) + data


def p_data(*items: bytes, length: int | None = None) -> bytes:
    body = b"".join(items)
    return struct.pack(">BBL", 4, 0, len(body) if length is None else length) + body


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def associate_rq(
    contexts: Sequence[tuple[int, str, Sequence[str]]],
    *,
    calling: bytes = b"MODALITY",
    called: bytes = b"CLINICBOX",
    max_pdu: int = 16384,
    user_items: bytes = b"",
    version: int = 1,
) -> bytes:
    body = struct.pack(">HH", version, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for context_id, abstract, syntaxes in contexts:
        parts = item(0x30, abstract.encode()) + b"".join(item(0x40, each.encode()) for each in syntaxes)
        body += item(0x20, bytes((context_id, 0, 0, 0)) + parts)
    user = item(0x51, struct.pack(">L", max_pdu)) + item(0x52, b"1.2.3.4.5") + user_items
    body += item(0x50, user)
    return struct.pack(">BBL", 1, 0, len(body)) + body


def elements_of(encoded: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    offset = 0
    while offset < len(encoded):
        _, number, length = struct.unpack_from("<HHL", encoded, offset)
        found[number] = encoded[offset + 8 : offset + 8 + length]
        offset += 8 + length
    return found


@dataclass(frozen=True)
class Response:
    """A DIMSE response: the elements of its command set, all of group 0000, and how many PDUs carried it."""

    elements: dict[int, bytes]
    pdus: int

    @property
    def status(self) -> int:
        return int.from_bytes(self.elements[0x0900], "little")

    @property
    def message_id(self) -> int:
        return int.from_bytes(self.elements[0x0120], "little")

    @property
    def comment(self) -> str:
        return self.elements.get(0x0902, b"").decode("ascii").strip()


class Peer:
    """A connection to an SCP; close it, or use it as a context manager."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), timeout=PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.contexts: dict[int, tuple[int, str]] = {}
        self.max_pdu = 0
        self.answer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            try:
                piece = self.socket.recv(size - len(got))
            except ConnectionError as error:
                raise Closed from error
            if not piece:
                raise Closed
            got += piece
        return got

    def pdu(self) -> tuple[int, bytes]:
        """Type and body of the next PDU; raises `Aborted`, `Rejected`, `Closed`."""
        kind, _, length = struct.unpack(">BBL", self.receive(6))
        body = self.receive(length)
        if kind == 7:
            raise Aborted(body[2], body[3])
        if kind == 3:
            raise Rejected((body[1], body[2], body[3]))
        return kind, body

    def associate(
        self, contexts: Sequence[tuple[int, str, Sequence[str]]] = ((1, CT, (EXPLICIT,)),), **options: object
    ) -> Self:
        """Raises `Rejected`; afterwards `contexts` holds result and transfer syntax by context id."""
        self.send(associate_rq(contexts, **options))  # type: ignore[arg-type]
        kind, body = self.pdu()
        assert kind == 2
        self.answer = body
        offset = 68
        while offset < len(body):
            item_kind, _, length = struct.unpack_from(">BBH", body, offset)
            value = body[offset + 4 : offset + 4 + length]
            if item_kind == 0x21:
                syntax_length = struct.unpack_from(">H", value, 6)[0]
                self.contexts[value[0]] = (value[2], value[8 : 8 + syntax_length].decode())
            if item_kind == 0x50:
                self.user_information = value
                self.max_pdu = struct.unpack_from(">L", value, 4)[0]
            offset += 4 + length
        return self

    def response(self) -> Response:
        encoded, pdus, last = b"", 0, False
        while not last:
            kind, body = self.pdu()
            assert kind == 4
            pdus += 1
            last = bool(body[5] & 2)
            encoded += body[6:]
        return Response(elements_of(encoded), pdus)

    def echo(self, context_id: int = 1, message_id: int = 1) -> Response:
        self.send(p_data(pdv(context_id, 3, command(0x30, message_id, VERIFICATION, data_set=False))))
        return self.response()

    def begin_store(
        self, instance: str, sop_class: str = CT, context_id: int = 1, message_id: int = 7
    ) -> None:
        self.send(p_data(pdv(context_id, 3, command(1, message_id, sop_class, instance))))

    def store(
        self,
        data_set: bytes,
        instance: str,
        sop_class: str = CT,
        context_id: int = 1,
        *,
        fragment_bytes: int = 16000,
        message_id: int = 7,
    ) -> Response:
        self.begin_store(instance, sop_class, context_id, message_id)
        for start in range(0, max(len(data_set), 1), fragment_bytes):
            part = data_set[start : start + fragment_bytes]
            last = start + fragment_bytes >= len(data_set)
            self.send(p_data(pdv(context_id, 2 if last else 0, part)))
        return self.response()

    def release(self) -> None:
        self.send(b"\5\0\0\0\0\4\0\0\0\0")
        kind, _ = self.pdu()
        assert kind == 6

    def expect_abort(self) -> Aborted:
        try:
            self.pdu()
        except Aborted as aborted:
            return aborted
        raise AssertionError("the association was not aborted")
