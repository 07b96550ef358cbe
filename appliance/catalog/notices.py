"""Notices, and who was told of each: the only writer of both tables.

Every change of a notice takes the next number of ``notices.change``, so that one look at its maximum tells an open page
that its bell may have changed (`change`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, literal_column, or_, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or

from appliance.catalog.database import Reading, Transaction
from appliance.catalog.notice_tables import notice_receipts, notices, outbox
from appliance.catalog.schema import audit, users
from appliance.errors import Unknown


class NoticeState(StrEnum):
    """Whether a notice's trouble stands, is over, or was an event that has no end."""

    STANDING = "STANDING"
    OVER = "OVER"
    EVENT = "EVENT"


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """One notice. `read_utc` is the reader's own, where a reader was named; `acknowledged_name` is who did."""

    id: int
    kind: str
    topic: str
    severity: str
    subject: str
    words: str
    fix: str
    state: str
    raised_utc: datetime
    over_utc: datetime | None
    acknowledged_utc: datetime | None
    acknowledged_name: str
    escalated: int
    escalated_utc: datetime | None
    told: bool = False
    read_utc: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """What a bell shows: how many are unread, the newest notice told, how many await acknowledgement."""

    count: int
    newest: int
    to_acknowledge: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which notices a history shows; empty means all."""

    severity: str = ""
    topic: str = ""
    state: str = ""
    before: int | None = None


_OPEN_CRITICAL = and_(
    literal_column("severity") == literal_column("'critical'"),
    notices.c.acknowledged_utc.is_(None),
    notices.c.state != literal_column("'OVER'"),
)


def change(conn: Reading) -> int:
    """A number that grows with every change of a notice or of who has read it."""
    return int(conn.execute(select(func.max(notices.c.change))).scalar() or 0)


# --- writing ---------------------------------------------------------------------------------------------------------


def add(
    tx: Transaction,
    *,
    kind: str,
    topic: str,
    severity: str,
    subject: str,
    words: str,
    fix: str,
    state: NoticeState,
    now: datetime,
) -> int:
    """Record a notice; its id."""
    values = {
        "kind": kind,
        "topic": topic,
        "severity": severity,
        "subject": subject,
        "words": words,
        "fix": fix,
        "state": state,
        "raised_utc": now,
        "change": change(tx) + 1,
    }
    return int(tx.execute(insert(notices).values(values).returning(notices.c.id)).scalar_one())


def tell(
    tx: Transaction, notice: int, persons: Iterable[int], now: datetime, *, digest: Iterable[int] = ()
) -> None:
    """Put a notice on the bell of `persons`, unread again if it was there; `digest`: those who get it with the day's mail."""
    daily = set(digest)
    for person in sorted(set(persons)):
        values = {"notice": notice, "user": person, "told_utc": now, "digest": person in daily}
        statement = insert_or(notice_receipts).values(values)
        tx.execute(
            statement.on_conflict_do_update(
                index_elements=["notice", "user"], set_={"told_utc": now, "read_utc": None}
            )
        )
    _changed(tx, notice)


def end(tx: Transaction, notice: int, now: datetime) -> None:
    """Its trouble is over."""
    tx.execute(
        update(notices)
        .where(notices.c.id == notice, notices.c.state == NoticeState.STANDING)
        .values(state=NoticeState.OVER, over_utc=now)
    )
    _changed(tx, notice)


def renew(tx: Transaction, notice: int, *, severity: str, words: str, fix: str) -> None:
    """Its trouble stands and may have other words now, such as how many deliveries wait."""
    tx.execute(update(notices).where(notices.c.id == notice).values(severity=severity, words=words, fix=fix))
    _changed(tx, notice)


def read(tx: Transaction, notice: int, person: int, now: datetime) -> None:
    """A person has read it."""
    tx.execute(
        update(notice_receipts)
        .where(
            notice_receipts.c.notice == notice,
            notice_receipts.c.user == person,
            notice_receipts.c.read_utc.is_(None),
        )
        .values(read_utc=now)
    )
    _changed(tx, notice)


