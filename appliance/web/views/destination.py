"""One destination: where it is and with which key, and the rules of what goes there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flask import Blueprint, Response, g
from werkzeug.wrappers import Response as AnyResponse

from appliance.catalog import Reading, destinations, devices, rules
from appliance.configuration import rule_of
from appliance.errors import ApplianceError, Refused, Unknown
from appliance.identity.permissions import Permission
from appliance.lifecycle import safeguards, tier_rules
from appliance.model import CAN_BE_ERASED, DestinationKind, DestinationSettings, Rule
from appliance.replication import recall
from appliance.replication.destinations import access, anew, build, prepare
from appliance.web import forms
from appliance.web.access import may, needs, reauthenticated
from appliance.web.console import Notice, console
from appliance.web.language import Words
from appliance.web.pages import Page, page_of, show
from appliance.web.reach_words import Reach, seen
from appliance.web.tier_words import RulesNote, rules_note
from appliance.web.views.destinations import FIELDS, known, settings_of, try_out

blueprint = Blueprint("destination", __name__, url_prefix="/destinations")

MODALITIES = ("PX", "IO", "CT", "DX", "CR", "XC", "MR", "US", "OT", "DOC")
"""Those that the page offers; a rule for another, made elsewhere, is listed by its code."""

NOT_TYPED = ("mark", "host_key", "public_key", "server_name")
"""The options that no form asks for: they stay as they are."""


@dataclass(frozen=True, slots=True)
class RuleLine:
    """What goes there, in words."""

    id: int
    words: str
    priority: str


@dataclass(frozen=True, slots=True)
class DestinationPage(Page):
    """One destination, its form with what was typed, and its rules.

    `tier_rules` is what its bucket lacked when it was asked last, and `protections` what protected it; `can_be_erased` from the box, by whoever has taken it over. `given` says
    that there is a secret, `again` that one was typed, which no page carries; `seen` what the form was made of; `faults` what somebody else has made of it meanwhile, where that was so.
    """

    id: int
    name: str
    kind: DestinationKind
    kind_words: str
    typed: Mapping[str, str]
    canadian: bool
    given: bool
    again: bool
    host_key: str
    server_name: str
    seen: str
    faults: tuple[tuple[str, str, str], ...]
    rules: tuple[RuleLine, ...]
    devices: tuple[tuple[str, str], ...]
    modalities: tuple[tuple[str, str], ...]
    tier_rules: RulesNote | None
    protections: Reach | None
    can_be_erased: bool
    error: str


@blueprint.get("/<int:destination_id>")
@needs(Permission.VIEW_DESTINATIONS)
def destination(destination_id: int) -> Response:
    """The page."""
    return _page(destination_id)


@blueprint.post("/<int:destination_id>")
@needs(Permission.MANAGE_DESTINATIONS)
@reauthenticated
def change(destination_id: int) -> AnyResponse:
    """Give it another place, another key or another secret; the connection is tested right after.

    An empty secret leaves the one that there is, unless the key is another one. One that waited for its secret goes on.
    """
    before = known(destination_id)
    typed = {name: forms.text(name) for name in FIELDS[before.kind]}
    canadian, secret = forms.text("canadian") == "1", forms.secret("secret").strip()
    try:
        wanted = settings_of(before.kind, {"name": before.name, **typed}, canadian, secret)
        kept = {name: before.options[name] for name in NOT_TYPED if name in before.options}
        wanted = replace(wanted, options={**wanted.options, **kept})
        if wanted.kind == "smb" and secret:  # the server is asked before the catalog is held
            wanted = prepare(anew(wanted))
        with console().box.catalog.transaction() as tx:
            before = known(destination_id, tx)
            forms.check_unchanged(_made_of(before))
            wanted = replace(wanted, secret=_secret(before, wanted), id=before.id, paused=before.paused)
            if wanted.kind == "sftp":
                wanted = prepare(wanted)
            build(wanted, console().box)
            recall.let_move(tx, before, wanted.options)
            destinations.change(tx, before.name, wanted.options, wanted.secret)
            if secret and not before.secret:
                destinations.resume(tx, before.name)
            shown = {"kind": wanted.kind, **wanted.options} | ({"secret": "given"} if secret else {})
            console().record(tx, "destination:change", before.name, forms.actor(), shown)
    except Unknown:
        raise
    except ApplianceError as error:
        status = forms.status_of(error) if isinstance(error, Refused) else 422
        return _page(destination_id, typed, canadian, forms.explain(error), status, secret=secret)
    try_out(wanted)
    return forms.back_to(f"/destinations/{destination_id}")


@blueprint.post("/<int:destination_id>/rules")
@needs(Permission.MANAGE_RULES)
def add_rule(destination_id: int) -> AnyResponse:
    """Send something there from now on."""
    place = known(destination_id)
    priority = forms.text("priority") or "0"
    try:
        number = int(priority) if priority.lstrip("-").isdecimal() and priority.isascii() else None
        wanted = rule_of(place.name, forms.text("device"), forms.text("modality"), number)
        wanted = replace(wanted, destination_id=place.id, takes=place.takes)
        with console().box.catalog.transaction() as tx:
            if any(_is_alike(each, wanted) for each in rules.rules(tx)):
                raise Refused("there is such a rule already", hint="remove it first to change its priority")
            rules.add_rule(tx, wanted)
            matched = {"device": wanted.device or "", "modality": wanted.modality or ""}
            console().record(tx, "rule:add", place.name, forms.actor(), matched)
    except Refused as refusal:
        return _page(destination_id, error=forms.explain(refusal), status=422)
    forms.say(Notice("good", g.words("rules.added")))
    return forms.back_to(f"/destinations/{destination_id}")


@blueprint.post("/<int:destination_id>/rules/<int:rule_id>/remove")
@needs(Permission.MANAGE_RULES)
def remove_rule(destination_id: int, rule_id: int) -> AnyResponse:
    """Send that there no more; what is owed already is still delivered."""
    place = known(destination_id)
    with console().box.catalog.transaction() as tx:
        if not any(each.id == rule_id and each.destination_id == place.id for each in rules.rules(tx)):
            raise Unknown("there is no such rule", hint="go back to the destinations")
        rules.remove_rule(tx, rule_id)
        console().record(tx, "rule:remove", place.name, forms.actor(), {"rule": rule_id})
    forms.say(Notice("good", g.words("rules.removed"), g.words("rules.removed_text")))
    return forms.back_to(f"/destinations/{destination_id}")


def _secret(before: DestinationSettings, wanted: DestinationSettings) -> str:
    """The secret from now on: the one that was given, or the one that there is for the same key or user."""
    if wanted.options.get("login") == "key":  # made by the box itself
        return before.secret if access.is_same(before, wanted) else ""
    if wanted.secret or not access.needs_secret(wanted):
        return wanted.secret
    if not (access.is_same(before, wanted) and before.secret):
        if wanted.kind != "s3":
            raise Refused("this user needs a password", hint="type the password of this user", field="secret")
        raise Refused("an access key needs its secret", hint="type the secret of this key", field="secret")
    return before.secret


def _made_of(place: DestinationSettings) -> tuple[Any, ...]:
    """What the form is made of; the secret too, though it shows only that there is one."""
    return sorted(place.options.items()), place.secret


def _is_alike(one: Rule, other: Rule) -> bool:
    mine, others = ((each.destination_id, each.device or "", each.modality or "") for each in (one, other))
    return mine == others


def _page(
    destination_id: int,
    typed: Mapping[str, str] | None = None,
    canadian: bool = False,
    error: str = "",
    status: int = 200,
    *,
    secret: str = "",
) -> Response:
    with console().box.catalog.reading() as conn:
        place = known(destination_id, conn)
        own = [each for each in rules.rules(conn) if each.destination_id == place.id]
        machines = _machines(conn)
        missing = tier_rules.missing(conn, place)
        protections = safeguards.last(conn, place)
    options = {name: str(place.options.get(name, "")) for name in FIELDS[place.kind]}
    names = dict(machines)
    page = page_of(
        DestinationPage,
        title=place.name,
        section="destinations",
        id=int(place.id),
        name=place.name,
        kind=place.kind,
        kind_words=g.words(f"kind.{place.kind}"),
        typed=options if typed is None else typed,
        canadian=bool(place.options.get("canadian")) if typed is None else canadian,
        given=bool(place.secret),
        host_key=str(place.options.get("host_key", "")),
        server_name=str(place.options.get("server_name", "")),
        again=bool(secret),
        seen=forms.mark(_made_of(place)) if typed is None else forms.mark_again(_made_of(place), status),
        faults=_meanwhile(typed, options, g.words) + _unlike(place, canadian, secret, g.words)
        if typed is not None and status == 409
        else (),
        rules=tuple(_rule_line(each, names, g.words) for each in own),
        devices=machines,
        modalities=tuple((code, g.words.modality(code)) for code in MODALITIES),
        tier_rules=rules_note(place.name, missing, g.words),
        protections=seen(protections, g.words),
        can_be_erased=place.kind in CAN_BE_ERASED,
        error=error if may(Permission.MANAGE_DESTINATIONS) or may(Permission.MANAGE_RULES) else "",
    )
    return show("destination.html", page, status)


def _machines(conn: Reading) -> tuple[tuple[str, str], ...]:
    """The machines that a rule can name: AE title and label."""
    labels: dict[str, str] = {}
    for each in devices.devices(conn):
        labels.setdefault(each.ae_title, f"{each.name} ({each.ae_title})" if each.name else each.ae_title)
    return tuple(sorted(labels.items(), key=lambda item: item[1].casefold()))


def _meanwhile(
    typed: Mapping[str, str], true: Mapping[str, Any], words: Words
) -> tuple[tuple[str, str, str], ...]:
    """What is recorded where it isn't what was typed: the field, its label, and what is true now."""
    return tuple(
        (
            f"field-{field}",
            words(_label(field)),
            words("settings.is_now", value=true[field] or words("settings.empty")),
        )
        for field in typed
        if typed[field] != true[field]
    )


