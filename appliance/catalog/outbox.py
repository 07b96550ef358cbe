"""Messages that leave the box, until each has arrived or somebody knows that it hasn't: e-mail and webhooks.

::

    WAITING ──claim──▶ SENDING ──sent──▶ SENT
       ▲ ▲               │  │
       │ └── postpone ◀──┘  └──refuse──▶ REFUSED (the receiver will not have it)
       └── lease ran out
    WAITING ──expire──▶ EXPIRED              WAITING ──cancel──▶ CANCELLED

A message keeps one `message_id` for all its attempts, so that a receiver can tell a second copy. What it says is
forgotten as soon as nothing will be sent any more: a link to a new password must not lie about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)

from appliance.catalog.columns import utc_text
from appliance.catalog.database import Catalog, Reading, Transaction
from appliance.catalog.notice_tables import outbox as table
from appliance.catalog.statement import compiled

FURTHEST = timedelta(days=2)
"""No attempt is planned further ahead than this; one that is was planned by a clock that has since been put back."""


class MessageState(StrEnum):
    """Where a message stands."""

    WAITING = "WAITING"
    SENDING = "SENDING"
    SENT = "SENT"
    REFUSED = "REFUSED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


OPEN_STATES = (MessageState.WAITING, MessageState.SENDING)
_TOLD = tuple(column for column in table.c if column.name != "content")
"""What lists read: a letter's file is megabytes, and secret."""
_OPEN = table.c.state.in_([literal_column("'WAITING'"), literal_column("'SENDING'")])


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `address` is an e-mail address or the id of a webhook; `content` says the rest, and is secret."""

    id: int
    channel: str
    address: str
    message_id: str
    subject: str
    state: str
    attempts: int
    next_attempt_utc: datetime
    expires_utc: datetime
    created_utc: datetime
    changed_utc: datetime
    reason: str
    notice: int | None
    content: Mapping[str, Any] | None = field(default=None, repr=False)


def add(
    tx: Transaction,
    *,
    channel: str,
    address: str,
    message_id: str,
    subject: str,
    content: Mapping[str, Any],
    urgency: int,
    not_before: datetime,
    expires_utc: datetime,
    now: datetime,
    notice: int | None = None,
) -> int:
    """Put a message into the outbox; its id. A higher `urgency` leaves first."""
    values = insert(table).values(
        channel=channel,
        address=address,
        notice=notice,
        message_id=message_id,
        subject=subject,
        content=dict(content),
        state=MessageState.WAITING,
        urgency=urgency,
        next_attempt_utc=not_before,
        expires_utc=expires_utc,
        created_utc=now,
        changed_utc=now,
    )
    return int(tx.execute(values.returning(table.c.id)).scalar_one())


def is_due(conn: Reading, channel: str, now: datetime, *, without: Iterable[str] = ()) -> bool:
    """Whether `claim` would find a message: asked again and again, it must not wait for the catalog's writer."""
    return conn.execute(_due(channel, now, without)).first() is not None


def claim(
    tx: Transaction, channel: str, now: datetime, lease_seconds: float, *, without: Iterable[str] = ()
) -> Message | None:
    """The next message of `channel` that is due, now leased to the caller; None when there is none.

    Nothing is claimed for an address that another message is on its way to, nor for those of `without`: one receiver
    that is slow or down holds up no other.
    """
    row = tx.execute(_due(channel, now, without)).one_or_none()
    if row is None:
        return None
    tx.execute(
        update(table)
        .where(table.c.id == row.id)
        .values(
            state=MessageState.SENDING,
            attempts=row.attempts + 1,
            lease_until_utc=now + timedelta(seconds=lease_seconds),
            changed_utc=now,
        )
    )
    return _message(row, attempts=row.attempts + 1)


def sent(tx: Transaction, message: int, now: datetime, receipt: str = "") -> None:
    """It has arrived; what it said is forgotten."""
    _finish(tx, message, MessageState.SENT, receipt, now)


def refused(tx: Transaction, message: int, reason: str, now: datetime) -> None:
    """The receiver will not have it."""
    _finish(tx, message, MessageState.REFUSED, reason, now)


def postpone(
    tx: Transaction, message: int, reason: str, until: datetime, now: datetime, *, tried: bool = True
) -> None:
    """It is tried again at `until`. `tried` is False when it wasn't the message that failed: its count stays."""
    values: dict[str, Any] = {
        "state": MessageState.WAITING,
        "next_attempt_utc": until,
        "lease_until_utc": None,
        "reason": reason[:500],
        "changed_utc": now,
    }
    if not tried:
        values["attempts"] = table.c.attempts - 1
    tx.execute(
        update(table).where(table.c.id == message, table.c.state == MessageState.SENDING).values(values)
    )


def hold(tx: Transaction, message: int, until: datetime) -> None:
    """Whoever sends it needs it until then: its receiver takes its time."""
    tx.execute(
        update(table)
        .where(table.c.id == message, table.c.state == MessageState.SENDING)
        .values(lease_until_utc=until)
    )


def release_all(tx: Transaction, now: datetime) -> int:
    """Give everything that was being sent back to the queue: its one sender starts anew. How many messages."""
    return tx.execute(
        update(table)
        .where(_OPEN, table.c.state == MessageState.SENDING)
        .values(state=MessageState.WAITING, lease_until_utc=None, next_attempt_utc=now, changed_utc=now)
    ).rowcount


