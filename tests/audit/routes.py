"""Every route of the console and what calling it must leave in the audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tests.audit.access_routes import ACCESS_ROUTES
from tests.audit.backup_routes import BACKUP_ROUTES
from tests.audit.interface import INTERFACE
from tests.audit.pin_routes import PIN_ROUTES
from tests.audit.retention_routes import RETENTION_ROUTES
from tests.audit.setup_routes import SETUP_ROUTES
from tests.audit.support_routes import SUPPORT_ROUTES
from tests.audit.update_routes import UPDATE_ROUTES
from tests.audit.walk import Act, Nothing, Step, World, echoing
from tests.notify.receiver import receiver
from tests.web.conftest import csrf_of

FORM = "a form without anything in it that is recorded"
CONFIGURED = "how the box is configured, nothing of a patient; changes have rows of their own"
SAME = "texts that are the same on every box"
TOLD = "what whoever asks was told, which names no patient"
READ = "that a notice was read changes nothing for anybody else"
FIGURES = "numbers and names of destinations, nothing of a patient"


def _hide_sample(world: World) -> Any:
    world.post("/sample/load")
    return world.post("/sample/hide")


def _study(world: World) -> int:
    from appliance.catalog import studies

    with world.box.catalog.reading() as conn:
        return studies.find(conn, limit=1)[0].id


def _picture(world: World, what: str) -> Any:
    browser = world.browser()  # a session that has seen nothing yet
    return browser.get(f"/instances/1/{what}")


def _grant(world: World) -> Any:
    login = f"referrer{world.next()}"
    world.say("user", "invite", login, "--name", "R", "--role", "referrer")
    from appliance.catalog import people

    with world.box.catalog.reading() as conn:
        person = people.person(conn, login)
    assert person is not None
    return world.post(
        f"/studies/{_study(world)}/grants", person=person.id, term="week", reason="second opinion"
    )


def _revoke(world: World) -> Any:
    from appliance.catalog import grants

    _grant(world)
    with world.box.catalog.reading() as conn:
        latest = grants.of_study(conn, _study(world))[0].id
    return world.post(f"/grants/{latest}/revoke")


def _person(world: World) -> int:
    from appliance.catalog import people

    login = world.person()
    with world.box.catalog.reading() as conn:
        person = people.person(conn, login)
    assert person is not None
    return person.id


def _link(world: World) -> str:
    return world.say("user", "reset", world.person()).strip().split("#")[1]


def _welcome(world: World, path: str, code: str) -> Any:
    client = world.app.test_client()
    token = csrf_of(client.get("/welcome").get_data(as_text=True))
    password = "cinq renards sous la lampe"
    return client.post(path, data={"csrf": token, "code": code, "password": password, "again": password})


def _sign_in(world: World, password: str) -> Any:
    client = world.app.test_client()
    page = client.get("/sign-in").get_data(as_text=True)
    return client.post(
        "/sign-in", data={"csrf": csrf_of(page), "login": f"nobody{world.next()}", "password": password}
    )


def _compared(world: World, method: str) -> Any:
    """The page with a server's key, or what follows it."""
    from appliance.catalog import destinations
    from appliance.replication.destinations import prepare

    with world.file_server() as server:
        settings = prepare(replace(server.settings(), secret="", name=f"nas{world.next()}"))
        with world.box.catalog.transaction() as tx:
            number = destinations.add(tx, settings)
        page = f"/destinations/{number}/key"
        if method == "GET":
            return world.get(page)
        return world.post(page, fingerprint=str(server.trusted().options["host_key"]))


def _destination(world: World, act: str) -> Any:
    return world.post(f"/destinations/{world.destination()[0]}/{act}")


def _rule(world: World) -> Any:
    return world.post(f"/destinations/{world.destination()[0]}/rules", modality="PX", priority="5")


