"""The sending side of DIMSE: verification (C-ECHO) and storage (C-STORE) over associations of our own.

Chose an own raw path over the library's SCU because that one sometimes loses a response which comes within 0.3 ms,
copies every data set several times and re-encodes it; here the data set's bytes go from the opened object to
``sendmsg`` untouched. Rejected sending more than one message at once (asynchronous operations): no clinic device
grants it. One thread owns an association, and everything it does has a time limit.

Byte layouts are those of PS3.8 9.3 (PDUs, big endian) and PS3.7 6.3, E.1 (commands: implicit VR little endian).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

from appliance.dicom.association_request import (
    CONTEXTS_PER_ASSOCIATION,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
    Peer,
    Proposal,
    decode_answer,
    encode_request,
    rejection,
)
from appliance.errors import OperatorNeeded, Refused, Transient
from appliance.model import AETitle, Uid

_LARGEST_ANSWER_BYTES = 1 << 20
_UNLIMITED_PDU_BYTES = 128 * 1024
"""What is sent to a peer that sets no limit: larger ones only get copied about."""
_LEAST_PDU_BYTES = 512
_BATCH_BYTES = 1 << 20

_ASSOCIATE_AC, _ASSOCIATE_RJ, _P_DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = 2, 3, 4, 5, 6, 7
_C_STORE_RQ, _C_ECHO_RQ = 0x0001, 0x0030
_NO_DATA_SET = 0x0101


class Readable(Protocol):
    """The data set of an instance: a file-like that stands at its first byte."""

    def read(self, size: int = -1, /) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one association, in seconds."""

    connect_seconds: float = 10.0
    acse_seconds: float = 30.0
    network_seconds: float = 60.0
    response_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Response:
    """A peer's answer to a request: the status of PS3.7 C and PS3.4 B.2.3."""

    status: int


