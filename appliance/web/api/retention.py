"""Retention: what is due on a day, holds, and the requests to destroy.

Asking and approving are not here: each of two people proves at the console who it is, and a token is neither of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from appliance.catalog import Reading, destructions, retention_dates, sight
from appliance.catalog import holds as hold_rows
from appliance.catalog import visits as visit_rows
from appliance.catalog.destructions import DestructionRequest
from appliance.catalog.holds import Hold as KeptHold
from appliance.catalog.holds import HoldKind
from appliance.catalog.visits import Visit as KeptVisit
from appliance.identity.permissions import Permission
from appliance.lifecycle import due_list, holds, memory, retention, visits
from appliance.lifecycle.request import Method, State
from appliance.web import access, forms, keeping
from appliance.web.api.operation import operation
from appliance.web.api.shape import After, Limit, Next, Row, Shape
from appliance.web.console import console, now

Reason = Annotated[str, Shape("Why, with the number of the file.", example="claim 2026-114", longest=200)]

Day = Annotated[
    str,
    Shape(
        "A day that is over, or today.",
        example="2026-03-01",
        longest=10,
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    ),
]


@dataclass(frozen=True, slots=True)
class DueStudy:
    """A study that no rule keeps on the day. `state` is empty, or says what keeps it back: held or asked."""

    study: Row
    study_instance_uid: str
    keep_until: str
    due_since: str
    rule: str
    source: str
    state: str


@dataclass(frozen=True, slots=True)
class DueStudies:
    """The longest due first. `doubt` says why the clock is not believed, and nothing can be asked for meanwhile; nor while `forgotten`:
    the box was restored, and nobody has looked since at what is held."""

    items: tuple[DueStudy, ...]
    next: Next
    on: str
    studies: int
    held: int
    asked: int
    doubt: str | None
    forgotten: bool


@dataclass(frozen=True, slots=True)
class Hold:
    """What keeps a study, or with `study` null a whole patient, whatever the rules say."""

    id: Row
    kind: HoldKind
    study: int | None
    reason: str
    placed_by: str
    placed_utc: datetime
    released_by: str
    released_utc: datetime | None
    release_reason: str


@dataclass(frozen=True, slots=True)
class Holds:
    """Those in force first, then the latest."""

    items: tuple[Hold, ...]


@dataclass(frozen=True, slots=True)
class NewHold:
    """What is to be held; `patient` with all that is yet to come."""

    reason: Reason
    kind: HoldKind = HoldKind.LEGAL
    patient: bool = False


@dataclass(frozen=True, slots=True)
class HoldRelease:
    """Why a hold is over."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Visit:
    """A day on which a patient was seen, as somebody has entered it; it counts until it is withdrawn."""

    id: Row
    day: str
    entered_by: str
    entered_utc: datetime
    withdrawn_by: str
    withdrawn_utc: datetime | None
    withdraw_reason: str


@dataclass(frozen=True, slots=True)
class Visits:
    """Those that count first, then the latest."""

    items: tuple[Visit, ...]


@dataclass(frozen=True, slots=True)
class NewVisit:
    """When the patient of the study was seen."""

    day: Day


