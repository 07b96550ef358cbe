"""The pages of support, and what calling each must leave in the audit."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from appliance import settings
from appliance.catalog import support_sessions
from appliance.fleet import consent, support
from appliance.fleet.session import Ending, Scope
from tests.age_reader import READER
from tests.audit.interface import call
from tests.audit.walk import Act, Nothing, Step, World


def _take(world: World) -> Any:
    world.post("/support/file")
    return world.post("/support/file/take")


def enter_ticket_way(world: World) -> None:
    """An address for tickets, at a mail server that nobody is behind, and the vendor's key."""
    chosen = {
        "support.mail": "help@vendor.example",
        "support.reader_key": READER,
        "mail.host": "192.0.2.1",
        "mail.from": "box@clinic.example",
    }
    with world.box.catalog.transaction() as tx:
        settings.change(tx, world.box.audit_key, chosen, actor="tests", now=datetime.now(UTC))


def _send(world: World) -> Any:
    enter_ticket_way(world)
    world.post("/support/file")
    return world.post("/support/file/send", reason="backups fail")


def _send_by_api(world: World) -> Any:
    enter_ticket_way(world)
    return call(world, "POST", "/support/tickets", body={"reason": "backups fail"})


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKX4Bzl4JQhJHLcQZMmtmDGxNnOjq0sYk0l0Xr0vWb1d"


def enter_vendor(world: World) -> None:
    """A vendor that nobody is behind, and no session: what opening one needs."""
    now = datetime.now(UTC)
    values = {"host": "192.0.2.1", "user": "box", "host_key": KEY, "authority": KEY}
    with world.box.catalog.transaction() as tx:
        chosen = {f"support.{name}": value for name, value in values.items()}
        settings.change(tx, world.box.audit_key, chosen, actor="tests", now=now)
        if (standing := support_sessions.standing(tx)) is not None:
            support_sessions.end(tx, standing.id, Ending.CLINIC, "tests", now)


def _open(world: World) -> Any:
    enter_vendor(world)
    return world.post("/support/sessions", reason="deliveries wait", scope="operate", hours="2")


def _end(world: World) -> Any:
    _open(world)
    with world.box.catalog.reading() as conn:
        standing = support_sessions.standing(conn)
    assert standing is not None
    return world.post(f"/support/sessions/{standing.id}/end")


def enter_outpost(world: World) -> None:
    """An address of heartbeats that nobody is behind, and no agreement."""
    chosen = {"heartbeat.address": "https://localhost:1/heartbeats", "heartbeat.on_lan": True}
    with world.box.catalog.transaction() as tx:
        settings.change(tx, world.box.audit_key, chosen, actor="tests", now=datetime.now(UTC))
        consent.withdraw(tx)


def _agree(world: World) -> Any:
    enter_outpost(world)
    with world.box.catalog.reading() as conn:
        terms = consent.terms(conn)
    return world.post("/support/heartbeat/agree", terms=terms)


def _withdraw(world: World) -> Any:
    _agree(world)
    return world.post("/support/heartbeat/withdraw")


def withdraw_by_api(world: World) -> Any:
    """Forbid heartbeats that were agreed to."""
    _agree(world)
    return call(world, "DELETE", "/heartbeat/consent")


def visit(world: World) -> int:
    """A visit that somebody made: its number."""
    now = datetime.now(UTC)
    with world.box.catalog.transaction() as tx:
        made = (
            support_sessions.add(tx, reason="r", scope=Scope.DIAGNOSE, by="m", now=now, expires_utc=now)
            if support_sessions.standing(tx) is None
            else support_sessions.sessions(tx)[0]
        )
        found = support_sessions.begin_visit(tx, made.id, "Ana Roy", "7", now)
        support_sessions.add_event(tx, found, support_sessions.Event(5, "o", "Ready.\n"))
        support.end_visit(tx, world.box, found, now)
    return found


SUPPORT_ROUTES: Mapping[str, Step] = {
    "GET /support": Nothing("what there is towards support; no patient", lambda w: w.get("/support")),
    "POST /support/file": Act(["support:file"], lambda w: w.post("/support/file")),
    "POST /support/sessions": Act(["support:open"], _open),
    "POST /support/sessions/<int:session_id>/end": Act(["support:close"], _end),
    "GET /support/recordings/<int:visit_id>": Act(
        ["support:replay"], lambda w: w.get(f"/support/recordings/{visit(w)}")
    ),
    "POST /support/recordings/<int:visit_id>/cast": Act(
        ["support:replay"], lambda w: w.post(f"/support/recordings/{visit(w)}/cast")
    ),
    "GET /support/file": Nothing("what was made and recorded a moment ago", lambda w: w.get("/support/file")),
    "POST /support/file/take": Act(["support:take"], _take),
    "POST /support/file/send": Act(["support:ticket"], _send),
    "POST /api/v1/support/tickets": Act(["support:file", "support:ticket"], _send_by_api),
    "GET /support/heartbeat": Nothing(
        "what a heartbeat would say: tests/fleet looks for patients in it",
        lambda w: w.get("/support/heartbeat"),
    ),
    "POST /support/heartbeat/agree": Act(["heartbeat:agree"], _agree),
    "POST /support/heartbeat/withdraw": Act(["heartbeat:withdraw"], _withdraw),
    "GET /api/v1/heartbeat": Nothing(
        "what a heartbeat would say: tests/fleet looks for patients in it",
        lambda w: call(w, "GET", "/heartbeat"),
    ),
    "DELETE /api/v1/heartbeat/consent": Act(["heartbeat:withdraw"], withdraw_by_api),
}
