"""Who ordered that studies are kept, whatever the rules say: legal holds and requests for access. The only writer.

A hold is on one study, or on a patient with all that is here and all that is yet to come. Whose a study is, is asked
widely, because a hold that misses is worse than one that catches too much: the patient row itself, every row of the same
patient ID (unless both name an issuer and they differ), and everybody else whom an image of the study names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    union,
    update,
)
from sqlalchemy.sql.expression import literal_column

from appliance.catalog.database import Reading, Transaction
from appliance.catalog.lifecycle_tables import holds
from appliance.catalog.schema import instances, patients, series, studies
from appliance.errors import Unknown


class HoldKind(StrEnum):
    """Why something is held."""

    LEGAL = "legal"  # a claim, an inquiry, an order
    ACCESS = "access"  # somebody asked to see, correct or carry away what is kept (P-39.1 s.27)


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold. `study` is None for one on the whole patient; `released_utc` is None while it is in force.

    `placed_by` and `released_by` are logins, or a command line. The reasons may name people: they never leave the box.
    """

    id: int
    kind: HoldKind
    study: int | None
    patient: int
    reason: str
    placed_by: str
    placed_utc: datetime
    released_by: str
    released_utc: datetime | None
    release_reason: str

    @property
    def is_in_force(self) -> bool:
        """Whether it holds."""
        return self.released_utc is None


_FIELDS = (
    "id", "kind", "study", "patient", "reason",
    "placed_by", "placed_utc", "released_by", "released_utc", "release_reason",
)  # fmt: skip
_IN_FORCE: ColumnElement[bool] = literal_column("holds.released_utc IS NULL")

_SAME_ISSUER = or_(patients.c.issuer == holds.c.issuer, patients.c.issuer == "", holds.c.issuer == "")


def add(
    tx: Transaction, *, kind: HoldKind, study: int, whole_patient: bool, reason: str, by: str, now: datetime
) -> Hold:
    """Hold a study, or with `whole_patient` its patient. Raises `Unknown`."""
    row = tx.execute(
        select(patients.c.id, patients.c.patient_id, patients.c.issuer)
        .join(studies, studies.c.patient == patients.c.id)
        .where(studies.c.id == study)
    ).one_or_none()
    if row is None:
        raise Unknown("there is no such study", hint="go back to the studies")
    done = tx.execute(
        insert(holds).values(
            kind=kind,
            study=None if whole_patient else study,
            patient=row[0],
            patient_id=row[1],
            issuer=row[2],
            reason=reason,
            placed_by=by,
            placed_utc=now,
        )
    )
    assert done.inserted_primary_key is not None
    return hold(tx, int(done.inserted_primary_key[0]))


def release(tx: Transaction, hold_id: int, *, by: str, reason: str, now: datetime) -> bool:
    """End a hold. False if it was ended before, or never was."""
    done = tx.execute(
        update(holds)
        .where(holds.c.id == hold_id, holds.c.released_utc.is_(None))
        .values(released_by=by, released_utc=now, release_reason=reason)
    )
    return done.rowcount == 1


def forget_patient(tx: Transaction, patient: int) -> None:
    """Blank what released holds say of a patient (row id) of whom nothing is kept any more; that they were there stays."""
    tx.execute(
        update(holds)
        .where(holds.c.patient == patient, holds.c.released_utc.is_not(None))
        .values(patient_id="", issuer="", reason="", release_reason="")
    )


def hold(reading: Reading, hold_id: int) -> Hold:
    """One hold. Raises `Unknown`."""
    row = reading.execute(_select().where(holds.c.id == hold_id)).one_or_none()
    if row is None:
        raise Unknown("there is no such hold", hint="look at the list of holds")
    return _hold(row)


def listed(reading: Reading, *, released: bool = False, limit: int = 1000) -> list[Hold]:
    """The holds in force, or with `released` all that ever were; those in force first, then the latest."""
    query = _select().order_by(holds.c.released_utc.is_not(None), holds.c.id.desc()).limit(limit)
    if not released:
        query = query.where(_IN_FORCE)
    return [_hold(row) for row in reading.execute(query)]


