"""A file that is gone from the disk without having left it on purpose is missed, whoever else has it, and brought back."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.backup import homecoming
from appliance.catalog.freezes import Why
from appliance.lifecycle import census, scrub, verification
from appliance.lifecycle.verification import Depth, Kind
from appliance.replication import recall
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.backup.test_restoring import restore
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.lifecycle.test_scrub import NOW, actions, finished, problems

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk


def test_what_a_repaired_file_system_has_lost_is_brought_back_and_said(clinic: Clinic) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    for row in recorded(clinic.box)[3:5]:
        clinic.box.objects.path(row.object_id).unlink()
    told = verification.verify(clinic.box, Depth.EVERY_BYTE, actor="tests")
    assert (told.checked, told.away, [each.kind for each in told.findings]) == (11, 0, [Kind.MISSING] * 2)
    assert "damaged" in problems(clinic)
    found = finished(clinic)
    assert (found["checked"], found["repaired"], found["lost"]) == (11, 2, [])
    assert contents(clinic.box) == as_sent(*IMAGES)
    assert actions(clinic).count("instance:mend") == 2
    assert finished(clinic)["repaired"] == 0
    assert verification.verify(clinic.box, Depth.OPENED, actor="tests").findings == ()


def test_whoever_removes_a_few_at_a_time_trips_the_guard_though_all_are_brought_back(clinic: Clinic) -> None:
    """No count ever sees more than one of them gone."""
    clinic.receive(*IMAGES)
    clinic.deliver()
    for row in recorded(clinic.box)[:3]:
        assert census.take(clinic.box, NOW) is None
        clinic.box.objects.path(row.object_id).unlink()
        for _ in range(2):  # whichever pass it is in
            scrub.scrub(clinic.box, NOW, most=20)
        assert recall.is_here(clinic.box, row.object_id)
    begun = census.take(clinic.box, NOW)
    assert begun is not None and begun.why is Why.REPORTED
    assert contents(clinic.box) == as_sent(*IMAGES)


def test_what_is_gone_while_its_archive_is_away_is_said_and_brought_back_when_it_is_there(
    clinic: Clinic, tmp_path: Path
) -> None:
    clinic.receive(*IMAGES[:4])
    clinic.deliver()
    clinic.box.objects.path(recorded(clinic.box)[1].object_id).unlink()
    (tmp_path / "usb").rename(tmp_path / "pulled out")
    found = finished(clinic)
    assert (found["lost"], found["to_mend"], found["repaired"]) == (
        [],
        [recorded(clinic.box)[1].object_id],
        0,
    )
    assert "damaged" in problems(clinic)
    (tmp_path / "pulled out").rename(tmp_path / "usb")
    assert scrub.scrub(clinic.box, NOW, most=1).repaired == 1
    assert contents(clinic.box) == as_sent(*IMAGES[:4])


def test_what_comes_home_after_a_restore_is_not_missed_and_what_came_since_is(
    clinic: Clinic, tmp_path: Path
) -> None:
    clinic.receive(*IMAGES[:6])
    clinic.deliver()
    clinic.back_up()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        after = Clinic(box, clinic.place, clinic.paper)
        homecoming.bringing_home(box, NOW, keep_going=lambda: True, most=4)
        fresh = Instance(70, study=7, pixel_bytes=3_000)
        after.receive(fresh)
        after.deliver()
        rows = sorted(recorded(box), key=lambda each: each.id)
        for row in (rows[4], rows[-1]):  # one that has come home, and one that came since
            box.objects.path(row.object_id).unlink()
        told = verification.verify(box, Depth.OPENED, actor="tests")
        assert (told.away, {each.object_id for each in told.findings}) == (
            2,
            {rows[4].object_id, rows[-1].object_id},
        )
        assert finished(after)["repaired"] == 2
        assert [recall.is_here(box, row.object_id) for row in rows] == [False] * 2 + [True] * 5
        homecoming.bringing_home(box, NOW, keep_going=lambda: True)
        assert contents(box) == as_sent(*IMAGES[:6], fresh)
