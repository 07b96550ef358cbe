"""Handing a letter to the clinic's mail server (RFC 5321), and saying what is wrong when it isn't taken.

Who acts next decides the error: an answer 4xx, a line that breaks or a server that is away is `Transient`; a 5xx about
the reader or the letter is `Refused`; a server that is not configured, whose certificate or password does not hold, or
that will not have our sender, is `OperatorNeeded`. A server that was to encrypt and doesn't offer it gets nothing, and no
password goes over a line in clear: a downgrade is how letters are read on the way.
"""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from appliance import settings, tls
from appliance.catalog import Reading
from appliance.errors import OperatorNeeded, Refused, Transient
from appliance.store.keys import RootKey

TIMEOUT_SECONDS = 20.0

PATIENCE_SECONDS = 600.0
"""How long a letter with a file may take to be read, and then to be answered: a server that looks for viruses answers late
(RFC 5321 4.5.3.2.6). Whoever gives up sooner sends the letter again that was taken."""


class Step(StrEnum):
    """How far an attempt has come; each is reached once what it names has succeeded."""

    CONNECTED = "connected"
    ENCRYPTED = "encrypted"
    SIGNED_IN = "signed_in"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where letters go. `security` is ``starttls``, ``tls`` or ``none``; `ca` holds certificates in PEM to trust besides
    the machine's own; `sender` is the address that letters come from.
    """

    host: str
    port: int
    security: str
    sender: str
    sender_name: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""


def mail_server(conn: Reading, root: RootKey) -> MailServer | None:
    """The server that the settings name; None if they name none."""
    chosen = settings.get_section(conn, "mail")
    if not chosen["host"]:
        return None
    return MailServer(
        host=chosen["host"],
        port=chosen["port"],
        security=chosen["security"],
        sender=chosen["from"],
        sender_name=settings.get(conn, "clinic.name"),
        user=chosen["user"],
        password=settings.secret(conn, root, "mail.password"),
        ca=chosen["ca"],
    )


def no_server() -> OperatorNeeded:
    """What is wrong when the settings name no server."""
    return OperatorNeeded("no mail server is set", hint="give its name and user in the settings, under mail")


def hand_over(
    server: MailServer,
    to: str,
    letter: bytes,
    *,
    patience_seconds: float | None = None,
    reached: Callable[[Step], None] = lambda _: None,
) -> str:
    """Give `letter` to `server` for the address `to`; the server's own words of acceptance.

    For the letter itself the server has `patience_seconds`, if given; for every other answer `TIMEOUT_SECONDS`.
    Raises `Transient`, `Refused` or `OperatorNeeded`.
    """
    with _translated(server), _connected(server) as smtp:
        reached(Step.CONNECTED)
        if server.security == "starttls":
            smtp.starttls(context=_context(server))
            smtp.ehlo()
        if server.security != "none":
            reached(Step.ENCRYPTED)
        if server.user:
            if server.security == "none":
                raise OperatorNeeded(
                    "a password is not sent over a line that is not encrypted",
                    hint="choose STARTTLS or TLS in the mail settings, or leave the user empty",
                )
            _sign_in(smtp, server)
            reached(Step.SIGNED_IN)
        _check(smtp.mail(server.sender), "the sender")
        _check(smtp.rcpt(to), "the reader")
        _wait(smtp, TIMEOUT_SECONDS if patience_seconds is None else patience_seconds)
        code, words = smtp.data(letter)
        _wait(smtp, TIMEOUT_SECONDS)
        _check((code, words), "the letter")
        reached(Step.TAKEN)
        return _said(words)


def _wait(smtp: smtplib.SMTP, seconds: float) -> None:
    """Give each answer so long from now on."""
    if smtp.sock is not None:
        smtp.sock.settimeout(seconds)


def _sign_in(smtp: smtplib.SMTP, server: MailServer) -> None:
    """AUTH PLAIN, or LOGIN for old servers (RFC 4954, RFC 4616); the library's own knows no password beyond ASCII."""
    offered = smtp.esmtp_features.get("auth", "").upper().split()
    if "PLAIN" in offered:
        code, words = smtp.docmd(
            "AUTH", f"PLAIN {_base64(f'{chr(0)}{server.user}{chr(0)}{server.password}')}"
        )
    elif "LOGIN" in offered:
        code, words = smtp.docmd("AUTH", "LOGIN")
        for each in (server.user, server.password):
            if code == 334:
                code, words = smtp.docmd(_base64(each))
    else:
        raise smtplib.SMTPNotSupportedError
    if code != 235:
        raise smtplib.SMTPAuthenticationError(code, words)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@contextmanager
