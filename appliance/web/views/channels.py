"""How messages leave the box: the mail server and the webhooks, each tried by hand, and what came of every message."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance import settings
from appliance.catalog import outbox, webhooks
from appliance.errors import ApplianceError, Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.notify import hooks, mail, smtp
from appliance.notify.kinds import Channel, Severity, severity_of
from appliance.web import forms
from appliance.web.access import needs, reauthenticated
from appliance.web.console import Notice, console, now
from appliance.web.language import DEFAULT, NAMES, Languages, explained
from appliance.web.pages import Page, is_partial, page_of, show

blueprint = Blueprint("channels", __name__, url_prefix="/notices/channels")

MESSAGES = 30


@dataclass(frozen=True, slots=True)
class HookLine:
    """A webhook; neither its address nor its secret."""

    id: int
    name: str
    host: str
    format_words: str
    language: str
    language_name: str
    hears_words: str
    trouble: str
    last_success: str


@dataclass(frozen=True, slots=True)
class MessageLine:
    """A message that left or is to leave the box."""

    at: str
    channel: str
    to: str
    subject: str
    state_words: str
    tone: str
    reason: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a test letter, step by step; `cause` is empty when it arrived."""

    to: str
    steps: tuple[tuple[str, bool], ...]
    cause: str


@dataclass(frozen=True, slots=True)
class TypedHook:
    """The form of a webhook as it was typed."""

    name: str = ""
    url: str = ""
    format: str = "json"
    language: str = ""
    hears: str = "notices"
    least: str = Severity.WARNING
    to: str = ""
    on_lan: bool = False


@dataclass(frozen=True, slots=True)
class ChannelsPage(Page):
    """The mail server, the webhooks, the messages; `typed` is the form of a new webhook."""

    mail_host: str
    mail_from: str
    mail_to: str
    trial: Trial | None
    hooks: tuple[HookLine, ...]
    typed: TypedHook
    formats: tuple[str, ...]
    languages: tuple[tuple[str, str], ...]
    severities: tuple[str, ...]
    hears: tuple[str, ...]
    messages: tuple[MessageLine, ...]
    secret: str
    error: str
    tab: str = "channels"


@blueprint.get("")
@needs(Permission.VIEW_SETTINGS)
def overview() -> Response:
    """How messages leave the box, and which did."""
    return _channels()


@blueprint.post("/mail-test")
@needs(Permission.CHANGE_SETTINGS)
def try_mail() -> AnyResponse:
    """Hand a test letter to the mail server now, and show how far it came."""
    to, moment, words = forms.text("to"), now(), g.words
    box, reached = console().box, list[smtp.Step]()
    with box.catalog.transaction() as tx:
        console().record(tx, "mail:test", to[:200], forms.actor())
        security = str(settings.get(tx, "mail.security"))
        has_user = bool(settings.get(tx, "mail.user"))
    cause = ""
    try:
        mail.try_out(box.catalog, box.root, to, words.language, moment, reached.append)
    except ApplianceError as error:
        cause = explained(words, error)
    expected = [
        step
        for step in smtp.Step
        if (step is not smtp.Step.ENCRYPTED or security != "none")
        and (step is not smtp.Step.SIGNED_IN or has_user)
    ]
    steps = tuple((words(f"mail_step.{step}"), step in reached) for step in expected)
    return _channels(trial=Trial(to, steps, cause))


@blueprint.post("/webhooks")
@needs(Permission.CHANGE_SETTINGS)
@reauthenticated
def add_hook() -> AnyResponse:
    """Add a webhook, and show its secret: this once."""
    moment = now()
    typed = TypedHook(
        forms.text("name"),
        forms.text("url"),
        forms.text("format"),
        forms.text("language"),
        forms.text("hears") or "notices",
        forms.text("least"),
        forms.text("to"),
        forms.text("on_lan") == "1",
    )
    try:
        with console().box.catalog.transaction() as tx:
            hook = hooks.add(
                tx,
                name=typed.name,
                url=typed.url,
                now=moment,
                format=typed.format,
                language=typed.language,
                least=typed.least,
                to=typed.to,
                on_lan=typed.on_lan,
                hears=typed.hears,
            )
            console().record(tx, "webhook:add", hook.name, forms.actor(), hooks.details(hook))
    except Refused as refusal:
        return _channels(error=forms.explain(refusal), status=422, typed=typed)
    return _channels(secret=hook.secret)


