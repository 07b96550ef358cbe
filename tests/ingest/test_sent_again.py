"""What its machine sends again, since the box has lost it and no archive has it, stands in for what was lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance import audit, health
from appliance.box import Box
from appliance.catalog import deliveries, totals
from appliance.errors import Unreadable
from appliance.ingest import Reception
from appliance.lifecycle import scrub
from appliance.lifecycle.verification import Depth, verify
from appliance.model import ObjectId
from appliance.replication.retold import standing_in
from appliance.store.objects import SealedReader
from tests.boxes import box_in, data_set_of, recorded, send
from tests.ingest.test_accept import owe_everything
from tests.instances import Instance

NOW = datetime.now(UTC)
ONE, OTHER, THIRD = Instance(1), Instance(1, variant=1), Instance(1, variant=2)


def receive(box: Box, *sent: Instance) -> None:
    reception = Reception(box, "worker")
    for each in sent:
        send(reception, each)
    reception.close()


def gone(path: Path) -> None:
    path.unlink()


def rotten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose(box: Box, how: Callable[[Path], None] = gone, version: int = 0) -> ObjectId:
    row = next(each for each in recorded(box) if each.version == version)
    how(box.objects.path(row.object_id))
    return row.object_id


def kept(box: Box) -> list[tuple[int, bool]]:
    """Each version, and whether it stands in for what was lost."""
    return [(row.version, row.stands_in) for row in recorded(box)]


def problems(box: Box) -> set[str]:
    return {each.code for each in health.status(box, NOW).problems} & {"damaged", "duplicates"}


def scrubbed(box: Box, hours: int = 0) -> set[str]:
    scrub.scrub(box, NOW + timedelta(hours=hours))
    return problems(box)


@pytest.mark.parametrize("how", [gone, rotten])
def test_it_ends_the_alarm_and_is_no_second_version(tmp_path: Path, how: Callable[[Path], None]) -> None:
    with box_in(tmp_path) as box:
        receive(box, ONE, Instance(2))
        lose(box, how)
        assert scrubbed(box) == {"damaged"}
        receive(box, ONE)
        assert sorted(kept(box)) == [(0, False), (0, False), (1, True)]
        assert scrubbed(box, 1) == set()
        assert scrubbed(box, 2) == set()  # nor does the pass that reads everything again find it
        found = verify(box, Depth.EVERY_BYTE, actor="somebody")
        assert (found.checked, found.findings) == (2, ())
        assert problems(box) == set()
        with box.catalog.reading() as reading:
            assert totals.totals(reading).duplicates == 0
            said = [row["action"] for row in audit.export(reading)]
        assert (said.count("instance:again"), said.count("instance:duplicate")) == (1, 0)


def test_a_person_who_verifies_everything_ends_it_too(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        receive(box, ONE)
        lose(box)
        assert len(verify(box, Depth.EVERY_BYTE, actor="somebody").findings) == 1
        assert problems(box) == {"damaged"}
        receive(box, ONE)
        assert verify(box, Depth.EVERY_BYTE, actor="somebody").findings == ()
        assert problems(box) == set()


def test_one_that_stands_in_and_is_lost_as_well_is_a_loss(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        receive(box, ONE)
        lose(box)
        receive(box, ONE)
        assert scrubbed(box) == set()
        lose(box, version=1)
        assert scrubbed(box, 1) == {"damaged"}
        receive(box, ONE)
        assert kept(box) == [(0, False), (1, True), (2, True)]
        assert scrubbed(box, 2) == set()


def test_it_is_owed_to_all_to_whom_the_first_was(tmp_path: Path) -> None:
    """That may have been lost before it went anywhere."""
    with box_in(tmp_path / "box") as box:
        owe_everything(box, tmp_path / "there")
        receive(box, ONE)
        lose(box)
        receive(box, ONE)
        with box.catalog.reading() as reading:
            assert len(list(deliveries.list_deliveries(reading))) == 2


def test_beside_one_that_is_whole_it_is_another(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        receive(box, ONE, OTHER)
        lose(box)
        receive(box, THIRD)
        assert kept(box) == [(0, False), (1, False), (2, False)]
        assert scrubbed(box) == {"damaged", "duplicates"}
        receive(box, OTHER)  # which is whole
        assert len(kept(box)) == 3
        lose(box, version=1)
        lose(box, version=2)
        receive(box, ONE)
        assert kept(box)[3:] == [(3, True)]


def test_two_that_differed_stay_a_loss_of_the_one(tmp_path: Path) -> None:
    """What was another when it came says nothing of what was lost later."""
    with box_in(tmp_path) as box:
        receive(box, ONE, OTHER)
        lose(box)
        assert scrubbed(box) == {"damaged", "duplicates"}
        assert [each.kind for each in verify(box, Depth.OPENED, actor="somebody").findings] == ["missing"]


def test_while_an_archive_may_have_it_it_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with box_in(tmp_path) as box:
        receive(box, ONE)
        lose(box)
        monkeypatch.setattr("appliance.replication.recall.holders", lambda *_: ["an archive"])
        receive(box, ONE)
        assert kept(box) == [(0, False), (1, False)]


def test_one_that_a_disk_does_not_give_back_now_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> SealedReader:
        raise Unreadable("the disk does not give it back")

    with box_in(tmp_path) as box:
        receive(box, ONE)
        monkeypatch.setattr(Box, "open_object", fails)
        receive(box, OTHER)
        assert kept(box) == [(0, False), (1, False)]


def test_manifests_tell_it_and_those_of_earlier_software_tell_of_none() -> None:
    rows: list[dict[str, Any]] = [
        {"object_id": "a"},
        {"object_id": "b", "stands_in": 1},
        {"object_id": "c", "stands_in": 0},
    ]
    assert standing_in({"instances": rows}) == {"b"}


def test_the_data_set_is_what_was_sent(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        receive(box, ONE)
        lose(box, rotten)
        receive(box, OTHER)
        assert data_set_of(box, recorded(box)[-1]) == OTHER.data_set
