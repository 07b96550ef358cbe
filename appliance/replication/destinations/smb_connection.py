"""A connection by SMB 3.1.1, and what the library lets through that must not be.

What is wrong with the library's own, by MS-SMB2 and by measure: it takes an answer that bears no signature for a good one,
also in a session where everything is encrypted; it waits for ever for an answer, for one that is said to be on its way, and for a server that takes nothing any more; it follows links that the
server names; and it believes a length of four gigabytes.
"""

from __future__ import annotations

import logging
import socket
import struct
import time
from contextlib import suppress
from typing import Any, Final
from uuid import UUID, uuid4

from cryptography.exceptions import InvalidTag
from smbprotocol.connection import Ciphers, Connection, Dialects, SigningAlgorithms
from smbprotocol.exceptions import SMBException
from smbprotocol.header import NtStatus
from smbprotocol.transport import Tcp

CONNECT_SECONDS: Final = 10
ANSWER_SECONDS: Final = 60
PENDING_SECONDS: Final = 300
"""So long may a server say that an answer is on its way; each time that it does, the library waits anew."""
_CIPHERS: Final = [Ciphers.AES_128_GCM, Ciphers.AES_256_GCM, Ciphers.AES_128_CCM]
_SIGNATURES: Final = [SigningAlgorithms.AES_GMAC, SigningAlgorithms.AES_CMAC]
_SESSION_EXPIRED: Final = 0xC000035C  # [MS-ERREF] 2.3.1
_OVER: Final = frozenset(
    {NtStatus.STATUS_USER_SESSION_DELETED, NtStatus.STATUS_NETWORK_NAME_DELETED, _SESSION_EXPIRED}
)
"""That the server has ended a session it can't sign for any more."""

# They report through what they raise; what they log besides is the same again, with whole tracebacks.
for _library in ("smbprotocol", "spnego"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)


class NotOurs(SMBException):  # type: ignore[misc]
    """What came was not said by somebody who knows the password."""


class _Way(Tcp):  # type: ignore[misc]
    """The library's, which also sends at once, doesn't wait for ever for a server that takes nothing, and takes no message of any length."""

    def connect(self) -> None:
        super().connect()
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", ANSWER_SECONDS, 0))

    def _recv(self, length: int, timeout: float) -> Any:
        if length > Tcp.MAX_SIZE:
            raise SMBException("a message is longer than one can be")
        return super()._recv(length, timeout)


class SmbConnection(Connection):  # type: ignore[misc]
    """The library's, which also refuses what is in clear, waits only so long, and follows no link."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(uuid4(), address, port, require_signing=True)
        self._on_its_way: dict[int, float] = {}

    def greet(self) -> None:
        """Agree on how to speak; nothing is said of us. Raises what a broken answer does to the library."""
        self.connect(Dialects.SMB_3_1_1, CONNECT_SECONDS, _CIPHERS, _SIGNATURES)

    def hang_up(self) -> None:
        """Does not raise: whatever is still said on the way out is of no use to anybody."""
        with suppress(Exception):
            if self.transport is not None:
                self.disconnect(close=False)

    @property
    def is_up(self) -> bool:
        """Whether it can still be used, as far as is known here."""
        return self.transport is not None and bool(self.transport.connected)

    @property
    def was_made(self) -> bool:
        """Whether somebody has answered at all."""
        return self.transport is not None and self.transport._sock is not None

    @property
    def calls_itself(self) -> str:
        """The server: a name where its GUID spells one, as Samba's does, else the GUID (MS-SMB2 2.2.4)."""
        guid: UUID = self.server_guid
        spelt = guid.bytes.rstrip(b"\0")
        if spelt.isascii() and spelt.decode("ascii").isprintable() and spelt.strip():
            return spelt.decode("ascii")
        return str(guid)

    @property
    def transport(self) -> Tcp | None:
        """The way there, once there is one."""
        return self._way

    @transport.setter
    def transport(self, made: Tcp | None) -> None:
        self._way = None if made is None else _Way(made.server, made.port, made.timeout)

    def verify_signature(self, header: Any, session_id: int, force: bool = False) -> None:  # noqa: ARG002
        """Of what came in clear. The library lets through what bears no signature at all (MS-SMB2 3.2.5.1.3 does not).

        Once somebody is logged in everything has one, whatever command or session it says that it belongs to.
        """
        session = next(iter(self.session_table.values()), None)
        status = header["status"].get_value()
        number = header["message_id"].get_value()
        if status == NtStatus.STATUS_PENDING:  # nothing of it is used, and it needs no key to say it
            now = time.monotonic()
            if now - self._on_its_way.setdefault(number, now) > PENDING_SECONDS:
                raise SMBException("the server never comes to an answer")
            return
        self._on_its_way.pop(number, None)
        if session is None:
            return
        if status in _OVER:
            raise SMBException("the server has ended the session")
        if session.encrypt_data or session.signing_key is None:
            raise NotOurs("an answer was not encrypted")
        try:
            super().verify_signature(header, session.session_id, force=True)
        except SMBException as error:
            raise NotOurs("an answer was not signed by the server") from error

    def receive(
        self,
        request: Any,
        wait: bool = True,
        timeout: float | None = None,
        resolve_symlinks: bool = False,  # noqa: ARG002
    ) -> Any:
        """An answer. Raises `SMBException` where none comes in time."""
        return super().receive(request, wait, timeout or ANSWER_SECONDS, False)

    def _decrypt(self, message: Any) -> Any:
        try:
            return super()._decrypt(message)
        except InvalidTag as error:
            raise NotOurs("an answer was not encrypted by the server") from error
