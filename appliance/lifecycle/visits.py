"""Entering when a patient was last seen, because the law counts from the last entry in the record and images are only a part of it.

Chosen: a day that a person types, for a patient of whom an image is here. Because: the record itself is in another system, and a clinic that wants
no link to it can still say what it knows. Who decides about a destruction is told that the box knows no more than images and these days.
"""

from __future__ import annotations

from datetime import UTC, date

from appliance.catalog import Reading, Transaction, visits
from appliance.catalog import studies as study_rows
from appliance.catalog.known_clock import known_clock
from appliance.catalog.visits import Visit
from appliance.errors import Refused, Unknown
from appliance.lifecycle import memory
from appliance.lifecycle.acting import Act

LEAST_CHARACTERS, MOST_CHARACTERS = 3, 200
FIRST = date(1900, 1, 1)


def enter(tx: Transaction, act: Act, *, study: int, day: date) -> Visit:
    """Enter that the patient of a study was seen on `day`. Raises `Unknown`, `Refused` for a day to come or one that is entered."""
    today = known_clock(tx).reckoned(act.now).astimezone(UTC).date()
    if day > today:
        raise Refused("a visit to come can't be entered", hint="enter it once the patient was seen")
    if day < FIRST:
        raise Refused("that is not a day of a visit", hint="write it as year-month-day, such as 2026-03-01")
    if any(each.counts and each.day == day for each in visits.of_study(tx, study)):
        raise Refused("this visit was entered already", hint="nothing needs to be changed")
    entered = visits.add(tx, study=study, day=day, by=act.by, now=act.now)
    _record(tx, act, "visit:add", entered, study)
    return entered


def withdraw(tx: Transaction, act: Act, visit_id: int, *, reason: str) -> Visit:
    """Take an entry back that was wrong. Raises `Unknown`, `Refused` without a reason or for one that was taken back."""
    found, reason = visits.visit(tx, visit_id), " ".join(reason.split())
    if not LEAST_CHARACTERS <= len(reason) <= MOST_CHARACTERS:
        raise Refused("a visit is withdrawn with a reason", hint="say in a few words what was wrong")
    if not visits.withdraw(tx, visit_id, by=act.by, reason=reason, now=act.now):
        raise Refused("this visit was withdrawn already", hint="look at the page of the study again")
    of_patient = visits.studies_of(tx, visit_id)
    _record(tx, act, "visit:withdraw", found, of_patient[0] if of_patient else None)
    return visits.visit(tx, visit_id)


def a_study_of(reading: Reading, patient_id: str, issuer: str | None) -> int:
    """The latest study under a patient ID. Raises `Unknown` without one, `Refused` if several issuers gave that number."""
    found = visits.studies_of_number(reading, patient_id, issuer)
    if not found:
        raise Unknown("nothing of that patient is here", hint="look for it with 'appliance studies'")
    if len({each for _, each in found}) > 1:
        raise Refused("several have given that number", hint="say whose it is with --issuer")
    return found[0][0]


def _record(tx: Transaction, act: Act, word: str, of: Visit, study: int | None) -> None:
    study_rows.touch(tx, visits.studies_of(tx, of.id))  # until when each is kept is worked out again
    row = None if study is None else study_rows.study_by_id(tx, study)
    details = {"patient": of.patient}
    memory.decided(tx, act.now)
    act.record(tx, word, f"visit:{of.id}", details, study="" if row is None else row.study_instance_uid)