def _connected(server: MailServer) -> Iterator[smtplib.SMTP]:
    name = server.sender.rpartition("@")[2] or "localhost"
    smtp: smtplib.SMTP
    if server.security == "tls":
        smtp = smtplib.SMTP_SSL(
            server.host, server.port, name, timeout=TIMEOUT_SECONDS, context=_context(server)
        )
    else:
        smtp = smtplib.SMTP(server.host, server.port, name, timeout=TIMEOUT_SECONDS)
    try:
        smtp.ehlo_or_helo_if_needed()
        yield smtp
        try:
            smtp.quit()
        except (smtplib.SMTPException, OSError):
            pass  # the letter is taken; how the server says good-bye changes nothing
    finally:
        smtp.close()


def _context(server: MailServer) -> ssl.SSLContext:
    try:
        context = tls.forward_secret(ssl.create_default_context())
        if server.ca:
            context.load_verify_locations(cadata=server.ca)
    except (ssl.SSLError, ValueError) as error:
        raise OperatorNeeded(
            "the certificate in the mail settings cannot be read",
            hint="paste the certificate of the authority again",
        ) from error
    return context


@contextmanager
def _translated(server: MailServer) -> Iterator[None]:
    """What the library raises, as who acts next."""
    where = f"{server.host}:{server.port}"
    try:
        yield
    except smtplib.SMTPAuthenticationError as error:
        if 400 <= error.smtp_code < 500:
            raise Transient(f"the mail server {where} cannot sign us in now ({error.smtp_code})") from error
        raise OperatorNeeded(
            f"the mail server {where} does not accept the user or the password",
            hint="correct them in the mail settings; many providers want a password made for this box",
        ) from error
    except smtplib.SMTPNotSupportedError as error:
        raise OperatorNeeded(
            f"the mail server {where} does not offer what the settings ask for",
            hint="compare security, port and user with what your provider says",
        ) from error
    except smtplib.SMTPResponseException as error:
        raise _by_code(error.smtp_code, error.smtp_error, "the letter", error) from error
    except smtplib.SMTPException as error:
        if isinstance(error.__context__, TimeoutError):
            raise Transient(f"the mail server {where} does not answer") from error
        raise Transient(f"the connection to the mail server {where} broke") from error
    except ssl.SSLCertVerificationError as error:
        raise OperatorNeeded(
            f"the certificate of the mail server {where} cannot be trusted ({error.verify_message})",
            hint="use the name that its certificate holds, or give the certificate of its authority",
        ) from error
    except ssl.SSLError as error:
        raise OperatorNeeded(
            f"the mail server {where} does not speak TLS at this port",
            hint="with STARTTLS the port is usually 587, with TLS 465",
        ) from error
    except TimeoutError as error:
        raise Transient(f"the mail server {where} does not answer") from error
    except socket.gaierror as error:
        raise Transient(f"the name of the mail server {server.host} is not known") from error
    except OSError as error:
        raise Transient(
            f"the mail server {where} cannot be reached ({error.strerror or 'no route'})"
        ) from error


def _check(answer: tuple[int, bytes], what: str) -> None:
    code, words = answer
    if code not in (250, 251, 252):
        raise _by_code(code, words, what, None)


def _by_code(
    code: int, words: bytes | str, what: str, cause: Exception | None
) -> Refused | Transient | OperatorNeeded:
    said = _said(words)
    if code in (421, -1) or 400 <= code < 500:
        found: Refused | Transient | OperatorNeeded = Transient(
            f"the mail server asks to wait ({code} {said})"
        )
    elif what == "the sender":
        found = OperatorNeeded(
            f"the mail server does not accept our sender ({code} {said})",
            hint="correct the address that letters come from, or the user, in the mail settings",
        )
    else:
        found = Refused(f"the mail server refuses {what} ({code} {said})", hint="correct the address")
    found.__cause__ = cause
    return found


def _said(words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return "".join(each if each.isprintable() else " " for each in text)[:160].strip()
