"""Studies as people look for them.

Chose one index that holds all that a search looks at (date, time, modalities, folded text) in the order of the answer:
SQLite walks it from the latest study backwards and stops when the page is full. On 100,000 studies a common name takes
2 to 5 ms, a name that is not there 15 to 25, and 40 to 70 when nothing is in memory yet (two busy cores). Rejected: a
trigram index (FTS5) answers in 1 to 2 ms, but costs every new study 90 µs, as much as recording an instance, and cannot
find words of two letters; it is the next step if a clinic outgrows this one. Rejected: looking through the table
itself, 1 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, literal, select, tuple_, update

from appliance.catalog import settings
from appliance.catalog.arrival import next_change
from appliance.catalog.database import Transaction
from appliance.catalog.folding import folded_words
from appliance.catalog.schema import counters, patients, series, studies
from appliance.errors import Refused
from appliance.model import Uid

_HIDDEN = "hidden-studies"

LONGEST_SEARCH = 256
"""Characters of a search: more than any name, and fewer words than SQLite takes."""


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study as recorded. `id` is for addresses; `change` grows with every change of any study."""

    id: int
    study_instance_uid: Uid
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    birth_date: str
    sex: str
    study_date: str
    study_time: str
    accession_number: str
    description: str
    referring_physician_name: str
    modalities: tuple[str, ...]
    instances: int
    bytes: int
    duplicates: int
    patient_conflict: bool
    first_received_utc: datetime
    last_received_utc: datetime
    change: int


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A series of a study as recorded; text is as its first instance had it."""

    id: int
    series_instance_uid: Uid
    modality: str
    series_number: str
    description: str
    body_part_examined: str
    laterality: str
    manufacturer: str
    manufacturer_model_name: str
    station_name: str


def find(
    reading: Connection,
    text: str = "",
    *,
    modality: str = "",
    date_from: str = "",
    date_to: str = "",
    limit: int = 100,
    offset: int = 0,
    among: Select[int] | None = None,
    after: StudyRow | None = None,
) -> list[StudyRow]:
    """Studies that match, the latest first; by study date, then time, then arrival.

    Every word of `text` must occur in the patient's name or ID, the accession number or the description, without
    regard to case and accents. `modality` must be among those of the study; dates are DA, both ends included;
    `among`, if given, yields the row ids to look at; `after` is the last study of the page before.
    Raises `Refused` for a text of more than `LONGEST_SEARCH` characters.
    """
    if len(text) > LONGEST_SEARCH:  # SQLite takes no expression of a thousand words
        raise Refused(
            f"a search has at most {LONGEST_SEARCH} characters", hint="a name or a number is enough"
        )
    latest_first = (studies.c.study_date.desc(), studies.c.study_time.desc(), studies.c.id.desc())
    # Folded words are letters and digits, so they hold no wildcard.
    chosen = select(studies.c.id).where(
        *(studies.c.search_folded.like(f"%{word}%") for word in dict.fromkeys(folded_words(text)))
    )
    if left_out := hidden(reading):
        chosen = chosen.where(studies.c.id.not_in(left_out))
    if modality:
        chosen = chosen.where(_holds_modality(modality))
    if date_from:
        chosen = chosen.where(studies.c.study_date >= date_from)
    if date_to:
        chosen = chosen.where(studies.c.study_date <= date_to)
    if among is not None:
        chosen = chosen.where(studies.c.id.in_(among))
    if after is not None:
        place = tuple_(studies.c.study_date, studies.c.study_time, studies.c.id)
        chosen = chosen.where(place < (after.study_date, after.study_time, after.id))
    chosen = chosen.order_by(*latest_first).limit(limit).offset(offset)
    return _rows(reading, _select().where(studies.c.id.in_(chosen)).order_by(*latest_first))


def study(reading: Connection, study_instance_uid: Uid) -> StudyRow | None:
    """One study by its UID."""
    found = _rows(reading, _BY_UID, {"study_uid": study_instance_uid})
    return found[0] if found else None


def study_by_id(reading: Connection, study_id: int) -> StudyRow | None:
    """One study by its row id."""
    found = _rows(reading, _BY_ID, {"study_id": study_id})
    return found[0] if found else None


def of_same_patient(reading: Connection, study_id: int) -> list[StudyRow]:
    """All studies of the patient of one study, the latest first."""
    whose = select(studies.c.patient).where(studies.c.id == study_id).scalar_subquery()
    return _rows(reading, _select().where(studies.c.patient == whose).order_by(studies.c.id.desc()))


def first_received(reading: Connection) -> datetime | None:
    """When the first study that is kept began to arrive; None if nothing is kept."""
    row = reading.execute(select(studies.c.first_received_utc).order_by(studies.c.id).limit(1)).first()
    return None if row is None else row[0]


def series_of_study(reading: Connection, study_instance_uid: Uid) -> list[SeriesRow]:
    """The series of a study in the order they came."""
    query = (
        select(*(series.c[name] for name in SeriesRow.__slots__))
        .select_from(series.join(studies))
        .where(studies.c.study_instance_uid == study_instance_uid)
        .order_by(series.c.id)
    )
    return [SeriesRow(*row) for row in reading.execute(query)]


def changes_since(reading: Connection, change: int, *, limit: int = 1000) -> list[StudyRow]:
    """Studies that changed after `change`, the oldest change first."""
    query = _select().where(studies.c.change > change).order_by(studies.c.change, studies.c.id).limit(limit)
    return _rows(reading, query)


def latest_change(reading: Connection) -> int:
    """The number of the latest change of any study; cheap enough to ask several times a second."""
    row = reading.execute(select(counters.c.value).where(counters.c.name == "study_change")).first()
    return 0 if row is None else int(row[0])


def hidden(reading: Connection) -> frozenset[int]:
    """The row ids of studies that `find` leaves out: the test study, once nobody wants to see it any more."""
    return frozenset(settings.get(reading, _HIDDEN, []))


def set_hidden(tx: Transaction, study_id: int, *, hidden: bool, now: datetime) -> None:
    """Leave a study out of what `find` gives, or not any more. It can still be opened by its address."""
    kept = set(settings.get(tx, _HIDDEN, []))
    settings.put(tx, _HIDDEN, sorted(kept | {study_id} if hidden else kept - {study_id}), now)
    touch(tx, [study_id])


def touch(tx: Transaction, study_ids: Iterable[int]) -> None:
    """Let `changes_since` report these studies, because something of theirs changed that lies in another table."""
    change = next_change(tx)
    for study_id in sorted(set(study_ids)):
        tx.execute(update(studies).where(studies.c.id == study_id).values(change=change))


def _holds_modality(modality: str) -> ColumnElement[bool]:
    return (literal("\\") + studies.c.modalities + "\\").contains(f"\\{modality}\\", autoescape=True)


def _select() -> Select[Any]:
    return select(
        studies.c.id,
        studies.c.study_instance_uid,
        patients.c.patient_id,
        patients.c.issuer,
        patients.c.name,
        patients.c.birth_date,
        patients.c.sex,
        studies.c.study_date,
        studies.c.study_time,
        studies.c.accession_number,
        studies.c.description,
        studies.c.referring_physician_name,
        studies.c.modalities,
        studies.c.instances,
        studies.c.bytes,
        studies.c.duplicates,
        studies.c.patient_conflict,
        studies.c.first_received_utc,
        studies.c.last_received_utc,
        studies.c.change,
    ).select_from(studies.join(patients))


# Asked for every page of a study: to build them costs more than to answer them.
_BY_UID = _select().where(studies.c.study_instance_uid == bindparam("study_uid"))
_BY_ID = _select().where(studies.c.id == bindparam("study_id"))


def _rows(
    reading: Connection, query: Select[Any], parameters: Mapping[str, object] | None = None
) -> list[StudyRow]:
    found = []
    for row in reading.execute(query, parameters):
        values = list(row)
        values[_MODALITIES] = tuple(each for each in values[_MODALITIES].split("\\") if each)
        found.append(StudyRow(*values))
    return found


_MODALITIES = StudyRow.__slots__.index("modalities")
