"""Each version of the software can be left again for the one before it: that one goes on with the index as the newer has made it.

Held in two ways. Every revision since the version before must say that this version works with it, or stand in `EXEMPT` with a
reason, so nobody forgets to think of it. And what each such revision does is held to that with SQL: the tables of the earlier one
are made and filled, the revision is run, and every statement that the earlier software can say of its tables is said again.
`tests/campaigns/earlier_software.py` has the earlier software itself do it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Boolean, Connection, Integer, LargeBinary, Table, create_engine, select
from sqlalchemy.exc import IntegrityError

from appliance.catalog import migrations
from appliance.catalog.columns import JsonText, UtcText
from appliance.catalog.schema import REVISION, metadata

RELEASED: Mapping[str, str] = {}
"""The newest revision of each version that was released. Who makes a release adds its line: no test passes without."""

FIRST = "0017"
"""The newest revision of what stands for the version before the first: no clinic has ever had a box with less."""

EXEMPT: Mapping[str, str] = {}
"""Revisions since `FIRST` after which the version before cannot go on, each with why: for a clinic such an update is without
return, so its reason is also in the CHANGELOG. None has a `downgrade`, which would drop what was written."""

KEPT_FOR_EVER = {"destinations", "study_keys"}
"""Tables from which no software deletes a row, so that rows of a newer table may hold on to theirs."""

SOURCE = Path(migrations.__file__).parents[1]
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
NOW = datetime(2026, 11, 22, 1, 49, tzinfo=UTC)


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", str(migrations.FOLDER))
    return made


REVISIONS = {each.revision: each.module for each in ScriptDirectory.from_config(config()).walk_revisions()}
SINCE = sorted(each for each in REVISIONS if each > FIRST)


def version_before(revision: str, released: Sequence[str]) -> str:
    """The newest revision of the version that a box had before the one that first has `revision`."""
    return max(each for each in [FIRST, *released] if each < revision)


# --- the rule --------------------------------------------------------------------------------------------------------


def without_return(
    revisions: Mapping[str, object], released: Sequence[str], exempt: Mapping[str, str]
) -> list[str]:
    """Those since the first version that leave the version before it with nothing, and give no reason."""
    return [
        name
        for name, module in sorted(revisions.items())
        if name > FIRST
        and not exempt.get(name, "").strip()
        and not getattr(module, "works_with", name) <= version_before(name, released)
    ]


def test_the_version_before_goes_on_after_every_revision_or_a_reason_is_given() -> None:
    assert without_return(REVISIONS, sorted(RELEASED.values()), EXEMPT) == []
    assert set(EXEMPT) <= set(SINCE)
    assert [name for name, module in REVISIONS.items() if hasattr(module, "downgrade")] == [], "nothing drops"


def test_the_rule_finds_who_says_nothing_and_who_says_too_little() -> None:
    silent, adds, later = (
        SimpleNamespace(),
        SimpleNamespace(works_with="0017"),
        SimpleNamespace(works_with="0021"),
    )
    assert without_return({"0016": silent, "0017": silent, "0018": adds}, [], {}) == []
    assert without_return({"0018": adds, "0019": silent}, [], {}) == ["0019"]
    assert without_return({"0019": silent}, [], {"0019": "passwords are hashed anew"}) == []
    assert without_return({"0019": silent}, [], {"0019": " "}) == ["0019"]
    assert without_return({"0022": later}, [], {}) == ["0022"], "no version with 0021 was ever released"
    assert without_return({"0022": later, "0023": later}, ["0021"], {}) == []
    assert without_return({"0022": later, "0025": later}, ["0021", "0023"], {}) == [], "more than one version"
    assert without_return({"0025": SimpleNamespace(works_with="0024")}, ["0021", "0023"], {}) == ["0025"]


def test_every_release_has_its_line_here() -> None:
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)", CHANGELOG.read_text("utf-8"), re.MULTILINE)
    assert set(RELEASED) == set(versions), "RELEASED says with which revision a version was released"
    assert set(RELEASED.values()) <= set(REVISIONS)


def test_what_a_newer_table_holds_on_to_is_deleted_by_nobody() -> None:
    code = "\n".join(each.read_text("utf-8") for each in SOURCE.rglob("*.py"))
    for name in KEPT_FOR_EVER:
        assert name in metadata.tables
        assert not re.search(rf"DELETE FROM {name}\b|delete\({name}\)|\b{name}\.delete\(", code), name


DECIDING = (
    "destroyed_keys",
    "destructions",
    "erasure",
    "evictions",
    "freezes",
    "holds",
    "retention_dates",
    "retention_rules",
    "tombstones",
)
"""Modules of the catalog by which images are destroyed, kept, or let go from this disk: a table or column that they read, and that the
version before does not know, may have held or forbidden something."""


def read_where_it_is_decided(revision: str) -> list[str]:
    """The tables and columns that `revision` adds and that what decides about images reads."""
    with tables_of(str(REVISIONS[revision].down_revision)) as connection:
        before = {table: set(shape(connection, table).columns) for table in names(connection)}
        connection.commit()
        upgrade(connection, revision)
        after = {table: set(shape(connection, table).columns) for table in names(connection)}
    added = {table for table in after if table not in before}
    added |= {column for table in before for column in after.get(table, set()) - before[table]}
    decided = "\n".join((SOURCE / f"{module}.py").read_text("utf-8") for module in DECIDING)
    return sorted(name for name in added if re.search(rf"\b{name}\b", decided))


@pytest.mark.parametrize("revision", SINCE)
def test_what_decides_about_images_reads_nothing_that_the_version_before_does_not_know_or_a_reason_is_given(
    revision: str,
) -> None:
    """The rule in `appliance.catalog.migrations`: what hides, holds or forbids may not say that the version before works with it."""
    module = REVISIONS[revision]
    if hasattr(module, "works_with") and (added := read_where_it_is_decided(revision)):
        assert len(getattr(module, "although", "").split()) > 9, (
            f"the version before decides without {', '.join(added)}: say why no harm comes of it (although = …), or take works_with away"
        )


def test_the_reasons_of_those_that_hold_something_back_are_no_longer_true_once_a_version_was_released() -> (
    None
):
    """They say that none was: whoever releases one looks at them again, and moves `FIRST`."""
    for name in SINCE:
        reason = getattr(REVISIONS[name], "although", "")
        if "ever released" in reason:
            assert not [each for each in RELEASED.values() if each < name], name


def test_the_rule_finds_a_table_that_keeps_something() -> None:
    assert read_where_it_is_decided("0022") == ["visits"]
    assert read_where_it_is_decided("0021") == ["destroyed_images", "spared_images"]
    assert read_where_it_is_decided("0018") == []


# --- what each does --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """Of one table: its columns (type, may not be empty, has a default, place in the key), and all that can refuse a row."""

    columns: Mapping[str, tuple[str, bool, bool, int]]
    unique: frozenset[tuple[object, ...]]
    foreign: frozenset[tuple[object, ...]]
    checks: int


def ask(connection: Connection, question: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.exec_driver_sql(question)]


def names(connection: Connection, kind: str = "table") -> list[str]:
    rows = ask(connection, f"SELECT name, sql FROM sqlite_master WHERE type = '{kind}' ORDER BY rowid")
    hidden = [name for name, sql in rows if "VIRTUAL" in (sql or "").upper()]
    ours = [name for name, _ in rows if not name.startswith(("sqlite_", "alembic_"))]
    return [name for name in ours if not name.startswith(tuple(f"{each}_" for each in hidden))]


def shape(connection: Connection, table: str) -> Shape:
    (sql,) = ask(connection, f"SELECT sql FROM sqlite_master WHERE name = '{table}'")[0]
    return Shape(
        columns={
            name: (kind.upper(), bool(required), default is not None, key)
            for _, name, kind, required, default, key in ask(connection, f"PRAGMA table_info('{table}')")
        },
        unique=frozenset(
            (partial, *(column for _, _, column in ask(connection, f"PRAGMA index_info('{index}')")))
            for _, index, unique, _, partial in ask(connection, f"PRAGMA index_list('{table}')")
            if unique
        ),
        foreign=foreign(connection, table),
        checks=len(re.findall(r"\bCHECK\s*\(", sql, re.IGNORECASE)),
    )


def foreign(connection: Connection, table: str) -> frozenset[tuple[object, ...]]:
    """To which table, from which column, to which, and what happens when that row is deleted."""
    return frozenset(
        (row[2], row[3], row[4], row[6]) for row in ask(connection, f"PRAGMA foreign_key_list('{table}')")
    )


def complaints(before: Mapping[str, Shape], connection: Connection) -> list[str]:
    """What of the tables that were there `before` could refuse, by now, something that it let in."""
    found = [f"a trigger: {each}" for each in names(connection, "trigger")]
    for name in sorted(set(names(connection)) - set(before)):
        for parent, column, _, when_deleted in foreign(connection, name):
            if (
                parent in before
                and parent not in KEPT_FOR_EVER
                and when_deleted not in ("CASCADE", "SET NULL")
            ):
                found.append(f"a row of {parent} cannot be deleted because of {name}.{column}")
    for name, earlier in before.items():
        if name not in names(connection):
            found.append(f"{name} is gone")
            continue
        now = shape(connection, name)
        for column, was in earlier.columns.items():
            if now.columns.get(column) != was:
                found.append(f"{name}.{column} is {now.columns.get(column)}, was {was}")
        for column in set(now.columns) - set(earlier.columns):
            _, required, has_default, key = now.columns[column]
            if key or (required and not has_default):
                found.append(f"{name}.{column} must be given")
        if more := now.unique - earlier.unique:
            found.append(f"{name} has what may be there only once: {sorted(map(str, more))}")
        if now.foreign != earlier.foreign or now.checks > earlier.checks:
            found.append(f"{name} checks more")
    return found


@contextmanager
def tables_of(revision: str) -> Iterator[Connection]:
    """An index as that revision makes it; what refers to a row that is not there is refused, as on a box."""
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
            connection.commit()
            upgrade(connection, revision)
            yield connection
    finally:
        engine.dispose()


def upgrade(connection: Connection, revision: str) -> None:
    way = config()
    way.attributes["connection"] = connection
    command.upgrade(way, revision)


def parents_first(connection: Connection) -> list[str]:
    """The tables, each after those that its rows refer to."""
    wanted, order = names(connection), list[str]()
    while wanted:
        ready = [t for t in wanted if {f[0] for f in foreign(connection, t)} <= {*order, t}]
        assert ready, wanted
        order += ready
        wanted = [each for each in wanted if each not in ready]
    return order


def in_table(table: Table, column: str, number: int) -> object:
    """A value of the column, as it lies in the table, which no other `number` has."""
    match table.c[column].type:
        case UtcText():
            return f"2026-11-22T01:49:00.{number:06}Z"
        case JsonText():
            return f'{{"number":{number}}}'
        case Boolean():
            return number % 2
        case Integer():
            return number
        case LargeBinary():
            return bytes([number])
        case _:
            return f"text {number}"


def row_of(shapes: Mapping[str, Shape], table: str, number: int) -> dict[str, object]:
    """No more than the earlier software must give: with what numbers the row, for others to refer to, and what sets it apart."""
    apart = {column for _, *columns in shapes[table].unique for column in columns}
    return {
        name: in_table(metadata.tables[table], name, number)
        for name, (_, required, has_default, key) in shapes[table].columns.items()
        if key or name in apart or (required and not has_default)
    }


def refer_right(connection: Connection, table: str, row: dict[str, object], number: int) -> None:
    """Give each column that refers to another table the value that the row of the same number has there."""
    for parent, column, to, _ in foreign(connection, table):
        if column in row:
            row[str(column)] = in_table(metadata.tables[str(parent)], str(to or "id"), number)


def insert(connection: Connection, shapes: Mapping[str, Shape], number: int) -> None:
    """A row in each of the earlier tables, said as its software would."""
    for table in parents_first(connection):
        if table not in shapes:
            continue
        row = row_of(shapes, table, number)
        refer_right(connection, table, row, number)
        columns = ", ".join(f'"{each}"' for each in row)
        marks = ", ".join("?" * len(row))
        connection.exec_driver_sql(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', tuple(row.values()))


def count(connection: Connection, table: str) -> int:
    return int(ask(connection, f'SELECT count(*) FROM "{table}"')[0][0])


ADDING = [each for each in SINCE if each not in EXEMPT]


@pytest.mark.parametrize("revision", ADDING)
def test_all_that_the_earlier_software_says_is_still_understood(revision: str) -> None:
    earlier = str(REVISIONS[revision].works_with)
    with tables_of(earlier) as connection:
        before = {table: shape(connection, table) for table in names(connection)}
        assert len(before) > 40
        at_first = {table: count(connection, table) for table in before}
        insert(connection, before, 1)
        connection.commit()
        upgrade(connection, revision)
        assert complaints(before, connection) == []
        insert(connection, before, 2)
        for table in reversed(parents_first(connection)):
            if table not in before:
                continue
            columns = [f'"{each}"' for each in before[table].columns]
            rows = ask(connection, f'SELECT {", ".join(columns)} FROM "{table}"')
            assert len(rows) == at_first[table] + 2, table
            connection.exec_driver_sql(
                f'UPDATE "{table}" SET {", ".join(f"{each} = {each}" for each in columns)}'
            )
        if revision == REVISION:
            for table in before:
                found = connection.execute(select(metadata.tables[table])).all()
                assert len(found) == at_first[table] + 2, (
                    f"the newer reads what the earlier wrote into {table}"
                )
        for table in reversed(parents_first(connection)):
            if table in before:
                connection.exec_driver_sql(f'DELETE FROM "{table}"')
                assert count(connection, table) == 0


@pytest.mark.parametrize(
    ("done", "complaint"),
    [
        ("CREATE UNIQUE INDEX one ON studies (last_received_utc)", "only once"),
        ("CREATE UNIQUE INDEX one ON studies (last_received_utc) WHERE id > 5", "only once"),
        ("CREATE TRIGGER t BEFORE INSERT ON studies BEGIN SELECT RAISE(ABORT, 'no'); END", "a trigger"),
        ("ALTER TABLE settings ADD COLUMN more TEXT CHECK (more <> '')", "checks more"),
        ("ALTER TABLE settings ADD COLUMN study INTEGER REFERENCES studies (id)", "checks more"),
        ("CREATE TABLE marks (study INTEGER REFERENCES studies (id))", "cannot be deleted"),
        ("ALTER TABLE settings RENAME COLUMN value TO worth", "settings.value is None"),
        ("ALTER TABLE settings RENAME TO wishes", "settings is gone"),
    ],
)
def test_whatever_would_refuse_the_earlier_software_is_found(done: str, complaint: str) -> None:
    with tables_of(FIRST) as connection:
        before = {table: shape(connection, table) for table in names(connection)}
        assert complaints(before, connection) == []
        connection.exec_driver_sql(done)
        assert any(complaint in each for each in complaints(before, connection))


def test_a_column_that_must_be_given_is_found() -> None:
    with tables_of(FIRST) as connection:
        before = {table: shape(connection, table) for table in names(connection)}
        connection.exec_driver_sql("DROP TABLE settings")
        connection.exec_driver_sql(
            "CREATE TABLE settings (key TEXT NOT NULL, value TEXT NOT NULL, changed_utc TEXT NOT NULL, more TEXT NOT NULL, "
            "CONSTRAINT pk_settings PRIMARY KEY (key))"
        )
        assert complaints(before, connection) == ["settings.more must be given"]
        with pytest.raises(IntegrityError):
            insert(connection, before, 1)
