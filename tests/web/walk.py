"""Every page of the console with real numbers in its address: found in the map of addresses, not in a list by hand.

A page that comes later is walked from its first day. If its address has a place that nothing here fills, the walk
says so by failing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text as sql
from werkzeug.routing import Rule

from appliance.box import Box
from appliance.catalog import Transaction, deliveries, destinations, devices, rules, tombstones, webhooks
from appliance.catalog.columns import utc_text
from appliance.catalog.erasure import Erased
from appliance.health.checks.disk import ROOM_SOON
from appliance.model import (
    DestinationId,
    DestinationSettings,
    Device,
    InstanceId,
    Owed,
    Uid,
    ae_title,
)
from appliance.model import Rule as RoutingRule
from appliance.notify import hooks, mail
from appliance.notify.telling import tell
from appliance.replication.delivery import Breaker
from appliance.settings import SECTIONS as SETTING_SECTIONS
from appliance.web.help import ORDER

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENDLESS = frozenset({"live.stream"})

PLACES: Mapping[str, tuple[str, ...]] = {
    "code": ("en",),
    "delivery_id": ("1",),
    "device_id": ("1",),
    "destination_id": ("1",),
    "filename": ("icon.svg",),
    "instance_id": ("1",),
    "kind": ("s3", "dicom", "folder", "archive"),
    "label": ("D-2026-0001",),
    "name": tuple(ORDER),
    "request_id": ("1",),
    "rule_id": ("1",),
    "section": tuple(SETTING_SECTIONS),
    "study_id": ("1", "2", "3"),
    "token_id": ("1",),
    "user_id": ("1",),
    "visit_id": ("1",),
    "webhook_id": ("1",),
}
"""What stands in for the places of an address; those that lead to no page are left out by the walk."""


@dataclass(frozen=True, slots=True)
class Walked:
    """A page: its address, and its endpoint."""

    address: str
    endpoint: str


def furnish(box: Box, folder: str) -> None:
    """A little of everything, so that no list is empty: devices, a visitor, destinations, deliveries in many states."""
    with box.catalog.transaction() as tx:
        devices.add_device(tx, Device(ae_title("PANO1"), "192.168.1.40", "Panoramic, room 2", 104), NOW)
        devices.add_device(tx, Device(ae_title("CBCT"), "192.168.1.41"), NOW)
        devices.seen_at_door(tx, ae_title("STRANGER"), "192.168.1.77", NOW)
        place = destinations.add(tx, DestinationSettings("hand-over", "folder", "dicom", {"path": folder}))
        destinations.add(
            tx,
            DestinationSettings(
                "pacs", "dicom", "dicom", {"ae_title": "PACS", "address": "192.168.1.9", "port": 104}
            ),
        )
        rules.add_rule(tx, RoutingRule(DestinationId(place), "hand-over", "dicom"))
        for number in range(1, 6):
            deliveries.owe(tx, InstanceId(number), [Owed(place, 0)], NOW)
        for number, state in ((2, "FAILED"), (3, "PAUSED"), (4, "CONFIRMED")):
            tx.execute(sql("UPDATE deliveries SET state = :s WHERE id = :i"), {"s": state, "i": number})
        for kind in ("disk-full", "destination-down", "unknown-device", "message-failed"):
            tell(tx, kind, subject="cloud", words="the data disk is nearly full", fix=ROOM_SOON, now=NOW)
        bury_one(tx, place)
        hook = hooks.add(tx, name="chat", url="https://hooks.example.ca/x", format="slack", now=NOW)
        webhooks.set_breaker(tx, hook.id, Breaker(2, NOW, "hooks.example.ca does not answer"))
        mail.enqueue(tx, to="luc@example.ca", letter="test", language="fr", now=NOW)


def bury_one(tx: Transaction, archive: DestinationId) -> None:
    """A certificate of destruction, of a study that was here once."""
    authority = {
        "request": 1,
        "asked_by": "marie",
        "asked_utc": utc_text(NOW),
        "approved_by": "paul",
        "approved_utc": utc_text(NOW),
    }
    gone = Erased(99, Uid("1.2.3.99"), 4, 30_000_000, NOW, NOW, (), (), {})
    rules_of = [{"rule": "qc", "years": 5, "starts": "last-entry", "basis": "law", "source": "M-9, r. 20.3"}]
    tombstones.bury(
        tx,
        tombstones.begin(tx, 1, authority, NOW),
        gone,
        why={"keep_until": "2025-03-01", "rules": rules_of},
        elsewhere={"pacs": 4},
        exports=1,
        manifest="manifests/00.sealed",
        archives=[archive],
        now=NOW,
    )


def pages(
    app: Flask, client: FlaskClient, wanted: Callable[[Rule], bool] = lambda rule: True
) -> list[Walked]:
    """The pages that `client` may open, each once."""
    found: dict[str, Walked] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if "GET" not in (rule.methods or ()) or rule.endpoint in ENDLESS | {"static"} or not wanted(rule):
            continue
        for address in addresses(app, rule):
            answer = client.get(address, headers={"Accept-Language": "en"})
            if answer.status_code == 200 and answer.content_type.startswith("text/html"):
                found[address] = Walked(address, rule.endpoint)
            answer.close()
    return list(found.values())


def addresses(app: Flask, rule: Rule) -> list[str]:
    """The addresses of a rule, its places filled."""
    filled: list[dict[str, str | int]] = [{}]
    for place in sorted(rule.arguments):
        if place not in PLACES:
            raise AssertionError(f"{rule.rule}: say in tests.web.walk what {place!r} can be")
        filled = [{**each, place: value} for each in filled for value in PLACES[place]]
    urls = app.url_map.bind("localhost")
    return [
        urls.build(rule.endpoint, {name: int(v) if str(v).isdecimal() else v for name, v in each.items()})
        for each in filled
    ]
