"""New catalogs, made quickly: the first of a process by the revisions, the others by the statements that these came to.

Chose this because the tests open thousands of new catalogs, and Alembic takes a tenth of a second and more to lead each
through every revision to the same tables. What it came to is kept as SQLite tells it and said again, so no table differs by a
letter (`tests/catalog/test_schema.py`). Rejected: making new catalogs from the declarations, which lie in another order than
what a clinic's box has, and copying a file, whose key is its box's own.

Processes that tests start, and `by_the_revisions`, do without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from appliance.catalog import migrations

_BY_THE_REVISIONS = migrations.migrate


@dataclass(frozen=True)
class Made:
    """What a new catalog consists of."""

    tables: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Any, ...]], ...]
    user_version: int


@contextmanager
def made_quickly() -> Iterator[None]:
    """Within, a new catalog is made as the first one came out."""
    first: list[Made] = []

    def migrate(connection: Connection, found: str | None) -> None:
        if found is None and first:
            _say_again(connection, first[0])
            return
        _BY_THE_REVISIONS(connection, found)
        if found is None:
            first.append(made(connection))

    migrations.migrate = migrate
    try:
        yield
    finally:
        migrations.migrate = _BY_THE_REVISIONS


@contextmanager
def by_the_revisions() -> Iterator[None]:
    """Within, a new catalog goes through every revision, as on a clinic's box."""
    before, migrations.migrate = migrations.migrate, _BY_THE_REVISIONS
    try:
        yield
    finally:
        migrations.migrate = before


def made(connection: Connection) -> Made:
    """Every table, index and row of a catalog, in the order in which they were made."""

    def ask(question: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in connection.exec_driver_sql(question)]

    tables = "FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    return Made(
        tables=tuple(sql for (sql,) in ask(f"SELECT sql {tables} ORDER BY rowid")),
        rows=tuple(
            (name, row)
            for (name,) in ask(f"SELECT name {tables} AND type = 'table' ORDER BY rowid")
            for row in ask(f"SELECT * FROM {name}")
        ),
        user_version=int(ask("PRAGMA user_version")[0][0]),
    )


def _say_again(connection: Connection, new: Made) -> None:
    for statement in new.tables:
        connection.exec_driver_sql(statement)
    for name, row in new.rows:
        connection.exec_driver_sql(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)
    connection.exec_driver_sql(f"PRAGMA user_version = {new.user_version}")
