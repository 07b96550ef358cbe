"""Asking for studies to be destroyed, and letting another person approve it: up to the decision, never the act itself.

Chosen: two people, two accounts, each proved anew at the moment of the act. A request is a list frozen with the decision
and the digest of each study; whatever has changed since (an image, a visit, a hold, a rule) takes that study out of it,
with the reason shown, and never brings one in. Rejected: approval of a rule ("everything older than …") instead of a
list, which approves what nobody has seen; approval at the command line, where one shell is both people.

Whoever carries a request out calls `refuse_if_changed` in the transaction that destroys, so that even a hold that is
placed between the approval and the act still counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from appliance.catalog import Reading, Transaction, destructions, people
from appliance.catalog.columns import canonical_json
from appliance.catalog.destructions import DestructionRequest, DueStudy
from appliance.errors import NotAuthorised, Refused
from appliance.lifecycle import holds, memory, retention
from appliance.lifecycle.acting import Act
from appliance.lifecycle.policy import Status
from appliance.lifecycle.request import STANDS, Event, ItemState, Method, State, after
from appliance.lifecycle.retention import Decided

MOST_STUDIES = 500
"""Of one request: what two people can be asked to look through."""
LEAST_CHARACTERS, MOST_CHARACTERS = 3, 200
JOBS = "jobs"


class Because(StrEnum):
    """Why a study was taken out of a request."""

    HELD = "held"
    GONE = "gone"  # it is not here any more
    CHANGED = "changed"  # an image came, or went
    NOT_DUE = "not-due"  # a visit or a rule keeps it longer
    CLOCK = "clock"
    SET_ASIDE = "set-aside"  # an image came and could not be recorded: whoever carries out finds it


@dataclass(frozen=True, slots=True)
class Changed:
    """A study that is no longer what was asked for, and why."""

    study: DueStudy
    because: Because


# --- asking ----------------------------------------------------------------------------------------------------------


def ask(
    tx: Transaction, act: Act, study_ids: Iterable[int], *, method: Method, reason: str
) -> DestructionRequest:
    """Ask for studies to be destroyed: all of them, or nothing is asked.

    Raises `Refused` unless every one is due at this moment and stands in no other request, and while a restored box doesn't know
    what is held.
    """
    memory.refuse(tx)
    wanted = sorted(set(study_ids))
    reason = _reason(reason)
    if not wanted:
        raise Refused("no study was chosen", hint="choose the studies that are to be destroyed")
    if len(wanted) > MOST_STUDIES:
        raise Refused(
            f"a request holds at most {MOST_STUDIES} studies",
            hint="ask for a part, and for the rest after it",
        )
    holds.refuse_if_held(tx, wanted)
    taken = destructions.studies_asked_for(tx)
    found = retention.decided(tx, wanted, act.now)
    for number in wanted:
        _refuse_unless_due(number, found.get(number), asked_for=number in taken)
    due = [_due(found[number]) for number in wanted]
    request_id = destructions.add(
        tx,
        due,
        method=method,
        reason=reason,
        asked_by=act.by,
        digest=_digest_of(due, method),
        now=act.now,
        expires_utc=act.now + STANDS,
    )
    details = {"studies": wanted, "method": str(method)}
    act.record(tx, "destruction:ask", f"destruction:{request_id}", details)
    return destructions.request(tx, request_id)


def _refuse_unless_due(number: int, found: Decided | None, *, asked_for: bool) -> None:
    if found is None:
        raise Refused(f"study {number} is not here any more", hint="look at the list again")
    if asked_for:
        raise Refused(
            f"the destruction of study {number} has been asked for already", hint="look at the requests"
        )
    if found.decision.status is Status.CLOCK:
        raise Refused(
            "nothing is due while the clock of the box is in doubt",
            hint="compare it with another clock, and say on the page of retention that it is right",
        )
    if found.decision.status is not Status.DUE:
        raise Refused(f"study {number} must still be kept", hint="look at the list again")


def _due(found: Decided) -> DueStudy:
    return DueStudy(
        study_id=found.study.id,
        study_instance_uid=found.study.study_instance_uid,
        keep_until=found.decision.keep_until,
        decision=retention.as_json(found.decision),
        digest=found.digest,
    )


def _digest_of(due: Sequence[DueStudy], method: Method) -> str:
    content = [str(method), [[each.study_id, each.digest] for each in due]]
    return sha256(canonical_json(content).encode()).hexdigest()


# --- approving and ending --------------------------------------------------------------------------------------------


def approve(
    tx: Transaction, act: Act, request_id: int, *, digest: str
) -> tuple[DestructionRequest, list[Changed]]:
    """Approve the request whose list has `digest`: the one that whoever approves has seen.

    What changed since it was asked is left out first, and given too; if nothing is left, the request ends instead.
    Raises `NotAuthorised` for who asked, `Refused` for another list, a wrong state, one that is over its time, while
    the clock is in doubt, and while a restored box doesn't know what is held.
    """
    memory.refuse(tx)
    found = destructions.request(tx, request_id)
    after(found.state, Event.APPROVE)
    if people.same_person(tx, found.asked_by, act.by):
        raise NotAuthorised(
            "nobody approves what they have asked for themselves", hint="let another person look at it"
        )
    if found.digest != digest:
        raise Refused("this is not the list that was asked for", hint="look at the request again")
    if act.now >= found.expires_utc:
        raise Refused("this request is over its time", hint="ask again, for what is due now")
    changed = look_again(tx, act, found)
    standing = destructions.request(tx, request_id)
    if standing.state is not State.OPEN:
        return standing, changed
    destructions.approve(tx, request_id, by=act.by, now=act.now, expires_utc=act.now + STANDS)
    details = {"studies": list(standing.study_ids), "asked_by": found.asked_by, "method": str(found.method)}
    act.record(tx, "destruction:approve", f"destruction:{request_id}", details)
    return destructions.request(tx, request_id), changed


def withdraw(tx: Transaction, act: Act, request_id: int, *, reason: str) -> DestructionRequest:
    """Take a request back, approved or not. Raises `Unknown`, `Refused` without a reason or once it is over."""
    destructions.end(tx, request_id, Event.WITHDRAW, by=act.by, reason=_reason(reason), now=act.now)
    act.record(tx, "destruction:withdraw", f"destruction:{request_id}")
    return destructions.request(tx, request_id)


def expire(tx: Transaction, act: Act) -> list[int]:
    """End the requests that nobody approved, or carried out, in time."""
    over = [each.id for each in destructions.standing(tx) if act.now >= each.expires_utc]
    for request_id in over:
        destructions.end(tx, request_id, Event.EXPIRE, by=act.by, reason="", now=act.now)
        act.record(tx, "destruction:expire", f"destruction:{request_id}")
    return over


def end_after_restore(tx: Transaction, act: Act) -> list[int]:
    """End whatever stands, on a box that has just become an earlier one again.

    Its memory ends with the backup: a request may have been withdrawn since, or a study held. Two people look again.
    """
    standing = [each.id for each in destructions.standing(tx)]
    for request_id in standing:
        destructions.end(tx, request_id, Event.EXPIRE, by=act.by, reason="", now=act.now)
        act.record(tx, "destruction:expire", f"destruction:{request_id}", {"reason": "restored"})
    return standing


# --- what changed since ----------------------------------------------------------------------------------------------


def changed_since(reading: Reading, request: DestructionRequest, now: datetime) -> list[Changed]:
    """The studies standing in a request that are no longer what was asked for."""
    standing = [each for each in request.decisions if each.state is ItemState.STANDING]
    found = retention.decided(reading, [each.study_id for each in standing], now)
    return [
        Changed(each, because)
        for each in standing
        if (because := _because(each, found.get(each.study_id))) is not None
    ]


def look_again(tx: Transaction, act: Act, request: DestructionRequest) -> list[Changed]:
    """Leave out what has changed. Raises `Refused` while the clock is in doubt: then nothing can be told."""
    changed = changed_since(tx, request, act.now)
    if any(each.because is Because.CLOCK for each in changed):
        raise Refused(
            "nothing is due while the clock of the box is in doubt",
            hint="compare it with another clock, and say on the page of retention that it is right",
        )
    for each in changed:
        leave_out(tx, act, request.id, each.study.study_id, each.because)
    return changed


def leave_out(tx: Transaction, act: Act, request_id: int, study_id: int, because: Because) -> None:
    """Take a study out of a request, which ends if none is left. Raises `Refused` if it doesn't stand in it."""
    if not destructions.leave_out(tx, request_id, study_id, because=because, now=act.now):
        raise Refused("this study does not stand in the request", hint="look at the request again")
    found = destructions.request(tx, request_id)
    uid = next(each.study_instance_uid for each in found.decisions if each.study_id == study_id)
    details = {"request": request_id, "reason": str(because)}
    act.record(tx, "destruction:leave-out", f"study:{study_id}", details, study=uid)
    if not found.study_ids:
        done = any(each.state is ItemState.CARRIED_OUT for each in found.decisions)
        event = Event.FINISH if done else Event.EMPTY
        destructions.end(tx, request_id, event, by=act.by, reason="", now=act.now)
        if event is Event.EMPTY:
            act.record(tx, "destruction:withdraw", f"destruction:{request_id}")


