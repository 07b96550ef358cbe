"""Study keys as recorded: wrapped by the root key, each belonging to one study for good; a study may have several.

A key that was destroyed keeps its row, with nothing in it: whatever records that key again, from an intake log, a manifest or
an old backup, finds it recorded already, and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from appliance.catalog.columns import utc_text
from appliance.catalog.database import Transaction
from appliance.catalog.schema import study_keys
from appliance.catalog.statement import compiled
from appliance.model import KeyId, Received, Uid

_NAMES = ("id", "study_instance_uid", "wrapped", "created_utc")
_ADD = compiled(sqlite_insert(study_keys).on_conflict_do_nothing(), *_NAMES)


_WRAPPED = compiled(
    select(study_keys.c.study_instance_uid, study_keys.c.wrapped).where(study_keys.c.id == bindparam("key")),
    "key",
)


def add(tx: Transaction, key_id: KeyId, study_instance_uid: Uid, wrapped: bytes, now: datetime) -> None:
    """Record a key; nothing happens if it is recorded already."""
    tx.exec_driver_sql(_ADD, (key_id, study_instance_uid, wrapped, utc_text(now)))


def add_many(tx: Transaction, received: Iterable[Received]) -> None:
    """Record the keys that came with `received`; those recorded already stay as they are."""
    keys: dict[KeyId, Received] = {}
    for each in received:
        keys.setdefault(each.stored.key_id, each)
    tx.exec_driver_sql(
        _ADD,
        [
            (key_id, each.header.study_instance_uid, each.stored.wrapped_key, utc_text(each.received_utc))
            for key_id, each in keys.items()
        ],
    )


def wrapped(reading: Connection, key_id: KeyId) -> tuple[Uid, bytes] | None:
    """The study that a key belongs to and the wrapped key; None if there is no such key."""
    row = reading.exec_driver_sql(_WRAPPED, (key_id,)).first()
    return None if row is None else (row[0], row[1])


def latest_for(reading: Connection, study_instance_uid: Uid) -> tuple[KeyId, bytes] | None:
    """The newest key of a study and the wrapped key; None if it has none."""
    query = (
        select(study_keys.c.id, study_keys.c.wrapped)
        .where(study_keys.c.study_instance_uid == study_instance_uid)
        .order_by(study_keys.c.created_utc.desc(), study_keys.c.id)
        .limit(1)
    )
    row = reading.execute(query).first()
    return None if row is None else (row[0], row[1])


def keys_of_study(reading: Connection, study_instance_uid: Uid) -> list[tuple[KeyId, bytes]]:
    """Every key of a study with the wrapped key, the oldest first."""
    query = (
        select(study_keys.c.id, study_keys.c.wrapped)
        .where(study_keys.c.study_instance_uid == study_instance_uid)
        .order_by(study_keys.c.created_utc, study_keys.c.id)
    )
    return [(row[0], row[1]) for row in reading.execute(query)]


def under_earlier(reading: Connection, generation: int, limit: int) -> list[tuple[KeyId, Uid, bytes]]:
    """At most `limit` keys that are wrapped by a root key before `generation`, with study and wrapped key.

    The generation is 4 bytes of every wrapping (`appliance.store.root_key`); bytes compare as numbers do.
    Destroyed ones are none.
    """
    query = (
        select(study_keys.c.id, study_keys.c.study_instance_uid, study_keys.c.wrapped)
        .where(
            study_keys.c.wrapped != b"",
            func.substr(study_keys.c.wrapped, 3, 4) < generation.to_bytes(4, "big"),
        )
        .limit(limit)
    )
    return [(row[0], row[1], row[2]) for row in reading.execute(query)]


def counts(reading: Connection, generation: int) -> tuple[int, int]:
    """How many keys there are, and how many of them are wrapped by a root key before `generation`. Destroyed ones are none."""
    earlier = func.substr(study_keys.c.wrapped, 3, 4) < generation.to_bytes(4, "big")
    query = select(func.count(), func.coalesce(func.sum(earlier), 0)).where(study_keys.c.wrapped != b"")
    row = reading.execute(query).one()
    return int(row[0]), int(row[1])


def rewrap(tx: Transaction, key_id: KeyId, wrapped_anew: bytes) -> None:
    """Replace a wrapped key by the same key under a new root key."""
    tx.execute(update(study_keys).where(study_keys.c.id == key_id).values(wrapped=wrapped_anew))


def destroy(tx: Transaction, key_ids: Iterable[KeyId], now: datetime) -> None:
    """Destroy keys, those that were never recorded too. What they have sealed cannot be opened any more."""
    for each in key_ids:
        add(tx, each, Uid(""), b"", now)
        tx.execute(
            update(study_keys).where(study_keys.c.id == each).values(study_instance_uid="", wrapped=b"")
        )


def destroyed_among(reading: Connection, key_ids: Sequence[KeyId]) -> set[KeyId]:
    """Which of these keys were destroyed."""
    rows = reading.exec_driver_sql(
        "SELECT id FROM study_keys WHERE id IN (SELECT value FROM json_each(?)) AND wrapped = x''",
        (json.dumps(list(key_ids)),),
    )
    return {KeyId(row[0]) for row in rows}
