"""Until when each study is kept, as it was last worked out, and the facts to work it out from. The only writer.

Chosen: a row for each study with the day and the rule that decides, read by an index in the order of the days. Because a
page of the 100,000 studies of a clinic must cost a page, and what moves a day (an image, a visit, a rule) is rare.
Rejected: working everything out when somebody asks (seconds), and a day written down on arrival, inside the transaction
that every image waits for. The rows may lag behind by a minute: they make lists, never decisions. Whoever asks for a
destruction, approves it or carries it out works the facts out anew (`facts_of`).

*The same patient* is asked as widely as for a hold (`appliance.catalog.holds`): a visit under another spelling of the
name counts too, because it can only lengthen. So does a birth date: of all that are given under one number the latest
counts, since the same ID with another one is another row, and one that was typed wrong must not make a child's images due.
A row that gives none says nothing against the others.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, func, or_, select, tuple_
from sqlalchemy.dialects.sqlite import insert

from appliance.catalog import destructions, holds, visits
from appliance.catalog.columns import utc_moment
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.lifecycle_tables import retention_dates as dates
from appliance.catalog.schema import studies
from appliance.lifecycle.policy import FOR_EVER, Entry, Facts, Told, day_of, entry_of, record_types
from appliance.model import Uid


@dataclass(frozen=True, slots=True)
class KnownStudy:
    """A study with the facts that its retention depends on."""

    id: int
    study_instance_uid: Uid
    facts: Facts


@dataclass(frozen=True, slots=True)
class Kept:
    """A line of the list: until when a study is kept, and by which rule."""

    study_id: int
    keep_until: date
    rule: str


@dataclass(frozen=True, slots=True)
class Tally:
    """How many studies there are no reason to keep on a day, and how many of them something else keeps.

    `held` by a hold, `asked` because their destruction has been asked for; `by_rule` counts all by the rule that decided.
    """

    studies: int
    held: int
    asked: int
    by_rule: Mapping[str, int]

    @property
    def free(self) -> int:
        """How many could be asked for."""
        return self.studies - self.held - self.asked


# --- facts -----------------------------------------------------------------------------------------------------------

_STUDIES = """
SELECT s.id, s.study_instance_uid, s.study_date, s.modalities, s.first_received_utc, s.last_received_utc,
       p.id, p.patient_id, p.issuer, p.birth_date
FROM studies AS s JOIN patients AS p ON p.id = s.patient
WHERE s.id IN (SELECT value FROM json_each(?))
"""
_OTHERS = """
SELECT DISTINCT e.study, p.id, p.patient_id, p.issuer, p.birth_date
FROM instances AS i JOIN series AS e ON e.id = i.series JOIN patients AS p ON p.id = i.other_patient
WHERE i.other_patient IS NOT NULL
"""
"""Whom images name besides the patient of their study: few in any clinic, so all are read, by their own index."""
_VISITS = """
SELECT p.id, p.patient_id, p.issuer, s.id, s.study_date, s.last_received_utc, p.birth_date
FROM patients AS p JOIN studies AS s ON s.patient = p.id
WHERE p.id IN (SELECT value FROM json_each(?1))
   OR (p.patient_id <> '' AND p.patient_id IN (SELECT value FROM json_each(?2)))
