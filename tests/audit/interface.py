"""Every operation of ``/api/v1`` and what calling it must leave in the audit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tests.audit.walk import Act, Nothing, Step, World, echoing
from tests.notify.receiver import receiver
from tests.replication.shares import PASSWORD, SHARE

CONFIGURED = "how the box is configured, nothing of a patient; changes have rows of their own"


TOKENS = "names and scopes of tokens, no patient"
NIGHT = {"name": "night report", "scopes": ["health:view"], "days": 7}


def call(world: World, method: str, path: str, body: Any = None) -> Any:
    """Call an operation as the owner's browser."""
    csrf = world.owner.get("/api/v1/me").get_json()["csrf"]
    return world.owner.open(
        f"/api/v1{path}", method=method, json=body, headers={"X-CSRF-Token": csrf, "If-Match": "*"}
    )


def _person(world: World, role: str = "assistant") -> int:
    """A new account's row id."""
    from appliance.catalog import people

    login = f"by-api-{world.next()}"
    world.say("user", "invite", login, "--name", "P", "--role", role)
    with world.box.catalog.reading() as conn:
        person = people.person(conn, login)
    assert person is not None
    return person.id


def _token(world: World) -> int:
    """A new token's row id."""
    made: int = call(world, "POST", "/tokens", NIGHT).get_json()["token"]["id"]
    return made


def _on_person(world: World, act: str) -> Any:
    return call(world, "POST", f"/users/{_person(world)}/{act}")


def _account(world: World) -> dict[str, object]:
    return {"login": f"by-api-{world.next()}", "name": "P", "role": "assistant", "language": "en"}


def _grant(world: World) -> Any:
    from appliance.catalog import studies

    with world.box.catalog.reading() as conn:
        study = studies.find(conn, limit=1)[0].id
    body = {"user": _person(world, "referrer"), "days": 7, "reason": "second opinion"}
    return call(world, "POST", f"/studies/{study}/grants", body)


def _study(world: World, below: str = "", method: str = "GET") -> Any:
    from appliance.catalog import studies

    with world.box.catalog.reading() as conn:
        first = studies.find(conn, limit=1)[0].id
    return call(world, method, f"/studies/{first}{below}")


def _delivery(world: World, method: str = "GET", below: str = "") -> Any:
    return call(world, method, f"/deliveries/{world.delivery()}{below}")


def _retry(world: World) -> Any:
    number = world.delivery()
    call(world, "POST", f"/deliveries/{number}/cancel")
    return call(world, "POST", f"/deliveries/{number}/retry")


def _resume(world: World) -> Any:
    number = world.delivery()
    call(world, "POST", f"/deliveries/{number}/pause")
    return call(world, "POST", f"/deliveries/{number}/resume")


def _destination(world: World, method: str = "GET", below: str = "", body: Any = None) -> Any:
    return call(world, method, f"/destinations/{world.destination()[0]}{below}", body)


def _add(world: World, kind: str, **options: object) -> Any:
    return call(world, "POST", f"/destinations/{kind}", {"name": f"by-api-{world.next()}", **options})


def _add_vault(world: World) -> Any:
    folder = world.folder / f"vault{world.next()}"
    folder.mkdir()
    return _add(world, "vault", path=str(folder))


def _sftp(world: World, act: str = "add") -> Any:
    with world.file_server() as server:
        where = {"address": "127.0.0.1", "port": server.port, "user": server.user, "login": "key"}
        added = _add(world, "sftp", folder=str(server.folder), **where)
        if act == "add":
            return added
        number, shown = added.get_json()["id"], server.trusted().options["host_key"]
        return call(world, "POST", f"/destinations/{number}/trust", {"fingerprint": shown})


def _smb(world: World) -> Any:
    with world.share_server() as server:
        where = {"address": "127.0.0.1", "port": server.port, "share": SHARE, "user": server.user}
        return _add(world, "smb", secret=PASSWORD, **where)


