"""The remote places that instances are owed to, and the circuit breaker of each. The only writer of their table.

A removed destination keeps its row, since deliveries and receipts name it; its name is freed for another. Its secret
is erased. An archive that moves keeps its row too; the place that it leaves gets one, as that of a removed destination
(`leave`), because what lies there opens for whoever has the paper, and a certificate of destruction must say so. A secret is in
the table in clear, inside the sealed catalog, and leaves it only through `secret`-bearing `DestinationSettings`, which hide it from
`repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, bindparam, func, insert, select, update

from appliance.catalog import alterations, counters, deliveries, moving
from appliance.catalog import settings as kept
from appliance.catalog.database import Reading, Transaction
from appliance.catalog.schema import destinations as table
from appliance.catalog.schema import rules, studies
from appliance.errors import Refused, Unknown
from appliance.model import DestinationId, DestinationSettings
from appliance.replication.delivery import CLOSED, Breaker
from appliance.replication.place import is_same_place


@dataclass(frozen=True, slots=True)
class DestinationHealth:
    """How a destination does: its breaker, and when an object last arrived there."""

    id: DestinationId
    name: str
    paused: bool
    breaker: Breaker
    last_success_utc: datetime | None


@dataclass(frozen=True, slots=True)
class Left:
    """An archive's place that is no longer this box's. Any study up to the row id `upto` may lie there, in a backup if not by itself;
    with `has_moved` the archive is another place since, and otherwise it was taken off."""

    upto: int
    has_moved: bool


# Asked for every image and batch: to build them costs more than to answer them.
_ALL = select(table).order_by(table.c.name)
_THOSE_THERE = _ALL.where(table.c.removed.is_(False))
_BY_NAME = select(table).where(table.c.name == bindparam("wanted"), table.c.removed.is_(False))
_BY_ID = select(table).where(table.c.id == bindparam("wanted"))


def destinations(conn: Reading, include_removed: bool = False) -> list[DestinationSettings]:
    """The destinations by name."""
    return [_settings(row) for row in conn.execute(_ALL if include_removed else _THOSE_THERE)]


def destination(conn: Reading, name: str) -> DestinationSettings | None:
    """The destination of that name, if there is one that is not removed."""
    row = conn.execute(_BY_NAME, {"wanted": name}).one_or_none()
    return None if row is None else _settings(row)


def add(tx: Transaction, settings: DestinationSettings) -> DestinationId:
    """Record a new destination; one where an archive was before owes what is still owed there. Raises `Refused` if its name is taken."""
    if destination(tx, settings.name) is not None:
        raise Refused(
            f"there is a destination named {settings.name} already", hint="choose another name", field="name"
        )
    done = tx.execute(
        insert(table).values(
            name=settings.name,
            kind=settings.kind,
            takes=settings.takes,
            options=dict(settings.options),
            secret=settings.secret,
            paused=settings.paused,
        )
    )
    assert done.inserted_primary_key is not None
    number = DestinationId(done.inserted_primary_key[0])
    _come_back(tx, replace(settings, id=number), datetime.now(UTC))
    return number


def change(
    tx: Transaction,
    name: str,
    options: Mapping[str, Any],
    secret: str | None = None,
    now: datetime | None = None,
) -> None:
    """Give a destination other options, and another secret unless that is None; it is tried at once. Raises `Unknown`.

    With other options it may be another place, so it is looked through anew for what is destroyed: a place that was never
    looked through keeps what opens a destroyed study, and one that was is only read once more. With another access key, whoever
    altered what is there has lost the key for it, at `now`. Where an archive was before, it owes what is still owed there.
    """
    found, now = _known(tx, name), now or datetime.now(UTC)
    if found.kind == "s3" and _access_key(found) != _access_key(
        replace(found, options=options, secret=found.secret if secret is None else secret)
    ):
        alterations.key_changed(tx, found.id, now)
    if dict(options) != dict(found.options):
        kept.remove(tx, f"{kept.LOOKED_THROUGH}.{found.id}")
    values: dict[str, Any] = {"options": dict(options)} | ({} if secret is None else {"secret": secret})
    tx.execute(update(table).where(table.c.id == found.id).values(**values))
    set_breaker(tx, found.id, CLOSED)
    end_rest(tx, name)
    _come_back(tx, replace(found, options=options), now)


def pin(tx: Transaction, name: str, host_key: str) -> DestinationSettings:
    """Know the server of a destination by `host_key` from now on; how the destination is then. Raises `Unknown`.

    Where another key was known, a password was typed for that other server. It is forgotten, and nothing is sent until it has
    been typed again: whoever trusts a key in good faith must not hand the password to whoever holds it. A private key of
    our own stays, since it is never sent.
    """
    before = _known(tx, name)
    after = replace(before, options={**before.options, "host_key": host_key})
    known = before.options.get("host_key") or host_key
    if known != host_key and before.options.get("login") != "key":
        after = replace(after, secret="", paused=True)
        pause(tx, name)
    change(tx, name, after.options, after.secret)
    return after


def remove(tx: Transaction, name: str, now: datetime) -> int:
    """Take a destination away with its rules; what it is still owed is cancelled. How many obligations that were."""
    found = _known(tx, name)
    tx.execute(rules.delete().where(rules.c.destination == found.id))
    alterations.forget(tx, found.id)
    if may_hold(tx, found):
        _write_down(tx, found.id, now, has_moved=False)
    begin_anew(tx, found)  # another may get its name, and has no backup then
    tx.execute(
        update(table)
        .where(table.c.id == found.id)
        .values(removed=True, secret="", name=f"{name} (removed {int(found.id)})")
    )
    return deliveries.cancel_all(tx, found.id, now)


def may_hold(conn: Reading, place: DestinationSettings) -> bool:
    """Whether something of a patient may lie where an archive is: something has arrived there, or a backup was begun."""
    if place.takes != "ciphertext":
        return False
    backup = kept.get(conn, f"{kept.LATEST_BACKUP}.{place.name}", {})
    row = conn.execute(_BY_ID, {"wanted": place.id}).one()
    return bool(
        row.last_success_utc is not None
        or backup.get("succeeded_utc")
        or kept.get(conn, f"{kept.BACKED_UP}.{place.id}")
        or counters.counters(conn).get(f"{counters.CONFIRMED}{place.id}")
    )


def leave(tx: Transaction, before: DestinationSettings, now: datetime) -> None:
    """Keep the place where the archive `before` was as one that was removed, with all that it has done or owes for what is destroyed.

    To be called before the archive gets its other options. A place that is left again has one row.
    """
    found = next((DestinationId(row.id) for row in _left_rows(tx, before)), None)
    if found is None:
        done = tx.execute(
            insert(table).values(
                name=f"{before.name}\n",  # nobody's, until its number is known
                kind=before.kind,
                takes=before.takes,
                options=dict(before.options),
                secret="",
                paused=False,
                removed=True,
            )
        )
        assert done.inserted_primary_key is not None
        found = DestinationId(done.inserted_primary_key[0])
        name = f"{before.name} (moved {int(found)})"
        tx.execute(update(table).where(table.c.id == found).values(name=name))
    _write_down(tx, found, now, has_moved=True)
    moving.hand_over(tx, before.id, found, now)


def begin_anew(tx: Transaction, place: DestinationSettings) -> None:
    """Forget what was tried and has succeeded where an archive was: it is no longer there."""
    for key in (kept.LATEST_BACKUP, kept.BACKUP_FAILURES, kept.LATEST_DRILL):
        kept.remove(tx, f"{key}.{place.name}")
    kept.remove(tx, f"{kept.BACKED_UP}.{place.id}")
    tx.execute(update(table).where(table.c.id == place.id).values(last_success_utc=None))


def begin_backup(tx: Transaction, place: DestinationSettings, now: datetime) -> None:
    """Write down that a backup is laid where an archive is: from now on that place may hold every study."""
    kept.put(tx, f"{kept.BACKED_UP}.{place.id}", True, now)


def left(conn: Reading) -> dict[DestinationId, Left]:
    """The archives' places that are no longer this box's, as far as it has written down what may lie there."""
    ids = conn.execute(select(table.c.id).where(table.c.removed.is_(True))).scalars()
    keys = {f"{kept.LEFT}.{each}": DestinationId(each) for each in ids}
    return {keys[key]: Left(**told) for key, told in kept.several(conn, list(keys)).items()}


def _write_down(tx: Transaction, destination_id: DestinationId, now: datetime, *, has_moved: bool) -> None:
    upto = int(tx.execute(select(func.max(studies.c.id))).scalar() or 0)
    kept.put(tx, f"{kept.LEFT}.{destination_id}", {"upto": upto, "has_moved": has_moved}, now)


def _left_rows(conn: Reading, place: DestinationSettings) -> list[Row[*tuple[Any, ...]]]:
    """The rows of archives that were at the very place where this one is."""
    rows = conn.execute(select(table).where(table.c.id.in_(left(conn)), table.c.kind == place.kind)).all()
    return [row for row in rows if is_same_place(row.options, place.options)]


def _come_back(tx: Transaction, place: DestinationSettings, now: datetime) -> None:
    """An archive is where one was before: what still is to be done there, for what is destroyed, is this one's."""
    if place.takes != "ciphertext":
        return
    for row in _left_rows(tx, place):
        moving.hand_over(tx, DestinationId(row.id), place.id, now, only_unfinished=True)
        begin_backup(tx, place, now)


