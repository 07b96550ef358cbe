"""The same from a bucket: backup, fire, restore, images home, over the line to a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.backup import drill
from appliance.model import DestinationSettings
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic_in, contents
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in
from tests.replication.cloud import Cloud, cloud, settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def bucket(the_cloud: Cloud) -> DestinationSettings:
    return settings(the_cloud.url, the_cloud.new_bucket(versioned=True))


@pytest.fixture
def clinic(tmp_path: Path, bucket: DestinationSettings) -> Iterator[Clinic]:
    with clinic_in(tmp_path / "before", bucket) as clinic:
        yield clinic


@pytest.mark.parametrize("with_snapshot", [True, False])
def test_a_blank_box_the_paper_and_a_bucket(clinic: Clinic, tmp_path: Path, with_snapshot: bool) -> None:
    clinic.receive(*IMAGES[:6])
    clinic.deliver()
    if with_snapshot:
        clinic.back_up()
        assert drill.drill(clinic.box, clinic.place, datetime.now(UTC), actor="tests").passed
    clinic.receive(*IMAGES[6:])
    clinic.deliver()
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert (restored.snapshot is not None) is with_snapshot
    assert restored.instances == 11
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)
