"""Studies, their series and instances. Every list that shows patients leaves an audit row, and so does each study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from appliance.catalog import Reading, sight
from appliance.catalog.sight import InstanceRow, StudyRow
from appliance.identity.permissions import Permission
from appliance.web import access, forms
from appliance.web.api.operation import operation
from appliance.web.api.shape import After, Limit, Next, Row, Shape
from appliance.web.console import console

Day = Annotated[
    str, Shape("A day as DICOM writes it.", example="20260301", longest=8, pattern=r"^([0-9]{8})?$")
]


@dataclass(frozen=True, slots=True)
class Study:
    """A study; dates, times and names as in DICOM (DA, TM, PN)."""

    id: Row
    study_instance_uid: Annotated[str, Shape("The UID of the study.", example="1.2.840.113619.2.1")]
    patient_id: str
    patient_name: Annotated[str, Shape("As received, with carets.", example="Tremblay^Marie")]
    birth_date: str
    sex: str
    study_date: str
    study_time: str
    accession_number: str
    description: str
    referring_physician_name: str
    modalities: tuple[str, ...]
    instances: int
    bytes: Annotated[int, Shape("Of the files inside.")]
    duplicates: Annotated[int, Shape("Instances kept beside another of the same identity.")]
    patient_conflict: Annotated[bool, Shape("An instance names another patient than the study does.")]
    first_received_utc: Annotated[
        datetime | None, Shape("Null for those who may not know whose study it is.")
    ]
    last_received_utc: datetime | None


@dataclass(frozen=True, slots=True)
class Studies:
    """A page of studies, the latest first."""

    items: tuple[Study, ...]
    next: Next


@dataclass(frozen=True, slots=True)
class StudiesQuery:
    """Which page."""

    limit: Limit = 100
    after: After = None


@dataclass(frozen=True, slots=True)
class StudySearch:
    """What to search for. Every word of `text` must occur in name, ID, accession number or description."""

    text: Annotated[str, Shape("Without regard to case and accents.", example="cote helene", longest=200)] = (
        ""
    )
    modality: Annotated[str, Shape("One of the study's.", example="PX", longest=16)] = ""
    date_from: Day = ""
    date_to: Day = ""
    limit: Limit = 100
    after: After = None


@dataclass(frozen=True, slots=True)
class Series:
    """A series of a study, of what may be seen of it."""

    series_instance_uid: str
    modality: str
    series_number: str
    description: str
    laterality: str
    instances: int


@dataclass(frozen=True, slots=True)
class SeriesList:
    """The series of a study, in the order in which they came."""

    items: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance: usually one image."""

    id: Row
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str
    instance_number: str
    rows: int
    columns: int
    number_of_frames: int
    size_bytes: int
    sealed_bytes: int
    intake: Annotated[str, Shape("By which door it came: dicom, upload or import.")]
    received_utc: datetime | None
    version: Annotated[int, Shape("0 the first; more for other bytes under the same identity.")]
    patient_conflict: bool


@dataclass(frozen=True, slots=True)
class Instances:
    """The instances of a study, series by series."""

    items: tuple[Instance, ...]


@operation("GET", "/studies", Permission.VIEW_STUDIES, gives=Studies, asks=StudiesQuery, refuses=(404,))
def list_studies(query: StudiesQuery) -> Studies:
    """List the studies that one may see, the latest first."""
    return _page(StudySearch(limit=query.limit, after=query.after), "study:list")


@operation(
    "POST", "/studies/search", Permission.VIEW_STUDIES, gives=Studies, takes=StudySearch, refuses=(404,)
)
def search_studies(body: StudySearch) -> Studies:
    """Search studies. By POST, because what is searched for may be a name, and addresses are kept in logs."""
    return _page(body, "study:search")


@operation("GET", "/studies/{study_id}", Permission.VIEW_STUDIES, gives=Study)
def get_study(study_id: int) -> Study:
    """Get one study."""
    with console().box.catalog.reading() as conn:
        row = _known(conn, study_id)
    _opened(row)
    return _study(row)


@operation("GET", "/studies/{study_id}/series", Permission.VIEW_STUDIES, gives=SeriesList)
def list_series(study_id: int) -> SeriesList:
    """List the series of a study."""
    with console().box.catalog.reading() as conn:
        row = _known(conn, study_id)
        found = sight.instances_of(conn, access.sight(), study_id)
    _opened(row)
    series: dict[str, list[InstanceRow]] = {}
    for each in found:
        series.setdefault(each.series_instance_uid, []).append(each)
    return SeriesList(tuple(_series(uid, rows) for uid, rows in series.items()))


@operation("GET", "/studies/{study_id}/instances", Permission.VIEW_STUDIES, gives=Instances)
def list_instances(study_id: int) -> Instances:
    """List the instances of a study."""
    with console().box.catalog.reading() as conn:
        row = _known(conn, study_id)
        found = sight.instances_of(conn, access.sight(), study_id)
    _opened(row)
    return Instances(tuple(_instance(each) for each in found))


OPERATIONS = (list_studies, search_studies, get_study, list_series, list_instances)


def _known(conn: Reading, study_id: int) -> StudyRow:
    """A study that whoever asks may see. One that may not be seen is not there."""
    row = sight.study(conn, access.sight(), study_id)
    if row is None:
        raise access.not_there("study", study_id)
    return row


def _page(search: StudySearch, action: str) -> Studies:
    """What may be seen of what is searched for. Every page leaves a row, as programs look through nothing twice."""
    with console().box.catalog.reading() as conn:
        if search.after is not None:
            _known(conn, search.after)
        rows = sight.find(
            conn,
            access.sight(),
            search.text,
            modality=search.modality,
            date_from=search.date_from,
            date_to=search.date_to,
            limit=search.limit + 1,
            after=search.after,
        )
    shown = rows[: search.limit]
    with console().box.catalog.transaction() as tx:
        details = {"rows": len(shown), "studies": [row.id for row in shown]}
        console().record(tx, action, "api", forms.actor(), details)
    return Studies(tuple(_study(row) for row in shown), shown[-1].id if len(rows) > search.limit else None)


def _opened(row: StudyRow) -> None:
    with console().box.catalog.transaction() as tx:
        uid = row.study_instance_uid or sight.uid_for_audit(tx, row.id)
        console().record(tx, "study:view", f"study:{row.id}", forms.actor(), study=uid)


def _study(row: StudyRow) -> Study:
    values = {name: getattr(row, name) for name in Study.__slots__}
    values |= _when(row.first_received_utc, "first_received_utc")
    return Study(**values | _when(row.last_received_utc, "last_received_utc"))


def _series(uid: str, rows: Sequence[InstanceRow]) -> Series:
    first = rows[0]
    return Series(
        series_instance_uid=uid,
        modality=first.modality,
        series_number=first.series_number,
        description=first.series_description,
        laterality=first.laterality,
        instances=len(rows),
    )


def _instance(row: InstanceRow) -> Instance:
    return Instance(
        **{name: getattr(row, name) for name in Instance.__slots__} | _when(row.received_utc, "received_utc")
    )


def _when(moment: datetime, name: str) -> dict[str, datetime | None]:
    """When something came, for those who may know whose it is: with the hour, a study could be told."""
    return {name: moment if access.sight().identified else None}