def _unlike(
    place: DestinationSettings, canadian: bool, secret: str, words: Words
) -> tuple[tuple[str, str, str], ...]:
    """The same for what isn't a text: the mark of a place in Canada, and the secret, of which nobody is shown anything."""
    found: list[tuple[str, str, str]] = []
    if place.kind != "s3":
        return ()
    if (marked := bool(place.options.get("canadian"))) != canadian:
        said = words("settings.is_now", value=words("settings.yes" if marked else "settings.no"))
        found.append(("field-canadian", words("destinations.canadian"), said))
    if secret:
        found.append(("field-secret", words("destinations.secret"), words("destinations.secret_again")))
    elif place.secret:
        found.append(("field-secret", words("destinations.secret"), words("destinations.secret_kept")))
    return tuple(found)


def _label(field: str) -> str:
    if field == "folder":
        return "destinations.path"
    return f"{'devices' if field in ('ae_title', 'address', 'port') else 'destinations'}.{field}"


def _rule_line(rule: Rule, names: Mapping[str, str], words: Words) -> RuleLine:
    modality = words.modality(rule.modality) if rule.modality else ""
    device = names.get(rule.device, rule.device) if rule.device else ""
    match bool(modality), bool(device):
        case True, True:
            said = words("rules.both", modality=modality, device=device)
        case True, False:
            said = words("rules.of_modality", modality=modality)
        case False, True:
            said = words("rules.of_device", device=device)
        case _:
            said = words("rules.everything")
    return RuleLine(
        rule.id, said, words("rules.priority_of", number=str(rule.priority)) if rule.priority else ""
    )
