"""Requests to destroy: which studies, asked by whom, approved by whom, and what became of each. The only writer.

A request is a list frozen when it was asked: each study with the decision of that moment and a digest over what it then
was. Rows are only ever added and ended, never removed: they say, when the studies are long gone, who decided it. Only what
people wrote goes with the first study that is destroyed (`forget_words`): they write names. Neither certificate nor audit has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, insert, or_, select, update
from sqlalchemy.sql.expression import literal_column

from appliance.catalog.database import Reading, Transaction
from appliance.catalog.lifecycle_tables import destruction_items as items
from appliance.catalog.lifecycle_tables import destruction_requests as requests
from appliance.errors import Refused, Unknown
from appliance.lifecycle.request import Event, ItemState, Method, State, after
from appliance.model import Uid


@dataclass(frozen=True, slots=True)
class DueStudy:
    """A study of a request. `decision` is as it was when it was asked: rules, sources and dates, JSON-able.

    `digest` is over the decision and the content of the study; `certificate` the id of what proves its end.
    """

    study_id: int
    study_instance_uid: Uid
    keep_until: date
    decision: Mapping[str, Any]
    digest: str
    state: ItemState = ItemState.STANDING
    left_out_because: str = ""
    certificate: str = ""
    carried_out_utc: datetime | None = None


@dataclass(frozen=True, slots=True)
class DestructionRequest:
    """A request. `study_ids` are those that stand in it, `decisions` is every study that was asked for.

    `digest` is over the list as it was asked; `approved_by` and `ended_by` are empty until somebody did. `reason` and
    `end_reason` are empty once one of its studies was destroyed.
    """

    id: int
    study_ids: tuple[int, ...]
    asked_by: str
    approved_by: str
    approved_utc: datetime | None
    method: Method
    decisions: tuple[DueStudy, ...]
    state: State
    reason: str
    asked_utc: datetime
    expires_utc: datetime
    ended_by: str
    ended_utc: datetime | None
    end_reason: str
    digest: str


_STANDING: ColumnElement[bool] = literal_column("destruction_requests.state IN ('open', 'approved')")


_ASKED_FOR = (
    select(items.c.study)
    .join(requests, requests.c.id == items.c.request)
    .where(_STANDING, items.c.state == ItemState.STANDING)
)

_DESTROYED = select(items.c.study).where(items.c.state == ItemState.CARRIED_OUT)
_WORDS = (
    select(requests.c.id)
    .where(
        or_(requests.c.reason != "", requests.c.end_reason != ""),
        requests.c.id.in_(select(items.c.request).where(items.c.study.in_(_DESTROYED))),
    )
    .subquery()
)


def add(
    tx: Transaction,
    due: Sequence[DueStudy],
    *,
    method: Method,
    reason: str,
    asked_by: str,
    digest: str,
    now: datetime,
    expires_utc: datetime,
) -> int:
    """Record a request; its row id."""
    done = tx.execute(
        insert(requests).values(
            state=State.OPEN,
            method=method,
            reason=reason,
            asked_by=asked_by,
            asked_utc=now,
            expires_utc=expires_utc,
            digest=digest,
        )
    )
    assert done.inserted_primary_key is not None
    number = int(done.inserted_primary_key[0])
    tx.execute(
        insert(items),
        [
            {
                "request": number,
                "study": each.study_id,
                "study_instance_uid": each.study_instance_uid,
                "state": ItemState.STANDING,
                "keep_until": each.keep_until.isoformat(),
                "decision": dict(each.decision),
                "digest": each.digest,
            }
            for each in due
        ],
    )
    return number


def request(reading: Reading, request_id: int) -> DestructionRequest:
    """One request. Raises `Unknown`."""
    found = _requests(reading, _select().where(requests.c.id == request_id))
    if not found:
        raise Unknown("there is no such request", hint="look at the list of requests")
    return found[0]


def approved(reading: Reading) -> tuple[DestructionRequest, ...]:
    """The requests that may be carried out, the oldest approval first.

    Whoever carries one out looks at each study once more, in the transaction that destroys it.
    """
    query = _select().where(_STANDING, requests.c.state == State.APPROVED)
    return tuple(_requests(reading, query.order_by(requests.c.approved_utc, requests.c.id)))


def standing(reading: Reading) -> tuple[DestructionRequest, ...]:
    """The requests that are open or approved, the oldest first."""
    return tuple(_requests(reading, _select().where(_STANDING).order_by(requests.c.id)))


def latest(
    reading: Reading, *, limit: int = 100, before: int | None = None
) -> tuple[DestructionRequest, ...]:
    """All requests, the latest first; for the next page pass the last id as `before`."""
    query = _select().order_by(requests.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(requests.c.id < before)
    return tuple(_requests(reading, query))


def asked_for() -> Select[int]:
    """The query for the row ids of the studies that stand in a request: none is asked for twice."""
    return _ASKED_FOR


def studies_asked_for(reading: Reading) -> set[int]:
    """The row ids that `asked_for` gives, without the decisions of every request."""
    return {int(each) for each in reading.execute(_ASKED_FOR).scalars()}


def approve(tx: Transaction, request_id: int, *, by: str, now: datetime, expires_utc: datetime) -> None:
    """Record the approval. Raises `Unknown`, `Refused` if the state doesn't allow it."""
    _move(tx, request_id, Event.APPROVE, approved_by=by, approved_utc=now, expires_utc=expires_utc)