def release_expired(tx: Transaction, now: datetime) -> int:
    """Give messages whose sender has vanished back to the queue. How many there were."""
    lost = or_(table.c.lease_until_utc <= now, table.c.lease_until_utc > now + FURTHEST)
    return tx.execute(
        update(table)
        .where(_OPEN, table.c.state == MessageState.SENDING, lost)
        .values(state=MessageState.WAITING, lease_until_utc=None, next_attempt_utc=now, changed_utc=now)
    ).rowcount


def expire(tx: Transaction, now: datetime) -> list[Message]:
    """End the messages whose time is over, and say which they were."""
    query = select(table).where(_OPEN, table.c.state == MessageState.WAITING, table.c.expires_utc <= now)
    over = [_message(row) for row in tx.execute(query.order_by(table.c.id).limit(100))]
    for each in over:
        _finish(tx, each.id, MessageState.EXPIRED, each.reason, now)
    return over


def wake(tx: Transaction, channel: str, address: str | None, now: datetime) -> int:
    """Let messages that rest after a failure go now: the receiver is seen to work, or somebody corrected its settings."""
    where = [_OPEN, table.c.channel == channel, table.c.state == MessageState.WAITING, table.c.attempts > 0]
    if address is not None:
        where.append(table.c.address == address)
    return tx.execute(update(table).where(*where).values(next_attempt_utc=now, changed_utc=now)).rowcount


def cancel(tx: Transaction, channel: str, address: str, now: datetime) -> int:
    """Send no more to an address. How many messages that were."""
    return tx.execute(
        update(table)
        .where(_OPEN, table.c.channel == channel, table.c.address == address)
        .values(state=MessageState.CANCELLED, content=null(), lease_until_utc=None, changed_utc=now)
    ).rowcount


def forget(tx: Transaction, before: datetime) -> int:
    """Forget messages that ended before that moment. How many there were."""
    return tx.execute(delete(table).where(table.c.changed_utc < before, ~_OPEN)).rowcount


def counts(conn: Reading, channel: str) -> dict[str, int]:
    """How many messages of `channel` are in which state."""
    query = select(table.c.state, func.count()).where(table.c.channel == channel).group_by(table.c.state)
    return {row[0]: int(row[1]) for row in conn.execute(query)}


def of_notices(conn: Reading, ids: Iterable[int]) -> dict[int, list[Message]]:
    """The messages that were made for each of these notices, without what they say."""
    found: dict[int, list[Message]] = {}
    for row in conn.execute(select(*_TOLD).where(table.c.notice.in_(list(ids))).order_by(table.c.id)):
        found.setdefault(row.notice, []).append(_message(row, content=None))
    return found


def messages(conn: Reading, *, channel: str = "", limit: int = 100) -> list[Message]:
    """The newest messages, without what they say."""
    query = select(*_TOLD).order_by(table.c.id.desc()).limit(limit)
    if channel:
        query = query.where(table.c.channel == channel)
    return [_message(row, content=None) for row in conn.execute(query)]


def states(conn: Reading, ids: Iterable[int]) -> dict[int, str]:
    """Where each of these messages stands; those that are forgotten are not in it."""
    query = select(table.c.id, table.c.state).where(table.c.id.in_(list(ids)))
    return {int(row.id): str(row.state) for row in conn.execute(query)}


def message(conn: Reading, message_id: int) -> Message | None:
    """One message."""
    row = conn.execute(select(table).where(table.c.id == message_id)).one_or_none()
    return None if row is None else _message(row)


def _has_come(now: Any, furthest: Any) -> ColumnElement[bool]:
    return or_(table.c.next_attempt_utc <= now, table.c.next_attempt_utc > furthest)


_SOME_DUE = compiled(
    select(table.c.id)
    .where(_OPEN, table.c.state == literal_column("'WAITING'"))
    .where(_has_come(bindparam("now"), bindparam("furthest"))),
    "now",
    "furthest",
)


class Due:
    """Whether some message's hour has come, of whatever channel, at the least cost: asked all day. Who may be written to, `is_due` asks."""

    def __init__(self, catalog: Catalog) -> None:
        self._question = catalog.question(_SOME_DUE)
        self.close = self._question.close

    def at(self, now: datetime) -> bool:
        """Whether one is due at `now`."""
        return self._question.first((utc_text(now), utc_text(now + FURTHEST))) is not None


def _due(channel: str, now: datetime, without: Iterable[str]) -> Select[Any]:
    busy = select(table.c.address).where(
        _OPEN, table.c.channel == channel, table.c.state == MessageState.SENDING
    )
    return (
        select(table)
        .where(_OPEN, table.c.channel == channel, table.c.state == MessageState.WAITING)
        .where(_has_come(now, now + FURTHEST))
        .where(table.c.address.not_in(busy), table.c.address.not_in(list(without)))
        .order_by(table.c.urgency.desc(), table.c.next_attempt_utc, table.c.id)
        .limit(1)
    )


def _finish(tx: Transaction, message_id: int, state: MessageState, reason: str, now: datetime) -> None:
    tx.execute(
        update(table)
        .where(table.c.id == message_id, _OPEN)
        .values(state=state, content=null(), reason=reason[:500], lease_until_utc=None, changed_utc=now)
    )


def _message(row: Row[*tuple[Any, ...]], **other: Any) -> Message:
    names = Message.__dataclass_fields__
    return Message(**({name: getattr(row, name) for name in names if name not in other} | other))