def refuse_if_changed(tx: Reading, request_id: int, study_id: int, now: datetime) -> DueStudy:
    """The study as it was asked for, if an approved request still holds it and nothing has changed since.

    For whoever destroys, in the transaction that destroys. Raises `Refused` otherwise, with the reason.
    """
    memory.refuse(tx)
    request = destructions.request(tx, request_id)
    if request.state is not State.APPROVED or study_id not in request.study_ids:
        raise Refused("this study stands in no approved request", hint="look at the request again")
    if now >= request.expires_utc:
        raise Refused("this request is over its time", hint="ask again, for what is due now")
    holds.refuse_if_held(tx, [study_id])
    found = retention.decided(tx, [study_id], now)
    due = next(each for each in request.decisions if each.study_id == study_id)
    if (because := _because(due, found.get(study_id))) is not None:
        raise Refused(
            f"study {study_id} is no longer what was asked for ({because})",
            hint="leave it out of the request",
        )
    return due


def _because(asked: DueStudy, found: Decided | None) -> Because | None:
    if found is None:
        return Because.GONE
    match found.decision.status:
        case Status.HELD:
            return Because.HELD
        case Status.CLOCK:
            return Because.CLOCK
        case Status.DUE:
            return None if found.digest == asked.digest else Because.CHANGED
        case _:
            return Because.NOT_DUE


def _reason(typed: str) -> str:
    reason = " ".join(typed.split())
    if not LEAST_CHARACTERS <= len(reason) <= MOST_CHARACTERS:
        raise Refused(
            "a request to destroy has a reason", hint="say in a few words why, such as a yearly review"
        )
    return reason