def end(tx: Transaction, request_id: int, event: Event, *, by: str, reason: str, now: datetime) -> None:
    """Record its end. Raises `Unknown`, `Refused` if the state doesn't allow it."""
    _move(tx, request_id, event, ended_by=by, ended_utc=now, end_reason=reason)


def leave_out(tx: Transaction, request_id: int, study_id: int, *, because: str, now: datetime) -> bool:
    """Take a study out of a request. False if it doesn't stand in it."""
    return _change_item(
        tx,
        request_id,
        study_id,
        state=ItemState.LEFT_OUT,
        left_out_because=because,
        left_out_utc=now,
    )


def carried_out(tx: Transaction, request_id: int, study_id: int, certificate_id: str, now: datetime) -> State:
    """Record that a study of an approved request was destroyed; the state of the request, which the last one ends.

    Raises `Unknown`, and `Refused` if the request isn't approved or the study doesn't stand in it.
    """
    found = request(tx, request_id)
    if found.state is not State.APPROVED:
        after(found.state, Event.FINISH)  # says what is wrong
    done = _change_item(
        tx,
        request_id,
        study_id,
        state=ItemState.CARRIED_OUT,
        certificate=certificate_id,
        carried_out_utc=now,
    )
    if not done:
        raise Refused("this study does not stand in the request", hint="look at the request again")
    if set(found.study_ids) == {study_id}:
        end(tx, request_id, Event.FINISH, by="", reason="", now=now)
        return State.CARRIED_OUT
    return State.APPROVED


def forget_words(tx: Transaction) -> int:
    """Empty what people wrote in each request that ever held a study that is destroyed by now; how many had something."""
    done = tx.execute(
        update(requests).where(requests.c.id.in_(select(_WORDS.c.id))).values(reason="", end_reason="")
    )
    return done.rowcount


def has_words(reading: Reading) -> bool:
    """Whether `forget_words` has something to empty."""
    return reading.execute(select(_WORDS.c.id).limit(1)).first() is not None


def _change_item(tx: Transaction, request_id: int, study_id: int, **values: Any) -> bool:
    done = tx.execute(
        update(items)
        .where(items.c.request == request_id, items.c.study == study_id, items.c.state == ItemState.STANDING)
        .values(**values)
    )
    return done.rowcount == 1


def _move(tx: Transaction, request_id: int, event: Event, **values: Any) -> None:
    found = tx.execute(select(requests.c.state).where(requests.c.id == request_id)).scalar()
    if found is None:
        raise Unknown("there is no such request", hint="look at the list of requests")
    values["state"] = after(State(found), event)
    tx.execute(update(requests).where(requests.c.id == request_id).values(**values))


def _select() -> Select[Any]:
    return select(requests)


def _requests(reading: Reading, query: Select[Any]) -> list[DestructionRequest]:
    rows = reading.execute(query).all()
    wanted = [row.id for row in rows]
    held: dict[int, list[DueStudy]] = {each: [] for each in wanted}
    chosen = select(items).where(items.c.request.in_(wanted)).order_by(items.c.request, items.c.study)
    for item in reading.execute(chosen):
        held[item.request].append(
            DueStudy(
                study_id=item.study,
                study_instance_uid=Uid(item.study_instance_uid),
                keep_until=date.fromisoformat(item.keep_until),
                decision=item.decision,
                digest=item.digest,
                state=ItemState(item.state),
                left_out_because=item.left_out_because,
                certificate=item.certificate,
                carried_out_utc=item.carried_out_utc,
            )
        )
    return [
        DestructionRequest(
            id=row.id,
            study_ids=tuple(each.study_id for each in held[row.id] if each.state is ItemState.STANDING),
            asked_by=row.asked_by,
            approved_by=row.approved_by,
            approved_utc=row.approved_utc,
            method=Method(row.method),
            decisions=tuple(held[row.id]),
            state=State(row.state),
            reason=row.reason,
            asked_utc=row.asked_utc,
            expires_utc=row.expires_utc,
            ended_by=row.ended_by,
            ended_utc=row.ended_utc,
            end_reason=row.end_reason,
            digest=row.digest,
        )
        for row in rows
    ]
