"""PDUs off a socket, in one buffer, with a deadline on everything (PS3.8 9.3.1).

Chose large reads into one buffer, because the library reads 4 KB at a time (54 µs for a PDU of 128 KB against 19). It
has 256 KiB, so that what the kernel copied is still in the processor's cache when it is sealed: with 1 MiB the same
data set took 1.5 to 2 times the processor time on a busy machine of two cores. And deadlines over *progress*, because
a socket's own time-out starts anew with every byte: a peer that drips one byte a minute would hold its thread, and
what it had sent, for ever.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

BUFFER_BYTES: Final = 256 * 1024
TICK_SECONDS: Final = 0.5
"""How often a waiting association looks whether it should stop."""

_HEADER: Final = struct.Struct(">BxL")
_LINGER_SECONDS: Final = 2.0
_LINGER_BYTES: Final = 64 << 20


class PeerGone(Exception):
    """The connection is closed or broken."""


class TimedOut(Exception):
    """The peer was silent, or too slow with one PDU, for longer than it may be."""


class Interrupted(Exception):
    """This process is stopping, and was between two messages."""


class PduStream:
    """The reading and writing ends of one connection; used by one thread."""

    def __init__(self, connection: socket.socket, *, pdu_seconds: float) -> None:
        """Take over `connection`; a PDU that has begun must be complete within `pdu_seconds`."""
        connection.settimeout(min(TICK_SECONDS, pdu_seconds))
        with suppress(OSError):  # not TCP, in tests
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self.pdu_seconds = pdu_seconds
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._read = self._written = 0
        self._deadline = 0.0

    def next_pdu(self, *, idle_seconds: float, interrupted: Callable[[], bool]) -> tuple[int, int]:
        """Type and length of the next PDU, whose body is then to be taken.

        Raises `TimedOut` if none begins within `idle_seconds`, `Interrupted` as soon as `interrupted` says so and none
        has begun, `PeerGone`.
        """
        if interrupted():
            raise Interrupted
        if self._read == self._written:
            self._deadline = time.monotonic() + idle_seconds
            while not self._receive():
                if interrupted():
                    raise Interrupted
        self._deadline = time.monotonic() + self.pdu_seconds
        self._need(6)
        pdu_type, length = _HEADER.unpack_from(self._buffer, self._read)
        self._read += 6
        return pdu_type, length

    def take(self, size: int) -> memoryview:
        """Exactly `size` bytes, at most `BUFFER_BYTES`; valid until the next call."""
        self._need(size)
        start = self._read
        self._read += size
        return self._view[start : self._read]

    def take_some(self, size: int) -> memoryview:
        """One to `size` bytes, whatever is here; valid until the next call."""
        if self._read == self._written:
            while not self._receive():
                pass
        start = self._read
        self._read = min(start + size, self._written)
        return self._view[start : self._read]

    def send(self, data: bytes) -> None:
        """Write all of `data`; raises `PeerGone`, or `TimedOut` if the peer does not take it in time."""
        deadline = time.monotonic() + self.pdu_seconds
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._connection.send(rest) :]
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise TimedOut from None
            except OSError as error:
                raise PeerGone from error

    def close(self, *, wait: bool = True) -> None:
        """Close so that the peer can still read what was sent last: let it close first, for a moment.

        Closing at once with unread bytes waiting would reset the connection, and the peer would see a broken line
        instead of our abort or release (PS3.8 9.2, state 13).
        """
        deadline = time.monotonic() + (_LINGER_SECONDS if wait else 0.0)
        drained = 0
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
            self._connection.settimeout(TICK_SECONDS)
            while drained < _LINGER_BYTES and time.monotonic() < deadline:
                try:
                    received = self._connection.recv_into(self._buffer)
                except TimeoutError:
                    continue
                if not received:
                    break
                drained += received
        with suppress(OSError):
            self._connection.close()

    def _need(self, size: int) -> None:
        if self._read == self._written:
            self._read = self._written = 0
        elif BUFFER_BYTES - self._read < size:
            rest = self._view[self._read : self._written].tobytes()
            self._view[: len(rest)] = rest
            self._read, self._written = 0, len(rest)
        while self._written - self._read < size:
            self._receive()

    def _receive(self) -> bool:
        """Read what there is behind what is buffered; False after a tick without anything."""
        if self._read == self._written:
            self._read = self._written = 0
        try:
            received = self._connection.recv_into(self._view[self._written :])
        except TimeoutError:
            received = -1
        except OSError as error:
            raise PeerGone from error
        if received == 0:
            raise PeerGone
        if time.monotonic() > self._deadline:
            raise TimedOut
        if received < 0:
            return False
        self._written += received
        return True
