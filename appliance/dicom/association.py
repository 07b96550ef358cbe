"""The receiving association: one thread, over pynetdicom's association control and state machine.

Chose to subclass the library through its public ``AE.make_server(server_class=, request_handler=)``: association
control, user information and release stay the library's, while the thread that serves an association reads its socket
itself (`pdu_stream`) and hands fragments on as they come (`exchange`). Rejected the library as it stands: two reactors
that each sleep 1 ms put a floor of 1.95 ms under every message, its data sets wait whole in memory or lie in clear in
a temporary folder (dicom-interop rule 10), and a length from the wire is believed. Rejected a fork of it. What it does
not promise and we use is in `LIBRARY_PRIVATE`; the version is pinned, and a test says which name an upgrade took away.

Nothing of an A-ASSOCIATE-RQ but its fixed fields is looked at before the door (`Admitting`) has said yes.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pydicom.uid import UID
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ASSOCIATE_RQ, A_RELEASE_RQ
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation as RoleSelection
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket

from appliance.config import DicomConfig
from appliance.dicom.exchange import UNEXPECTED_PDU, Exchange, Receiving, Tally, Violation
from appliance.dicom.negotiation import Answer, Outcome, Proposed, Roles, choose
from appliance.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from appliance.dicom.pdu_stream import Interrupted, PduStream, PeerGone, TimedOut
from appliance.errors import ApplianceError, OutOfResources, Refused
from appliance.model import AETitle, Intake, Origin, Uid, ae_title

log = logging.getLogger(__name__)

LIBRARY_PRIVATE: Final[Mapping[str, tuple[str, ...]]] = {
    "association": ("_accepted_cx", "_rejected_cx", "acse", "requestor", "acceptor"),
    "provider": ("_recv_pdu", "_process_recv_primitive", "event_queue", "state_machine"),
    "configuration": ("LOG_HANDLER_LEVEL",),
}
"""Names used here and in `listener` that the library does not promise, by what has them."""

MAX_REQUEST_BYTES: Final = 192 * 1024
"""Of an A-ASSOCIATE-RQ: 128 contexts with 20 transfer syntaxes each take 82 KB."""

PDU_SLACK_BYTES: Final = 1024
"""Peers differ on whether the maximum counts headers (PS3.8 D.1.1: it counts the variable field)."""

_ASSOCIATE_RQ, _P_DATA, _RELEASE_RQ, _ABORT = 1, 4, 5, 7
_FIXED_FIELDS_BYTES: Final = 68
_APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
_LAST_WORDS_SECONDS: Final = 2.0


class Rejection(Exception):
    """The association is not accepted; `code` is result, source and reason (PS3.8 Table 9-21)."""

    def __init__(self, why: str, code: tuple[int, int, int]) -> None:
        super().__init__(why)
        self.code = code


_NO_REASON: Final = (1, 1, 1)
_APPLICATION_CONTEXT_NOT_SUPPORTED: Final = (1, 1, 2)
_CALLING_AE_TITLE_NOT_RECOGNISED: Final = (1, 1, 3)
_PROTOCOL_VERSION_NOT_SUPPORTED: Final = (1, 2, 2)
_TEMPORARY_CONGESTION: Final = (2, 3, 1)
_LOCAL_LIMIT_EXCEEDED: Final = (2, 3, 2)


class Admitting(Protocol):
    """Who may come in."""

    def admits(self, calling: AETitle, address: str) -> bool:
        """Whether this caller is known; may raise `Transient`."""

    def rehearses(self, calling: AETitle, address: str) -> bool:
        """Whether this caller is the box itself: what it sends is counted nowhere."""

    def note_refusal(self, calling: AETitle, address: str, code: int) -> None:
        """An admitted caller was answered with the status `code`."""


def _never() -> bool:
    return False


def _ignored(connections: int) -> None:
    del connections


@dataclass(frozen=True)
class Desk:
    """What all associations of one process share."""

    config: DicomConfig
    ae_title: AETitle
    receiving: Receiving
    door: Admitting
    tally: Tally = field(default_factory=Tally)
    stopping: threading.Event = field(default_factory=threading.Event)
    give_way: Callable[[], bool] = _never
    """Whether another process has fewer connections, and should have the next one."""
    report_connections: Callable[[int], None] = _ignored
    """Told how many connections this process serves, whenever that changes."""


class _InlineProvider(DULServiceProvider):
    """The library's upper layer provider without its thread: what it is given is carried out at once."""

    def start(self) -> None:
        self.carry_out()

    def is_alive(self) -> bool:
        return False

    def stop_dul(self) -> bool:
        return True

    def send_pdu(self, primitive: Any) -> None:
        super().send_pdu(primitive)
        self.carry_out()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:  # noqa: ARG002 - nothing to wait for
        return super().receive_pdu(wait=False)

    def arrived(self, pdu: Any, event: str) -> None:
        """A decoded PDU came from the peer; `event` is its name in PS3.8 Table 9-10."""
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)
        self.carry_out()

    def carry_out(self) -> None:
        while True:
            try:
                event = self.event_queue.get(block=False)
            except queue.Empty:
                if not self._process_recv_primitive():
                    return
            else:
                self.state_machine.do_action(event)


