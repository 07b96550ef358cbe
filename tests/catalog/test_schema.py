"""The revisions build what the schema declares, and the schema is what the code believes."""

import re

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from appliance.catalog import Catalog, migrations
from appliance.catalog.schema import REVISION, metadata

_BETWEEN_PARTS = re.compile(r",\s*(?![^(]*\))|\n\)?")
"""A comma that no parenthesis of its own closes after, or the end of a line; a column that was added shares one."""


def _statements(connection: Connection) -> dict[str, list[str]]:
    """Every table and index by name, with the parts that made it; their order and the space around them say nothing."""
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    )
    return {name: sorted(part.strip() for part in _BETWEEN_PARTS.split(sql)) for name, sql in rows}


def test_revisions_build_exactly_the_declared_tables(catalog: Catalog) -> None:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as declared, catalog.reading() as migrated:
        wanted = _statements(declared)
        found = _statements(migrated)
    engine.dispose()
    assert found.pop("alembic_version")
    assert found == wanted
    assert len(wanted) > 30


def test_newest_revision_is_the_one_the_code_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_row_ids_in_addresses_are_never_used_twice() -> None:
    for name in ("patients", "studies", "series", "instances", "deliveries", "destinations"):
        assert metadata.tables[name].dialect_options["sqlite"]["autoincrement"] is True
