"""Letters: written in the language of their reader, as text and simple HTML, and put into the outbox.

A letter is written when it is put into the outbox and kept as written, so that every attempt sends the same bytes under
the same Message-ID (RFC 5322 3.6.4): after a crash between the server's "250" and our note of it, a receiver can tell the
second copy. That much, SMTP cannot exclude (RFC 5321 4.2.5).

Chose Jinja with autoescape for the HTML; a name with a "<" in it must stay a name. Pictures, scripts and addresses of
other sites are not in it: nothing tells a stranger that a letter was opened.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from appliance import settings
from appliance.catalog import Catalog, Reading, Transaction, outbox
from appliance.errors import Refused
from appliance.notify import smtp
from appliance.notify.hooks import Attachment
from appliance.notify.kinds import Channel
from appliance.notify.preferences import is_mail_address
from appliance.notify.texts import sentence
from appliance.store.keys import RootKey

LETTERS = (
    "notice",
    "again",
    "over",
    "escalation",
    "digest",
    "test",
    "invitation",
    "password-reset",
    "break-glass",
    "ticket",
)
"""The letters there are; each has ``mail.LETTER.subject``, ``.text`` and ``.action`` in the languages."""

_FOOTERS = {"ticket": "mail.ticket.footer"}
"""Of those that may be answered: by telephone."""

KEPT_DAYS = 5
"""How long a letter is tried (RFC 5321 4.5.4.1 asks for four to five days at least), unless its sender says less."""

_SUBJECT_CHARACTERS = 200
_BREAKS = re.compile(r"[^\S\u00a0\u202f]+")  # all white space but the hard spaces of French


@dataclass(frozen=True, slots=True)
class Letter:
    """What the templates see."""

    language: str
    title: str
    lines: tuple[str, ...]
    action: str
    link: str
    footer: str


def enqueue(
    tx: Transaction,
    *,
    to: str,
    letter: str,
    language: str,
    now: datetime,
    values: Mapping[str, str] | None = None,
    lines: Sequence[str] = (),
    link: str = "",
    urgency: int = 1,
    not_before: datetime | None = None,
    expires_utc: datetime | None = None,
    notice: int | None = None,
    attachment: Attachment | None = None,
) -> int:
    """Write `letter` to the address `to` and put it into the outbox of this transaction; the message's id.

    `values` are put into its sentences, `lines` follow them, `link` becomes its button. Give `expires_utc` where the
    link has an end. No value and no `attachment` may name a patient. Raises `Refused` for an address that can't be written to.
    """
    subject, content = _written(tx, to, letter, language, values or {}, lines, link)
    if attachment is not None and attachment.data is not None:
        content |= {"file_name": attachment.name, "file_base64": attachment.data}
    return outbox.add(
        tx,
        channel=Channel.MAIL,
        address=to,
        message_id=_new_id(tx),
        subject=subject,
        content=content,
        urgency=urgency,
        not_before=not_before or now,
        expires_utc=expires_utc or now + timedelta(days=KEPT_DAYS),
        now=now,
        notice=notice,
    )


def try_out(
    catalog: Catalog,
    root: RootKey,
    to: str,
    language: str,
    now: datetime,
    reached: Callable[[smtp.Step], None] = lambda _: None,
) -> str:
    """Hand a test letter to the mail server now, past the outbox; the server's words of acceptance.

    Raises `Transient`, `Refused` or `OperatorNeeded`, which say what is wrong. Letters that wait go at once if it works.
    """
    with catalog.reading() as conn:
        server = smtp.mail_server(conn, root)
        if server is None:
            raise smtp.no_server()
        subject, content = _written(conn, to, "test", language, {}, (), "")
        letter = _bytes(server, to, subject, _new_id(conn), now, content)
    answer = smtp.hand_over(server, to, letter, reached=reached)
    with catalog.transaction() as tx:
        outbox.wake(tx, Channel.MAIL, None, now)
    return answer


def as_bytes(message: outbox.Message, server: smtp.MailServer) -> bytes:
    """The letter as it goes over the wire: the same bytes at every attempt."""
    return _bytes(
        server,
        message.address,
        message.subject,
        message.message_id,
        message.created_utc,
        message.content or {},
    )


def has_file(message: outbox.Message) -> bool:
    """Whether a file goes with that letter."""
    return "file_base64" in (message.content or {})


def _written(
    conn: Reading,
    to: str,
    letter: str,
    language: str,
    values: Mapping[str, str],
    lines: Sequence[str],
    link: str,
) -> tuple[str, dict[str, str]]:
    """The subject of a letter, and what it says."""
    if not is_mail_address(to):
        raise Refused("that is not an e-mail address", hint="write it as name@example.ca")
    if letter not in LETTERS:
        raise ValueError(f"{letter} is no letter")
    clinic = settings.get(conn, "clinic.name")
    said = {"clinic": clinic or sentence(language, "product"), **values}
    written = Letter(
        language=language,
        title=_one_line(sentence(language, f"mail.{letter}.subject", **said)),
        lines=(sentence(language, f"mail.{letter}.text", **said), *lines),
        action=sentence(language, f"mail.{letter}.action"),
        link=link,
        footer=sentence(language, _FOOTERS.get(letter, "mail.footer"), **said),
    )
    return written.title, {
        "text": _templates().get_template("letter.txt").render(letter=written),
        "html": _templates().get_template("letter.html").render(letter=written),
        "language": language,
    }


def _bytes(
    server: smtp.MailServer,
    to: str,
    subject: str,
    message_id: str,
    written_utc: datetime,
    content: Mapping[str, Any],
) -> bytes:
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address(display_name=_one_line(server.sender_name), addr_spec=server.sender)
    mail["To"] = Address(addr_spec=to)
    mail["Subject"] = subject
    mail["Date"] = written_utc
    mail["Message-ID"] = message_id
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834 5: no holiday answers to this box
    mail["Content-Language"] = str(content.get("language", "en"))
    mail.set_content(str(content["text"]), cte="quoted-printable")
    mail.add_alternative(str(content["html"]), subtype="html", cte="quoted-printable")
    if "file_base64" in content:
        data = base64.b64decode(str(content["file_base64"]))
        mail.add_attachment(
            data, maintype="application", subtype="octet-stream", filename=str(content["file_name"])
        )
    own = message_id.strip("<>").partition("@")[0]
    for depth, part in enumerate(part for part in mail.walk() if part.is_multipart()):
        part.set_boundary(f"=_{depth}.{own}")  # RFC 2046 5.1.1: no boundary begins with another one
    return mail.as_bytes()


def _new_id(conn: Reading) -> str:
    """A Message-ID whose right side is the sender's domain, so that it is ours alone."""
    domain = str(settings.get(conn, "mail.from")).rpartition("@")[2] or "appliance.invalid"
    return f"<{secrets.token_hex(16)}@{domain}>"


def _one_line(text: str) -> str:
    return _BREAKS.sub(" ", text).strip()[:_SUBJECT_CHARACTERS]


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=lambda name: bool(name and name.endswith(".html")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
