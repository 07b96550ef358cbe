"""Webhooks: where notices are posted to, for chat, text messages and other systems. Neither address nor secret comes out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from appliance import settings
from appliance.catalog import Reading, outbox, webhooks
from appliance.catalog.webhooks import Webhook as Kept
from appliance.errors import Unknown
from appliance.identity.permissions import Permission
from appliance.notify import hooks
from appliance.notify.kinds import Channel, Severity, severity_of
from appliance.web import forms
from appliance.web.api.operation import operation
from appliance.web.api.other_side import of_the_other_side
from appliance.web.api.shape import Row, Shape
from appliance.web.console import console, now

Place = Annotated[
    Literal["internet", "lan"],
    Shape("Whether it is a system inside the clinic's network; on the Internet only HTTPS is posted to."),
]
Hears = Annotated[
    Literal["notices", "tickets"],
    Shape("What is posted there: notices from that severity on, or tickets to support and nothing else."),
]
PEM = r"^[ -~\r\n]*$"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver of notices."""

    id: Row
    name: str
    host: Annotated[str, Shape("Of its address; the rest of that may be a secret.")]
    format: str
    hears: Hears
    least: Annotated[Severity, Shape("The least severity that it hears of.")]
    language: str
    place: Place
    trouble: Annotated[str, Shape("Why nothing gets there at present.")]
    last_success_utc: datetime | None


@dataclass(frozen=True, slots=True)
class Webhooks:
    """All webhooks, by name."""

    items: tuple[Webhook, ...]


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook to add."""

    name: Annotated[str, Shape("What people call it.", example="chat", shortest=1, longest=64)]
    url: Annotated[
        str,
        Shape(
            "Its address, which a chat takes for a secret.",
            shortest=1,
            longest=2000,
            is_secret=True,
        ),
    ]
    format: Annotated[
        Literal["json", "slack", "teams", "sms"],
        Shape("In which form: JSON, for Slack and Mattermost, for Teams, for a gateway of text messages."),
    ] = "json"
    hears: Hears = "notices"
    least: Annotated[Severity, Shape("The least severity that it hears of.")] = Severity.WARNING
    language: Annotated[
        Literal["", "en", "fr", "es", "zh"], Shape("Of what is posted there; empty for the clinic's.")
    ] = ""
    place: Place = "internet"
    to: Annotated[
        str, Shape("The telephone number, for text messages.", example="+15145550123", longest=20)
    ] = ""
    ca: Annotated[
        str,
        Shape(
            "The certificate of its authority, in PEM, where no public one knows it.",
            longest=20_000,
            pattern=PEM,
        ),
    ] = ""


@dataclass(frozen=True, slots=True)
class MadeWebhook:
    """A new webhook, with the secret by which its receiver checks what is posted."""

    webhook: Webhook
    secret: Annotated[str, Shape("It is not shown again.")]


@dataclass(frozen=True, slots=True)
class WebhookTest:
    """What the receiver answered."""

    status: Annotated[int, Shape("Of HTTP.", example=200)]


@operation("GET", "/webhooks", Permission.VIEW_SETTINGS, gives=Webhooks)
def list_webhooks() -> Webhooks:
    """List the webhooks."""
    with console().box.catalog.reading() as conn:
        return Webhooks(tuple(_shown(each) for each in webhooks.webhooks(conn)))


@operation("GET", "/webhooks/{webhook_id}", Permission.VIEW_SETTINGS, gives=Webhook)
def get_webhook(webhook_id: int) -> Webhook:
    """Get one webhook."""
    with console().box.catalog.reading() as conn:
        return _shown(_known(conn, webhook_id))


@operation(
    "POST",
    "/webhooks",
    Permission.CHANGE_SETTINGS,
    gives=MadeWebhook,
    takes=NewWebhook,
    status=201,
    is_careful=True,
)
def add_webhook(body: NewWebhook) -> MadeWebhook:
    """Post notices to an address from now on. What is posted is signed and names no patient. The secret is answered once."""
    with console().box.catalog.transaction() as tx:
        hook = hooks.add(
            tx,
            name=body.name,
            url=body.url,
            now=now(),
            format=body.format,
            language=body.language,
            least=body.least,
            to=body.to,
            ca=body.ca,
            on_lan=body.place == "lan",
            hears=body.hears,
        )
        console().record(tx, "webhook:add", hook.name, forms.actor(), hooks.details(hook))
    return MadeWebhook(_shown(hook), hook.secret)


@operation("DELETE", "/webhooks/{webhook_id}", Permission.CHANGE_SETTINGS, status=204)
def remove_webhook(webhook_id: int) -> None:
    """Post there no more; what waited for it is cancelled."""
    with console().box.catalog.transaction() as tx:
        hook = _known(tx, webhook_id)
        cancelled = hooks.remove(tx, hook.name, now())
        console().record(tx, "webhook:remove", hook.name, forms.actor(), {"cancelled": cancelled})


@operation(
    "POST", "/webhooks/{webhook_id}/test", Permission.CHANGE_SETTINGS, gives=WebhookTest, refuses=(422,)
)
def test_webhook(webhook_id: int) -> WebhookTest:
    """Post a test now. It waits for the other side; 422 says why it did not take it."""
    moment = now()
    with console().box.catalog.transaction() as tx:
        hook, clinic = _known(tx, webhook_id), str(settings.get(tx, "clinic.name"))
        console().record(tx, "webhook:test", hook.name, forms.actor())
    with of_the_other_side():
        status = hooks.try_out(hook, clinic, moment)
    with console().box.catalog.transaction() as tx:
        webhooks.succeeded(tx, hook.id, moment)
        outbox.wake(tx, Channel.WEBHOOK, str(hook.id), moment)
    return WebhookTest(status)


OPERATIONS = (list_webhooks, get_webhook, add_webhook, remove_webhook, test_webhook)


def _known(conn: Reading, webhook_id: int) -> Kept:
    found = webhooks.webhook(conn, webhook_id)
    if found is None:
        raise Unknown("there is no such webhook", hint="list the webhooks to see their numbers")
    return found


def _shown(hook: Kept) -> Webhook:
    return Webhook(
        id=hook.id,
        name=hook.name,
        host=hook.host,
        format=hook.format,
        hears="tickets" if hooks.takes_tickets(hook) else "notices",
        least=severity_of(hook.options.get("least", Severity.WARNING)),
        language=hook.options.get("language", ""),
        place="lan" if hook.on_lan else "internet",
        trouble=hook.breaker.reason,
        last_success_utc=hook.last_success_utc,
    )