"""


@dataclass(frozen=True, slots=True)
class _Person:
    row: int
    patient_id: str
    issuer: str

    @property
    def number(self) -> int | str:
        """What whoever may be the same person has in common: the patient ID, or where there is none, the row."""
        return self.patient_id or self.row

    def may_be_of(self, issuer: str) -> bool:
        """Whether somebody of the same number, as `issuer` gave it, may be this person."""
        return self.issuer == issuer or not self.issuer or not issuer


def facts_of(reading: Reading, study_ids: Iterable[int], practice: str) -> dict[int, KnownStudy]:
    """The facts of those of `study_ids` that are here; `practice` is what the clinic practises."""
    rows = _studies(reading, study_ids)
    if not rows:
        return {}
    named: dict[int, list[tuple[_Person, str]]] = {
        row[0]: [(_Person(row[6], row[7], row[8]), row[9])] for row in rows
    }
    others = _others(reading)
    for other in others:
        if other[0] in named:
            named[other[0]].append((_Person(other[1], other[2], other[3]), other[4]))
    known = _known(reading, [person for each in named.values() for person, _ in each], others)
    held = holds.held_among(reading, [row[0] for row in rows])
    found: dict[int, KnownStudy] = {}
    for row in rows:
        latest: Entry | None = None
        births = [birth_date for _, birth_date in named[row[0]]]
        for person, _ in named[row[0]]:
            same = [each for issuer, each in known[person.number].items() if person.may_be_of(issuer)]
            for each in same:
                latest = _later(each.visit, latest)
            born = max(each.born for each in same)
            births += [f"{born.year:04}{born:%m%d}"] if born > date.min else []
        found[row[0]] = KnownStudy(
            id=row[0],
            study_instance_uid=Uid(row[1]),
            facts=Facts(
                record_types=record_types(practice, row[3].split("\\")),
                study_date=row[2],
                first_received_utc=utc_moment(row[4]),
                last_received_utc=utc_moment(row[5]),
                birth_dates=tuple(dict.fromkeys(births)),
                latest=latest,
                holds=(held[row[0]].id,) if row[0] in held else (),
            ),
        )
    return found


def of_same_patients(reading: Reading, study_ids: Iterable[int]) -> set[int]:
    """`study_ids`, and every study whose retention they may have moved: of the same patients."""
    wanted = set(study_ids)
    rows = _studies(reading, wanted)
    others = _others(reading)
    persons = [_Person(row[6], row[7], row[8]) for row in rows]
    persons += [_Person(row[1], row[2], row[3]) for row in others if row[0] in wanted]
    joined = {person.row for person in persons}, {person.patient_id for person in persons} - {""}
    named_too = {row[0] for row in others if row[1] in joined[0] or row[2] in joined[1]}
    return wanted | {row[3] for row in _rows_of(reading, persons)} | named_too


def _studies(reading: Reading, study_ids: Iterable[int]) -> Sequence[Any]:
    return reading.exec_driver_sql(_STUDIES, (json.dumps(sorted(set(study_ids))),)).all()


def _others(reading: Reading) -> Sequence[Any]:
    return reading.exec_driver_sql(_OTHERS).all()


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known under one number by one issuer: the latest visit, and the latest birth date; `date.min` where none is given.

    Not each of them: thousands of studies may bear one number, where a machine fills one in.
    """

    visit: Entry
    born: date


def _known(
    reading: Reading, persons: Sequence[_Person], others: Sequence[Any]
) -> Mapping[int | str, Mapping[str, _Known]]:
    """By number, and by who gave it."""
    latest: dict[int | str, dict[str, Entry]] = defaultdict(dict)
    births: dict[tuple[int | str, str], set[str]] = defaultdict(set)

    def add(person: _Person, visit: Entry) -> None:
        by_issuer = latest[person.number]
        by_issuer[person.issuer] = _later(visit, by_issuer.get(person.issuer))

    for row in _rows_of(reading, persons):
        person = _Person(row[0], row[1], row[2])
        add(person, entry_of(row[4], utc_moment(row[5]), row[3]))
        births[person.number, person.issuer].add(row[6])
    for row in visits.counting(reading, *_asked(persons)):
        add(_Person(row[0], row[1], row[2]), Entry(date.fromisoformat(row[3]), Told.SEEN))
    # An image of hers under a study of his is a visit of hers.
    under = {row[0] for row in others}
    made = {row[0]: (row[2], row[5]) for row in _studies(reading, under)}
    for other in others:
        person, (study_date, received) = _Person(other[1], other[2], other[3]), made[other[0]]
        add(person, entry_of(study_date, utc_moment(received), other[0]))
        births[person.number, person.issuer].add(other[4])
    return {
        number: {
            issuer: _Known(
                visit, max((day_of(each) or date.min for each in births[number, issuer]), default=date.min)
            )
            for issuer, visit in by_issuer.items()
        }
        for number, by_issuer in latest.items()
    }


def _later(one: Entry, other: Entry | None) -> Entry:
    return one if other is None or one.day > other.day else other


def _rows_of(reading: Reading, persons: Sequence[_Person]) -> Sequence[Any]:
    return reading.exec_driver_sql(_VISITS, _asked(persons)).all()


def _asked(persons: Sequence[_Person]) -> tuple[str, str]:
    """Their rows and their numbers, as JSON for a query."""
    rows, numbers = {person.row for person in persons}, {person.patient_id for person in persons} - {""}
    return json.dumps(sorted(rows)), json.dumps(sorted(numbers))


# --- rows ------------------------------------------------------------------------------------------------------------


_HERE = "SELECT id FROM studies WHERE id IN (SELECT value FROM json_each(?))"


