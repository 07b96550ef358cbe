"""Where the instances of one batch belong: their patients, studies and series, found or made.

Everything is looked up once per batch and kept in memory; what the batch adds to a study is
written once, at the end. Private
to `appliance.catalog.instances`, which says what the rules are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import bindparam, func, insert, select, update

from appliance.catalog import counters
from appliance.catalog.columns import canonical_json
from appliance.catalog.database import Transaction
from appliance.catalog.folding import fold
from appliance.catalog.schema import patients, series, studies
from appliance.catalog.statement import compiled
from appliance.model import Header, Received, Uid

Identity = tuple[str, str, str, str]
"""Patient ID, issuer, name and birth date, as received."""

_TEXTS = ("study_date", "study_time", "accession_number", "study_description", "referring_physician_name")
"""Attributes of a study that a later instance may fill if the first left them out."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance belongs. `other_patient` is the row of whom it names if not the patient of its study."""

    series_id: int
    study_id: int
    other_patient: int | None


@dataclass(slots=True)
class _Study:
    """One study during a batch: as recorded before, and what the batch adds."""

    id: int
    identity: Identity
    texts: list[str]
    modalities: set[str]
    last_received: str
    patient_conflict: bool
    is_new: bool = False
    is_described_anew: bool = False
    instances: int = 0
    bytes: int = 0
    duplicates: int = 0
    series: dict[Uid, int] = field(default_factory=dict)


_UIDS = select(func.json_each(bindparam("uids")).table_valued("value").c.value)
_FIND_STUDIES = compiled(
    select(
        studies.c.study_instance_uid,
        studies.c.id,
        studies.c.modalities,
        studies.c.last_received_utc,
        studies.c.patient_conflict,
        patients.c.patient_id,
        patients.c.issuer,
        patients.c.name,
        patients.c.birth_date,
        studies.c.study_date,
        studies.c.study_time,
        studies.c.accession_number,
        studies.c.description,
        studies.c.referring_physician_name,
    )
    .select_from(studies.join(patients))
    .where(studies.c.study_instance_uid.in_(_UIDS)),
    "uids",
)
_ADD_STUDY = compiled(
    insert(studies),
    "id",
    "study_instance_uid",
    "patient",
    "study_date",
    "study_time",
    "accession_number",
    "description",
    "referring_physician_name",
    "modalities",
    "search_folded",
    "first_received_utc",
    "last_received_utc",
    "change",
)
_DESCRIBE_STUDY = compiled(
    update(studies)
    .where(studies.c.id == bindparam("study"))
    .values(
        study_date=bindparam("date"),
        study_time=bindparam("time"),
        accession_number=bindparam("accession"),
        description=bindparam("text"),
        referring_physician_name=bindparam("physician"),
        modalities=bindparam("all_modalities"),
        search_folded=bindparam("search"),
    ),
    "date",
    "time",
    "accession",
    "text",
    "physician",
    "all_modalities",
    "search",
    "study",
)
_COUNT_IN_STUDY = compiled(
    update(studies)
    .where(studies.c.id == bindparam("study"))
    .values(
        instances=studies.c.instances + bindparam("more"),
        bytes=studies.c.bytes + bindparam("more_bytes"),
        duplicates=studies.c.duplicates + bindparam("more_duplicates"),
        patient_conflict=bindparam("conflict"),
        last_received_utc=bindparam("at"),
        change=bindparam("number"),
    ),
    "more",
    "more_bytes",
    "more_duplicates",
    "conflict",
    "at",
    "number",
    "study",
)
_FIND_PATIENT = compiled(
    select(patients.c.id).where(
        patients.c.patient_id == bindparam("patient"),
        patients.c.issuer == bindparam("by"),
        patients.c.name_folded == bindparam("folded"),
        patients.c.birth_date == bindparam("born"),
    ),
    "patient",
    "by",
    "folded",
    "born",
)
_ADD_PATIENT = compiled(
    insert(patients), "id", "patient_id", "issuer", "name", "name_folded", "birth_date", "sex"
)
_FIND_SERIES = compiled(
    select(series.c.id).where(
        series.c.study == bindparam("of_study"), series.c.series_instance_uid == bindparam("uid")
    ),
    "of_study",
    "uid",
)
_ADD_SERIES = compiled(
    insert(series),
    "id",
    "study",
    "series_instance_uid",
    "modality",
    "series_number",
    "description",
    "body_part_examined",
    "laterality",
    "manufacturer",
    "manufacturer_model_name",
    "station_name",
)


def next_change(tx: Transaction) -> int:
    """The number of the next change of any study: higher than all before it, those of removed studies included."""
    return counters.add(tx, counters.STUDY_CHANGE)


def next_ids(tx: Transaction) -> dict[str, int]:
    """The next row id of each table whose ids are never used twice; safe to take because writers take turns."""
    ids = dict.fromkeys(("patients", "studies", "series", "instances"), 1)
    ids.update((name, last + 1) for name, last in tx.exec_driver_sql("SELECT name, seq FROM sqlite_sequence"))
    return ids