def _remove_rule(world: World) -> Any:
    from appliance.catalog import rules

    place, name = world.destination()
    world.say("rule", "add", "--to", name)
    with world.box.catalog.reading() as conn:
        latest = rules.rules(conn)[-1].id
    return world.post(f"/destinations/{place}/rules/{latest}/remove")


def _retry_refused(world: World) -> Any:
    """Everything again that a destination has refused, which is one delivery here."""
    from datetime import UTC, datetime

    from appliance.catalog import deliveries, destinations
    from appliance.model import DeliveryId

    waiting, moment = world.delivery(), datetime.now(UTC)
    with world.box.catalog.transaction() as tx:
        name = deliveries.delivery(tx, DeliveryId(waiting)).destination
        place = destinations.destination(tx, name)
        assert place is not None
        (claimed,) = deliveries.claim(tx, place.id, now=moment, lease_seconds=60, limit=1)
        deliveries.fail(tx, claimed.id, claimed.attempts, reason="will not have it", now=moment)
    return world.post(f"/destinations/{place.id}/retry")


def _echo(world: World) -> Any:
    with echoing() as port:
        title = f"ECHO{world.next()}"
        world.say("device", "add", "--ae-title", title, "--address", "127.0.0.1", "--port", port)
        from appliance.catalog import devices

        with world.box.catalog.reading() as conn:
            number = next(each.id for each in devices.devices(conn) if each.ae_title == title)
        return world.post(f"/devices/{number}/echo")


def _admit(world: World) -> Any:
    from datetime import UTC, datetime

    from appliance.catalog import devices
    from appliance.model import ae_title

    title = f"DOOR{world.next()}"
    with world.box.catalog.transaction() as tx:
        devices.seen_at_door(tx, ae_title(title), "127.0.0.9", datetime.now(UTC))
    return world.post("/devices/admit", ae_title=title, address="127.0.0.9", name="")


def _notice(world: World) -> int:
    from datetime import UTC, datetime

    from appliance.notify.telling import tell

    with world.box.catalog.transaction() as tx:
        number = tell(tx, "disk-full", now=datetime.now(UTC))
    assert number is not None
    return number


def _hook(world: World, act: str) -> Any:
    from appliance.catalog import webhooks

    name = f"hook{world.next()}"
    with receiver() as found:
        world.say("webhook", "add", name, "--on-lan", typed=f"{found.url()}\n")
        with world.box.catalog.reading() as conn:
            number = webhooks.by_name(conn, name).id
        return world.post(f"/notices/channels/webhooks/{number}/{act}")


def _settings(world: World) -> dict[str, object]:
    """The form of the clinic's settings, as a browser would send it back, with another name."""
    from appliance import settings

    with world.box.catalog.reading() as conn:
        fields = {
            key: each.kind.write(settings.get(conn, key))
            for key, each in settings.SETTINGS.items()
            if each.section == "clinic"
        }
        return {**fields, "clinic.name": f"Clinique {world.next()}", "revision": settings.revision(conn)}


def _undo(world: World) -> Any:
    from appliance import settings

    world.post("/settings/clinic", **_settings(world))
    with world.box.catalog.reading() as conn:
        latest = settings.history(conn, limit=1)[0].id
    return world.post(f"/settings/history/{latest}/undo")


def _configuration(world: World) -> str:
    text: str = world.say("setting", "export")
    return text.replace("Clinique", "Cabinet")


