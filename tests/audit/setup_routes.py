"""The routes of setting up, and what calling each must leave in the audit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from appliance import health, settings
from appliance.store import keys
from appliance.wizard import progress, trial
from appliance.wizard.steps import DEFERRABLE, Step
from tests.audit.walk import Act, Nothing, World
from tests.audit.walk import Step as Walked

SETUP = "how far setting up is, and how the box is configured; nothing of a patient"
CLINIC = {
    "name": "Clinique",
    "address": "",
    "phone": "",
    "province": "QC",
    "privacy_officer_name": "Marie Tremblay",
    "privacy_officer_email": "marie@clinique.example",
}


def _settled(world: World, *, confirmed: bool = True) -> World:
    """Let every step be done or left for later, so that each may be opened."""
    box, now = world.box, datetime.now(UTC)
    folder = health.keys_folder(box)
    with box.catalog.transaction() as tx:
        values = {f"clinic.{name}": value for name, value in CLINIC.items()}
        settings.change(tx, box.audit_key, values, actor="tests", now=now)
        for step in DEFERRABLE:
            progress.leave_for_later(tx, step, now)
    if confirmed != keys.recovery_confirmed(folder):
        if confirmed:
            keys.check_recovery(folder, box.root, str(keys.show_recovery(folder, box.root)))
        else:
            keys.rotate(folder, box.root)
    return world


def _typed_back(world: World) -> Any:
    _settled(world, confirmed=False)
    folder = health.keys_folder(world.box)
    return world.post("/setup/recovery", key=str(keys.show_recovery(folder, world.box.root)))


def paper(world: World) -> str:
    """The recovery key of the box, typed back."""
    folder = health.keys_folder(world.box)
    keys.rotate(folder, world.box.root)
    typed = str(keys.show_recovery(folder, world.box.root))
    keys.check_recovery(folder, world.box.root, typed)
    return typed


def until(world: World, word: str, act: Callable[[], Any]) -> Any:
    """What `act` answers, once the row has come that its work leaves at the end."""
    before = world.last()
    answer = act()
    deadline = time.monotonic() + 300
    while not any(row["action"] == word for row in world.rows(before)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def _new_root(world: World) -> Any:
    typed = paper(_settled(world))
    return until(world, "key:rewrap", lambda: world.post("/setup/recovery/root", paper=typed))


def _tried(world: World) -> World:
    """The test study is in the catalog, as if it had been sent."""
    import io

    from appliance.dicom.part10 import file_head
    from appliance.ingest import import_file
    from appliance.model import Intake, Origin
    from appliance.wizard import runs, sample

    _settled(world)
    with world.box.catalog.transaction() as tx:
        made = trial.prepare(tx, datetime.now(UTC), fresh=False)
    head = file_head(
        sop_class_uid=sample.SOP_CLASS,
        sop_instance_uid=made.sop_instance_uid,
        transfer_syntax_uid=sample.TRANSFER_SYNTAX,
        source_ae_title="TEST",
    )
    import_file(world.box, io.BytesIO(head + made.data_set()), Origin(Intake.IMPORT, "tests"))
    runs.run(world.box, trial.RUN, made.study_instance_uid, {name: lambda tell: {} for name in trial.PARTS})
    with world.box.catalog.transaction() as tx:
        trial.saw(tx, "tests", datetime.now(UTC))
    return world


def _run(world: World) -> Any:
    """Nobody listens on the DICOM port of this box, so the test fails; that it was run is on record all the same."""
    _settled(world)
    before = world.last()
    answer = world.post("/setup/trial/run", fresh="1")
    deadline = time.monotonic() + 60
    while not any(row["action"] == "setup:test" for row in world.rows(before)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def _machine(world: World, act: str = "") -> Any:
    number, title = world.device()
    _settled(world)
    if act:
        return world.post(f"/setup/devices/{number}/call")
    return world.post("/setup/devices/admit", ae_title=title, address="127.0.0.8", name="", port="")


def _cloud(world: World) -> Any:
    return _settled(world).post(
        "/setup/storage/cloud",
        bucket=f"clinic{world.next()}",
        region="ca-central-1",
        access_key_id="AK",
        secret="secret",
        endpoint_url="http://127.0.0.1:9",
        canadian="1",
    )


def _restore(world: World, act: str) -> Any:
    return world.post(f"/setup/restore/{act}")


def _page(path: str) -> Nothing:
    return Nothing(SETUP, lambda world: _settled(world).get(path))


SETUP_ROUTES: Mapping[str, Walked] = {
    "GET /setup": _page("/setup"),
    "GET /setup/overview": _page("/setup/overview"),
    "GET /setup/welcome": _page("/setup/welcome"),
    "GET /setup/language": _page("/setup/language"),
    "GET /setup/restore": _page("/setup/restore"),
    **{
        f"POST /setup/restore/{act}": Nothing(
            "the box has an owner, so nothing is restored; tests/web/test_restore.py finds the rows of a blank one",
            partial(_restore, act=act),
        )
        for act in ("code", "look", "start", "elsewhere")
    },
    "GET /setup/clinic": _page("/setup/clinic"),
    "GET /setup/network": _page("/setup/network"),
    "GET /setup/account": _page("/setup/account"),
    "GET /setup/recovery": _page("/setup/recovery"),
    "GET /setup/storage": _page("/setup/storage"),
    "GET /setup/devices": _page("/setup/devices"),
    "GET /setup/users": _page("/setup/users"),
    "GET /setup/trial": _page("/setup/trial"),
    "GET /setup/report": Nothing(SETUP, lambda world: _tried(world).get("/setup/report")),
    "GET /trust": Nothing("what every TLS handshake tells", lambda world: world.get("/trust")),
    "GET /trust/clinic-ca.crt": Nothing(
        "what every TLS handshake tells", lambda world: world.get("/trust/clinic-ca.crt")
    ),
    "POST /setup/<step>/later": Act(
        ["setup:later"], lambda world: _settled(world).post(f"/setup/{Step.NETWORK}/later")
    ),
    "POST /setup/clinic": Act(
        ["setting:change", "setup:step"],
        lambda world: _settled(world).post("/setup/clinic", **{**CLINIC, "name": f"Clinique {world.next()}"}),
    ),
    "POST /setup/network": Act(
        ["certificate:issue", "setup:step"],
        lambda world: _settled(world).post("/setup/network", host_name="clinicbox"),
    ),
    "POST /setup/recovery": Act(["key:check", "setup:step"], _typed_back),
    "POST /setup/recovery/sheet": Act(
        ["key:show"], lambda world: _settled(world, confirmed=False).post("/setup/recovery/sheet")
    ),
    "POST /setup/recovery/new": Act(
        ["key:rotate"], lambda world: _settled(world).post("/setup/recovery/new")
    ),
    "POST /setup/recovery/root": Act(["key:rotate-root", "key:rewrap"], _new_root),
    "POST /setup/storage/expected": Act(
        ["setup:step"],
        lambda world: _settled(world).post("/setup/storage/expected", panoramic="1", intraoral="1", cbct="1"),
    ),
    "POST /setup/storage/cloud": Act(["setup:step"], _cloud),
    "POST /setup/devices/admit": Act(["device:add", "setup:step"], _machine),
    "POST /setup/devices/<int:device_id>/call": Act(["device:echo"], lambda world: _machine(world, "call")),
    "POST /setup/users": Act(
        ["user:invite", "setup:step"],
        lambda world: _settled(world).post(
            "/setup/users", login=f"guest{world.next()}", name="G", role="assistant", language="en"
        ),
    ),
    "POST /setup/trial/run": Act(["setup:test"], _run),
    "POST /setup/trial/seen": Act(["setup:see"], lambda world: _tried(world).post("/setup/trial/seen")),
    "POST /setup/trial/hide": Act(["setup:hide"], lambda world: _tried(world).post("/setup/trial/hide")),
    "POST /setup/trial/show": Act(["setup:hide"], lambda world: _tried(world).post("/setup/trial/show")),
    "POST /setup/report/paper": Act(
        ["setup:report"], lambda world: _tried(world).post("/setup/report/paper")
    ),
    "POST /setup/report": Act(["setup:finish"], lambda world: _tried(world).post("/setup/report")),
}
