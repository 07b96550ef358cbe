"""DIMSE messages over one association, without the socket: fragments in, responses out (PS3.7 6.3, PS3.8 annex E).

::

              command fragments            last, no data set
    IDLE ───────────────────────▶ COMMAND ───────────────────▶ IDLE, answered
                                     │ last, data set follows
                                     ▼
                                   DATA ── last ──▶ IDLE, answered

Anything else is a `Violation`, which the association answers with an abort. An error of ours while a data set comes
in is no violation: what is left of the data set is passed over, the sender gets its status, and the association stays
usable for the next instance.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from time import perf_counter
from typing import Final, Protocol

from appliance.dicom import status
from appliance.dicom.message import (
    MAX_COMMAND_BYTES,
    Command,
    Operation,
    command_pdus,
    read_command,
    response,
)
from appliance.dicom.negotiation import VERIFICATION, Answer
from appliance.errors import ApplianceError, NotUnderstood
from appliance.latency import Histogram
from appliance.model import Origin, Uid

log = logging.getLogger(__name__)

UNEXPECTED_PDU: Final = 2
INVALID_PARAMETER: Final = 6

_COMMAND_BIT: Final = 1
_LAST_BIT: Final = 2


class Violation(Exception):
    """The peer broke the protocol; `reason` is that of the A-ABORT (PS3.8 Table 9-26)."""

    def __init__(self, what: str, reason: int = INVALID_PARAMETER) -> None:
        super().__init__(what)
        self.reason = reason


class Arriving(Protocol):
    """One instance on its way in."""

    @property
    def write(self) -> Callable[[memoryview], None]:
        """Takes the next fragment of the data set; may raise an `ApplianceError`."""

    def finish(self) -> None:
        """Returns only when the instance is durable; may raise an `ApplianceError`."""

    def abandon(self) -> None:
        """Leaves nothing behind; idempotent."""


class Receiving(Protocol):
    """Where instances go."""

    def admit(self, *, own: bool = False) -> None:
        """Raises `OutOfResources` if nothing can be taken in now, of the box's `own` or of others."""

    def begin(
        self, origin: Origin, *, sop_class_uid: Uid, sop_instance_uid: Uid, transfer_syntax_uid: Uid
    ) -> Arriving: ...


@dataclass(slots=True)
class Tally:
    """What one process received since it started. Safe to share between threads."""

    received: int = 0
    refused: int = 0
    received_bytes: int = 0
    associations: int = 0
    turned_away: int = 0
    open_now: int = 0
    receive: Histogram = field(default_factory=Histogram)
    store: Histogram = field(default_factory=Histogram)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stored(self, size_bytes: int, receive_seconds: float, store_seconds: float) -> None:
        """Count one instance: its size, the time from its command on, and how much of that made it durable."""
        with self._lock:
            self.received += 1
            self.received_bytes += size_bytes
            self.receive.observe(receive_seconds)
            self.store.observe(store_seconds)

    def latencies(self) -> dict[str, object]:
        """How long things took since the start, by stage, as JSON."""
        with self._lock:
            return {"receive": self.receive.as_detail(), "store": self.store.as_detail()}

    def failed(self) -> None:
        with self._lock:
            self.refused += 1

    def enter(self, limit: int) -> bool:
        """Count an association in, unless there are `limit` already."""
        with self._lock:
            if self.open_now >= limit:
                return False
            self.open_now += 1
            self.associations += 1
            return True

    def leave(self) -> None:
        with self._lock:
            self.open_now -= 1

    def turn_away(self) -> None:
        with self._lock:
            self.turned_away += 1


class _Stage(Enum):
    IDLE = auto()
    COMMAND = auto()
    DATA = auto()


