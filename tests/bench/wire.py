"""A C-STORE sender over a bare socket: pre-encoded data sets out by `sendmsg`, nothing parsed but what is needed.

Chose an own encoder (PS3.7 9.3.1, PS3.8 9.3) because the sender must not be what is measured; rejected storescu, which sends
16 KB PDUs, and pynetdicom's SCU, which manages a quarter of this rate.
"""

import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"
IMPLEMENTATION_CLASS_UID = b"2.25.299792458000000000000000000000000001"

A_ASSOCIATE_RQ, A_ASSOCIATE_AC, P_DATA_TF, A_RELEASE_RQ = 1, 2, 4, 5
C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
NO_DATA_SET = 0x0101
PDV_HEADER_BYTES = 6
MAX_PDU_BYTES = 131072
IOV_MAX = 1024
TIMEOUT_SECONDS = 300

Buffer = bytes | memoryview


class PeerFailed(RuntimeError):
    """The receiver refused, aborted, or went away: the measurement is worth nothing."""


@dataclass(frozen=True)
class Encoded:
    """One instance ready to send: its UIDs, and its data set in as many pieces as is convenient."""

    sop_class_uid: str
    sop_instance_uid: str
    data_set: tuple[Buffer, ...]

    @property
    def size_bytes(self) -> int:
        return sum(len(piece) for piece in self.data_set)