class Association:
    """An established association, used by one thread. A context manager: released on success, aborted on error."""

    def __init__(
        self,
        connection: socket.socket,
        peer: Peer,
        accepted: Mapping[Proposal, int],
        max_pdu: int,
        timeouts: Timeouts,
    ) -> None:
        self._connection = connection
        self._peer = peer
        self._timeouts = timeouts
        self._fragment_bytes = _fragment_bytes(max_pdu)
        self._message_id = 0
        self._open = True
        self.accepted = MappingProxyType(dict(accepted))

    def accepts(self, sop_class_uid: Uid, transfer_syntax_uid: Uid) -> bool:
        """Whether the peer took this SOP class in this transfer syntax."""
        return Proposal(sop_class_uid, transfer_syntax_uid) in self.accepted

    def echo(self) -> Response:
        """C-ECHO (PS3.7 9.1.5). Raises `Transient` if there is no answer."""
        context = self.accepted.get(Proposal(VERIFICATION, IMPLICIT_VR_LITTLE_ENDIAN))
        if context is None:
            raise OperatorNeeded(
                f"{self._peer} answers, but does not offer verification",
                hint="allow C-ECHO in its DICOM settings",
            )
        self._message_id += 1
        self._send_command(
            context,
            _element(0x0002, VERIFICATION.encode())
            + _element(0x0100, struct.pack("<H", _C_ECHO_RQ))
            + _element(0x0110, struct.pack("<H", self._message_id))
            + _element(0x0800, struct.pack("<H", _NO_DATA_SET)),
        )
        return self._response()

    def store(
        self, *, sop_class_uid: Uid, sop_instance_uid: Uid, transfer_syntax_uid: Uid, data_set: Readable
    ) -> Response:
        """C-STORE (PS3.7 9.1.1) of `data_set`, which is encoded in `transfer_syntax_uid` and sent as it is.

        Raises `Transient` when the peer aborts, goes away or takes too long; the association is then unusable, since a
        partial message cannot be taken back (PS3.8).
        """
        context = self.accepted.get(Proposal(sop_class_uid, transfer_syntax_uid))
        if context is None:
            raise Refused(f"{self._peer} does not accept this kind of object in the encoding offered")
        self._message_id = self._message_id % 0xFFFF + 1
        self._send_command(
            context,
            _element(0x0002, sop_class_uid.encode())
            + _element(0x0100, struct.pack("<H", _C_STORE_RQ))
            + _element(0x0110, struct.pack("<H", self._message_id))
            + _element(0x0700, struct.pack("<H", 0))
            + _element(0x0800, struct.pack("<H", 0))
            + _element(0x1000, sop_instance_uid.encode()),
        )
        for batch in _data_pdus(data_set, context, self._fragment_bytes):
            self._send(batch)
        return self._response()

    def release(self) -> None:
        """A-RELEASE (PS3.8 7.2). A peer that does not answer it loses nothing: everything sent was answered."""
        if not self._open:
            return
        self._open = False
        try:
            self._connection.sendall(struct.pack(">BBLL", _RELEASE_RQ, 0, 4, 0))
            self._connection.settimeout(min(5.0, self._timeouts.acse_seconds))
            self._connection.recv(64)
        except OSError:
            pass
        finally:
            self._connection.close()

    def abort(self) -> None:
        """A-ABORT (PS3.8 7.3), as the service user."""
        if not self._open:
            return
        self._open = False
        try:
            self._connection.settimeout(1.0)
            self._connection.sendall(struct.pack(">BBLBBBB", _ABORT, 0, 4, 0, 0, 0, 0))
        except OSError:
            pass
        finally:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    def _send_command(self, context: int, elements: bytes) -> None:
        command = struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements
        length = len(command)
        self._send([struct.pack(">BBLLBB", _P_DATA, 0, length + 6, length + 2, context, 3), command])

    def _send(self, buffers: Sequence[bytes | memoryview]) -> None:
        self._connection.settimeout(self._timeouts.network_seconds)
        waiting = [memoryview(each) for each in buffers if len(each)]
        try:
            while waiting:
                sent = self._connection.sendmsg(waiting[:512])
                while waiting and sent >= len(waiting[0]):
                    sent -= len(waiting[0])
                    del waiting[0]
                if sent:
                    waiting[0] = waiting[0][sent:]
        except OSError as error:
            self._drop()
            raise Transient(f"{self._peer} stopped receiving ({_cause(error)})") from error

    def _response(self) -> Response:
        """The next command that answers our last message."""
        deadline = time.monotonic() + self._timeouts.response_seconds
        command = bytearray()
        while True:
            kind, body = self._receive(deadline)
            if kind == _ABORT:
                self._drop()
                raise Transient(f"{self._peer} aborted the association")
            if kind != _P_DATA:
                self._drop()
                raise Transient(f"{self._peer} answered out of turn")
            for control, fragment in self._fragments(body):
                if not control & 1:
                    continue  # the data set of an answer: C-STORE and C-ECHO have none, and none is needed
                command += fragment
                if control & 2:
                    answer = _elements(command)
                    command.clear()
                    if _number(answer.get(0x0120)) == self._message_id and 0x0900 in answer:
                        return Response(_number(answer[0x0900]))

    def _fragments(self, body: bytes) -> Iterator[tuple[int, bytes]]:
        """(message control header, fragment) of each PDV in a P-DATA-TF (PS3.8 9.3.5)."""
        at = 0
        while at + 6 <= len(body):
            (length,) = struct.unpack_from(">L", body, at)
            if length < 2 or at + 4 + length > len(body):
                self._drop()
                raise Transient(f"{self._peer} sent a malformed answer")
            yield body[at + 5], body[at + 6 : at + 4 + length]
            at += 4 + length

    def _receive(self, deadline: float) -> tuple[int, bytes]:
        try:
            return _receive_pdu(self._connection, deadline)
        except (OSError, EOFError, ValueError) as error:
            self._drop()
            raise Transient(f"{self._peer} did not answer ({_cause(error)})") from error

    def _drop(self) -> None:
        self._open = False
        self._connection.close()


def associate(peer: Peer, proposals: Sequence[Proposal], *, timeouts: Timeouts | None = None) -> Association:
    """An association with `peer` (PS3.8 7.1) on which it has accepted all, some or none of `proposals` (≤ 128).

    Raises `Transient` if it does not answer or has no room, `OperatorNeeded` if it does not want to talk to us.
    """
    if not 1 <= len(proposals) <= CONTEXTS_PER_ASSOCIATION:
        raise ValueError("an association carries 1 to 128 presentation contexts")
    timeouts = timeouts or Timeouts()
    ids = {2 * index + 1: proposal for index, proposal in enumerate(proposals)}
    try:
        connection = socket.create_connection((peer.address, peer.port), timeouts.connect_seconds)
    except OSError as error:
        raise Transient(f"{peer} cannot be reached ({_cause(error)})", hint="is it switched on?") from error
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(timeouts.acse_seconds)
        connection.sendall(encode_request(peer, ids))
        kind, body = _receive_pdu(connection, time.monotonic() + timeouts.acse_seconds)
        if kind == _ASSOCIATE_RJ and len(body) >= 4:
            raise rejection(peer, body[1], body[2], body[3])
        if kind != _ASSOCIATE_AC:
            raise Transient(f"{peer} hung up on the association request")
        accepted, max_pdu = decode_answer(body, ids)
    except (OSError, EOFError, ValueError, struct.error, IndexError) as error:
        connection.close()
        raise Transient(f"{peer} did not answer the association request ({_cause(error)})") from error
    except BaseException:
        connection.close()
        raise
    return Association(connection, peer, accepted, max_pdu, timeouts)


