"""A real mail server on loopback that can be told to be difficult, and a certificate authority of its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

USER, PASSWORD = "box@clinique.example", "un mot de passe pour le boîtier"


@dataclass
class Authority:
    """A certificate authority with one certificate, for localhost."""

    ca: str
    chain: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain)
        return context


def authority(folder: Path, name: str = "localhost", *others: str) -> Authority:
    """Make an authority and a certificate for `name`, which may be an address, and for others by which it is reached, too."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Clinic CA")])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True
        )
        .sign(ca_key, hashes.SHA256())
    )
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in (name, *others)]
    for each in (name, *others):
        with suppress(ValueError):
            address = ipaddress.ip_address("127.0.0.1" if each == "localhost" else each)
            names.append(x509.IPAddress(address))
    certificate = (
        builder(own, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    chain = folder / f"{name}.pem"
    chain.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    return Authority(ca.public_bytes(pem).decode(), chain)


@dataclass
class MailRoom:
    """What has arrived, and how the server answers: `answers` are used up in turn, then everything is accepted.

    An answer is a line such as ``451 later``, said after the letter; ``rcpt 550 unknown`` is said to the reader's
    address; ``drop`` breaks the connection in the middle of the letter; ``scan`` takes the letter once `scanned` is set, and
    counts it in `scanning` meanwhile.
    """

    port: int = 0
    letters: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    scanning: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    scanned: threading.Event = field(default_factory=threading.Event)

    async def handle_RCPT(  # noqa: N802 - the library calls it so
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.answers and self.answers[0].startswith("rcpt "):
            return self.answers.pop(0).removeprefix("rcpt ")
        if self.answers and self.answers[0] == "drop":
            self.answers.pop(0)
            server.drop_in_data = True
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.answers and self.answers[0] == "scan":
            self.answers.pop(0)
            self.scanning.release()
            await asyncio.to_thread(self.scanned.wait)
        elif self.answers:
            return self.answers.pop(0)
        content = envelope.original_content or b""
        self.raw.append(content)
        letter = message_from_bytes(content, policy=policy.default)
        assert isinstance(letter, EmailMessage)
        self.readers += envelope.rcpt_tos
        self.encrypted.append(
            session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None
        )
        self.letters.append(letter)
        return "250 taken"

    def sign_in(
        self, server: Any, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        if (data.login.decode(), data.password.decode()) == (USER, PASSWORD):
            self.users.append(USER)
            return AuthResult(success=True)
        return AuthResult(success=False, handled=False)


class _Fickle(SMTP):
    """The library's server, that can break off while it reads a letter."""

    drop_in_data = False

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        if self.drop_in_data:
            await self.push("354 go on")
            await self._reader.read(20)
            cast(asyncio.Transport, self.transport).abort()
            return
        await super().smtp_DATA(arg)


@contextmanager
def mail_room(
    *,
    starttls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    sign_in: bool = False,
) -> Iterator[MailRoom]:
    """A server on a free port of 127.0.0.1, until the end of the block."""
    room = MailRoom()

    loop = asyncio.new_event_loop()

    def factory() -> SMTP:
        return _Fickle(
            room,
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=room.sign_in if sign_in else None,
            auth_required=sign_in and tls is None,  # the library takes such a line for clear
            auth_require_tls=tls is None,
            hostname="mail.example",
            loop=loop,
        )

    serving = threading.Thread(target=loop.run_forever, name="mail room", daemon=True)
    serving.start()
    opening = loop.create_server(factory, "127.0.0.1", 0, ssl=tls)
    server = asyncio.run_coroutine_threadsafe(opening, loop).result(30)
    room.port = server.sockets[0].getsockname()[1]
    try:
        yield room
    finally:
        room.scanned.set()
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        serving.join(30)
        loop.close()


async def _close(server: asyncio.AbstractServer) -> None:
    server.close()
    mine = asyncio.current_task()
    rest = [task for task in asyncio.all_tasks() if task is not mine]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
