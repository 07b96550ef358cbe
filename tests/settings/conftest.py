"""A catalog with its keys, and a short way to change settings in it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance import settings
from appliance.box import Box
from tests.boxes import box_in

NOW = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)

Changer = Callable[..., tuple[settings.Change, ...]]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def change(box: Box) -> Changer:
    """``change({"clinic.name": "…"})`` in a transaction of its own, as marie."""

    def act(changes: dict[str, Any]) -> tuple[settings.Change, ...]:
        with box.catalog.transaction() as tx:
            return settings.change(tx, box.audit_key, changes, actor="marie", now=NOW, root=box.root)

    return act
