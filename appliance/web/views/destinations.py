"""The remote places that images are delivered to: add, test, pause, remove."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast, get_args

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.backup import homecoming, other_archives
from appliance.catalog import Reading, deliveries, destinations, rules
from appliance.catalog.destinations import DestinationHealth
from appliance.errors import ApplianceError, Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.lifecycle import safeguards, tier_rules
from appliance.model import CAN_BE_ERASED, DestinationKind, DestinationSettings, Rule, Takes, ae_title
from appliance.replication.delivery import OPEN_STATES, State
from appliance.replication.destinations import build, prepare
from appliance.web import forms
from appliance.web.access import needs, reauthenticated
from appliance.web.console import Notice, console, now
from appliance.web.language import explained
from appliance.web.pages import Page, is_partial, page_of, show
from appliance.web.reach_words import lacking
from appliance.web.tier_words import rules_note

blueprint = Blueprint("destinations", __name__, url_prefix="/destinations")

RETRIED_AT_ONCE = 500

KINDS: tuple[DestinationKind, ...] = ("s3", "vault", "sftp", "smb", "dicom", "folder")
TAKES: Mapping[DestinationKind, Takes] = {
    "s3": "ciphertext",
    "vault": "ciphertext",
    "sftp": "ciphertext",
    "smb": "ciphertext",
    "dicom": "dicom",
    "folder": "dicom",
}
FIELDS: Mapping[DestinationKind, tuple[str, ...]] = {
    "s3": ("bucket", "region", "access_key_id", "endpoint_url"),
    "dicom": ("ae_title", "address", "port"),
    "folder": ("path",),
    "vault": ("path",),
    "sftp": ("address", "port", "user", "folder", "login"),
    "smb": ("address", "port", "share", "folder", "user", "domain"),
}
_MAY_BE_EMPTY = frozenset(
    {("s3", "endpoint_url"), ("s3", "access_key_id"), ("smb", "folder"), ("smb", "domain")}
)
PRESET: Mapping[DestinationKind, Mapping[str, str]] = {
    "s3": {"region": "ca-central-1"},
    "dicom": {"port": "104"},
    "sftp": {"port": "22", "login": "password"},
    "smb": {"port": "445"},
}


@dataclass(frozen=True, slots=True)
class DestinationLine:
    """A destination as the list shows it."""

    id: int
    name: str
    kind: str
    kind_words: str
    where: str
    paused: bool
    trouble: str
    waiting: int
    last_success: str
    gets: str


@dataclass(frozen=True, slots=True)
class DestinationsPage(Page):
    """The list."""

    lines: tuple[DestinationLine, ...]
    kinds: tuple[DestinationKind, ...]


@dataclass(frozen=True, slots=True)
class NewDestinationPage(Page):
    """The form for one kind, with what was typed but the secret; `can_be_erased` from the box, by whoever has taken it over."""

    kind: DestinationKind
    typed: Mapping[str, str]
    everything: bool
    canadian: bool
    error: str
    given: bool = False
    again: bool = False
    can_be_erased: bool = False


@blueprint.get("")
@needs(Permission.VIEW_DESTINATIONS)
def listing() -> Response:
    """The destinations, how they do, and what they are owed."""
    with console().box.catalog.reading() as conn:
        known = destinations.destinations(conn)
        healths = {each.id: each for each in destinations.health(conn)}
        waiting = {
            each.destination_id: sum(count for state, count in each.counts.items() if state in OPEN_STATES)
            for each in deliveries.waiting_summary(conn)
        }
        kept = rules.rules(conn)
    page = page_of(
        DestinationsPage,
        title=g.words("destinations.title"),
        section="destinations",
        lines=tuple(_line(each, healths[each.id], waiting.get(each.id, 0), kept) for each in known),
        kinds=KINDS,
    )
    return show("parts/destination-cards.html" if is_partial() else "destinations.html", page)


@blueprint.get("/new/<kind>")
@needs(Permission.MANAGE_DESTINATIONS)
def form(kind: str) -> Response:
    """The form for one kind."""
    if kind not in KINDS:
        raise Unknown("there is no such kind of destination")
    return _form(kind, PRESET.get(kind, {}), True, False, "")


@blueprint.post("/new/<kind>")
@needs(Permission.MANAGE_DESTINATIONS)
@reauthenticated
def add(kind: str) -> AnyResponse:
    """Record a destination, and what goes there. The connection is tested right after."""
    if kind not in get_args(DestinationKind):
        raise Unknown("there is no such kind of destination")
    chosen = cast(DestinationKind, kind)
    typed = {name: forms.text(name) for name in ("name", *FIELDS[chosen])}
    everything, canadian = forms.text("everything") == "1", forms.text("canadian") == "1"
    secret = forms.secret("secret").strip()
    try:
        settings = settings_of(chosen, typed, canadian, secret)
        if chosen == "sftp":  # a key of its own, before it can be said whether all is there
            settings = prepare(settings)
        build(settings, console().box)
        settings = prepare(settings)
        with console().box.catalog.transaction() as tx:
            settings = replace(settings, id=destinations.add(tx, settings))
            shown = {"kind": chosen, **settings.options}
            console().record(tx, "destination:add", settings.name, forms.actor(), shown)
            if everything:
                rules.add_rule(tx, Rule(settings.id, settings.name, settings.takes))
                console().record(tx, "rule:add", settings.name, forms.actor(), {"device": "", "modality": ""})
    except ApplianceError as error:
        return _form(chosen, typed, everything, canadian, forms.explain(error), 422, again=bool(secret))
    if chosen == "sftp":  # nothing is sent there before its key has been compared
        return forms.back_to(f"/destinations/{settings.id}/key")
    try_out(settings)
    return forms.back_to("/destinations")


@blueprint.post("/<int:destination_id>/test")
@needs(Permission.ACT_ON_DELIVERIES)
def test(destination_id: int) -> AnyResponse:
    """Try the connection now."""
    try_out(known(destination_id))
    return forms.back_to("/destinations")


@blueprint.post("/<int:destination_id>/pause")
@needs(Permission.ACT_ON_DELIVERIES)
def pause(destination_id: int) -> AnyResponse:
    """Send nothing there; what is owed waits."""
    settings = known(destination_id)
    with console().box.catalog.transaction() as tx:
        destinations.pause(tx, settings.name)
        console().record(tx, "destination:pause", settings.name, forms.actor())
    return forms.back_to("/destinations")


@blueprint.post("/<int:destination_id>/resume")
@needs(Permission.ACT_ON_DELIVERIES)
def resume(destination_id: int) -> AnyResponse:
    """Send there again."""
    settings = known(destination_id)
    with console().box.catalog.transaction() as tx:
        destinations.resume(tx, settings.name)
        console().record(tx, "destination:resume", settings.name, forms.actor())
    return forms.back_to("/destinations")


@blueprint.post("/<int:destination_id>/retry")
@needs(Permission.ACT_ON_DELIVERIES)
def retry(destination_id: int) -> AnyResponse:
    """Try again what it has refused, each with its row in the audit; as many at a time as are quickly done."""
    settings, moment = known(destination_id), now()
    with console().box.catalog.transaction() as tx:
        refused = deliveries.list_deliveries(
            tx, state=State.FAILED, destination=settings.name, limit=RETRIED_AT_ONCE
        )
        for each in refused:
            deliveries.retry(tx, each.id, moment)
            console().record(
                tx, "delivery:retry", f"delivery:{each.id}", forms.actor(), study=each.study_instance_uid
            )
    forms.say(Notice("good", g.words("destinations.retried", n=len(refused))))
    return forms.back_to("/destinations")


@blueprint.post("/<int:destination_id>/remove")
@needs(Permission.MANAGE_DESTINATIONS)
@reauthenticated
def remove(destination_id: int) -> AnyResponse:
    """Take it away; what was delivered there stays there."""
    settings = known(destination_id)
    with console().box.catalog.transaction() as tx:
        homecoming.refuse_if_needed(tx, console().box, settings)
        other_archives.refuse_if_needed(tx, settings)
        cancelled = destinations.remove(tx, settings.name, now())
        console().record(tx, "destination:remove", settings.name, forms.actor(), {"cancelled": cancelled})
    forms.say(
        Notice(
            "good",
            g.words("destinations.removed", name=settings.name),
            g.words("destinations.cancelled", n=cancelled),
        )
    )
    return forms.back_to("/destinations")


def settings_of(
    kind: DestinationKind, typed: Mapping[str, str], canadian: bool, secret: str
) -> DestinationSettings:
    """A destination as a form of its kind says. Raises `Refused`, which names the field."""
    name = typed["name"]
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise Refused(
            "that is not a name for a destination",
            hint="use up to 64 letters, digits or dashes",
            field="name",
        )
    options: dict[str, str | int | bool] = {}
    for field in FIELDS[kind]:
        value = typed[field]
        if not value and (kind, field) not in _MAY_BE_EMPTY:
            raise Refused("a field is empty that must not be", hint="fill in all the fields", field=field)
        if field == "port":
            options[field] = forms.port(value) or 0
        elif field == "ae_title":
            options[field] = ae_title(value)
        elif value:
            options[field] = value
    if kind == "s3" and canadian:
        options["canadian"] = True
    return DestinationSettings(name=name, kind=kind, takes=TAKES[kind], options=options, secret=secret)


def try_out(settings: DestinationSettings) -> None:
    """Test the connection, and say how it went on the next page."""
    box = console().box
    note, lacks = None, ""
    try:
        built = build(settings, box)
        found = built.check()
        note = rules_note(settings.name, tier_rules.look(box, settings, built, now()), g.words)
        lacks = lacking(safeguards.look(box, settings, built, now()), g.words)
    except ApplianceError as error:
        forms.say(
            Notice("bad", g.words("destinations.test_failed", name=settings.name), explained(g.words, error))
        )
    else:
        forms.say(
            Notice("good", g.words("destinations.test_passed", name=settings.name), g.words.cause(found))
        )
    if lacks:
        forms.say(Notice("wait", g.words("reach.open_bucket", name=settings.name), lacks))
    if note is not None:
        forms.say(Notice("wait", note.title, g.words("tiers.rules_where")))
    with console().box.catalog.transaction() as tx:
        console().record(tx, "destination:test", settings.name, forms.actor())


def _line(
    settings: DestinationSettings, health: DestinationHealth, waiting: int, kept: tuple[Rule, ...]
) -> DestinationLine:
    options = settings.options
    where = {
        "s3": f"{options.get('bucket', '')} · {options.get('endpoint_url') or options.get('region', '')}",
        "dicom": f"{options.get('ae_title', '')} · {options.get('address', '')}:{options.get('port', '')}",
        "folder": str(options.get("path", "")),
        "vault": str(options.get("path", "")),
        "sftp": f"{options.get('user', '')}@{options.get('address', '')} · {options.get('folder', '')}",
        "smb": f"{options.get('user', '')}@{options.get('address', '')} · {options.get('share', '')} {options.get('folder', '')}",
    }[settings.kind]
    own = [rule for rule in kept if rule.destination_id == settings.id]
    if any(rule.device is None and rule.modality is None for rule in own):
        gets = g.words("destinations.gets_everything")
    elif own:
        gets = g.words("destinations.gets_rules", n=len(own))
    else:
        gets = g.words("destinations.gets_nothing")
    return DestinationLine(
        id=settings.id,
        name=settings.name,
        kind=settings.kind,
        kind_words=g.words(f"kind.{settings.kind}"),
        where=where,
        paused=settings.paused,
        trouble=g.words.cause(health.breaker.reason) if health.breaker.reason else "",
        waiting=waiting,
        last_success=g.words.moment(health.last_success_utc),
        gets=gets,
    )


def known(destination_id: int, conn: Reading | None = None) -> DestinationSettings:
    """The destination of that row id. Raises `Unknown`."""
    if conn is None:
        with console().box.catalog.reading() as reading:
            return known(destination_id, reading)
    for each in destinations.destinations(conn):
        if each.id == destination_id:
            return each
    raise Unknown("there is no such destination", hint="go back to the destinations")


def _form(
    kind: DestinationKind,
    typed: Mapping[str, str],
    everything: bool,
    canadian: bool,
    error: str,
    status: int = 200,
    *,
    again: bool = False,
) -> Response:
    page = page_of(
        NewDestinationPage,
        title=g.words(f"destinations.new_{kind}"),
        section="destinations",
        kind=kind,
        typed={"name": "", **dict.fromkeys(FIELDS[kind], ""), **typed},
        everything=everything,
        canadian=canadian,
        error=error,
        again=again,
        can_be_erased=kind in CAN_BE_ERASED,
    )
    return show("destination-new.html", page, status)