class Sender:
    """One association from which instances are sent one after the other.

    Args:
        port: The receiver's, on loopback.
        sop_classes: One presentation context each, Explicit VR Little Endian.
        called: The receiver's AE title.
        calling: Ours.
        timeout_seconds: How long each answer may take.

    Raises:
        PeerFailed: No association, or a context was refused.
        OSError: Nobody listens.
    """

    def __init__(
        self,
        port: int,
        sop_classes: Sequence[str],
        *,
        called: str,
        calling: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._message_id = 0
        contexts = {2 * i + 1: sop_class for i, sop_class in enumerate(sop_classes)}
        try:
            self._socket.sendall(_associate_request(contexts, called, calling))
            kind, body = self._receive_pdu()
            if kind != A_ASSOCIATE_AC:
                raise PeerFailed(f"the association was refused (PDU type {kind}, {body[:4].hex()})")
            results, offered = _accepted(body)
        except BaseException:
            self._socket.close()
            raise
        refused = [contexts[i] for i in contexts if results.get(i) != 0]
        if refused:
            self._socket.close()
            raise PeerFailed(f"presentation contexts refused: {', '.join(refused)}")
        self._context_of = {sop_class: i for i, sop_class in contexts.items()}
        self._fragment_bytes = (min(offered or MAX_PDU_BYTES, MAX_PDU_BYTES) - PDV_HEADER_BYTES) & ~1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close without a word, as after an error."""
        self._socket.close()

    def store(self, instance: Encoded) -> int:
        """Send one instance and return the status of the C-STORE-RSP.

        Raises:
            PeerFailed: Something else than a response came, or nothing.
        """
        context = self._context_of[instance.sop_class_uid]
        command = self._command(
            C_STORE_RQ,
            instance.sop_class_uid,
            _element(0x0700, struct.pack("<H", 0)),
            _element(0x0800, struct.pack("<H", 0)),
            _element(0x1000, _padded(instance.sop_instance_uid)),
        )
        buffers: list[Buffer] = [_pdv_header(context, 3, len(command)), command]
        buffers += _fragments(instance.data_set, context, self._fragment_bytes)
        self._send(buffers)
        return self._receive_status()

    def echo(self) -> int:
        """C-ECHO; returns the status."""
        command = self._command(C_ECHO_RQ, VERIFICATION, _element(0x0800, struct.pack("<H", NO_DATA_SET)))
        self._send([_pdv_header(self._context_of[VERIFICATION], 3, len(command)), command])
        return self._receive_status()

    def release(self) -> None:
        """Release in the orderly way, and close."""
        self._socket.sendall(struct.pack(">BBLL", A_RELEASE_RQ, 0, 4, 0))
        self._receive_pdu()
        self._socket.close()

    def _command(self, field: int, sop_class_uid: str, *rest: bytes) -> bytes:
        self._message_id = self._message_id % 0xFFFF + 1
        body = b"".join(
            (
                _element(0x0002, _padded(sop_class_uid)),
                _element(0x0100, struct.pack("<H", field)),
                _element(0x0110, struct.pack("<H", self._message_id)),
                *rest,
            )
        )
        return _element(0x0000, struct.pack("<L", len(body))) + body

    def _send(self, buffers: list[Buffer]) -> None:
        for start in range(0, len(buffers), IOV_MAX):
            batch = buffers[start : start + IOV_MAX]
            left = sum(len(b) for b in batch) - self._socket.sendmsg(batch)
            while left:
                batch = _tail(batch, left)
                left -= self._socket.sendmsg(batch)

    def _receive_status(self) -> int:
        kind, body = self._receive_pdu()
        if kind != P_DATA_TF:
            raise PeerFailed(f"PDU type {kind} came instead of a response")
        at = PDV_HEADER_BYTES
        while at + 8 <= len(body):
            group, element, length = struct.unpack_from("<HHL", body, at)
            if (group, element) == (0, 0x0900):
                status: int = struct.unpack_from("<H", body, at + 8)[0]
                return status
            at += 8 + length
        raise PeerFailed("the response has no status")

    def _receive_pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxL", self._receive(6))
        return kind, self._receive(length)

    def _receive(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            piece = self._socket.recv(size - len(received))
            if not piece:
                raise PeerFailed("the receiver closed the connection")
            received += piece
        return bytes(received)


def answers_echo(port: int, called: str, calling: str) -> bool:
    """Whether a receiver on this port answers C-ECHO with success now."""
    try:
        with Sender(port, [VERIFICATION], called=called, calling=calling) as sender:
            succeeded = sender.echo() == 0
            sender.release()
            return succeeded
    except (OSError, PeerFailed):
        return False


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _associate_request(contexts: dict[int, str], called: str, calling: str) -> bytes:
    variable = _item(0x10, APPLICATION_CONTEXT)
    for number, sop_class in contexts.items():
        syntaxes = _item(0x30, sop_class.encode()) + _item(0x40, EXPLICIT_VR_LITTLE_ENDIAN.encode())
        variable += _item(0x20, bytes([number, 0, 0, 0]) + syntaxes)
    user = (
        _item(0x51, struct.pack(">L", MAX_PDU_BYTES))
        + _item(0x52, IMPLEMENTATION_CLASS_UID)
        + _item(0x55, b"BENCH_1")
    )
    variable += _item(0x50, user)
    fixed = struct.pack(">Hxx16s16s32x", 1, called.ljust(16).encode(), calling.ljust(16).encode())
    return struct.pack(">BxL", A_ASSOCIATE_RQ, len(fixed) + len(variable)) + fixed + variable


def _accepted(body: bytes) -> tuple[dict[int, int], int]:
    """From an A-ASSOCIATE-AC: the result of each presentation context, and the PDU size offered (0: unlimited)."""
    results: dict[int, int] = {}
    offered = 0
    for kind, value in _items(body[68:]):
        if kind == 0x21:
            results[value[0]] = value[2]
        elif kind == 0x50:
            offered = next((struct.unpack(">L", v)[0] for k, v in _items(value) if k == 0x51), 0)
    return results, offered


def _items(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(body):
        kind, length = struct.unpack_from(">BxH", body, at)
        yield kind, body[at + 4 : at + 4 + length]
        at += 4 + length


def _element(element: int, value: bytes) -> bytes:
    """A command element: group 0000, Implicit VR Little Endian."""
    return struct.pack("<HHL", 0, element, len(value)) + value


def _padded(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def _pdv_header(context: int, control: int, length: int) -> bytes:
    return struct.pack(">BxLLBB", P_DATA_TF, length + PDV_HEADER_BYTES, length + 2, context, control)


def _fragments(pieces: tuple[Buffer, ...], context: int, fragment_bytes: int) -> list[Buffer]:
    """The data set as P-DATA-TF PDUs of at most this many bytes of it, without copying: headers between slices."""
    left = sum(len(piece) for piece in pieces)
    room = 0
    buffers: list[Buffer] = []
    for piece in pieces:
        view = memoryview(piece)
        at = 0
        while at < len(view):
            if not room:
                room = min(fragment_bytes, left)
                buffers.append(_pdv_header(context, 2 if room == left else 0, room))
            take = min(room, len(view) - at)
            buffers.append(view[at : at + take])
            at += take
            room -= take
            left -= take
    return buffers


def _tail(batch: list[Buffer], left_bytes: int) -> list[Buffer]:
    """The last so many bytes of a batch of buffers."""
    kept: list[Buffer] = []
    for buffer in reversed(batch):
        if left_bytes <= 0:
            break
        kept.append(memoryview(buffer)[-left_bytes:] if len(buffer) > left_bytes else buffer)
        left_bytes -= len(buffer)
    return kept[::-1]
