"""The revisions build what the schema declares, and the schema is what the code believes."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from appliance.catalog import Catalog, migrations
from appliance.catalog.schema import REVISION, metadata
from tests.catalog.arrivals import KEY
from tests.new_catalogs import by_the_revisions, made

_BETWEEN_PARTS = re.compile(r",\s*(?![^(]*\))|\n\)?")
"""A comma that no parenthesis of its own closes after, or the end of a line; a column that was added shares one."""


def _statements(connection: Connection) -> dict[str, list[str]]:
    """Every table and index by name, with the parts that made it; their order and the space around them say nothing."""
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    )
    return {name: sorted(part.strip() for part in _BETWEEN_PARTS.split(sql)) for name, sql in rows}


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[Catalog]:
    """A new catalog that has gone through every revision."""
    with by_the_revisions():
        opened = Catalog.open(tmp_path / "migrated.db", KEY)
    yield opened
    opened.close()


def test_revisions_build_exactly_the_declared_tables(migrated: Catalog) -> None:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as declared, migrated.reading() as reading:
        wanted = _statements(declared)
        found = _statements(reading)
    engine.dispose()
    assert found.pop("alembic_version")
    assert found == wanted
    assert len(wanted) > 30


def test_the_new_catalogs_of_the_tests_are_what_the_revisions_build(
    catalog: Catalog, migrated: Catalog
) -> None:
    with catalog.reading() as quick, migrated.reading() as reading:
        assert made(quick) == made(reading)


def test_newest_revision_is_the_one_the_code_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def only_adds(source: str) -> bool:
    """Whether a revision does no more than earlier software can work with: see `appliance.catalog.migrations`."""
    calls = re.findall(r"\b(?:op|batch|batch_op)\.(\w+)\(", source)
    columns = re.findall(r"op\.add_column\((.*?)\)\s*(?:\n|$)", source, re.DOTALL)
    return set(calls) <= {"create_table", "create_index", "add_column", "f"} and all(
        "nullable=True" in each or "server_default=" in each for each in columns
    )


def test_a_revision_that_earlier_software_works_with_only_adds() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    for each in ScriptDirectory.from_config(config).walk_revisions():
        if (works_with := getattr(each.module, "works_with", None)) is not None:
            assert works_with < each.revision
            assert only_adds(Path(each.path).read_text()), f"{each.revision} does more"
    assert only_adds((migrations.FOLDER / "versions/r0013_token_descent.py").read_text())
    for more in (
        'op.drop_column("a", "b")',
        'op.execute("DELETE FROM a")',
        'with op.batch_alter_table("a") as batch:\n    batch.alter_column("b")',
        'op.add_column("a", sa.Column("b", sa.Text(), nullable=False))',
    ):
        assert not only_adds(more), more


def test_the_word_of_each_revision_counts_and_the_latest_decides() -> None:
    adding, changing = SimpleNamespace(works_with="0002"), SimpleNamespace()
    assert migrations.earliest({"0002": changing, "0003": adding}) == 2
    assert migrations.earliest({"0002": changing, "0003": adding, "0004": changing}) == 4
    assert migrations.earliest({"0003": changing, "0004": adding}) == 3, "what came in between decides"


def test_row_ids_in_addresses_are_never_used_twice() -> None:
    for name in ("patients", "studies", "series", "instances", "deliveries", "destinations"):
        assert metadata.tables[name].dialect_options["sqlite"]["autoincrement"] is True
