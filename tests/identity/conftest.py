"""A box that nobody has claimed yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.box import Box, open_box
from appliance.config import Config


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    opened = open_box(Config(data=data_dir))
    yield opened
    opened.close()