def read_all(tx: Transaction, person: int, now: datetime) -> int:
    """A person has read everything. How many that were; what is critical and open stays until it is acknowledged."""
    waiting = select(notices.c.id).where(_OPEN_CRITICAL)
    done = tx.execute(
        update(notice_receipts)
        .where(
            notice_receipts.c.user == person,
            notice_receipts.c.read_utc.is_(None),
            notice_receipts.c.notice.not_in(waiting),
        )
        .values(read_utc=now)
    ).rowcount
    if done:
        newest = tx.execute(
            select(func.max(notice_receipts.c.notice)).where(notice_receipts.c.user == person)
        ).scalar_one()
        _changed(tx, newest)
    return done


def acknowledge(tx: Transaction, notice: int, person: int, now: datetime) -> bool:
    """A person takes a notice in hand: nobody else is called. False if somebody had done so before."""
    done = tx.execute(
        update(notices)
        .where(notices.c.id == notice, notices.c.acknowledged_utc.is_(None))
        .values(acknowledged_utc=now, acknowledged_by=person)
    ).rowcount
    if done:
        tx.execute(
            update(notice_receipts)
            .where(notice_receipts.c.notice == notice, notice_receipts.c.read_utc.is_(None))
            .values(read_utc=now)
        )
        _changed(tx, notice)
    return bool(done)


def escalate(tx: Transaction, notice: int, steps: int, now: datetime) -> None:
    """So many steps of its escalation are done."""
    tx.execute(update(notices).where(notices.c.id == notice).values(escalated=steps, escalated_utc=now))
    _changed(tx, notice)


def into_digest(tx: Transaction, person: int, ids: Sequence[int], now: datetime) -> None:
    """These went into a person's e-mail of the day."""
    tx.execute(
        update(notice_receipts)
        .where(notice_receipts.c.user == person, notice_receipts.c.notice.in_(ids))
        .values(digest_utc=now)
    )


def forget(tx: Transaction, before: datetime) -> int:
    """Forget notices that were over, or happened, before that moment. How many there were."""
    old = select(notices.c.id).where(
        notices.c.raised_utc < before,
        notices.c.state != NoticeState.STANDING,
        ~_OPEN_CRITICAL,
        notices.c.id.not_in(select(outbox.c.notice).where(outbox.c.notice.is_not(None))),
    )
    ids = [row[0] for row in tx.execute(old.limit(500))]
    tx.execute(delete(notice_receipts).where(notice_receipts.c.notice.in_(ids)))
    return tx.execute(delete(notices).where(notices.c.id.in_(ids))).rowcount


def _changed(tx: Transaction, notice: int) -> None:
    tx.execute(update(notices).where(notices.c.id == notice).values(change=change(tx) + 1))


# --- reading ---------------------------------------------------------------------------------------------------------


def notice(conn: Reading, notice_id: int, reader: int = 0) -> NoticeRow:
    """One notice as `reader` sees it. Raises `Unknown`."""
    row = conn.execute(_rows(reader).where(notices.c.id == notice_id)).one_or_none()
    if row is None:
        raise Unknown("there is no such notice", hint="go back to the notices")
    return _row(row)


def history(
    conn: Reading,
    reader: int,
    wanted: Wanted,
    *,
    everything: bool,
    limit: int,
    personal: Collection[str] = (),
) -> list[NoticeRow]:
    """The newest notices first: those told to `reader`, or, with `everything`, all of them.

    Of the kinds `personal` nobody sees what somebody else was told.
    """
    query = _rows(reader)
    if not everything:
        query = query.where(notice_receipts.c.user.is_not(None))
    elif personal:
        query = query.where(or_(notice_receipts.c.user.is_not(None), notices.c.kind.not_in(list(personal))))
    if wanted.severity:
        query = query.where(notices.c.severity == wanted.severity)
    if wanted.topic:
        query = query.where(notices.c.topic == wanted.topic)
    if wanted.before is not None:
        query = query.where(notices.c.id < wanted.before)
    conditions: dict[str, ColumnElement[bool]] = {
        "unread": and_(notice_receipts.c.user.is_not(None), notice_receipts.c.read_utc.is_(None)),
        "standing": notices.c.state == NoticeState.STANDING,
        "over": notices.c.state == NoticeState.OVER,
        "acknowledge": _OPEN_CRITICAL,
    }
    if wanted.state in conditions:
        query = query.where(conditions[wanted.state])
    return [_row(row) for row in conn.execute(query.order_by(notices.c.id.desc()).limit(limit))]