def _rule(world: World, method: str) -> Any:
    made = call(world, "POST", "/rules", {"destination": world.destination()[1], "modality": "PX"}).get_json()
    return call(world, method, f"/rules/{made['id']}")


def _device(world: World, method: str = "GET", body: Any = None) -> Any:
    return call(world, method, f"/devices/{world.device()[0]}", body)


def _echo(world: World) -> Any:
    with echoing() as port:
        made = call(
            world,
            "POST",
            "/devices",
            {"ae_title": f"API{world.next()}", "address": "127.0.0.1", "port": port},
        ).get_json()
        return call(world, "POST", f"/devices/{made['id']}/echo")


def _hook(world: World, method: str, below: str = "", *, own: bool = True) -> Any:
    """Add a webhook; with `own`, then call something on it."""
    with receiver() as found:
        body = {"name": f"by-api-{world.next()}", "url": found.url(), "place": "lan"}
        added = call(world, "POST", "/webhooks", body)
        if not own:
            return added
        return call(world, method, f"/webhooks/{added.get_json()['webhook']['id']}{below}")


def _setting(world: World) -> Any:
    return call(world, "PATCH", "/settings", {"clinic.name": f"Clinique {world.next()}"})


def _undo(world: World) -> Any:
    _setting(world)
    latest = call(world, "GET", "/settings/history?limit=1").get_json()["items"][0]["id"]
    return call(world, "POST", f"/settings/history/{latest}/undo")


def _document(world: World) -> Any:
    return call(world, "GET", "/configuration").get_json()


_READ: Mapping[str, str] = {
    "/destinations": CONFIGURED,
    "/rules": CONFIGURED,
    "/devices": CONFIGURED,
    "/door": CONFIGURED,
    "/settings": CONFIGURED,
    "/settings/history": CONFIGURED,
    "/alerts": CONFIGURED,
    "/escalation": CONFIGURED,
    "/webhooks": CONFIGURED,
    "/health": "figures and problems, nothing of a patient",
    "/tiers": "bytes and prices, nothing of a patient",
    "/tiers/work": "how far something is, nothing of a patient",
    "/me": "one's own account",
    "/openapi.json": "the same on every box of a version",
}

