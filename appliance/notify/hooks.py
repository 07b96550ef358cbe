"""Webhooks: adding them, and what is posted to each, in the form that its receiver reads.

===========  =======================================================================================================
format       body
===========  =======================================================================================================
``json``     ``{"id", "event", "at", "clinic", "notice": {"id", "kind", "severity", "topic", "title", "subject"}}``
``slack``    ``{"text"}``, which Slack, Mattermost and Rocket.Chat read
``teams``    a message with an adaptive card, which a workflow of Teams reads
``sms``      ``{"to", "text"}``, at most 160 characters, for a gateway that sends text messages
===========  =======================================================================================================

``event`` is ``raised``, ``again``, ``over``, ``escalated`` or ``test``; ``id`` is the delivery's, the same at every
attempt. All forms are signed (`appliance.notify.signing`). A form is data and a function, so another one is a line.

A webhook hears of notices, or of tickets to support and nothing else (`HEARS`): the vendor has no business with every alarm. As
``json`` a ticket is ``{"id", "event": "ticket", "at", "clinic", "ticket": {"reference", "reason", "phone", "version", "file":
{"name", "bytes", "sha256", "base64"}}}``, ``base64`` being null where the file was too large; the other forms say it in a line.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from appliance import settings
from appliance.catalog import Transaction, outbox, webhooks
from appliance.catalog.columns import utc_text
from appliance.catalog.webhooks import Webhook
from appliance.errors import Refused
from appliance.notify import posting, signing
from appliance.notify.kinds import RANK, Channel, Severity, severity_of
from appliance.notify.texts import sentence, title
from appliance.settings.registry import LANGUAGES

KEPT = timedelta(days=1)
"""How long a message to a webhook is tried: yesterday's alarm in a chat helps nobody. The letter is still on its way."""

SMS_CHARACTERS = 160

HEARS = ("notices", "tickets")
"""What a webhook is for."""


@dataclass(frozen=True, slots=True)
class News:
    """What there is to say of a notice; nothing here names a patient."""

    event: str
    notice: int
    kind: str
    severity: Severity
    topic: str
    subject: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a message; `data` is base64, and None where it was too large to go."""

    name: str
    size_bytes: int
    sha256: str
    data: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the clinic asks of whoever supports the box; looked through for what names a patient (`appliance.fleet.ticket`)."""

    reference: str
    reason: str
    clinic: str
    phone: str
    version: str
    file: Attachment


def _news(news: News, hook: Webhook, clinic: str, delivery: str, now: datetime) -> dict[str, Any]:
    """What is posted of a notice, in the form of `hook`."""
    if in_a_line := _IN_A_LINE.get(hook.format):
        return in_a_line(hook, _line(news, hook, clinic))
    return {
        "id": delivery,
        "event": news.event,
        "at": utc_text(now),
        "clinic": clinic,
        "notice": {
            "id": news.notice,
            "kind": news.kind,
            "severity": str(news.severity),
            "topic": news.topic,
            "title": title(_language(hook), news.kind),
            "subject": news.subject,
        },
    }


def _slack(hook: Webhook, line: str) -> dict[str, Any]:
    del hook
    return {"text": line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}


def _teams(hook: Webhook, line: str) -> dict[str, Any]:
    del hook
    card = {
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [{"type": "TextBlock", "text": line, "wrap": True, "weight": "Bolder"}],
    }
    content_type = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": content_type, "content": card}]}


def _sms(hook: Webhook, line: str) -> dict[str, Any]:
    return {"to": hook.options.get("to", ""), "text": line[:SMS_CHARACTERS]}


_IN_A_LINE: Mapping[str, Callable[[Webhook, str], dict[str, Any]]] = MappingProxyType(
    {"slack": _slack, "teams": _teams, "sms": _sms}
)
"""Those that say what they have to say in a line."""

FORMATS = ("json", *_IN_A_LINE)


def add(
    tx: Transaction,
    *,
    name: str,
    url: str,
    now: datetime,
    format: str = "json",  # noqa: A002 - the word of the form, the command line and the table
    language: str = "",
    least: str = Severity.WARNING,
    to: str = "",
    ca: str = "",
    on_lan: bool = False,
    hears: str = "notices",
) -> Webhook:
    """Record a webhook with a new secret, which is in the answer and never shown again. Raises `Refused`.

    Without a `language`, what is posted there is in the clinic's.
    """
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise Refused(
            "that is not a name for a webhook", hint="use up to 64 letters, digits or dashes", field="name"
        )
    language = language or str(settings.get(tx, "language.default"))
    choices = (format, FORMATS), (least, tuple(Severity)), (language, LANGUAGES), (hears, HEARS)
    if any(chosen not in offered for chosen, offered in choices):
        raise Refused("those are not choices that there are", hint="use the choices that the page offers")
    posting.place_of(url, on_lan=on_lan)
    if format == "sms" and not _is_number(to):
        raise Refused("a text message needs a telephone number", hint="write it as +15145550123", field="to")
    options = {"language": language, "least": str(least), "hears": hears}
    options |= {key: value for key, value in (("to", to), ("ca", ca)) if value}
    webhooks.add(tx, Webhook(name, url, format, options, on_lan, signing.new_secret()), now)
    return webhooks.by_name(tx, name)


