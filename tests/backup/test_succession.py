"""A restored box takes the place of a blank one: whole, at one restart, and never of a box that holds something."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance.backup import restoring
from appliance.errors import Refused, Transient
from appliance.ingest import Reception
from appliance.store import succession
from appliance.store.disk import Disk
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.test_restoring import Cut, archive_of, restore
from tests.boxes import box_in, config_in, recorded, send
from tests.web.conftest import add_owner

pytestmark = pytest.mark.slow


class FailingDisk(Disk):
    """A disk whose box dies at the n-th rename or sync of a folder, before or after it is done."""

    def __init__(self, steps: int, *, after: bool) -> None:
        self._left = steps
        self._after = after

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Cut

    def rename(self, source: Path, target: Path) -> None:
        if not self._after:
            self._count()
        super().rename(source, target)
        if self._after:
            self._count()

    def sync_directory(self, path: Path) -> None:
        self._count()
        super().sync_directory(path)


@pytest.mark.parametrize("after", [False, True])
def test_a_power_cut_at_any_step_of_the_exchange_leaves_the_blank_box_or_the_restored_one(
    clinic: Clinic, tmp_path: Path, after: bool
) -> None:
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    clinic.back_up()
    data = tmp_path / "after"
    with box_in(data) as box:
        blank = box.root
    archive = archive_of(clinic.place)
    config = config_in(data)
    restoring.prepare(config, archive, clinic.place, clinic.paper, tell=lambda *_: None, actor="tests")
    shutil.copytree(data, tmp_path / "prepared")
    cuts = 0
    for steps in range(60):
        shutil.rmtree(data)
        shutil.copytree(tmp_path / "prepared", data)
        disk, announced = FailingDisk(steps, after=after), False
        try:
            with box_in(data, disk=disk) as box:
                restoring.put_in_service(box)
                announced = True
            with box_in(data, disk=disk) as box:
                assert box.root == clinic.box.root
            break
        except Cut:
            cuts += 1
            announced = announced or succession.is_announced(data)
        with box_in(data) as box:  # the power is back
            assert box.root == (clinic.box.root if announced else blank)
            assert len(recorded(box)) == (2 if announced else 0)
        assert not announced or not (data / "arriving").exists()
    else:
        raise AssertionError("it never came to an end")
    assert cuts > 8, "it was cut at hardly any step"


def test_a_power_cut_that_forgets_from_where_a_folder_was_moved_loses_nothing(
    clinic: Clinic, tmp_path: Path
) -> None:
    """POSIX promises of two folders only what each was synced with: a folder may be in both, and the exchange goes on."""
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    clinic.back_up()
    data = tmp_path / "after"
    with box_in(data):
        pass
    config = config_in(data)
    restoring.prepare(
        config, archive_of(clinic.place), clinic.place, clinic.paper, tell=lambda *_: None, actor="tests"
    )
    shutil.copytree(data / "arriving", tmp_path / "prepared")
    succession.announce(data, Disk())
    with box_in(data):
        pass
    (data / "entering").mkdir()
    shutil.copytree(tmp_path / "prepared" / "keys", data / "entering" / "keys")
    (data / "entering" / "tls").mkdir()
    (data / "entering" / "tls" / "left").write_text("it was on its way")
    (data / "tls").mkdir()
    for name in ("entering", "."):  # folders that hold folders, and no file
        (data / name / "intake" / "part").mkdir(parents=True, exist_ok=True)
    with box_in(data) as box:
        assert box.root == clinic.box.root
        assert len(recorded(box)) == 2
    assert (data / "tls" / "left").exists(), "an empty folder in its place is no reason to leave one behind"
    assert not (data / "entering").exists()


def test_a_box_that_is_open_is_not_exchanged_under_anybody(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(IMAGES[0])
    clinic.deliver()
    clinic.back_up()
    data = tmp_path / "after"
    with box_in(data) as first, box_in(data) as second:
        restore(data, clinic.place, clinic.paper)
        assert succession.is_announced(data)
        with pytest.raises(Transient, match="taking the place"), box_in(data):
            pass
        first.close()
        with pytest.raises(Transient, match="taking the place"), box_in(data):
            pass
        assert recorded(second) == []
    with box_in(data) as box:
        assert len(recorded(box)) == 1


def test_a_box_that_is_claimed_or_gets_an_image_meanwhile_is_not_replaced(
    clinic: Clinic, tmp_path: Path
) -> None:
    clinic.back_up()
    data = tmp_path / "after"
    with box_in(data) as box:
        restoring.prepare(
            config_in(data),
            archive_of(clinic.place),
            clinic.place,
            clinic.paper,
            tell=lambda *_: None,
            actor="tests",
        )
        add_owner(box)
        with pytest.raises(Refused, match="not blank"):
            restoring.put_in_service(box)
        assert not succession.is_announced(data)
    with box_in(tmp_path / "third") as box:
        restoring.prepare(
            config_in(tmp_path / "third"),
            archive_of(clinic.place),
            clinic.place,
            clinic.paper,
            tell=lambda *_: None,
            actor="tests",
        )
        restoring.put_in_service(box)
        reception = Reception(box, "worker")  # one that had begun, and did not see the announcement
        send(reception, IMAGES[0])
        reception.close()
    with box_in(tmp_path / "third") as box:
        assert len(recorded(box)) == 1, "an image that was acknowledged is never moved away"
