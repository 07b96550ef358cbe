"""A restore where no backup is whole: the manifests beside the images are enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.backup import homecoming
from appliance.catalog import settings
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("which", ["index", "000000", "key"])
def test_where_every_backup_is_damaged_all_images_come_by_their_manifests(
    clinic: Clinic, tmp_path: Path, which: str
) -> None:
    clinic.receive(*IMAGES[:5])
    clinic.deliver()
    made = [clinic.back_up(datetime.now(UTC) - timedelta(hours=2))]
    clinic.receive(*IMAGES[5:])
    clinic.deliver()
    made.append(clinic.back_up())
    for each in made:
        path = tmp_path / "usb" / "snapshots" / each.name / which
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert (restored.snapshot, restored.damaged_snapshots) == (None, 2)
    assert (restored.studies, restored.instances, restored.rebuilt.instances) == (4, 11, 11)
    assert restored.rebuilt.damaged == 0
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)
        with box.catalog.reading() as conn:
            assert settings.get(conn, homecoming.LAST)["missing"] == 0
