"""A catalog of its own for every test, and a clinic whose images have grown old."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catalog import Catalog
from tests.backup.conftest import IMAGES, Clinic
from tests.catalog.arrivals import KEY
from tests.lifecycle.evicting import grow_old


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A new, empty catalog."""
    opened = Catalog.open(tmp_path / "catalog.db", KEY)
    yield opened
    opened.close()


@pytest.fixture
def kept(clinic: Clinic) -> Clinic:
    """A box whose images are in the archive too."""
    clinic.receive(*IMAGES)
    clinic.deliver()
    grow_old(clinic.box)
    return clinic