def pause(tx: Transaction, name: str) -> None:
    """Send nothing there until `resume`; what is owed waits."""
    tx.execute(update(table).where(table.c.id == _known(tx, name).id).values(paused=True))


def resume(tx: Transaction, name: str) -> None:
    """Send there again, at once."""
    tx.execute(
        update(table)
        .where(table.c.id == _known(tx, name).id)
        .values(paused=False, breaker_failures=0, breaker_open_until_utc=None, breaker_reason="")
    )
    end_rest(tx, name)


def end_rest(tx: Transaction, name: str) -> None:
    """Let a backup that has failed in an archive be tried again whenever it is due: something is otherwise there than it was."""
    kept.remove(tx, f"{kept.BACKUP_FAILURES}.{name}")


def health(conn: Reading) -> list[DestinationHealth]:
    """How each destination that is not removed does, by name."""
    rows = conn.execute(select(table).where(table.c.removed.is_(False)).order_by(table.c.name))
    return [
        DestinationHealth(DestinationId(row.id), row.name, row.paused, _breaker(row), row.last_success_utc)
        for row in rows
    ]


def breaker(conn: Reading, destination_id: DestinationId) -> Breaker:
    """The circuit breaker of a destination. Raises `Unknown`."""
    row = conn.execute(_BY_ID, {"wanted": destination_id}).one_or_none()
    if row is None:
        raise Unknown(f"there is no destination {destination_id}")
    return _breaker(row)


