"""The same from a NAS: backup, drill, rotation, fire, restore, images home, through real file servers, by SFTP and by SMB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.backup import drill, snapshot
from appliance.backup.making import archive_at
from appliance.lifecycle import retention
from appliance.model import DestinationSettings
from appliance.replication.destinations import prepare
from tests.backup.conftest import IMAGES, KEEP, Clinic, as_sent, clinic_in, contents
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in
from tests.replication.file_servers import openssh
from tests.replication.shares import samba

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sftp", "smb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DestinationSettings]:
    if request.param == "sftp":
        with openssh(tmp_path / "nas") as server:
            yield server.trusted()
    else:
        with samba(tmp_path / "nas") as server:
            yield prepare(server.settings())


def test_a_blank_box_the_paper_and_a_file_server(tmp_path: Path, place: DestinationSettings) -> None:
    with clinic_in(tmp_path / "before", place) as clinic:
        clinic.receive(*IMAGES[:6])
        clinic.deliver()
        now = datetime.now(UTC)
        old = [clinic.back_up(now - KEEP - timedelta(days=day)).name for day in (9, 8, 7, 6)]
        with clinic.box.catalog.transaction() as tx:
            retention.watch_clock(tx, now, follows_time_server=True)
        clinic.back_up(now)
        assert _names(clinic) == {*old[2:], _newest(clinic)}, "three stay, whatever their age"
        assert drill.drill(clinic.box, clinic.place, now, actor="tests").passed
        clinic.receive(*IMAGES[6:])
        clinic.deliver()
        before, paper = clinic.place, clinic.paper
    # Somebody who restores types a place, not the row that the box had of it.
    typed = replace(place, name="nas", id=DestinationSettings("", "sftp", "ciphertext", {}).id)
    restored = restore(tmp_path / "after", typed, paper)
    assert restored.snapshot is not None
    assert restored.instances == len(IMAGES)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)
        from appliance.catalog import destinations

        with box.catalog.reading() as conn:
            (known,) = destinations.destinations(conn)
        assert (known.id, known.options) == (before.id, before.options)


def _names(clinic: Clinic) -> set[str]:
    archive = archive_at(clinic.box, clinic.place)
    return set(snapshot.names_in([each.key for each in archive.documents(snapshot.PREFIX)]))


def _newest(clinic: Clinic) -> str:
    return max(_names(clinic))
