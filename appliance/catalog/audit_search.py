"""Looking things up in the audit: rows by who, what, where, which study, how it ended and when, and counts of them.

Chose pages by the last row id that was shown, because rows are only ever added at the end: the next page is found as
fast as the first, and nothing moves between two of them. Each word and each study that is asked for is walked in its
own index, the newest first, and the walks are merged; a period becomes a range of row ids first. A million rows answer
in milliseconds; only a search for something that is rare within something frequent looks at more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from typing import Any

from sqlalchemy import Connection

from appliance.catalog.audit_log import COLUMNS, AuditRow
from appliance.catalog.columns import utc_moment, utc_text

_SELECT = f"SELECT {', '.join(COLUMNS)} FROM audit"  # noqa: S608 - constants
_PIECE = 1000
LISTS = ("study:list", "study:search", "retention:list", "retention:export", "hold:list", "destruction:view")
"""Words of rows that stand for a whole list: their details name the row ids of its studies as ``studies``."""
_LISTED = (
    " AND EXISTS (SELECT 1 FROM json_each(iif(json_valid(details), details, '{{}}'), '$.studies') AS each"
    " WHERE each.value IN ({places}))"
)
_MOST_WALKS = 400
"""Words times studies walked one by one; beyond, the studies are walked and the words looked at."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for; an empty field takes everything. `studies` None is any, () is none at all.

    `listed` are the row ids of the same studies: lists in which one of them was seen then count too.
    """

    actor: str = ""
    actions: tuple[str, ...] = ()
    studies: tuple[str, ...] | None = None
    listed: tuple[int, ...] = ()
    address: str = ""
    outcome: str = ""
    since_utc: datetime | None = None
    until_utc: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows have these in common."""

    action: str
    outcome: str
    actor: str
    actor_kind: str
    count: int


def find(reading: Connection, wanted: Wanted, *, limit: int, before: int | None = None) -> list[AuditRow]:
    """The newest `limit` rows that are wanted, the newest first; those with an id below `before` when it is given."""
    bounds = _bounds(reading, wanted, before)
    if bounds is None:
        return []
    ids: set[int] = set()
    for condition, values in _walks(wanted):
        query = f"SELECT id FROM audit WHERE id BETWEEN ? AND ?{condition} ORDER BY id DESC LIMIT ?"  # noqa: S608
        ids.update(row[0] for row in reading.exec_driver_sql(query, (*bounds, *values, limit)))
    return _rows(reading, sorted(ids, reverse=True)[:limit])


def count(reading: Connection, action: str, study_instance_uid: str) -> int:
    """How many rows say that `action` was done to a study."""
    query = "SELECT count(*) FROM audit WHERE study <> '' AND study = ? AND action = ? AND outcome = 'done'"
    return int(reading.exec_driver_sql(query, (study_instance_uid, action)).scalar_one())


def details(reading: Connection, action: str, name: str) -> set[str]:
    """What the details of every row that says that `action` was done name as `name`."""
    query = (
        "SELECT DISTINCT json_extract(iif(json_valid(details), details, '{}'), ?) FROM audit"
        " WHERE action = ? AND outcome = 'done'"
    )
    rows = reading.exec_driver_sql(query, (f"$.{name}", action))
    return {str(row[0]) for row in rows if row[0] is not None}


def oldest_first(reading: Connection, wanted: Wanted) -> Iterator[AuditRow]:
    """Every row that is wanted, the oldest first; a thousand in memory at a time."""
    bounds = _bounds(reading, wanted, None)
    if bounds is None:
        return
    low, high = bounds
    walks = list(_walks(wanted))
    while True:
        ids: set[int] = set()
        for condition, values in walks:
            query = f"SELECT id FROM audit WHERE id BETWEEN ? AND ?{condition} ORDER BY id LIMIT ?"  # noqa: S608
            ids.update(row[0] for row in reading.exec_driver_sql(query, (low, high, *values, _PIECE)))
        piece = sorted(ids)[:_PIECE]
        if not piece:
            return
        yield from reversed(_rows(reading, piece[::-1]))
        low = piece[-1] + 1


def tallies(reading: Connection, wanted: Wanted) -> list[Tally]:
    """How many rows are wanted, by word, outcome and actor."""
    condition, values = _condition(wanted)
    query = (
        "SELECT action, outcome, actor, actor_kind, count(*) FROM audit WHERE 1"  # noqa: S608 - constants
        f"{condition} GROUP BY action, outcome, actor, actor_kind ORDER BY action, outcome, actor"
    )
    return [Tally(*row) for row in reading.exec_driver_sql(query, values)]


def recipients(reading: Connection, wanted: Wanted) -> list[tuple[str, str, int]]:
    """To whom what was sent: the word, what its details name as ``to``, and how often."""
    condition, values = _condition(wanted)
    query = (
        "SELECT action, coalesce(json_extract(details, '$.to'), ''), count(*) FROM audit WHERE 1"  # noqa: S608
        f"{condition} GROUP BY 1, 2 ORDER BY 3 DESC"
    )
    return [
        (str(action), str(to), int(count)) for action, to, count in reading.exec_driver_sql(query, values)
    ]


def since(reading: Connection, actions: Sequence[str], after: int, *, limit: int) -> list[AuditRow]:
    """Rows after row `after` with one of `actions`, the oldest first."""
    query = f"{_SELECT} WHERE id > ? AND action IN ({_places(actions)}) ORDER BY id LIMIT ?"
    return [AuditRow(*row) for row in reading.exec_driver_sql(query, (after, *actions, limit))]