ROUTES: Mapping[str, Step] = {
    **SUPPORT_ROUTES,
    **UPDATE_ROUTES,
    **PIN_ROUTES,
    "GET /": Nothing("leads to the page that is next", lambda w: w.get("/")),
    "GET /static/<path:filename>": Nothing("the console's own files, the same on every box"),
    # --- images
    "GET /studies": Act(["study:list"], lambda w: w.browser().get("/studies")),
    "POST /studies": Act(["study:search"], lambda w: w.post("/studies", w.browser(), text="a")),
    "GET /studies/<int:study_id>": Act(["study:view"], lambda w: w.get(f"/studies/{_study(w)}")),
    "POST /studies/<int:study_id>/grants": Act(["study:grant"], _grant),
    "POST /grants/<int:grant_id>/revoke": Act(["study:revoke"], _revoke),
    "GET /instances/<int:instance_id>/image": Act(["study:view"], lambda w: _picture(w, "image")),
    "GET /instances/<int:instance_id>/thumbnail": Act(["study:glimpse"], lambda w: _picture(w, "thumbnail")),
    **INTERFACE,
    **BACKUP_ROUTES,
    **RETENTION_ROUTES,
    # --- the audit
    "GET /audit": Act(["audit:view"], lambda w: w.get("/audit")),
    "POST /audit": Act(["audit:view"], lambda w: w.post("/audit", patient="helene")),
    "POST /audit/export/<kind>": Act(["audit:export"], lambda w: w.post("/audit/export/csv") and None),
    "GET /audit/reports": Nothing(FORM, lambda w: w.get("/audit/reports")),
    "POST /audit/reports": Act(
        ["audit:report"], lambda w: w.post("/audit/reports", about="year", year="2026")
    ),
    # --- deliveries
    "GET /deliveries": Act(["delivery:list"], lambda w: w.browser().get("/deliveries")),
    "GET /deliveries/<int:delivery_id>": Act(
        ["delivery:list"], lambda w: w.browser().get(f"/deliveries/{w.delivery()}")
    ),
    "POST /deliveries/<int:delivery_id>/<act>": Act(
        ["delivery:pause"], lambda w: w.post(f"/deliveries/{w.delivery()}/pause")
    ),
    # --- what is configured
    "GET /devices": Nothing(CONFIGURED, lambda w: w.get("/devices")),
    "POST /devices/add": Act(
        ["device:add"],
        lambda w: w.post("/devices/add", ae_title=f"NEW{w.next()}", address="127.0.0.3", name="", port=""),
    ),
    "POST /devices/admit": Act(["device:add"], _admit),
    "POST /devices/<int:device_id>/echo": Act(["device:echo"], _echo),
    "POST /devices/<int:device_id>/remove": Act(
        ["device:remove"], lambda w: w.post(f"/devices/{w.device()[0]}/remove")
    ),
    "GET /destinations": Nothing(CONFIGURED, lambda w: w.get("/destinations")),
    "GET /destinations/new/<kind>": Nothing(FORM, lambda w: w.get("/destinations/new/folder")),
    "POST /destinations/new/<kind>": Act(
        ["destination:add"],
        lambda w: w.post(
            "/destinations/new/folder",
            name=f"new{w.next()}",
            path=str(w.folder),
            takes="dicom",
            everything="",
        ),
    ),
    **{
        f"POST /destinations/<int:destination_id>/{act}": Act(
            [f"destination:{act}"], partial(_destination, act=act)
        )
        for act in ("pause", "resume", "remove", "test")
    },
    "GET /destinations/<int:destination_id>": Nothing(
        CONFIGURED, lambda w: w.get(f"/destinations/{w.destination()[0]}")
    ),
    "POST /destinations/<int:destination_id>": Act(
        ["destination:change"],
        lambda w: w.post(f"/destinations/{w.destination()[0]}", path=str(w.folder)),
    ),
    "GET /destinations/<int:destination_id>/key": Act(
        ["destination:remove"], partial(_compared, method="GET")
    ),
    "POST /destinations/<int:destination_id>/key": Act(
        ["destination:trust", "destination:test", "destination:remove"], partial(_compared, method="POST")
    ),
    "POST /destinations/<int:destination_id>/rules": Act(["rule:add"], _rule),
    "POST /destinations/<int:destination_id>/rules/<int:rule_id>/remove": Act(["rule:remove"], _remove_rule),
    "POST /destinations/<int:destination_id>/retry": Act(["delivery:retry"], _retry_refused),
    "GET /settings": Nothing(CONFIGURED, lambda w: w.get("/settings")),
    "GET /settings/<section>": Nothing(CONFIGURED, lambda w: w.get("/settings/clinic")),
    "POST /settings/<section>": Act(["setting:change"], lambda w: w.post("/settings/clinic", **_settings(w))),
    "GET /settings/history": Nothing(CONFIGURED, lambda w: w.get("/settings/history")),
    "POST /settings/history/<int:change_id>/undo": Act(["setting:change"], _undo),
    "GET /settings/machine": Nothing(CONFIGURED, lambda w: w.get("/settings/machine")),
    "GET /settings/configuration": Nothing(CONFIGURED, lambda w: w.get("/settings/configuration")),
    "GET /settings/configuration/export": Act(
        ["configuration:export"], lambda w: w.get("/settings/configuration/export")
    ),
    "POST /settings/configuration/preview": Nothing(
        "says what an import would change, and changes nothing",
        lambda w: w.post("/settings/configuration/preview", document=_configuration(w)),
    ),
    "POST /settings/configuration/import": Act(
        ["setting:change"],
        lambda w: w.post("/settings/configuration/import", document=_changed_configuration(w)),
    ),
    # --- people
    "GET /users": Nothing("who has an account; no patient", lambda w: w.get("/users")),
    "GET /roles": Nothing("the table of roles, the same on every box", lambda w: w.get("/roles")),
    "GET /users/invite": Nothing(FORM, lambda w: w.get("/users/invite")),
    "POST /users/invite": Act(
        ["user:invite"],
        lambda w: w.post(
            "/users/invite", login=f"guest{w.next()}", name="G", role="assistant", language="en"
        ),
    ),
    "GET /users/<int:user_id>": Nothing(
        "one account and the numbers of studies granted; no patient", lambda w: w.get(f"/users/{_person(w)}")
    ),
    "POST /users/<int:user_id>": Act(
        ["user:change"],
        lambda w: w.post(
            f"/users/{_person(w)}", login=f"guest{w.next()}", name="G", role="assistant", language="en"
        ),
    ),
    "POST /users/<int:user_id>/deactivate": Act(
        ["user:deactivate"], lambda w: w.post(f"/users/{_person(w)}/deactivate")
    ),
    "POST /users/<int:user_id>/reactivate": Act(
        ["user:reactivate"], lambda w: w.post(f"/users/{_person(w)}/reactivate")
    ),
    "POST /users/<int:user_id>/end-sessions": Act(
        ["user:end-sessions"], lambda w: w.post(f"/users/{_person(w)}/end-sessions")
    ),
    "POST /users/<int:user_id>/link": Act(["user:link"], lambda w: w.post(f"/users/{_person(w)}/link")),
    "GET /welcome": Nothing(FORM, lambda w: w.app.test_client().get("/welcome")),
    "POST /welcome": Act(["user:link-fail"], lambda w: _welcome(w, "/welcome", "none")),
    "POST /welcome/password": Act(["user:password"], lambda w: _welcome(w, "/welcome/password", _link(w))),
    "POST /language": Act(["user:change"], lambda w: w.post("/language", lang="fr", back="/help")),
    "GET /claim": Nothing(FORM, lambda w: w.app.test_client().get("/claim")),
    "POST /claim": Nothing(
        "the box has an owner, so there is nothing to claim; tests/web/test_pages.py claims one"
    ),
    "GET /sign-in": Nothing(FORM, lambda w: w.app.test_client().get("/sign-in")),
    "POST /sign-in": Act(["user:login-fail"], lambda w: _sign_in(w, "wrong wrong wrong")),
    "POST /sign-out": Act(["user:logout"], lambda w: w.post("/sign-out", w.browser())),
    **ACCESS_ROUTES,
    # --- the box itself
    "GET /events": Nothing("counts of what has changed, until the browser goes"),
    "GET /events/pulse": Nothing(FIGURES, lambda w: w.get("/events/pulse")),
    "GET /health": Nothing(FIGURES, lambda w: w.get("/health")),
    "GET /performance": Nothing(FIGURES, lambda w: w.get("/performance")),
    "GET /health/deep": Nothing(FIGURES, lambda w: w.get("/health/deep")),
    "GET /health/live": Nothing(FIGURES, lambda w: w.get("/health/live")),
    "GET /health/ready": Nothing(FIGURES, lambda w: w.get("/health/ready")),
    "GET /metrics": Nothing(FIGURES, lambda w: w.get("/metrics")),
    "GET /help/<name>": Nothing(SAME, lambda w: w.get("/help/console")),
    "POST /tour": Nothing("whether a person wants the tour", lambda w: w.post("/tour")),
    "POST /sample/load": Act(["study:import"], lambda w: w.post("/sample/load")),
    "POST /sample/hide": Act(["study:hide"], _hide_sample),
    "GET /manifest/<code>.webmanifest": Nothing(SAME, lambda w: w.get("/manifest/en.webmanifest")),
    "GET /offline/<code>": Nothing(SAME, lambda w: w.get("/offline/fr")),
    "GET /service-worker.js": Nothing(SAME, lambda w: w.get("/service-worker.js")),
    "GET /help": Nothing(SAME, lambda w: w.get("/help")),
    # --- notices
    "GET /notices": Nothing(TOLD, lambda w: w.get("/notices")),
    "GET /notices/bell": Nothing(TOLD, lambda w: w.get("/notices/bell")),
    "GET /notices/panel": Nothing(TOLD, lambda w: w.get("/notices/panel")),
    "POST /notices/read": Nothing(READ, lambda w: w.post("/notices/read")),
    "POST /notices/<int:notice_id>/read": Nothing(READ, lambda w: w.post(f"/notices/{_notice(w)}/read")),
    "POST /notices/<int:notice_id>/acknowledge": Act(
        ["notice:acknowledge"], lambda w: w.post(f"/notices/{_notice(w)}/acknowledge")
    ),
    "GET /notices/preferences": Nothing(
        "one's own choices, nothing of a patient", lambda w: w.get("/notices/preferences")
    ),
    "POST /notices/preferences": Act(
        ["notice:prefer"], lambda w: w.post("/notices/preferences", **{"storage.bell": "1"})
    ),
    "GET /notices/alerts": Nothing(CONFIGURED, lambda w: w.get("/notices/alerts")),
    "POST /notices/alerts/<kind>": Act(
        ["alert:change"], lambda w: w.post("/notices/alerts/disk-low", reset="1")
    ),
    "POST /notices/escalation": Act(["escalation:change"], lambda w: w.post("/notices/escalation")),
    "GET /notices/channels": Nothing(CONFIGURED, lambda w: w.get("/notices/channels")),
    "POST /notices/channels/mail-test": Act(
        ["mail:test"], lambda w: w.post("/notices/channels/mail-test", to="luc@example.ca")
    ),
    "POST /notices/channels/webhooks": Act(
        ["webhook:add"],
        lambda w: w.post(
            "/notices/channels/webhooks",
            name=f"chat{w.next()}",
            url="https://hooks.example.ca/x",
            format="json",
            least="warning",
        ),
    ),
    "POST /notices/channels/webhooks/<int:hook_id>/test": Act(["webhook:test"], lambda w: _hook(w, "test")),
    "POST /notices/channels/webhooks/<int:hook_id>/remove": Act(
        ["webhook:remove"], lambda w: _hook(w, "remove")
    ),
    **SETUP_ROUTES,
}


def _changed_configuration(world: World) -> str:
    world.post("/settings/clinic", **_settings(world))
    document = _configuration(world)
    world.post("/settings/clinic", **_settings(world))
    return document