class _StreamSocket(AssociationSocket):
    """The library's socket, writing through the association's stream and its deadlines."""

    def __init__(self, association: Association, connection: socket.socket, stream: PduStream) -> None:
        super().__init__(association, client_socket=connection)
        self._stream = stream

    def send(self, bytestream: bytes) -> None:
        self._stream.send(bytestream)


class ReceivingAssociation(Association):
    """One association of ours as acceptor: verification and storage."""

    dul: _InlineProvider

    def __init__(
        self, entity: ApplicationEntity, desk: Desk, connection: socket.socket, address: str
    ) -> None:
        """Serve `connection`, which comes from `address`; `run_reactor` does the work, in the calling thread."""
        super().__init__(entity, "acceptor")
        self._desk = desk
        self._peer_address = address
        self._caller = "?"
        self._entered = False
        self._stream = PduStream(connection, pdu_seconds=desk.config.acse_timeout_seconds)
        self._exchange: Exchange | None = None
        self.dul = _InlineProvider(self)
        self.set_socket(_StreamSocket(self, connection, self._stream))
        self.acceptor.ae_title = desk.ae_title
        self.acceptor.maximum_length = desk.config.max_pdu_bytes
        self.acceptor.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self.acceptor.implementation_version_name = IMPLEMENTATION_VERSION_NAME

    def run_reactor(self) -> None:
        """From the transport connection to its end; raises nothing that a peer can cause."""
        outcome = "released"
        try:
            self.dul.start()
            self._exchange = self._establish()
            self._stream.pdu_seconds = self._desk.config.network_timeout_seconds
            outcome = self._serve(self._exchange)
        except Rejection as rejection:
            outcome = f"rejected ({rejection})"
            self.is_rejected = True
            self._last_words(b"\3\0\0\0\0\4\0" + bytes(rejection.code))
        except Interrupted:
            outcome = "aborted (this process is stopping)"
            self._last_words(_abort(source=0, reason=0))
        except TimedOut:
            outcome = "aborted (too slow, or silent)"
            self._last_words(_abort(source=2, reason=0))
        except Violation as violation:
            outcome = f"aborted ({violation})"
            self._last_words(_abort(source=2, reason=violation.reason))
        except PeerGone:
            outcome = "connection lost"
        except BaseException:
            outcome = "aborted (a defect of ours)"
            self._last_words(_abort(source=0, reason=0))
            raise
        finally:
            if self._exchange is not None:
                self._exchange.abandon()
            if self._entered:
                self._desk.tally.leave()
            self.is_established = False
            log.info("association: device=%s address=%s %s", self._caller, self._peer_address, outcome)
            self._stream.close(wait=not self._desk.stopping.is_set())

    def _last_words(self, pdu: bytes) -> None:
        """Say why, if the peer still listens: the association is over either way."""
        self._stream.pdu_seconds = _LAST_WORDS_SECONDS
        try:
            self._stream.send(pdu)
        except (PeerGone, TimedOut):
            log.debug("the peer was gone before it could be told")

    def _establish(self) -> Exchange:
        """Receive, judge and accept the association request. Raises `Rejection`."""
        desk = self._desk
        pdu_type, length = self._stream.next_pdu(
            idle_seconds=desk.config.acse_timeout_seconds, interrupted=desk.stopping.is_set
        )
        if pdu_type != _ASSOCIATE_RQ:
            raise Violation("the first PDU is no A-ASSOCIATE-RQ", UNEXPECTED_PDU)
        if not _FIXED_FIELDS_BYTES <= length <= MAX_REQUEST_BYTES:
            raise Violation("an A-ASSOCIATE-RQ of impossible length")
        request = bytearray(self._stream.take(length))
        calling = self._admitted(request)
        proposed, roles = self._proposals(request)
        answers = choose(proposed, roles)
        accepted = {answer.context_id: answer for answer in answers if answer.outcome is Outcome.ACCEPTED}
        if not accepted:
            raise Rejection("none of the proposed presentation contexts can be accepted", _NO_REASON)
        self._accept(answers, roles)
        log.info(
            "association: device=%s address=%s accepted contexts=%d of %d",
            self._caller,
            self._peer_address,
            len(accepted),
            len(answers),
        )
        return Exchange(
            accepted,
            desk.receiving,
            Origin(Intake.DICOM, calling, self._peer_address),
            self._stream.send,
            peer_max_pdu_bytes=self.requestor.maximum_length or 0,
            tally=Tally() if desk.door.rehearses(calling, self._peer_address) else desk.tally,
            note_refusal=lambda code: desk.door.note_refusal(calling, self._peer_address, code),
        )

    def _admitted(self, request: bytearray) -> AETitle:
        """The calling AE title, if the fixed fields of `request` (PS3.8 Table 9-11) are of one who may come in.

        Any called AE title will do: devices are configured by hand, often long before this box, and one that is known
        by its own AE title and address gains nothing by naming ours right. Raises `Rejection`.
        """
        desk = self._desk
        if not request[1] & 1:
            raise Rejection("protocol version", _PROTOCOL_VERSION_NOT_SUPPORTED)
        try:
            calling = ae_title(request[20:36].decode("ascii").strip(" \0"))
        except (UnicodeDecodeError, Refused) as error:
            raise Rejection("no calling AE title", _CALLING_AE_TITLE_NOT_RECOGNISED) from error
        self._caller = calling
        try:
            known = desk.door.admits(calling, self._peer_address)
            if not known:
                desk.tally.turn_away()
                raise Rejection("not a known device", _CALLING_AE_TITLE_NOT_RECOGNISED)
            self._entered = desk.tally.enter(desk.config.max_associations)
            if not self._entered:
                raise Rejection("too many associations", _LOCAL_LIMIT_EXCEEDED)
            desk.receiving.admit(own=desk.door.rehearses(calling, self._peer_address))
        except OutOfResources as error:
            raise Rejection(error.message, _LOCAL_LIMIT_EXCEEDED) from error
        except ApplianceError as error:
            raise Rejection(error.message, _TEMPORARY_CONGESTION) from error
        return calling

    def _proposals(self, request: bytearray) -> tuple[list[Proposed], dict[Uid, Roles]]:
        """What the variable items of `request` propose, by the library's decoder. Raises `Violation`, `Rejection`."""
        request[20:36] = self._caller.encode("ascii").ljust(16)
        request[0:2] = b"\0\1"  # other bits are not to be tested (PS3.8 Table 9-11), and the library would
        called = bytes(byte if 0x20 <= byte < 0x7F else 0x20 for byte in request[4:20])
        request[4:20] = called if called.strip() else self._desk.ae_title.encode("ascii").ljust(16)
        try:
            pdu = A_ASSOCIATE_RQ()
            pdu.decode(b"\1\0" + len(request).to_bytes(4, "big") + bytes(request))
            self.dul.arrived(pdu, "Evt6")
            primitive = self.dul.receive_pdu()
            self.requestor.primitive = primitive
            self.requestor.ae_title = primitive.calling_ae_title
            proposed = [
                Proposed(
                    context.context_id,
                    Uid(str(context.abstract_syntax or "")),
                    tuple(Uid(str(syntax)) for syntax in context.transfer_syntax),
                )
                for context in primitive.presentation_context_definition_list
            ]
            roles = {
                Uid(str(uid)): Roles(scu=bool(item.scu_role), scp=bool(item.scp_role))
                for uid, item in self.requestor.role_selection.items()
            }
        except Exception as error:  # the library has no word for "undecodable"
            raise Violation("an A-ASSOCIATE-RQ that cannot be decoded") from error
        if len({context.context_id for context in proposed}) != len(proposed):
            raise Violation("two presentation contexts with one id")
        if primitive.application_context_name != _APPLICATION_CONTEXT:
            raise Rejection("application context", _APPLICATION_CONTEXT_NOT_SUPPORTED)
        return proposed, roles

    def _accept(self, answers: tuple[Answer, ...], roles: Mapping[Uid, Roles]) -> None:
        """Send the A-ASSOCIATE-AC, with our answer to everything that was negotiated."""
        contexts = [_library_context(answer) for answer in answers]
        self._accepted_cx = {
            answer.context_id: cx for answer, cx in zip(answers, contexts, strict=True) if not cx.result
        }
        self._rejected_cx = [cx for cx in contexts if cx.result]
        for sop_class in {answer.abstract_syntax for answer in answers if answer.outcome is Outcome.ACCEPTED}:
            if sop_class in roles:
                role = RoleSelection()
                role.sop_class_uid = UID(sop_class)
                role.scu_role, role.scp_role = roles[sop_class].scu, False
                self.acceptor.add_negotiation_item(role)
        if self.requestor.asynchronous_operations != (1, 1):
            window = AsynchronousOperationsWindowNegotiation()
            window.maximum_number_operations_invoked = 1
            window.maximum_number_operations_performed = 1
            self.acceptor.add_negotiation_item(window)
        self.acse.send_accept()
        self.is_established = True

    def _serve(self, exchange: Exchange) -> str:
        """Until the peer releases or aborts; which of the two, in words."""
        stream, stopping = self._stream, self._desk.stopping
        idle_seconds = self._desk.config.network_timeout_seconds

        def interrupted() -> bool:
            return stopping.is_set() and exchange.between_messages

        while True:
            pdu_type, length = stream.next_pdu(idle_seconds=idle_seconds, interrupted=interrupted)
            if pdu_type == _P_DATA:
                self._p_data(exchange, length)
                continue
            if not 1 <= pdu_type <= _ABORT:
                raise Violation("an unknown kind of PDU", reason=1)
            if pdu_type not in (_RELEASE_RQ, _ABORT):
                raise Violation("a PDU that does not belong here", UNEXPECTED_PDU)
            if length > 64:
                raise Violation("a PDU of impossible length")
            body = bytes(stream.take(length))
            if pdu_type == _ABORT:
                self.is_aborted = True
                return "aborted by the peer"
            pdu = A_RELEASE_RQ()
            pdu.decode(b"\5\0\0\0\0\4" + body.ljust(4, b"\0")[:4])
            self.dul.arrived(pdu, "Evt12")
            self.acse.send_release(is_response=True)
            self.is_released = True
            return "released"

    def _p_data(self, exchange: Exchange, length: int) -> None:
        """One P-DATA-TF of `length` bytes (PS3.8 9.3.5): each fragment goes to `exchange` as it comes."""
        if not 6 <= length <= self._desk.config.max_pdu_bytes + PDU_SLACK_BYTES:
            raise Violation("a P-DATA-TF of impossible length")
        stream = self._stream
        take_some, piece_came = stream.take_some, exchange.piece
        while length:
            if length < 6:
                raise Violation("a P-DATA-TF that does not end with a fragment")
            header = stream.take(6)
            rest = int.from_bytes(header[:4], "big") - 2
            context_id, control = header[4], header[5]
            length -= 6 + rest
            if rest < 0 or length < 0:
                raise Violation("a fragment that is longer than its PDU")
            exchange.begin(context_id, control)
            while rest:
                piece = take_some(rest)
                rest -= len(piece)
                piece_came(piece)
            exchange.end(control)


def _abort(*, source: int, reason: int) -> bytes:
    return bytes((_ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason))


def _library_context(answer: Answer) -> PresentationContext:
    context = PresentationContext()
    context.context_id = answer.context_id
    context.abstract_syntax = UID(answer.abstract_syntax)
    context.transfer_syntax = [UID(answer.transfer_syntax)]
    context.result = int(answer.outcome)
    return context