def of_study(reading: Reading, study: int) -> list[Hold]:
    """Every hold that falls on a study or fell on it, the latest first."""
    return [_hold(row) for row in reading.execute(_OF_STUDY, {"asked": study})]


def a_study_of(reading: Reading, patient: int) -> int | None:
    """A study of a patient, to say by whose it is; None if none is left."""
    query = select(studies.c.id).where(studies.c.patient == patient).order_by(studies.c.id.desc()).limit(1)
    found = reading.execute(query).scalar()
    return None if found is None else int(found)


def studies_named(reading: Reading, found: Iterable[Hold]) -> list[int]:
    """A study of each patient whom `found` are about, as the audit of a list of holds names them; none that is gone."""
    numbers = (each.study if each.study is not None else a_study_of(reading, each.patient) for each in found)
    return sorted({number for number in numbers if number is not None})


def held_studies() -> CompoundSelect[int]:
    """The query for the row ids of all studies that a hold in force falls on."""
    # Two queries and not one with OR, so that both find their rows by an index.
    held = union(
        select(holds.c.patient).where(_IN_FORCE, holds.c.study.is_(None)),
        select(patients.c.id)
        .join(holds, patients.c.patient_id == holds.c.patient_id)
        .where(_IN_FORCE, holds.c.study.is_(None), holds.c.patient_id != "", _SAME_ISSUER),
    )
    return union(
        select(holds.c.study).where(_IN_FORCE, holds.c.study.is_not(None)),
        select(studies.c.id).where(studies.c.patient.in_(held)),
        select(series.c.study)
        .join(instances, instances.c.series == series.c.id)
        .where(instances.c.other_patient.in_(held)),
    )


def held_among(reading: Reading, study_ids: Iterable[int]) -> Mapping[int, Hold]:
    """Those of `study_ids` on which a hold in force falls, each with the latest that does."""
    asked = set(study_ids)
    if not asked:
        return {}
    chosen = reading.execute(_HELD_AMONG, {"asked": json.dumps(sorted(asked))}).scalars()
    found: dict[int, Hold] = {}
    for study in sorted(int(each) for each in chosen):
        found[study] = next(each for each in of_study(reading, study) if each.is_in_force)
    return found


def _persons_of(study: ColumnElement[int]) -> CompoundSelect[int]:
    """The patients whom a study names: its own, and those of images that contradict it."""
    return union(
        select(studies.c.patient).where(studies.c.id == study),
        select(instances.c.other_patient)
        .join(series, series.c.id == instances.c.series)
        .where(series.c.study == study, instances.c.other_patient.is_not(None)),
    )


def _names_one_of(persons: CompoundSelect[int]) -> ColumnElement[bool]:
    same = or_(
        patients.c.id == holds.c.patient,
        and_(holds.c.patient_id != "", patients.c.patient_id == holds.c.patient_id, _SAME_ISSUER),
    )
    return select(patients.c.id).where(patients.c.id.in_(persons), same).correlate(holds).exists()


def _select() -> Select[Any]:
    return select(*(holds.c[name] for name in _FIELDS))


# Asked for every study that may leave, be asked for or be destroyed: to build them costs more than to answer them.
_ASKED: ColumnElement[int] = bindparam("asked", type_=Integer)
_OF_STUDY = (
    _select()
    .where(
        or_(holds.c.study == _ASKED, and_(holds.c.study.is_(None), _names_one_of(_persons_of(_ASKED)))),
    )
    .order_by(holds.c.released_utc.is_not(None), holds.c.id.desc())
)
_HELD_AMONG = select(studies.c.id).where(
    studies.c.id.in_(select(func.json_each(bindparam("asked", type_=Text)).table_valued("value").c.value)),
    studies.c.id.in_(held_studies()),
)


def _hold(row: Any) -> Hold:
    values = dict(zip(_FIELDS, row, strict=True))
    return Hold(**(values | {"kind": HoldKind(values["kind"])}))
