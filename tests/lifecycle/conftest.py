"""A catalog of its own for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catalog import Catalog
from tests.catalog.arrivals import KEY


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A new, empty catalog."""
    opened = Catalog.open(tmp_path / "catalog.db", KEY)
    yield opened
    opened.close()
