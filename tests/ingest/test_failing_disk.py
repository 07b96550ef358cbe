"""EIO at writes, syncs and reads below catalog and objects: what was acknowledged is whole, and the box heals by itself (R3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import audit
from appliance.ingest import Reception
from tests.boxes import box_in, data_set_of, recorded
from tests.ingest import failing_disk
from tests.ingest.failing_disk import AFTER, ALL, BEFORE, HOWS, MEANWHILE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

POINTS = 8


def assert_whole(folder: Path, acknowledged: list[str]) -> None:
    """As the next process finds it, on a disk that is well: each acknowledged image once, whatever is recorded whole, the chain unbroken."""
    with box_in(folder) as box:
        Reception(box, "worker").close()
        rows = recorded(box)
        assert sorted(row.sop_instance_uid for row in rows) == sorted(set(acknowledged))
        for row in rows:
            assert data_set_of(box, row) == ALL[row.sop_instance_uid].data_set
        with box.catalog.reading() as reading:
            assert audit.verify(reading, box.audit_key, None) == []
            assert reading.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert reading.exec_driver_sql("PRAGMA cipher_integrity_check").first() is None


@pytest.mark.parametrize("how", HOWS)
def test_a_disk_that_fails_below_everything_loses_nothing_and_is_no_defect(tmp_path: Path, how: str) -> None:
    assert_it_is_borne(tmp_path, how, POINTS)


@pytest.mark.campaign
@pytest.mark.timeout(0)
@pytest.mark.parametrize("how", HOWS)
def test_a_disk_that_fails_at_any_call_loses_nothing_and_is_no_defect(tmp_path: Path, how: str) -> None:
    """At every write, sync and read that there is, not at some of them."""
    print(f"{how}: {assert_it_is_borne(tmp_path, how, 1 << 30)} points")


def assert_it_is_borne(tmp_path: Path, how: str, most: int) -> int:
    """At up to some `most` of the calls, evenly; at how many it was."""
    with box_in(tmp_path / "before"):
        pass
    (counted,) = failing_disk.run(tmp_path / "before", how, range(1))
    assert counted["refused"] == counted["defects"] == []
    assert counted["calls"] > POINTS

    points = range(1, counted["calls"], max(1, counted["calls"] // most))
    told = failing_disk.run(tmp_path / "before", how, points)
    assert [each["at"] for each in told] == list(points)
    reached = [each for each in told if each["calls"] >= each["at"]]  # threads do not read as often each time
    assert len(reached) > len(points) // 2
    for each in reached:
        assert each["defects"] == [], each
        assert set(each["acknowledged"]) == {image.sop_instance_uid for image in (*BEFORE, *AFTER)}, each
        assert (each["waiting"], each["recorded"]) == (0, sorted(ALL)), each
        assert_whole(Path(each["folder"]), each["acknowledged"])
    assert any(each["refused before"] for each in told), "some of it was felt"
    if how == "from then on":
        assert len([each for each in told[0]["refused"] if each.startswith("receiving")]) == len(MEANWHILE), (
            "what is ill from the first write on takes nothing"
        )
    return len(reached)
