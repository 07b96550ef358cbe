"""What one person may see of the studies: every query of the console goes through here. Writes nothing.

Chosen: the console cannot import `catalog.studies` and `catalog.instances` at all (an import contract says so), only
this module, whose every function asks *who looks*. A study that was not granted isn't there: the same answer, from the
same query, as for one that never was. Rejected: checks in each view, of which one is forgotten.

A series or an instance whose study names somebody else's patient keeps its own wording (`instances`): that mark is
patient data too, and goes with the rest behind the `Veil`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import dropwhile, islice

from sqlalchemy import ColumnElement, Select, func, select

from appliance.catalog import grants, instances, notices, overview, studies
from appliance.catalog.database import Reading
from appliance.catalog.folding import folded_words
from appliance.catalog.instances import InstanceRow
from appliance.catalog.overview import Pulse, Tally
from appliance.catalog.schema import instances as instances_table
from appliance.catalog.schema import series as series_table
from appliance.catalog.schema import studies as studies_table
from appliance.catalog.studies import StudyRow
from appliance.catalog.veil import Veil, is_clear
from appliance.model import InstanceId, Takes, Uid

__all__ = [
    "InstanceRow",
    "Pulse",
    "Sight",
    "StudyRow",
    "Tally",
    "find",
    "hidden",
    "instance",
    "instances_of",
    "numbers",
    "of_same_patient",
    "pulse",
    "study",
    "tallies",
    "thumbnails",
    "uid_for_audit",
]

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Sight:
    """Who looks, and how far: at every study or at those granted to the user `person_id`, with names or veiled.

    `at` is the moment, by which grants have ended or not.
    """

    person_id: int
    at: datetime
    all_studies: bool = False
    veil: Veil | None = field(default=None, repr=False)

    @property
    def identified(self) -> bool:
        """Whether whoever looks may know whose studies they are."""
        return self.veil is None


def find(
    conn: Reading,
    sight: Sight,
    text: str = "",
    *,
    modality: str = "",
    date_from: str = "",
    date_to: str = "",
    limit: int = 100,
    offset: int = 0,
    after: int | None = None,
) -> list[StudyRow]:
    """`studies.find` among what may be seen. Behind a veil a text finds pseudonyms only, and dates count by the year.

    `after` is the row id of the last study of the page before.
    """
    if sight.identified:
        return studies.find(
            conn,
            text,
            modality=modality,
            date_from=date_from,
            date_to=date_to,
            limit=limit,
            offset=offset,
            among=_reached(sight),
            after=None if after is None else studies.study_by_id(conn, after),
        )
    words = folded_words(text)

    def matches(row: StudyRow) -> bool:
        name = " ".join(folded_words(row.patient_name))
        return (
            all(word in name for word in words)
            and (not modality or modality in row.modalities)
            and (not date_from or row.study_date >= date_from[:4])
            and (not date_to or row.study_date <= date_to[:4])
        )

    rows = _veiled_all(conn, sight)
    if after is not None:
        rows = islice(dropwhile(lambda row: row.id != after, rows), 1, None)
    return list(islice(filter(matches, rows), offset, offset + limit))


def study(conn: Reading, sight: Sight, study_id: int) -> StudyRow | None:
    """One study, if it may be seen."""
    row = studies.study_by_id(conn, study_id) if _reaches(conn, sight, study_id) else None
    return None if row is None else _veiled(conn, sight, [row])[0]


def of_same_patient(conn: Reading, sight: Sight, study_id: int) -> list[StudyRow]:
    """All studies of the patient of one study; none for who may not see that study, or not whose it is."""
    if not sight.identified or not _reaches(conn, sight, study_id):
        return []
    rows = studies.of_same_patient(conn, study_id)
    reached = set(_reached_among(conn, sight, [row.id for row in rows]))
    return [row for row in rows if row.id in reached]


def numbers(conn: Reading, sight: Sight, study_instance_uids: Sequence[str]) -> dict[str, int]:
    """The row ids of the studies with these UIDs, as far as they are here and may be seen."""
    if not sight.identified:
        return {}
    query = select(studies_table.c.study_instance_uid, studies_table.c.id).where(
        studies_table.c.study_instance_uid.in_(study_instance_uids)
    )
    found = {str(uid): int(number) for uid, number in conn.execute(query)}
    reached = set(_reached_among(conn, sight, list(found.values())))
    return {uid: number for uid, number in found.items() if number in reached}


def instances_of(conn: Reading, sight: Sight, study_id: int) -> list[InstanceRow]:
    """The instances of a study that may be seen, in the order of `instances.instances_of_study`."""
    row = studies.study_by_id(conn, study_id) if _reaches(conn, sight, study_id) else None
    if row is None:
        return []
    return [
        _veiled_instance(sight, each)
        for each in instances.instances_of_study(conn, row.study_instance_uid)
        if _is_shown(sight, each)
    ]


def instance(conn: Reading, sight: Sight, instance_id: InstanceId) -> InstanceRow | None:
    """One instance, if its study and it may be seen."""
    row = instances.instance(conn, instance_id)
    if row is None or not _reaches(conn, sight, row.study_id) or not _is_shown(sight, row):
        return None
    return _veiled_instance(sight, row)


def hidden(conn: Reading, sight: Sight, study_id: int) -> int:
    """How many instances of a study that may be seen are not shown, because their pixels may say whose they are."""
    if sight.identified or not _reaches(conn, sight, study_id):
        return 0
    row = studies.study_by_id(conn, study_id)
    shown = _shown(conn, [study_id]).get(study_id, _Shown())
    return 0 if row is None else row.instances - shown.instances


def thumbnails(conn: Reading, sight: Sight, study_ids: Sequence[int]) -> dict[int, InstanceId]:
    """`overview.thumbnails` of those among `study_ids` that may be seen, of instances that may be."""
    reached = _reached_among(conn, sight, study_ids)
    if sight.identified:
        return overview.thumbnails(conn, reached)
    return {
        study_id: InstanceId(shown.first)
        for study_id, shown in _shown(conn, reached).items()
        if shown.first is not None
    }


def tallies(conn: Reading, sight: Sight, study_ids: Sequence[int]) -> dict[int, dict[Takes, Tally]]:
    """`overview.tallies` of those among `study_ids` that may be seen; behind a veil, none."""
    return overview.tallies(conn, _reached_among(conn, sight, study_ids)) if sight.identified else {}


def pulse(conn: Reading, sight: Sight) -> Pulse:
    """`overview.pulse` for those who see every study; for others, numbers that change with what was granted to them."""
    if sight.all_studies:
        return overview.pulse(conn)
    query = select(func.count(), func.sum(studies_table.c.change)).where(_where(sight))
    return Pulse(
        studies=overview.mark(tuple(conn.execute(query).one())),
        deliveries=0,
        devices=0,
        destinations=0,
        notices=overview.mark(notices.unread(conn, sight.person_id)),
    )


def uid_for_audit(conn: Reading, study_id: int) -> Uid:
    """The UID of a study as the audit names it; empty if there is none. Never for a page."""
    row = studies.study_by_id(conn, study_id)
    return Uid("") if row is None else row.study_instance_uid


# --- what is reached -------------------------------------------------------------------------------------------------


def _reached(sight: Sight) -> Select[int] | None:
    """The row ids of the studies that may be seen; None for all."""
    return None if sight.all_studies else grants.studies_granted(sight.person_id, sight.at)


def _where(sight: Sight) -> ColumnElement[bool]:
    return studies_table.c.id.in_(grants.studies_granted(sight.person_id, sight.at))


def _reaches(conn: Reading, sight: Sight, study_id: int) -> bool:
    return bool(_reached_among(conn, sight, [study_id]))


def _reached_among(conn: Reading, sight: Sight, study_ids: Sequence[int]) -> list[int]:
    if sight.all_studies:
        return list(study_ids)
    granted = set(conn.execute(grants.studies_granted(sight.person_id, sight.at)).scalars())
    return [study_id for study_id in study_ids if study_id in granted]


# --- behind the veil -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Shown:
    """What of a study may be shown."""

    modalities: set[str] = field(default_factory=set)
    instances: int = 0
    size_bytes: int = 0
    first: int | None = None


def _shown(conn: Reading, study_ids: Sequence[int]) -> dict[int, _Shown]:
    """What of each study is clear, read in one statement."""
    kind = (
        series_table.c.study,
        series_table.c.modality,
        instances_table.c.sop_class_uid,
        instances_table.c.burned_in_annotation,
        instances_table.c.rows > 0,
    )
    query = (
        select(
            *kind,
            func.count(),
            func.sum(instances_table.c.size_bytes),
            func.min(instances_table.c.id),
        )
        .join(instances_table, instances_table.c.series == series_table.c.id)
        .where(series_table.c.study.in_(study_ids))
        .group_by(*kind)
    )
    found: dict[int, _Shown] = {}
    for study_id, modality, sop_class_uid, burned_in, has_pixels, count, size_bytes, first in conn.execute(
        query
    ):
        if not is_clear(modality, sop_class_uid, burned_in):
            continue
        shown = found.setdefault(study_id, _Shown())
        shown.modalities.add(modality)
        shown.instances += count
        shown.size_bytes += size_bytes
        if has_pixels:
            shown.first = first if shown.first is None else min(first, shown.first)
    return found


def _veiled(conn: Reading, sight: Sight, rows: list[StudyRow]) -> list[StudyRow]:
    """`rows` as `sight` may see them."""
    if sight.veil is None:
        return rows
    shown = _shown(conn, [row.id for row in rows])
    return [
        sight.veil.study(
            row,
            modalities=sorted(part.modalities),
            instances=part.instances,
            size_bytes=part.size_bytes,
        )
        for row in rows
        for part in (shown.get(row.id, _Shown()),)
    ]


def _veiled_all(conn: Reading, sight: Sight) -> Iterator[StudyRow]:
    """Everything that may be seen, veiled, the latest first; a page in memory at a time."""
    offset = 0
    while rows := studies.find(conn, limit=_PAGE, offset=offset, among=_reached(sight)):
        yield from _veiled(conn, sight, rows)
        offset += _PAGE


def _is_shown(sight: Sight, row: InstanceRow) -> bool:
    return sight.identified or is_clear(row.modality, row.sop_class_uid, row.burned_in_annotation)


def _veiled_instance(sight: Sight, row: InstanceRow) -> InstanceRow:
    return row if sight.veil is None else sight.veil.instance(row)
