"""The routes of backups, drills and the whole verification: what was begun leaves its rows when it is done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from appliance.backup import drill, making
from appliance.catalog import destinations
from tests.audit.interface import call
from tests.audit.setup_routes import paper, until
from tests.audit.walk import Act, Nothing, Step, World

FIGURES = "counts, names of archives and moments, nothing of a patient"


def _archive(world: World) -> int:
    name = f"usb{world.next()}"
    target = world.folder / name
    target.mkdir()
    world.say("destination", "add", "vault", name, "--path", target)
    with world.box.catalog.reading() as conn:
        found = destinations.destination(conn, name)
    assert found is not None
    return int(found.id)


def _with_backup(world: World) -> int:
    number = _archive(world)
    with world.box.catalog.reading() as conn:
        place = next(each for each in making.archives(conn) if each.id == number)
    making.back_up(world.box, place, datetime.now(UTC), actor="tests", keep=timedelta(days=35))
    return number


def _until(world: World, word: str, path: str, *, by_program: bool = False) -> Any:
    before = world.last()
    answer = call(world, "POST", path) if by_program else world.post(path)
    deadline = time.monotonic() + 60
    while not any(row["action"] == word for row in world.rows(before)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def _new_root(world: World) -> Any:
    body = {"recovery_key": paper(world)}
    return until(world, "key:rewrap", lambda: call(world, "POST", "/root-key", body))


def _print(world: World) -> Any:
    number = _with_backup(world)
    with world.box.catalog.reading() as conn:
        place = next(each for each in making.archives(conn) if each.id == number)
    made = drill.drill(world.box, place, datetime.now(UTC), actor="tests")
    return world.post(f"/backups/certificates/{made.id}") and None  # a PDF


BACKUP_ROUTES: Mapping[str, Step] = {
    "GET /backups": Nothing(FIGURES, lambda w: w.get("/backups")),
    "GET /backups/<int:destination_id>": Nothing(FIGURES, lambda w: w.get(f"/backups/{_with_backup(w)}")),
    "GET /api/v1/backups/<int:destination_id>": Nothing(
        FIGURES, lambda w: call(w, "GET", f"/backups/{_with_backup(w)}")
    ),
    "GET /api/v1/backups/<int:destination_id>/progress": Nothing(
        FIGURES, lambda w: call(w, "GET", f"/backups/{_archive(w)}/progress")
    ),
    "GET /api/v1/verification": Nothing(FIGURES, lambda w: call(w, "GET", "/verification")),
    "POST /api/v1/backups/<int:destination_id>/make": Act(
        ["backup:make"],
        lambda w: _until(w, "backup:make", f"/backups/{_archive(w)}/make", by_program=True),
    ),
    "POST /api/v1/backups/<int:destination_id>/drill": Act(
        ["backup:drill"],
        lambda w: _until(w, "backup:drill", f"/backups/{_with_backup(w)}/drill", by_program=True),
    ),
    "POST /api/v1/verification": Act(
        ["store:verify"], lambda w: _until(w, "store:verify", "/verification", by_program=True)
    ),
    "GET /api/v1/root-key": Nothing(
        "numbers of keys, and none of them; nothing of a patient", lambda w: call(w, "GET", "/root-key")
    ),
    "POST /api/v1/root-key": Act(["key:rotate-root", "key:rewrap"], _new_root),
    "POST /backups/<int:destination_id>/make": Act(
        ["backup:make"], lambda w: _until(w, "backup:make", f"/backups/{_archive(w)}/make")
    ),
    "POST /backups/<int:destination_id>/drill": Act(
        ["backup:drill"], lambda w: _until(w, "backup:drill", f"/backups/{_with_backup(w)}/drill")
    ),
    "POST /backups/verify": Act(["store:verify"], lambda w: _until(w, "store:verify", "/backups/verify")),
    "POST /backups/certificates/<certificate_id>": Act(["backup:certify"], _print),
}