def newest_about(reading: Connection, actions: Sequence[str], subject: str) -> AuditRow | None:
    """The newest row that says that one of `actions` was done to a subject."""
    marks = ", ".join("?" for _ in actions)
    query = f"{_SELECT} WHERE action IN ({marks}) AND subject = ? ORDER BY id DESC LIMIT 1"
    row = reading.exec_driver_sql(query, (*actions, subject)).first()
    return None if row is None else AuditRow(*row)


def about_person(
    reading: Connection, login: str, actions: Sequence[str], *, since_utc: datetime, limit: int
) -> list[AuditRow]:
    """The newest rows with one of `actions` that a person of that login did, or that concern the account."""
    bounds = _bounds(reading, Wanted(since_utc=since_utc), None)
    if bounds is None:
        return []
    query = (
        f"{_SELECT} WHERE id BETWEEN ? AND ? AND action IN ({_places(actions)})"
        " AND (+actor = ? OR subject IN (?, ?)) ORDER BY id DESC LIMIT ?"
    )
    values = (*bounds, *actions, login, login, f"user:{login}", limit)
    return [AuditRow(*row) for row in reading.exec_driver_sql(query, values)]


def sign_ins(
    reading: Connection, login: str, *, before: int, since_utc: datetime | None = None, limit: int
) -> list[tuple[datetime, str]]:
    """When and from which address a person of that login signed in before row `before`, the newest first."""
    query = (
        "SELECT at_utc, address FROM audit WHERE action = 'user:login' AND +actor = ? AND id < ? AND +at_utc >= ?"
        " ORDER BY id DESC LIMIT ?"
    )
    values = (login, before, utc_text(since_utc) if since_utc is not None else "", limit)
    return [(utc_moment(at), str(address)) for at, address in reading.exec_driver_sql(query, values)]


def actors(reading: Connection) -> list[str]:
    """Everybody who ever acted, found by jumping through the index from one to the next."""
    found: list[str] = []
    last: str | None = ""
    while True:
        query = "SELECT min(actor) FROM audit WHERE actor > ?"
        last = reading.exec_driver_sql(query, (last,)).scalar_one()
        if last is None or len(found) > 2000:
            return found
        found.append(str(last))


def _bounds(reading: Connection, wanted: Wanted, before: int | None) -> tuple[int, int] | None:
    """The range of row ids in which everything wanted is; None if nothing is."""
    low, high = 0, (1 << 62) if before is None else before - 1
    if wanted.since_utc is not None or wanted.until_utc is not None:
        condition, values = _period(wanted)
        query = f"SELECT min(id), max(id) FROM audit WHERE 1{condition}"  # noqa: S608 - constants
        first, last = reading.exec_driver_sql(query, values).one()
        if first is None:
            return None
        low, high = first, min(high, last)
    return (low, high) if low <= high else None


def _walks(wanted: Wanted) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """One condition for each index to walk."""
    if wanted.studies is not None and wanted.listed:
        for word in LISTS:
            if not wanted.actions or word in wanted.actions:
                condition, values = _condition(replace(wanted, studies=None), actions=(word,))
                yield condition + _listed(wanted), (*values, *wanted.listed)
    studies: Sequence[str | None] = (None,) if wanted.studies is None else wanted.studies
    actions: Sequence[str | None] = wanted.actions or (None,)
    if len(studies) * len(actions) > _MOST_WALKS:
        for study in studies:
            yield _condition(wanted, study=study, actions=wanted.actions)
        return
    for study, action in product(studies, actions):
        yield _condition(wanted, study=study, actions=() if action is None else (action,))


def _condition(
    wanted: Wanted, *, study: str | None = None, actions: tuple[str, ...] | None = None
) -> tuple[str, tuple[Any, ...]]:
    """What follows WHERE, with its values; `study` and `actions` stand for those of `wanted`."""
    condition, values = _period(wanted)
    words = wanted.actions if actions is None else actions
    studies = (study,) if study is not None else wanted.studies if actions is None else None
    if studies is not None:
        own = f"study <> '' AND study IN ({_places(studies)})"
        values += tuple(studies)
        if study is None and wanted.listed:
            condition += f" AND (({own}) OR (action IN ({_places(LISTS)}){_listed(wanted)}))"
            values += (*LISTS, *wanted.listed)
        else:
            condition += f" AND {own}"
    if words:
        condition += f" AND action IN ({_places(words)})"
        values += tuple(words)
    if wanted.actor:
        condition += " AND actor = ?"
        values += (wanted.actor,)
    if wanted.address:
        condition += " AND address <> '' AND address = ?"
        values += (wanted.address,)
    if wanted.outcome:
        condition += " AND outcome = ?" + (" AND outcome <> 'done'" if wanted.outcome != "done" else "")
        values += (wanted.outcome,)
    return condition, values


def _listed(wanted: Wanted) -> str:
    return _LISTED.format(places=_places(wanted.listed))


def _period(wanted: Wanted) -> tuple[str, tuple[Any, ...]]:
    condition, values = "", ()
    for operator, moment in ((">=", wanted.since_utc), ("<", wanted.until_utc)):
        if moment is not None:
            condition += f" AND at_utc {operator} ?"
            values += (utc_text(moment),)  # type: ignore[assignment]  # grows
    return condition, values


def _places(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _rows(reading: Connection, ids: Sequence[int]) -> list[AuditRow]:
    """The rows of these ids, the newest first."""
    found: list[AuditRow] = []
    for start in range(0, len(ids), 500):
        piece = tuple(ids[start : start + 500])
        query = f"{_SELECT} WHERE id IN ({_places(piece)}) ORDER BY id DESC"
        found += [AuditRow(*row) for row in reading.exec_driver_sql(query, piece)]
    return found