def unread(conn: Reading, reader: int) -> Unread:
    """What the bell of `reader` shows."""
    own = and_(
        notice_receipts.c.user == reader,
        literal_column("read_utc").is_(None),
    )
    critical = (
        select(func.count())
        .select_from(notice_receipts.join(notices))
        .where(notice_receipts.c.user == reader, _OPEN_CRITICAL)
        .correlate(None)
        .scalar_subquery()
    )
    count, newest, open_ = conn.execute(
        select(func.count(), func.max(notice_receipts.c.notice), critical)
        .select_from(notice_receipts)
        .where(own)
    ).one()
    return Unread(int(count), int(newest or 0), int(open_))


def unacknowledged(conn: Reading) -> list[NoticeRow]:
    """Critical notices that nobody has taken in hand, the oldest first."""
    return [_row(row) for row in conn.execute(_rows(0).where(_OPEN_CRITICAL).order_by(notices.c.id))]


def for_digest(conn: Reading, person: int) -> list[NoticeRow]:
    """What a person's e-mail of the day would hold."""
    query = _rows(person).where(
        notice_receipts.c.user == person,
        literal_column("digest") == literal_column("1"),
        literal_column("digest_utc").is_(None),
    )
    return [_row(row) for row in conn.execute(query.order_by(notices.c.id))]


def last_digest(conn: Reading, person: int) -> datetime | None:
    """When a person's last e-mail of the day was made."""
    query = select(func.max(notice_receipts.c.digest_utc, type_=notice_receipts.c.digest_utc.type))
    found: datetime | None = conn.execute(query.where(notice_receipts.c.user == person)).scalar()
    return found


def audited_since(conn: Reading, actions: Iterable[str], after: int) -> list[tuple[int, str, str]]:
    """Rows of the audit after row `after` with one of `actions`: id, action, subject."""
    query = (
        select(audit.c.id, audit.c.action, audit.c.subject)
        .where(audit.c.id > after, audit.c.action.in_(list(actions)))
        .order_by(audit.c.id)
        .limit(500)
    )
    return [(int(row[0]), str(row[1]), str(row[2])) for row in conn.execute(query)]


def was_said(conn: Reading, kind: str, subject: str, words: str, since: datetime) -> bool:
    """Whether a notice of these words has been raised since then."""
    query = select(notices.c.id).where(
        notices.c.kind == kind,
        notices.c.subject == subject,
        notices.c.words == words,
        notices.c.raised_utc >= since,
    )
    return conn.execute(query.limit(1)).first() is not None


def _rows(reader: int) -> Any:
    return (
        select(
            notices,
            users.c.name.label("acknowledged_name"),
            notice_receipts.c.user.label("told"),
            notice_receipts.c.read_utc,
        )
        .select_from(notices)
        .outerjoin(users, users.c.id == notices.c.acknowledged_by)
        .outerjoin(
            notice_receipts, and_(notice_receipts.c.notice == notices.c.id, notice_receipts.c.user == reader)
        )
    )


def _row(row: Row[*tuple[Any, ...]]) -> NoticeRow:
    return NoticeRow(
        id=row.id,
        kind=row.kind,
        topic=row.topic,
        severity=row.severity,
        subject=row.subject,
        words=row.words,
        fix=row.fix,
        state=row.state,
        raised_utc=row.raised_utc,
        over_utc=row.over_utc,
        acknowledged_utc=row.acknowledged_utc,
        acknowledged_name=row.acknowledged_name or "",
        escalated=row.escalated,
        escalated_utc=row.escalated_utc,
        told=row.told is not None,
        read_utc=row.read_utc,
    )
