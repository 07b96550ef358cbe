"""Where the instances of one batch belong: their patients, studies and series, found or made.

Everything is looked up once per batch and kept in memory; what the batch adds to a study is
written once, at the end. Private
to `appliance.catalog.instances`, which says what the rules are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import bindparam, insert, select, update

from appliance.catalog.columns import utc_text
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
    has_new_text: bool = False
    instances: int = 0
    bytes: int = 0
    duplicates: int = 0
    series: dict[Uid, int] = field(default_factory=dict)
    other_patients: dict[Identity, int] = field(default_factory=dict)


_FIND_STUDY = compiled(
    select(
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
    .where(studies.c.study_instance_uid == bindparam("uid")),
    "uid",
)
_ADD_STUDY = compiled(
    insert(studies),
    "study_instance_uid",
    "patient",
    "study_date",
    "study_time",
    "accession_number",
    "description",
    "referring_physician_name",
    "search_folded",
    "first_received_utc",
    "last_received_utc",
    "change",
)
_FILL_STUDY = compiled(
    update(studies)
    .where(studies.c.id == bindparam("study"))
    .values(
        study_date=bindparam("date"),
        study_time=bindparam("time"),
        accession_number=bindparam("accession"),
        description=bindparam("text"),
        referring_physician_name=bindparam("physician"),
        search_folded=bindparam("search"),
    ),
    "date",
    "time",
    "accession",
    "text",
    "physician",
    "search",
    "study",
)
_COUNT_IN_STUDY = compiled(
    update(studies)
    .where(studies.c.id == bindparam("study"))
    .values(
        modalities=bindparam("all_modalities"),
        instances=studies.c.instances + bindparam("more"),
        bytes=studies.c.bytes + bindparam("more_bytes"),
        duplicates=studies.c.duplicates + bindparam("more_duplicates"),
        patient_conflict=bindparam("conflict"),
        last_received_utc=bindparam("at"),
        change=bindparam("number"),
    ),
    "all_modalities",
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
_ADD_PATIENT = compiled(insert(patients), "patient_id", "issuer", "name", "name_folded", "birth_date", "sex")
_FIND_SERIES = compiled(
    select(series.c.id).where(
        series.c.study == bindparam("of_study"), series.c.series_instance_uid == bindparam("uid")
    ),
    "of_study",
    "uid",
)
_ADD_SERIES = compiled(
    insert(series),
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
_NEXT_CHANGE = """
    INSERT INTO counters (name, value) VALUES ('study_change', 1)
    ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value
"""


def next_change(tx: Transaction) -> int:
    """The number of the next change of any study: higher than all before it, those of removed studies included."""
    return int(tx.exec_driver_sql(_NEXT_CHANGE).scalar_one())


class Arrivals:
    """The places of one batch, inside one transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._change = next_change(tx)
        self._studies: dict[Uid, _Study] = {}

    def place(self, received: Received, version: int) -> Place:
        """Find or make where `received` belongs, and count it there."""
        header = received.header
        at = utc_text(received.received_utc)
        study = self._studies.get(header.study_instance_uid)
        if study is None:
            study = self._find(header) or self._add(header, at)
            self._studies[header.study_instance_uid] = study
        other_patient = None
        identity = _identity(header)
        if identity != study.identity and _contradict(identity, study.identity):
            other_patient = study.other_patients.get(identity)
            if other_patient is None:
                other_patient = study.other_patients[identity] = self._patient(header)
            study.patient_conflict = True
        series_id = study.series.get(header.series_instance_uid)
        if series_id is None:
            series_id = study.series[header.series_instance_uid] = self._series(study.id, header)
        if "" in study.texts:
            self._fill(study, header)
        if header.modality:
            study.modalities.add(header.modality)
        study.instances += 1
        study.bytes += received.stored.size_bytes
        study.duplicates += version > 0
        study.last_received = max(study.last_received, at)
        return Place(series_id, study.id, other_patient)

    def write_totals(self) -> None:
        """Write what the batch adds to each of its studies."""
        filled = [
            (*study.texts, _search_text(study.identity, study.texts), study.id)
            for study in self._studies.values()
            if study.has_new_text
        ]
        if filled:
            self._tx.exec_driver_sql(_FILL_STUDY, filled)
        self._tx.exec_driver_sql(
            _COUNT_IN_STUDY,
            [
                (
                    "\\".join(sorted(study.modalities)),
                    study.instances,
                    study.bytes,
                    study.duplicates,
                    study.patient_conflict,
                    study.last_received,
                    self._change,
                    study.id,
                )
                for study in self._studies.values()
            ],
        )

    def _find(self, header: Header) -> _Study | None:
        row = self._tx.exec_driver_sql(_FIND_STUDY, (header.study_instance_uid,)).first()
        if row is None:
            return None
        return _Study(
            id=row[0],
            modalities=set(row[1].split("\\")) - {""},
            last_received=row[2],
            patient_conflict=bool(row[3]),
            identity=(row[4], row[5], row[6], row[7]),
            texts=list(row[8:13]),
        )

    def _add(self, header: Header, at: str) -> _Study:
        identity = _identity(header)
        texts = [getattr(header, name) for name in _TEXTS]
        number = self._insert(
            _ADD_STUDY,
            header.study_instance_uid,
            self._patient(header),
            *texts,
            _search_text(identity, texts),
            at,
            at,
            self._change,
        )
        return _Study(number, identity, texts, set(), at, patient_conflict=False)

    def _patient(self, header: Header) -> int:
        folded = fold(header.patient_name)
        found = self._tx.exec_driver_sql(
            _FIND_PATIENT,
            (header.patient_id, header.issuer_of_patient_id, folded, header.patient_birth_date),
        ).first()
        if found is not None:
            return int(found[0])
        return self._insert(
            _ADD_PATIENT,
            header.patient_id,
            header.issuer_of_patient_id,
            header.patient_name,
            folded,
            header.patient_birth_date,
            header.patient_sex,
        )

    def _series(self, study_id: int, header: Header) -> int:
        found = self._tx.exec_driver_sql(_FIND_SERIES, (study_id, header.series_instance_uid)).first()
        if found is not None:
            return int(found[0])
        return self._insert(
            _ADD_SERIES,
            study_id,
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

    def _insert(self, statement: str, *values: str | int) -> int:
        """Insert one row; its id."""
        return int(self._tx.exec_driver_sql(statement, values).lastrowid)

    def _fill(self, study: _Study, header: Header) -> None:
        for place, name in enumerate(_TEXTS):
            if not study.texts[place] and (text := getattr(header, name)):
                study.texts[place] = text
                study.has_new_text = True


def _identity(header: Header) -> Identity:
    return header.patient_id, header.issuer_of_patient_id, header.patient_name, header.patient_birth_date


def _contradict(one: Identity, other: Identity) -> bool:
    """Whether both give something and differ in it; names are compared folded."""
    return any(
        a and b and a != b and (place != 2 or fold(a) != fold(b))
        for place, (a, b) in enumerate(zip(one, other, strict=True))
    )


def _search_text(identity: Identity, texts: list[str]) -> str:
    """What `appliance.catalog.studies.find` looks through: name, patient ID, accession number, description."""
    return fold(" ".join((identity[2], identity[0], texts[2], texts[3])))