class Arrivals:
    """The places of one batch, inside one transaction. Nothing is written before `write`."""

    def __init__(self, tx: Transaction, study_instance_uids: Iterable[Uid], ids: dict[str, int]) -> None:
        self._tx = tx
        self._ids = ids
        self._studies: dict[Uid, _Study] = {}
        self._patients: dict[Identity, int] = {}
        self._new_patients: list[tuple[str | int, ...]] = []
        self._new_studies: list[tuple[str | int, ...]] = []
        self._new_series: list[tuple[str | int, ...]] = []
        self._change = next_change(tx)
        for row in tx.exec_driver_sql(_FIND_STUDIES, (canonical_json(sorted(set(study_instance_uids))),)):
            self._studies[row[0]] = _Study(
                id=row[1],
                modalities=set(row[2].split("\\")) - {""},
                last_received=row[3],
                patient_conflict=bool(row[4]),
                identity=(row[5], row[6], row[7], row[8]),
                texts=list(row[9:14]),
            )

    def place(self, received: Received, version: int, at: str) -> Place:
        """Where `received`, received `at`, belongs, be it old or new; it is counted there."""
        header = received.header
        study = self._studies.get(header.study_instance_uid)
        if study is None:
            study = self._studies[header.study_instance_uid] = self._add_study(
                received.of_study or header, at
            )
        other_patient = None
        identity = _identity(header)
        if identity != study.identity and _contradict(identity, study.identity):
            other_patient = self._patient(header)
            study.patient_conflict = True
        series_id = study.series.get(header.series_instance_uid)
        if series_id is None:
            series_id = study.series[header.series_instance_uid] = self._series(study, header)
        if "" in study.texts:
            _fill(study, header)
        if header.modality and header.modality not in study.modalities:
            study.modalities.add(header.modality)
            study.is_described_anew = True
        study.instances += 1
        study.bytes += received.stored.size_bytes
        study.duplicates += version > 0
        study.last_received = max(study.last_received, at)
        return Place(series_id, study.id, other_patient)

    def write(self) -> None:
        """Write what is new, and what the batch adds to each of its studies."""
        for statement, rows in (
            (_ADD_PATIENT, self._new_patients),
            (_ADD_STUDY, self._new_studies),
            (_ADD_SERIES, self._new_series),
            # Apart from the counting, which would rewrite the search index each time:
            (
                _DESCRIBE_STUDY,
                [_described(each) for each in self._studies.values() if each.is_described_anew],
            ),
            (_COUNT_IN_STUDY, [self._counted(each) for each in self._studies.values()]),
        ):
            if rows:
                self._tx.exec_driver_sql(statement, rows)
        touched = self._studies.values()
        for name, more in (
            (counters.STUDIES, len(self._new_studies)),
            (counters.INSTANCES, sum(each.instances for each in touched)),
            (counters.BYTES, sum(each.bytes for each in touched)),
            (counters.DUPLICATES, sum(each.duplicates for each in touched)),
        ):
            if more:
                counters.add(self._tx, name, more)

    def _counted(self, study: _Study) -> tuple[str | int, ...]:
        return (
            study.instances,
            study.bytes,
            study.duplicates,
            study.patient_conflict,
            study.last_received,
            self._change,
            study.id,
        )

    def _add_study(self, header: Header, at: str) -> _Study:
        identity = _identity(header)
        texts = [getattr(header, name) for name in _TEXTS]
        number = self._take("studies")
        self._new_studies.append(
            (
                number,
                header.study_instance_uid,
                self._patient(header),
                *texts,
                header.modality,
                _search_text(identity, texts),
                at,
                at,
                self._change,
            )
        )
        return _Study(
            number, identity, texts, {header.modality} - {""}, at, patient_conflict=False, is_new=True
        )

    def _patient(self, header: Header) -> int:
        folded = fold(header.patient_name)
        key = (header.patient_id, header.issuer_of_patient_id, folded, header.patient_birth_date)
        if (known := self._patients.get(key)) is not None:
            return known
        found = self._tx.exec_driver_sql(_FIND_PATIENT, key).first()
        number = self._patients[key] = self._take("patients") if found is None else int(found[0])
        if found is None:
            self._new_patients.append(
                (number, *key[:2], header.patient_name, *key[2:], header.patient_sex),
            )
        return number

    def _series(self, study: _Study, header: Header) -> int:
        if not study.is_new:
            key = (study.id, header.series_instance_uid)
            if (found := self._tx.exec_driver_sql(_FIND_SERIES, key).first()) is not None:
                return int(found[0])
        number = self._take("series")
        self._new_series.append(
            (
                number,
                study.id,
                header.series_instance_uid,
                header.modality,
                header.series_number,
                header.series_description,
                header.body_part_examined,
                header.laterality,
                header.manufacturer,
                header.manufacturer_model_name,
                header.station_name,
            )
        )
        return number

    def _take(self, table: str) -> int:
        number = self._ids[table]
        self._ids[table] = number + 1
        return number


def _described(study: _Study) -> tuple[str | int, ...]:
    modalities = "\\".join(sorted(study.modalities))
    return (*study.texts, modalities, _search_text(study.identity, study.texts), study.id)


def _fill(study: _Study, header: Header) -> None:
    for place, name in enumerate(_TEXTS):
        if not study.texts[place] and (text := getattr(header, name)):
            study.texts[place] = text
            study.is_described_anew = True


def _identity(header: Header) -> Identity:
    return header.patient_id, header.issuer_of_patient_id, header.patient_name, header.patient_birth_date


def _contradict(new: Identity, kept: Identity) -> bool:
    """Whether an instance names somebody else than its study does; names are compared folded.

    What an instance leaves out says nothing. But an ID or a name that the study has none of does: if the first image of a
    study leaves them out, two people could follow it, and neither would contradict it.
    """
    return any(
        a and (a != b if b else place in _NAMING) and (place != 2 or fold(a) != fold(b))
        for place, (a, b) in enumerate(zip(new, kept, strict=True))
    )


_NAMING = (0, 2)
"""Of an `Identity`: the ID, and the name."""


def _search_text(identity: Identity, texts: list[str]) -> str:
    """What `appliance.catalog.studies.find` looks through: name, patient ID, accession number, description."""
    return fold(" ".join((identity[2], identity[0], texts[2], texts[3])))