INTERFACE: Mapping[str, Step] = {
    **{
        f"GET /api/v1{path}": Nothing(why, partial(call, method="GET", path=path))
        for path, why in _READ.items()
    },
    "GET /help/api/reference": Nothing(
        "the same on every box of a version", lambda w: w.get("/help/api/reference")
    ),
    "GET /api/v1/studies": Act(["study:list"], lambda w: call(w, "GET", "/studies")),
    "POST /api/v1/studies/search": Act(
        ["study:search"], lambda w: call(w, "POST", "/studies/search", {"text": "a"})
    ),
    "GET /api/v1/studies/<int:study_id>": Act(["study:view"], _study),
    "GET /api/v1/studies/<int:study_id>/series": Act(["study:view"], partial(_study, below="/series")),
    "GET /api/v1/studies/<int:study_id>/instances": Act(["study:view"], partial(_study, below="/instances")),
    "POST /api/v1/studies/<int:study_id>/return": Act(
        ["study:want"], partial(_study, below="/return", method="POST")
    ),
    "GET /api/v1/tiers/plan": Act(["tiers:list"], lambda w: call(w, "GET", "/tiers/plan")),
    "POST /api/v1/tiers/move": Nothing(
        "nothing of the box that is walked lies in a bucket; tests/lifecycle/test_tagging.py finds the row of each study",
        lambda w: call(w, "POST", "/tiers/move"),
    ),
    "POST /api/v1/tiers/evict": Nothing(
        "the box that is walked has chosen that nothing leaves; tests/lifecycle/test_eviction.py finds the row of each study"
    ),
    "POST /api/v1/tiers/return": Nothing(
        "nothing of the box that is walked is away; tests/lifecycle/test_eviction.py finds the row of each study",
        lambda w: call(w, "POST", "/tiers/return"),
    ),
    "GET /api/v1/users": Nothing("who has an account; no patient", lambda w: call(w, "GET", "/users")),
    "GET /api/v1/users/<int:user_id>": Nothing(
        "one account; no patient", lambda w: call(w, "GET", f"/users/{_person(w)}")
    ),
    "POST /api/v1/users": Act(["user:invite"], lambda w: call(w, "POST", "/users", _account(w))),
    "PUT /api/v1/users/<int:user_id>": Act(
        ["user:change"], lambda w: call(w, "PUT", f"/users/{_person(w)}", _account(w))
    ),
    **{
        f"POST /api/v1/users/<int:user_id>/{act}": Act([f"user:{act}"], partial(_on_person, act=act))
        for act in ("deactivate", "reactivate", "link")
    },
    "POST /api/v1/users/<int:user_id>/end-sessions": Act(
        ["user:end-sessions"], partial(_on_person, act="end-sessions")
    ),
    "GET /api/v1/tokens": Nothing(TOKENS, lambda w: call(w, "GET", "/tokens")),
    "GET /api/v1/tokens/<int:token_id>": Nothing(TOKENS, lambda w: call(w, "GET", f"/tokens/{_token(w)}")),
    "POST /api/v1/tokens": Act(["token:add"], lambda w: call(w, "POST", "/tokens", NIGHT)),
    "DELETE /api/v1/tokens/<int:token_id>": Act(
        ["token:remove"], lambda w: call(w, "DELETE", f"/tokens/{_token(w)}")
    ),
    "GET /api/v1/users/<int:user_id>/grants": Nothing(
        "numbers of studies granted to a person, no patient",
        lambda w: call(w, "GET", f"/users/{_person(w)}/grants"),
    ),
    "POST /api/v1/studies/<int:study_id>/grants": Act(["study:grant"], _grant),
    "DELETE /api/v1/grants/<int:grant_id>": Act(
        ["study:revoke"], lambda w: call(w, "DELETE", f"/grants/{_grant(w).get_json()['id']}")
    ),
    "GET /api/v1/deliveries": Act(["delivery:list"], lambda w: call(w, "GET", "/deliveries")),
    "GET /api/v1/deliveries/<int:delivery_id>": Act(["delivery:list"], _delivery),
    "GET /api/v1/deliveries/<int:delivery_id>/events": Nothing(
        "one delivery's steps, no patient and no study", partial(_delivery, below="/events")
    ),
    "POST /api/v1/deliveries/<int:delivery_id>/retry": Act(["delivery:retry"], _retry),
    "POST /api/v1/deliveries/<int:delivery_id>/resume": Act(["delivery:resume"], _resume),
    **{
        f"POST /api/v1/deliveries/<int:delivery_id>/{act}": Act(
            [f"delivery:{act}"], partial(_delivery, method="POST", below=f"/{act}")
        )
        for act in ("pause", "cancel")
    },
    "POST /api/v1/destinations/s3": Act(
        ["destination:add"], partial(_add, kind="s3", bucket="clinic", region="ca-central-1")
    ),
    "POST /api/v1/destinations/dicom": Act(
        ["destination:add"], partial(_add, kind="dicom", ae_title="ORTHO", address="127.0.0.1", port=104)
    ),
    "POST /api/v1/destinations/folder": Act(["destination:add"], partial(_add, kind="folder", path="/srv/x")),
    "POST /api/v1/destinations/vault": Act(["destination:add"], _add_vault),
    "POST /api/v1/destinations/smb": Act(["destination:add", "destination:remove"], _smb),
    "POST /api/v1/destinations/sftp": Act(["destination:add", "destination:remove"], _sftp),
    "POST /api/v1/destinations/<int:destination_id>/trust": Act(
        ["destination:add", "destination:trust", "destination:remove"], partial(_sftp, act="trust")
    ),
    "GET /api/v1/destinations/<int:destination_id>": Nothing(CONFIGURED, _destination),
    "PATCH /api/v1/destinations/<int:destination_id>": Act(
        ["destination:change"], partial(_destination, method="PATCH", body={"options": {"path": "/srv/y"}})
    ),
    "DELETE /api/v1/destinations/<int:destination_id>": Act(
        ["destination:remove"], partial(_destination, method="DELETE")
    ),
    **{
        f"POST /api/v1/destinations/<int:destination_id>/{act}": Act(
            [f"destination:{act}"], partial(_destination, method="POST", below=f"/{act}")
        )
        for act in ("pause", "resume", "test")
    },
    "GET /api/v1/rules/<int:rule_id>": Nothing(CONFIGURED, partial(_rule, method="GET")),
    "POST /api/v1/rules": Act(
        ["rule:add"], lambda w: call(w, "POST", "/rules", {"destination": w.destination()[1]})
    ),
    "DELETE /api/v1/rules/<int:rule_id>": Act(["rule:remove"], partial(_rule, method="DELETE")),
    "GET /api/v1/devices/<int:device_id>": Nothing(CONFIGURED, _device),
    "POST /api/v1/devices": Act(
        ["device:add"],
        lambda w: call(w, "POST", "/devices", {"ae_title": f"API{w.next()}", "address": "127.0.0.4"}),
    ),
    "PUT /api/v1/devices/<int:device_id>": Act(
        ["device:change"], partial(_device, method="PUT", body={"name": "Room 2"})
    ),
    "DELETE /api/v1/devices/<int:device_id>": Act(["device:remove"], partial(_device, method="DELETE")),
    "POST /api/v1/devices/<int:device_id>/echo": Act(["device:echo"], _echo),
    "PATCH /api/v1/settings": Act(["setting:change"], _setting),
    "POST /api/v1/settings/history/<int:change_id>/undo": Act(["setting:change"], _undo),
    "PATCH /api/v1/alerts": Act(
        ["alert:change"],
        lambda w: call(w, "PATCH", "/alerts", {"rules": {"disk-low": {"delay_seconds": 600}}}),
    ),
    "PUT /api/v1/escalation": Act(
        ["escalation:change"],
        lambda w: call(w, "PUT", "/escalation", call(w, "GET", "/escalation").get_json()),
    ),
    "POST /api/v1/webhooks": Act(["webhook:add"], partial(_hook, method="POST", own=False)),
    "GET /api/v1/webhooks/<int:webhook_id>": Nothing(CONFIGURED, partial(_hook, method="GET")),
    "DELETE /api/v1/webhooks/<int:webhook_id>": Act(["webhook:remove"], partial(_hook, method="DELETE")),
    "POST /api/v1/webhooks/<int:webhook_id>/test": Act(
        ["webhook:test"], partial(_hook, method="POST", below="/test")
    ),
    "GET /api/v1/configuration": Act(["configuration:export"], lambda w: call(w, "GET", "/configuration")),
    "POST /api/v1/configuration/preview": Nothing(
        "says what an import would change, and changes nothing",
        lambda w: call(w, "POST", "/configuration/preview", _document(w)),
    ),
    "POST /api/v1/configuration/import": Act(
        ["configuration:import"], lambda w: call(w, "POST", "/configuration/import", _document(w))
    ),
    "GET /api/v1/guard": Nothing(
        "counts of objects, nothing of a patient", lambda w: call(w, "GET", "/guard")
    ),
    "POST /api/v1/guard/freeze": Act(
        ["guard:freeze"], lambda w: call(w, "POST", "/guard/freeze", {"reason": "strange messages"})
    ),
    "POST /api/v1/guard/release": Act(
        ["guard:release"], lambda w: call(w, "POST", "/guard/release", {"reason": "a test"})
    ),
    "GET /api/v1/plan": Act(["plan:print"], lambda w: call(w, "GET", "/plan")),
    "GET /api/v1/audit": Act(["audit:view"], lambda w: call(w, "GET", "/audit")),
}
