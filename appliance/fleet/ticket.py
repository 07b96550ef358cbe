"""A ticket: what the clinic asks of whoever supports the box, in its own words, with a support file.

It leaves by what carries the alarms (`appliance.notify`): as a letter to the vendor's address, and to each webhook that was added for
tickets. What is away is tried again, for a month, because a clinic may be without the Internet for as long. Nothing leaves before
one of the two is set up and somebody of the clinic sends this one ticket. On the page *Support* its file was looked at; a program or
a command makes and sends it in one act, so there it leaves sealed for the vendor, or not at all (`send_unseen`).

The words go through the search of a support file. A ticket whose words hold anything is refused, and the words are given back with what
was found cut out: whoever wrote them may send those, or write others. Rejected: cutting without a word, because "[cut: name] fell"
may be no sentence any more, and a warning alone, because it is read after the button was pressed.

A file that is too large for a mail server stays here; the ticket names it with its checksum, and it is given by hand.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from appliance import __version__, settings
from appliance.box import Box
from appliance.catalog import Reading, Transaction, webhooks
from appliance.catalog.webhooks import Webhook
from appliance.errors import OperatorNeeded, Refused
from appliance.fleet import bundle, known
from appliance.fleet.bundle import Bundle
from appliance.notify import hooks, mail
from appliance.notify.hooks import Attachment, Ticket
from appliance.notify.texts import sentence

MOST_REASON_CHARACTERS = 2000
MOST_FILE_BYTES = 4 << 20
"""What goes with a ticket; a letter is a third longer, and mail servers take ten megabytes at least."""
KEPT = timedelta(days=31)
"""How long a ticket is tried."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Where tickets go: the vendor's address, empty if there is none that could be written to, and webhooks."""

    address: str
    hooks: tuple[Webhook, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What people call them; empty if no ticket can be sent."""
        return tuple(filter(None, (self.address, *(each.name for each in self.hooks))))

    @property
    def places(self) -> tuple[str, ...]:
        """The same, and on which machine each webhook ends: a name says nothing of that."""
        return tuple(filter(None, (self.address, *(f"{each.name} ({each.host})" for each in self.hooks))))


@dataclass(frozen=True, slots=True)
class Said:
    """What the clinic wants to say, without what was found in it; how much that was."""

    text: str
    found: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A ticket that is on its way. `messages` are those of the outbox, in the order of `Ways.names`; `attached` is whether
    the file goes with it.
    """

    reference: str
    messages: tuple[int, ...]
    attached: bool

    def details(self, said: Said, ways: Ways) -> dict[str, Any]:
        """What the audit keeps (``support:ticket``)."""
        return {
            "reason": said.text,
            "to": list(ways.names),
            "messages": list(self.messages),
            "attached": self.attached,
        }


def ways(reading: Reading) -> Ways:
    """Where tickets go, as things are set up."""
    chosen = settings.get(reading, "support.mail") if settings.get(reading, "mail.host") else ""
    return Ways(str(chosen), tuple(each for each in webhooks.webhooks(reading) if hooks.takes_tickets(each)))


def looked_through(box: Box, text: str) -> Said:
    """What somebody wants to say, looked through as a support file is. Raises `Refused` if it is nothing, or too much."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    text = "\n".join(line for line in lines if line)
    if not text or len(text) > MOST_REASON_CHARACTERS or not text.replace("\n", "").isprintable():
        raise Refused(
            "nothing was said of what is wrong", hint="say it in a few lines, without a name", field="reason"
        )
    with box.catalog.reading() as conn:
        said, found = known.markers(conn, box).cut(text)
    return Said(said, sum(found.values()))


def send(tx: Transaction, made: Bundle, said: Said, now: datetime) -> Sent:
    """Put a ticket into the outbox, for every way there is.

    Raises `Refused` if its words may name somebody; `OperatorNeeded` if no way is set up.
    """
    if said.found:
        raise Refused(
            "what you say may name a patient, or holds a secret",
            hint="say it without: what was found is cut out, in brackets",
            field="reason",
        )
    to = ways(tx)
    if not to.names:
        raise OperatorNeeded(
            "no way to send a ticket is set up",
            hint="enter the vendor's e-mail address in the settings of support, and a mail server; or add a webhook for tickets",
        )
    clinic, phone = (str(settings.get(tx, f"clinic.{name}")) for name in ("name", "phone"))
    file = _attachment(tx, made)
    ticket = Ticket(made.name, said.text, clinic, phone, __version__, file)
    letters = [_write(tx, to.address, ticket, now)] if to.address else []
    posted = [hooks.enqueue_ticket(tx, hook, ticket, now, kept=KEPT) for hook in to.hooks]
    return Sent(made.name, (*letters, *posted), file.data is not None)


def send_unseen(tx: Transaction, made: Bundle, said: Said, now: datetime) -> Sent:
    """The same with a file that nobody has looked at. Raises `OperatorNeeded` besides if it would not be sealed."""
    if not bundle.reader_of(tx):
        raise OperatorNeeded(
            "a support file that nobody has looked at is sent only sealed, and no key of the vendor is set",
            hint="look at it and send it on the page Support, or enter the vendor's key in the settings of support",
        )
    return send(tx, made, said, now)


def is_too_large(reading: Reading, made: Bundle) -> bool:
    """Whether the file would stay here: judged as it would go, which is sealed if the vendor has a key."""
    return _attachment(reading, made).data is None


def _attachment(reading: Reading, made: Bundle) -> Attachment:
    reader = bundle.reader_of(reading)
    data = made.sealed_for(reader) if reader else made.data
    return Attachment(
        name=made.name + bundle.suffix(reader),
        size_bytes=len(data),
        sha256=sha256(data).hexdigest(),
        data=base64.b64encode(data).decode("ascii") if len(data) <= MOST_FILE_BYTES else None,
    )


def _write(tx: Transaction, address: str, ticket: Ticket, now: datetime) -> int:
    language = str(settings.get(tx, "language.default"))
    return mail.enqueue(
        tx,
        to=address,
        letter="ticket",
        language=language,
        now=now,
        values={"reference": ticket.reference},
        lines=_lines(language, ticket),
        urgency=1,
        expires_utc=now + KEPT,
        attachment=ticket.file,
    )


def _lines(language: str, ticket: Ticket) -> Sequence[str]:
    file = ticket.file
    held = "ticket.file" if file.data is not None else "ticket.file_kept"
    return (
        *ticket.reason.split("\n"),
        *([sentence(language, "ticket.phone", phone=ticket.phone)] if ticket.phone else []),
        sentence(language, "ticket.version", version=ticket.version),
        sentence(language, held, name=file.name, bytes=file.size_bytes, sha256=file.sha256),
    )