def set_breaker(tx: Transaction, destination_id: DestinationId, state: Breaker) -> None:
    """Record the circuit breaker of a destination."""
    tx.execute(
        update(table)
        .where(table.c.id == destination_id)
        .values(
            breaker_failures=state.failures,
            breaker_open_until_utc=state.open_until_utc,
            breaker_reason=state.reason,
        )
    )


def succeeded(tx: Transaction, destination_id: DestinationId, now: datetime) -> None:
    """Record that an object has arrived there."""
    tx.execute(update(table).where(table.c.id == destination_id).values(last_success_utc=now))


def _known(conn: Reading, name: str) -> DestinationSettings:
    found = destination(conn, name)
    if found is None:
        raise Unknown(
            f"there is no destination named {name}", hint="list the destinations to see their names"
        )
    return found


def _access_key(settings: DestinationSettings) -> tuple[str, str]:
    return str(settings.options.get("access_key_id", "")).strip(), settings.secret


def _settings(row: Row[*tuple[Any, ...]]) -> DestinationSettings:
    return DestinationSettings(
        name=row.name,
        kind=row.kind,
        takes=row.takes,
        options=row.options,
        secret=row.secret,
        paused=row.paused,
        id=DestinationId(row.id),
    )


def _breaker(row: Row[*tuple[Any, ...]]) -> Breaker:
    return Breaker(row.breaker_failures, row.breaker_open_until_utc, row.breaker_reason)