@dataclass(frozen=True, slots=True)
class VisitWithdrawal:
    """What was wrong with it."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class DestructionAsked:
    """A request to destroy studies; `studies` are those that stand in it."""

    id: Row
    state: State
    method: Method
    studies: tuple[int, ...]
    asked_by: str
    asked_utc: datetime
    approved_by: str
    approved_utc: datetime | None
    expires_utc: datetime
    ended_utc: datetime | None


@dataclass(frozen=True, slots=True)
class DestructionsAsked:
    """The latest first."""

    items: tuple[DestructionAsked, ...]
    next: Next


@dataclass(frozen=True, slots=True)
class DueQuery:
    """Which day, and how many."""

    at: Annotated[
        str | None,
        Shape(
            "As of this day; today if it is not given.",
            example="2027-12-31",
            longest=10,
            pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        ),
    ] = None
    limit: Limit = 50
    after: After = None


@dataclass(frozen=True, slots=True)
class RequestsQuery:
    """How many."""

    limit: Limit = 50
    after: After = None


@operation(
    "GET", "/retention/due", Permission.MANAGE_RETENTION, gives=DueStudies, asks=DueQuery, refuses=(422,)
)
def list_due(query: DueQuery) -> DueStudies:
    """List the studies that no rule keeps on a day, if nobody comes back until then."""
    with console().box.catalog.reading() as conn:
        clock = retention.clock_of(conn, now())
        on = clock.today if query.at is None else keeping.typed_day(query.at)
        place = None if query.after is None else retention_dates.kept(conn, query.after)
        found, following = due_list.page(conn, on, _row, limit=query.limit, after=place)
        tally = retention_dates.tally(conn, on)
        forgotten = memory.gap(conn) is not None
    with console().box.catalog.transaction() as tx:
        seen = {"rows": len(found), "studies": [each.study for each in found]}
        console().record(tx, "retention:list", "studies", forms.actor(), seen)
    return DueStudies(
        items=tuple(
            DueStudy(
                each.study,
                each.study_instance_uid,
                each.keep_until.isoformat(),
                each.due_since.isoformat(),
                each.rule,
                each.source,
                each.state,
            )
            for each in found
        ),
        next=None if following is None else following.study_id,
        on=on.isoformat(),
        studies=tally.studies,
        held=tally.held,
        asked=tally.asked,
        doubt=None if clock.doubt is None else str(clock.doubt),
        forgotten=forgotten,
    )


@operation("GET", "/retention/holds", Permission.MANAGE_RETENTION, gives=Holds)
def list_holds() -> Holds:
    """List what is held, and what was, of studies that may be seen: reasons are free text, and people write names."""
    with console().box.catalog.transaction() as tx:
        found = [each for each in hold_rows.listed(tx, released=True) if _sees(tx, each)]
        seen = {"rows": len(found), "studies": hold_rows.studies_named(tx, found)}
        console().record(tx, "hold:list", "holds", forms.actor(), seen)
    return Holds(tuple(_hold(each) for each in found))


@operation(
    "POST",
    "/studies/{study_id}/holds",
    Permission.MANAGE_RETENTION,
    gives=Hold,
    takes=NewHold,
    status=201,
)
def place_hold(study_id: int, body: NewHold) -> Hold:
    """Hold a study, or its patient."""
    access.check_study(study_id)
    with console().box.catalog.transaction() as tx:
        return _hold(
            holds.place(
                tx,
                keeping.act(),
                kind=body.kind,
                study=study_id,
                whole_patient=body.patient,
                reason=body.reason,
            )
        )


@operation(
    "POST",
    "/retention/holds/{hold_id}/release",
    Permission.MANAGE_RETENTION,
    gives=Hold,
    takes=HoldRelease,
    is_careful=True,
)
def release_hold(hold_id: int, body: HoldRelease) -> Hold:
    """Let go, with a reason."""
    with console().box.catalog.reading() as conn:
        seen = _sees(conn, hold_rows.hold(conn, hold_id))
    if not seen:
        raise access.not_there("hold", hold_id)
    with console().box.catalog.transaction() as tx:
        return _hold(holds.release(tx, keeping.act(), hold_id, reason=body.reason))


@operation("GET", "/studies/{study_id}/visits", Permission.MANAGE_RETENTION, gives=Visits)
def list_visits(study_id: int) -> Visits:
    """List when the patient of a study was seen, as far as somebody has entered it."""
    access.check_study(study_id)
    with console().box.catalog.transaction() as tx:
        found = visit_rows.of_study(tx, study_id)
        seen = {"rows": len(found), "studies": [study_id]}
        console().record(tx, "visit:list", "visits", forms.actor(), seen)
    return Visits(tuple(_visit(each) for each in found))


@operation(
    "POST",
    "/studies/{study_id}/visits",
    Permission.MANAGE_RETENTION,
    gives=Visit,
    takes=NewVisit,
    status=201,
)
def enter_visit(study_id: int, body: NewVisit) -> Visit:
    """Enter that the patient of a study was seen on a day: the years of retention are counted from the last one."""
    access.check_study(study_id)
    with console().box.catalog.transaction() as tx:
        return _visit(visits.enter(tx, keeping.act(), study=study_id, day=keeping.typed_day(body.day)))


@operation(
    "POST",
    "/retention/visits/{visit_id}/withdraw",
    Permission.MANAGE_RETENTION,
    gives=Visit,
    takes=VisitWithdrawal,
    is_careful=True,
)
def withdraw_visit(visit_id: int, body: VisitWithdrawal) -> Visit:
    """Let a visit that was entered by mistake count no more, with a reason."""
    with console().box.catalog.reading() as conn:
        is_seen = keeping.sees_visit(conn, visit_id)
    if not is_seen:
        raise access.not_there("visit", visit_id)
    with console().box.catalog.transaction() as tx:
        return _visit(visits.withdraw(tx, keeping.act(), visit_id, reason=body.reason))


@operation(
    "GET", "/retention/requests", Permission.DESTROY_STUDIES, gives=DestructionsAsked, asks=RequestsQuery
)
def list_requests(query: RequestsQuery) -> DestructionsAsked:
    """List the requests to destroy studies."""
    with console().box.catalog.reading() as conn:
        found = destructions.latest(conn, limit=query.limit + 1, before=query.after)
    following = found[query.limit - 1].id if len(found) > query.limit else None
    return DestructionsAsked(tuple(_request(each) for each in found[: query.limit]), following)


OPERATIONS = (
    list_due,
    list_holds,
    place_hold,
    release_hold,
    list_visits,
    enter_visit,
    withdraw_visit,
    list_requests,
)


def _row(conn: Reading, study_id: int) -> sight.StudyRow | None:
    return sight.study(conn, access.sight(), study_id)


def _sees(conn: Reading, each: KeptHold) -> bool:
    """Whether whoever asks may see the study that is held, or one of the patient who is."""
    study = each.study if each.study is not None else hold_rows.a_study_of(conn, each.patient)
    return access.sight().all_studies or (study is not None and _row(conn, study) is not None)


def _visit(each: KeptVisit) -> Visit:
    return Visit(
        id=each.id,
        day=each.day.isoformat(),
        entered_by=each.entered_by,
        entered_utc=each.entered_utc,
        withdrawn_by=each.withdrawn_by,
        withdrawn_utc=each.withdrawn_utc,
        withdraw_reason=each.withdraw_reason,
    )


def _hold(each: KeptHold) -> Hold:
    return Hold(
        id=each.id,
        kind=each.kind,
        study=each.study,
        reason=each.reason,
        placed_by=each.placed_by,
        placed_utc=each.placed_utc,
        released_by=each.released_by,
        released_utc=each.released_utc,
        release_reason=each.release_reason,
    )


def _request(each: DestructionRequest) -> DestructionAsked:
    return DestructionAsked(
        id=each.id,
        state=each.state,
        method=each.method,
        studies=each.study_ids,
        asked_by=each.asked_by,
        asked_utc=each.asked_utc,
        approved_by=each.approved_by,
        approved_utc=each.approved_utc,
        expires_utc=each.expires_utc,
        ended_utc=each.ended_utc,
    )
