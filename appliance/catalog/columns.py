"""How moments and JSON are written in the tables.

Chose fixed-width ISO text for moments (``2026-11-22T01:49:00.000000Z``, always 27 characters): it sorts as time does,
a person can read it in an export, and SQLite and PostgreSQL treat it alike. Rejected: floats of seconds (rounding,
unreadable) and driver-made date types (naive, and different in each driver).

JSON is canonical: keys sorted, no spaces, UTF-8, no NaN. The same value is always the same bytes, so it can be
authenticated.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator

UTC_TEXT_CHARACTERS = 27

_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=True
).encode


def utc_text(moment: datetime) -> str:
    """`moment`, which must be aware, as 27 characters of UTC. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone cannot be recorded")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return f"{moment.isoformat(timespec='microseconds')[:-6]}Z"  # without +00:00


def utc_moment(text: str) -> datetime:
    """The aware UTC moment that `utc_text` wrote. Raises ValueError for other text."""
    if len(text) != UTC_TEXT_CHARACTERS or not text.endswith("Z"):
        raise ValueError("this text is not a recorded moment")
    return datetime.fromisoformat(text)


def canonical_json(value: Any) -> str:
    """`value` as canonical JSON text. Raises TypeError or ValueError for what JSON cannot hold."""
    return _encode(value)


class UtcText(TypeDecorator[datetime]):
    """Aware datetimes in the API, `utc_text` in the table."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else utc_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else utc_moment(value)


class JsonText(TypeDecorator[Any]):
    """JSON-able values in the API, `canonical_json` in the table."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else canonical_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else json.loads(value)