class Exchange:
    """The conversation on one association; used by one thread."""

    def __init__(
        self,
        contexts: Mapping[int, Answer],
        receiving: Receiving,
        origin: Origin,
        send: Callable[[bytes], None],
        *,
        peer_max_pdu_bytes: int,
        tally: Tally,
        note_refusal: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`contexts` are the accepted ones by id; `send` writes whole PDUs; `peer_max_pdu_bytes` 0 means no limit.

        `note_refusal` is told the status of each request that was not done.
        """
        self._contexts = contexts
        self._receiving = receiving
        self._origin = origin
        self._send = send
        self._peer_max_pdu_bytes = peer_max_pdu_bytes
        self._tally = tally
        self._note_refusal = note_refusal
        self._stage = _Stage.IDLE
        self._context_id = 0
        self._encoded_command = bytearray()
        self._request: Command | None = None
        self._arrival: Arriving | None = None
        self._outcome: ApplianceError | int = status.SUCCESS
        self._size_bytes = 0
        self._began = 0.0
        self._take: Callable[[memoryview], None] = self._pass_over

    @property
    def between_messages(self) -> bool:
        return self._stage is _Stage.IDLE

    def begin(self, context_id: int, control: int) -> None:
        """A fragment begins: its context id and message control header. Raises `Violation`."""
        if context_id not in self._contexts:
            raise Violation("a fragment on a context that was not accepted")
        if self._stage is not _Stage.IDLE and context_id != self._context_id:
            raise Violation("fragments of two messages are mixed")
        if control & _COMMAND_BIT:
            if self._stage is _Stage.DATA:
                raise Violation("a command in the middle of a data set", UNEXPECTED_PDU)
            self._stage = _Stage.COMMAND
            self._context_id = context_id
            self._take = self._command_piece
        elif self._stage is not _Stage.DATA:
            raise Violation("a data set without a command", UNEXPECTED_PDU)

    def piece(self, piece: memoryview) -> None:
        """Part of the fragment that has begun, in any size. Raises `Violation`."""
        self._take(piece)

    def end(self, control: int) -> None:
        """The fragment is complete; answers the message if this was its last. Raises `Violation`, and what `send` does."""
        if not control & _LAST_BIT:
            return
        if self._stage is _Stage.COMMAND:
            encoded, self._encoded_command = self._encoded_command, bytearray()
            try:
                command = read_command(encoded)
            except NotUnderstood as error:
                raise Violation(error.message) from error
            self._dispatch(command)
        else:
            self._finish()

    def abandon(self) -> None:
        """Forget the message that was coming in. Idempotent."""
        arrival, self._arrival = self._arrival, None
        if arrival is not None:
            arrival.abandon()

    def _dispatch(self, command: Command) -> None:
        self._request, self._outcome, self._size_bytes = command, status.SUCCESS, 0
        self._take = self._pass_over
        if command.field == Operation.C_STORE:
            self._begin_store(command)
        elif command.is_response or command.field == Operation.C_CANCEL:
            self._request = (
                None  # nothing of ours is outstanding: too late to cancel, and never to be answered
            )
        elif command.field != Operation.C_ECHO:
            self._outcome = status.SOP_CLASS_NOT_SUPPORTED
        self._stage = _Stage.DATA
        if not command.has_data_set:
            self._finish()

    def _begin_store(self, command: Command) -> None:
        context = self._contexts[self._context_id]
        if context.abstract_syntax == VERIFICATION:
            self._outcome = status.SOP_CLASS_NOT_SUPPORTED
        elif not (command.has_data_set and command.sop_class_uid and command.sop_instance_uid):
            self._outcome = NotUnderstood("the C-STORE names no instance, or brings none")
        else:
            self._began = perf_counter()
            try:
                self._arrival = self._receiving.begin(
                    self._origin,
                    sop_class_uid=command.sop_class_uid,
                    sop_instance_uid=command.sop_instance_uid,
                    transfer_syntax_uid=context.transfer_syntax,
                )
                self._take = self._data_piece
            except ApplianceError as error:
                self._outcome = error

    def _command_piece(self, piece: memoryview) -> None:
        if len(self._encoded_command) + len(piece) > MAX_COMMAND_BYTES:
            raise Violation("a command set without end")
        self._encoded_command += piece

    def _data_piece(self, piece: memoryview) -> None:
        assert self._arrival is not None
        self._size_bytes += len(piece)
        try:
            self._arrival.write(piece)
        except ApplianceError as error:
            self._outcome = error
            self._take = self._pass_over
            self.abandon()

    def _pass_over(self, piece: memoryview) -> None:
        pass

    def _finish(self) -> None:
        if self._arrival is not None:
            complete = perf_counter()
            try:
                self._arrival.finish()
                self._arrival = None
                durable = perf_counter()
                self._tally.stored(self._size_bytes, durable - self._began, durable - complete)
            except ApplianceError as error:
                self._outcome = error
                self.abandon()
        request, self._request = self._request, None
        self._stage = _Stage.IDLE
        if request is not None:
            answer = self._response(request)
            self._send(command_pdus(self._context_id, answer, self._peer_max_pdu_bytes))

    def _response(self, request: Command) -> bytes:
        outcome = self._outcome
        if isinstance(outcome, ApplianceError):
            code = status.status_of(outcome)
            encoded = response(
                request,
                code,
                offending_element=status.offending_element_of(outcome),
                error_comment=status.comment_of(outcome),
            )
        else:
            code = outcome
            encoded = response(request, code)
        if code != status.SUCCESS:
            self._tally.failed()
            self._note_refusal(code)
            log.warning(
                "refused: operation=0x%04X status=0x%04X device=%s address=%s reason=%s",
                request.field,
                code,
                self._origin.name,
                self._origin.address,
                outcome.message if isinstance(outcome, ApplianceError) else "not a service of this appliance",
            )
        return encoded
