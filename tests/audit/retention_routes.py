"""The routes of retention, holds and requests to destroy, and what calling each must leave in the audit."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from appliance.catalog import destructions, holds, studies, tombstones, visits
from appliance.identity import Role
from appliance.lifecycle import memory, retention
from tests.audit.interface import call
from tests.audit.walk import Act, Nothing, Step, World
from tests.lifecycle.clinic import arrive
from tests.web.conftest import browser_of, csrf_of

CONFIGURED = "the rules and the clinic's own periods, nothing of a patient; changes have rows of their own"


def _due(world: World) -> int:
    """A study of its own that is due; its row id."""
    number = world.next()
    moment = datetime.now(UTC)
    with world.box.catalog.transaction() as tx:
        retention.watch_clock(tx, moment, follows_time_server=True)
    patient = {"patient_id": f"OLD-{number}", "patient_name": f"OLD^{number}"}
    return arrive(world.box.catalog, f"1.2.77.{number}", at=moment - timedelta(days=365 * 12), **patient)


def _ask(world: World) -> Any:
    return world.post("/retention/requests", study=_due(world), reason="yearly review")


def _request(world: World) -> destructions.DestructionRequest:
    _ask(world)
    with world.box.catalog.reading() as conn:
        return destructions.latest(conn, limit=1)[0]


def _approve(world: World) -> Any:
    asked = _request(world)
    other = browser_of(world.app, Role.PRIVACY_OFFICER, f"officer{world.next()}")
    token = csrf_of(other.get("/retention/requests").get_data(as_text=True))
    form = {"csrf": token, "digest": asked.digest, "understood": "yes"}
    return other.post(f"/retention/requests/{asked.id}/approve", data=form)


def _certificate(world: World) -> str:
    authority = {"request": 1, "asked_by": "a", "asked_utc": "", "approved_by": "b", "approved_utc": ""}
    with world.box.catalog.transaction() as tx:
        return tombstones.begin(tx, None, authority, datetime.now(UTC)).label


def _study(world: World) -> int:
    with world.box.catalog.reading() as conn:
        return studies.find(conn, limit=1)[0].id


def _hold(world: World) -> Any:
    return world.post(f"/studies/{_study(world)}/holds", kind="legal", on="study", reason="claim 2026-114")


def _hold_by_interface(world: World) -> Any:
    return call(world, "POST", f"/studies/{_study(world)}/holds", {"reason": "claim 2026-114"})


def _visit(world: World) -> Any:
    day = date(2001, 1, 1) + timedelta(days=world.next())
    return world.post(f"/studies/{_study(world)}/visits", day=day.isoformat())


def _visit_by_interface(world: World) -> Any:
    day = date(2002, 1, 1) + timedelta(days=world.next())
    return call(world, "POST", f"/studies/{_study(world)}/visits", {"day": day.isoformat()})


def _withdraw_visit(world: World) -> Any:
    study = _study(world)
    _visit(world)
    with world.box.catalog.reading() as conn:
        latest = max(each.id for each in visits.of_study(conn, study))
    return world.post(f"/retention/visits/{latest}/withdraw", reason="another patient")


def _release(world: World) -> Any:
    _hold(world)
    with world.box.catalog.reading() as conn:
        latest = holds.listed(conn)[0].id
    return world.post(f"/retention/holds/{latest}/release", reason="it is over")


def _look_again(world: World) -> Any:
    with world.box.catalog.transaction() as tx:
        memory.note_restored(tx, None, datetime.now(UTC))
    return world.post("/retention/look-again", province="QC")


RETENTION_ROUTES: Mapping[str, Step] = {
    "GET /retention": Act(["retention:list"], lambda w: w.get("/retention")),
    "POST /retention/list/<kind>": Act(
        ["retention:export"], lambda w: w.post("/retention/list/csv", when="year") and None
    ),
    "POST /retention/clock": Act(["retention:clock"], lambda w: w.post("/retention/clock")),
    "POST /retention/look-again": Act(["retention:look-again"], _look_again),
    "GET /retention/rules": Nothing(CONFIGURED, lambda w: w.get("/retention/rules")),
    "POST /retention/rules": Act(
        ["retention:change"],
        lambda w: w.post(
            "/retention/rules", what="dental.majority", years=str(20 + w.next() % 60), reason="policy"
        ),
    ),
    "GET /retention/holds": Act(["hold:list"], lambda w: w.get("/retention/holds")),
    "POST /studies/<int:study_id>/holds": Act(["hold:add"], _hold),
    "POST /retention/holds/<int:hold_id>/release": Act(["hold:release"], _release),
    "POST /studies/<int:study_id>/visits": Act(["visit:add"], _visit),
    "POST /retention/visits/<int:visit_id>/withdraw": Act(["visit:withdraw"], _withdraw_visit),
    "GET /plan": Nothing("how the box is set up, nothing of a patient", lambda w: w.get("/plan")),
    "POST /plan/pdf": Act(["plan:print"], lambda w: w.post("/plan/pdf") and None),
    "GET /tiers": Nothing("bytes and prices, nothing of a patient", lambda w: w.get("/tiers")),
    "GET /tiers/plan": Act(["tiers:list"], lambda w: w.get("/tiers/plan")),
    "POST /tiers/evict": Nothing(
        "the box that is walked has chosen that nothing leaves; tests/web/test_tiers_by_hand.py finds the row of each study",
        lambda w: w.post("/tiers/evict"),
    ),
    "POST /tiers/move": Nothing(
        "nothing of the box that is walked lies in a bucket; tests/lifecycle/test_tagging.py finds the row of each study",
        lambda w: w.post("/tiers/move"),
    ),
    "POST /tiers/return": Nothing(
        "nothing of the box that is walked is away; tests/web/test_tiers_by_hand.py finds the row of each study",
        lambda w: w.post("/tiers/return"),
    ),
    "GET /guard": Nothing("counts of objects, nothing of a patient", lambda w: w.get("/guard")),
    "POST /guard/freeze": Act(["guard:freeze"], lambda w: w.post("/guard/freeze", reason="strange messages")),
    "POST /guard/release": Act(["guard:release"], lambda w: w.post("/guard/release", reason="a test")),
    "GET /retention/certificates": Nothing(
        "numbers of certificates and places, no patient", lambda w: w.get("/retention/certificates")
    ),
    "GET /retention/certificates/<label>": Nothing(
        "numbers of studies and places, no patient",
        lambda w: w.get(f"/retention/certificates/{_certificate(w)}"),
    ),
    "POST /retention/certificates/<label>/<kind>": Act(
        ["destruction:certify"], lambda w: w.post(f"/retention/certificates/{_certificate(w)}/json")
    ),
    "GET /api/v1/retention/due": Act(["retention:list"], lambda w: call(w, "GET", "/retention/due")),
    "GET /api/v1/retention/holds": Act(["hold:list"], lambda w: call(w, "GET", "/retention/holds")),
    "POST /api/v1/studies/<int:study_id>/holds": Act(["hold:add"], _hold_by_interface),
    "POST /api/v1/retention/holds/<int:hold_id>/release": Act(
        ["hold:release"],
        lambda w: call(
            w,
            "POST",
            f"/retention/holds/{_hold_by_interface(w).get_json()['id']}/release",
            {"reason": "it is over"},
        ),
    ),
    "GET /api/v1/studies/<int:study_id>/visits": Act(
        ["visit:list"], lambda w: call(w, "GET", f"/studies/{_study(w)}/visits")
    ),
    "POST /api/v1/studies/<int:study_id>/visits": Act(["visit:add"], _visit_by_interface),
    "POST /api/v1/retention/visits/<int:visit_id>/withdraw": Act(
        ["visit:withdraw"],
        lambda w: call(
            w,
            "POST",
            f"/retention/visits/{_visit_by_interface(w).get_json()['id']}/withdraw",
            {"reason": "another patient"},
        ),
    ),
    "GET /api/v1/retention/requests": Nothing(
        "numbers of studies and who decided, no patient", lambda w: call(w, "GET", "/retention/requests")
    ),
    "GET /retention/requests": Nothing(
        "numbers of studies and who decided, no patient", lambda w: w.get("/retention/requests")
    ),
    "POST /retention/requests": Act(["destruction:ask"], _ask),
    "GET /retention/requests/<int:request_id>": Act(
        ["destruction:view"], lambda w: w.get(f"/retention/requests/{_request(w).id}")
    ),
    "POST /retention/requests/<int:request_id>/approve": Act(["destruction:approve"], _approve),
    "POST /retention/requests/<int:request_id>/withdraw": Act(
        ["destruction:withdraw"],
        lambda w: w.post(f"/retention/requests/{_request(w).id}/withdraw", reason="not yet"),
    ),
}