def echo(
    address: str, port: int, called: AETitle, calling: AETitle, *, timeouts: Timeouts | None = None
) -> float:
    """Verifies a peer by C-ECHO; returns the seconds it took, association included.

    Raises `Transient` or `OperatorNeeded` with the cause in plain words.
    """
    peer = Peer(address, port, called, calling)
    began = time.monotonic()
    with associate(
        peer, [Proposal(VERIFICATION, IMPLICIT_VR_LITTLE_ENDIAN)], timeouts=timeouts
    ) as association:
        response = association.echo()
    if response.status != 0:
        raise OperatorNeeded(
            f"{peer} answered C-ECHO with status {response.status:04X}",
            hint="look at that machine's DICOM log",
        )
    return time.monotonic() - began


# --- Encoding --------------------------------------------------------------------------------------------------------


def _element(element: int, value: bytes) -> bytes:
    """One command element (0000,eeee), padded to an even length: UIDs with NUL (PS3.5 9.1)."""
    if len(value) % 2:
        value += b"\0"
    return struct.pack("<HHL", 0, element, len(value)) + value


def _elements(command: bytes | bytearray) -> dict[int, bytes]:
    """Element number → value of a command set; what is malformed ends it."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 8 <= len(command):
        _, element, length = struct.unpack_from("<HHL", command, at)
        found[element] = bytes(command[at + 8 : at + 8 + length])
        at += 8 + length
    return found


def _number(value: bytes | None) -> int:
    return int.from_bytes(value[:2], "little") if value else -1


def _fragment_bytes(max_pdu: int) -> int:
    """How much of a data set goes into one PDU: the peer's limit less the PDV header, even (PS3.8 D.1, 9.3.5)."""
    limit = max_pdu or _UNLIMITED_PDU_BYTES
    return (min(max(limit, _LEAST_PDU_BYTES), _UNLIMITED_PDU_BYTES) - 6) & ~1


def _data_pdus(data_set: Readable, context: int, fragment_bytes: int) -> Iterator[list[bytes | memoryview]]:
    """`data_set` as P-DATA-TF PDUs in batches of about a megabyte; the last fragment says so (PS3.8 E.2)."""
    per_read = max(1, _BATCH_BYTES // fragment_bytes) * fragment_bytes
    block = _read(data_set, per_read)
    while True:
        following = _read(data_set, per_read) if len(block) == per_read else b""
        view = memoryview(block)
        batch: list[bytes | memoryview] = []
        for at in range(0, max(len(view), 1), fragment_bytes):
            fragment = view[at : at + fragment_bytes]
            last = not following and at + fragment_bytes >= len(view)
            length = len(fragment)
            batch.append(
                struct.pack(">BBLLBB", _P_DATA, 0, length + 6, length + 2, context, 2 if last else 0)
            )
            batch.append(fragment)
        yield batch
        if not following:
            return
        block = following


def _read(stream: Readable, size: int) -> bytes:
    """Up to `size` bytes, fewer only at the end."""
    first = stream.read(size) or b""
    if len(first) == size or not first:
        return first
    pieces = [first]
    have = len(first)
    while have < size and (more := stream.read(size - have)):
        pieces.append(more)
        have += len(more)
    return b"".join(pieces)


def _receive_pdu(connection: socket.socket, deadline: float) -> tuple[int, bytes]:
    """The next PDU's type and body. Raises `EOFError`, `TimeoutError` or `ValueError` (an absurd length)."""
    head = _receive_exactly(connection, 6, deadline)
    kind, _, length = struct.unpack(">BBL", head)
    if length > _LARGEST_ANSWER_BYTES:
        raise ValueError("a PDU of absurd length")
    return kind, _receive_exactly(connection, length, deadline)


def _receive_exactly(connection: socket.socket, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left)
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError("connection closed")
        data += piece
    return bytes(data)


def _cause(error: BaseException) -> str:
    """The cause in a few words, without addresses that `strerror` may repeat."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