@blueprint.post("/webhooks/<int:hook_id>/test")
@needs(Permission.CHANGE_SETTINGS)
def try_hook(hook_id: int) -> AnyResponse:
    """Post a test now."""
    hook, moment = _hook(hook_id), now()
    with console().box.catalog.transaction() as tx:
        clinic = str(settings.get(tx, "clinic.name"))
        console().record(tx, "webhook:test", hook.name, forms.actor())
    try:
        status = hooks.try_out(hook, clinic, moment)
    except ApplianceError as error:
        forms.say(Notice("bad", g.words("channels.hook_failed", name=hook.name), explained(g.words, error)))
    else:
        with console().box.catalog.transaction() as tx:
            webhooks.succeeded(tx, hook.id, moment)
            outbox.wake(tx, Channel.WEBHOOK, str(hook.id), moment)
        forms.say(Notice("good", g.words("channels.hook_answered", name=hook.name, status=str(status))))
    return forms.back_to("/notices/channels")


@blueprint.post("/webhooks/<int:hook_id>/remove")
@needs(Permission.CHANGE_SETTINGS)
def remove_hook(hook_id: int) -> AnyResponse:
    """Post there no more."""
    hook, moment = _hook(hook_id), now()
    with console().box.catalog.transaction() as tx:
        cancelled = hooks.remove(tx, hook.name, moment)
        console().record(tx, "webhook:remove", hook.name, forms.actor(), {"cancelled": cancelled})
    forms.say(Notice("good", g.words("channels.hook_removed", name=hook.name)))
    return forms.back_to("/notices/channels")


def _hook(hook_id: int) -> webhooks.Webhook:
    with console().box.catalog.reading() as conn:
        found = webhooks.webhook(conn, hook_id)
    if found is None:
        raise Unknown("there is no such webhook", hint="go back to the channels")
    return found


def _channels(
    *,
    trial: Trial | None = None,
    secret: str = "",
    error: str = "",
    status: int = 200,
    typed: TypedHook | None = None,
) -> Response:
    person, words = forms.session().person, g.words
    with console().box.catalog.reading() as conn:
        known = webhooks.webhooks(conn)
        sent = outbox.messages(conn, limit=MESSAGES)
        host, sender = settings.get(conn, "mail.host"), settings.get(conn, "mail.from")
        language = str(settings.get(conn, "language.default"))
    names = {str(each.id): each.name for each in known}
    page = page_of(
        ChannelsPage,
        title=words("notices.title"),
        mail_host=host,
        mail_from=sender,
        mail_to=trial.to if trial else person.login if "@" in person.login else "",
        trial=trial,
        hooks=tuple(_hook_line(each) for each in known),
        typed=typed or TypedHook(language=language),
        formats=tuple(hooks.FORMATS),
        languages=tuple((manner.code, manner.name) for manner in Languages.offered()),
        severities=tuple(reversed(Severity)),
        hears=hooks.HEARS,
        messages=tuple(_message_line(each, names) for each in sent),
        secret=secret,
        error=error,
    )
    return show("parts/mail-trial.html" if trial and is_partial() else "notice-channels.html", page, status)


def _hook_line(hook: webhooks.Webhook) -> HookLine:
    language = hook.options.get("language", DEFAULT)
    return HookLine(
        id=hook.id,
        name=hook.name,
        host=hook.host,
        format_words=g.words(f"hook_format.{hook.format}") if hook.format in hooks.FORMATS else hook.format,
        language=language,
        language_name=NAMES.get(language, language),
        hears_words=g.words("channels.hook_hears_tickets")
        if hooks.takes_tickets(hook)
        else g.words(
            "channels.hook_hears",
            least=g.words(f"severity.{severity_of(hook.options.get('least', Severity.WARNING))}"),
        ),
        trouble=g.words.cause(hook.breaker.reason) if hook.breaker.reason else "",
        last_success=g.words.moment(hook.last_success_utc),
    )


def _message_line(message: outbox.Message, names: dict[str, str]) -> MessageLine:
    tone = {"SENT": "good", "WAITING": "wait", "SENDING": "wait"}.get(message.state, "bad")
    is_mail = message.channel == Channel.MAIL
    return MessageLine(
        at=g.words.moment(message.created_utc),
        channel=g.words(f"channel.{message.channel}"),
        to=message.address if is_mail else names.get(message.address, ""),
        subject=message.subject if is_mail else "",
        state_words=g.words(f"message.{message.state}"),
        tone=tone if message.state != "CANCELLED" else "",
        reason=g.words.cause(message.reason) if message.reason and message.state != "SENT" else "",
    )