def details(hook: Webhook) -> dict[str, Any]:
    """What the audit keeps of one that was added (``webhook:add``): neither the whole address nor the secret."""
    return {
        "host": hook.host,
        "format": hook.format,
        "language": _language(hook),
        "on_lan": hook.on_lan,
        "hears": hook.options.get("hears", "notices"),
    }


def remove(tx: Transaction, name: str, now: datetime) -> int:
    """Take a webhook away; how many messages to it were cancelled. Raises `Unknown`."""
    hook = webhooks.remove(tx, name)
    return outbox.cancel(tx, Channel.WEBHOOK, str(hook.id), now)


def enqueue(
    tx: Transaction, hook: Webhook, news: News, now: datetime, *, not_before: datetime | None = None
) -> int:
    """Put what there is to say into the outbox for `hook`; the message's id."""
    delivery = secrets.token_hex(16)
    clinic = settings.get(tx, "clinic.name")
    body = _news(news, hook, clinic, delivery, now)
    return outbox.add(
        tx,
        channel=Channel.WEBHOOK,
        address=str(hook.id),
        message_id=delivery,
        subject=f"{news.event} {news.kind}",
        content={"body": json.dumps(body, ensure_ascii=False, separators=(",", ":"))},
        urgency=RANK[news.severity],
        not_before=not_before or now,
        expires_utc=max(now, not_before or now) + KEPT,
        now=now,
        notice=news.notice or None,
    )


def enqueue_ticket(tx: Transaction, hook: Webhook, ticket: Ticket, now: datetime, *, kept: timedelta) -> int:
    """Put a ticket into the outbox for `hook`, to be tried for as long as `kept`; the message's id."""
    delivery = secrets.token_hex(16)
    body = _ticket(ticket, hook, delivery, now)
    return outbox.add(
        tx,
        channel=Channel.WEBHOOK,
        address=str(hook.id),
        message_id=delivery,
        subject=f"ticket {ticket.reference}",
        content={"body": json.dumps(body, ensure_ascii=False, separators=(",", ":"))},
        urgency=RANK[Severity.WARNING],
        not_before=now,
        expires_utc=now + kept,
        now=now,
    )


def _ticket(ticket: Ticket, hook: Webhook, delivery: str, now: datetime) -> dict[str, Any]:
    """What is posted of a ticket, in the form of `hook`."""
    if in_a_line := _IN_A_LINE.get(hook.format):
        return in_a_line(hook, _line_of_ticket(ticket, hook))
    file = ticket.file
    return {
        "id": delivery,
        "event": "ticket",
        "at": utc_text(now),
        "clinic": ticket.clinic,
        "ticket": {
            "reference": ticket.reference,
            "reason": ticket.reason,
            "phone": ticket.phone,
            "version": ticket.version,
            "file": {
                "name": file.name,
                "bytes": file.size_bytes,
                "sha256": file.sha256,
                "base64": file.data,
            },
        },
    }


def takes_tickets(hook: Webhook) -> bool:
    """Whether `hook` is for tickets to support."""
    return hook.options.get("hears") == "tickets"


def wants(hook: Webhook, severity: Severity) -> bool:
    """Whether `hook` hears of notices of that severity."""
    return (
        not takes_tickets(hook)
        and RANK[severity] >= RANK[severity_of(hook.options.get("least", Severity.WARNING))]
    )


def send(hook: Webhook, message: outbox.Message, now: datetime) -> int:
    """One attempt; the status of the answer. Raises what `posting.post` raises."""
    body = str((message.content or {})["body"]).encode()
    return posting.post(hook, body, signing.headers(hook.secret, message.message_id, body, now))


def try_out(hook: Webhook, clinic: str, now: datetime) -> int:
    """Post a test now, past the outbox. Raises what `posting.post` raises."""
    delivery = secrets.token_hex(16)
    news = News("test", 0, "test", Severity.INFORMATION, "machine", "")
    body = json.dumps(_news(news, hook, clinic, delivery, now), ensure_ascii=False).encode()
    return posting.post(hook, body, signing.headers(hook.secret, delivery, body, now))


def _line(news: News, hook: Webhook, clinic: str) -> str:
    """One line for people."""
    language = _language(hook)
    said = title(language, news.kind, news.subject)
    event = sentence(language, f"event_of_notice.{news.event}")
    named = clinic or sentence(language, "product")
    return sentence(language, "event_of_notice.line", clinic=named, event=event, title=said)


def _line_of_ticket(ticket: Ticket, hook: Webhook) -> str:
    """The same of a ticket; its reference leads to the file, which does not go this way."""
    language = _language(hook)
    named = ticket.clinic or sentence(language, "product")
    reason = ticket.reason.replace("\n", " ")
    return sentence(language, "ticket.line", clinic=named, reference=ticket.reference, reason=reason)


def _language(hook: Webhook) -> str:
    return hook.options.get("language", "en")


def _is_number(text: str) -> bool:
    digits = text.removeprefix("+")
    return digits.isascii() and digits.isdecimal() and 7 <= len(digits) <= 15