def write(tx: Transaction, kept: Iterable[Kept]) -> None:
    """Write down what was worked out, of the studies that are still here."""
    wanted = {each.study_id: each for each in kept}
    here = set(tx.exec_driver_sql(_HERE, (json.dumps(sorted(wanted)),)).scalars())
    rows = [
        {"study": each.study_id, "keep_until": each.keep_until.isoformat(), "rule": each.rule}
        for each in wanted.values()
        if each.study_id in here
    ]
    if not rows:
        return
    statement = insert(dates)
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=["study"],
            set_={"keep_until": statement.excluded.keep_until, "rule": statement.excluded.rule},
            where=or_(
                dates.c.keep_until != statement.excluded.keep_until, dates.c.rule != statement.excluded.rule
            ),
        ),
        rows,
    )


def kept(reading: Reading, study_id: int) -> Kept | None:
    """What was last worked out for a study."""
    row = reading.execute(select(dates).where(dates.c.study == study_id)).one_or_none()
    return None if row is None else _kept(row)


def due(
    reading: Reading,
    on: date,
    *,
    limit: int | None = None,
    after: Kept | None = None,
    free_only: bool = False,
) -> list[Kept]:
    """Studies that no rule keeps on the day `on`, the longest due first; `after` is the last line of the page before.

    `free_only` leaves out what is held or asked for.
    """
    query = select(dates).where(_before(on)).order_by(dates.c.keep_until, dates.c.study).limit(limit)
    if after is not None:
        place = (after.keep_until.isoformat(), after.study_id)
        query = query.where(tuple_(dates.c.keep_until, dates.c.study) > place)
    if free_only:
        query = query.where(
            dates.c.study.not_in(holds.held_studies()), dates.c.study.not_in(destructions.asked_for())
        )
    return [_kept(row) for row in reading.execute(query)]


def kept_back(reading: Reading, study_ids: Iterable[int]) -> tuple[frozenset[int], frozenset[int]]:
    """Which of `study_ids` a hold falls on, and for which destruction has been asked already."""
    wanted = sorted(set(study_ids))

    def among(chosen: Any) -> frozenset[int]:
        query = select(studies.c.id).where(studies.c.id.in_(wanted), studies.c.id.in_(chosen))
        return frozenset(int(each) for each in reading.execute(query).scalars())

    return among(holds.held_studies()), among(destructions.asked_for())


def tally(reading: Reading, on: date) -> Tally:
    """Counts for the day `on`."""
    by_rule = reading.execute(
        select(dates.c.rule, func.count()).where(_before(on)).group_by(dates.c.rule).order_by(dates.c.rule)
    )
    counts = {str(rule): int(number) for rule, number in by_rule}

    def among(chosen: Any) -> int:
        query = select(func.count()).where(_before(on), dates.c.study.in_(chosen))
        return int(reading.execute(query).scalar_one())

    held = among(holds.held_studies())
    asked_only = select(func.count()).where(
        _before(on),
        dates.c.study.in_(destructions.asked_for()),
        dates.c.study.not_in(holds.held_studies()),
    )
    asked = int(reading.execute(asked_only).scalar_one())
    return Tally(sum(counts.values()), held, asked, counts)


def without_rule(reading: Reading) -> int:
    """How many studies are kept for ever because no rule is known for them."""
    query = select(func.count()).where(dates.c.keep_until == FOR_EVER.isoformat())
    return int(reading.execute(query).scalar_one())


def ids_after(reading: Reading, study_id: int, limit: int) -> list[int]:
    """The next studies by row id."""
    query = select(studies.c.id).where(studies.c.id > study_id).order_by(studies.c.id).limit(limit)
    return [int(each) for each in reading.execute(query).scalars()]


def changed_after(reading: Reading, change: int, limit: int) -> tuple[list[int], int]:
    """The next studies that changed, some `limit` of them, and the number up to which that are all.

    A batch of arrivals shares one number, so the last number is read to its end.
    """
    number = (
        select(studies.c.change)
        .where(studies.c.change > change)
        .order_by(studies.c.change)
        .offset(limit - 1)
        .limit(1)
    )
    last = reading.execute(number).scalar()
    query = select(studies.c.id, studies.c.change).where(studies.c.change > change)
    if last is not None:
        query = query.where(studies.c.change <= last)
    rows = reading.execute(query).all()
    return [int(row[0]) for row in rows], max((int(row[1]) for row in rows), default=change)


def newest_receipt(reading: Reading) -> datetime | None:
    """The latest moment that anything received bears, whatever was received last; by an index, since writers ask too."""
    return reading.execute(select(func.max(studies.c.last_received_utc))).scalar()


def _before(on: date) -> ColumnElement[bool]:
    return dates.c.keep_until < on.isoformat()  # never of what is kept for ever: there is no later day


def _kept(row: Row[Any]) -> Kept:
    return Kept(row.study, date.fromisoformat(row.keep_until), row.rule)
