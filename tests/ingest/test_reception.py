"""What went wrong once is waited for or set aside, and never stands in the way of what comes next."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog import instances
from appliance.errors import Corrupt, OperatorNeeded, OutOfResources, Transient
from appliance.ingest import OrphanSweep, Reception
from appliance.ingest import reception as module
from appliance.ingest.awaiting import recorded_parts
from tests.boxes import box_in, data_set_of, recorded, send
from tests.instances import Instance
from tests.store.faults import FaultyDisk, Killed, os_error

MIB = 1 << 20
Damage = Callable[[Path], object]


def left_behind(box: Box, *sent: Instance) -> None:
    """Acknowledge `sent` in a process that dies before it settles them."""
    reception = Reception(box, "worker")
    reception._queue = type(reception._queue)()
    for each in sent:
        send(reception, each)
    reception._log.close()


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refused(tx: object, batch: object) -> object:
        raise error

    monkeypatch.setattr(instances, "record_many", refused)


def altered(path: Path) -> None:
    sealed = bytearray(path.read_bytes())
    sealed[-20] ^= 1
    path.write_bytes(sealed)


def on_a_bad_sector(path: Path) -> None:
    path.unlink()
    path.mkdir()  # it opens, and fails at every read


@pytest.mark.parametrize("damage", [altered, on_a_bad_sector])
@pytest.mark.parametrize("size", [2000, 2 * MIB])
def test_a_damaged_copy_keeps_no_good_one_out(tmp_path: Path, damage: Damage, size: int) -> None:
    sent = Instance(1, pixel_bytes=size)
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        send(reception, sent)
        reception.close()
        (row,) = recorded(box)
        damage(box.objects.path(row.object_id))
        reception = Reception(box, "worker")
        send(reception, sent)
        send(reception, Instance(2))
        reception.close()
        rows = recorded(box)
        assert [(each.instance_number, each.version) for each in rows] == [("1", 0), ("1", 1), ("2", 0)]
        assert data_set_of(box, rows[1]) == sent.data_set
        assert not (box.intake_folder / "held").exists()


@pytest.mark.parametrize("error", [Transient("busy"), OutOfResources("full")])
def test_a_reception_that_could_not_start_can_be_started_later(tmp_path: Path, error: Exception) -> None:
    with box_in(tmp_path) as box:
        left_behind(box, Instance(1), Instance(2, pixel_bytes=2 * MIB))
        with pytest.MonkeyPatch.context() as patch:
            refuse(patch, error)
            for _ in range(2):
                with pytest.raises(type(error), match=str(error)):
                    Reception(box, "worker")
        Reception(box, "worker").close()
        assert [row.instance_number for row in recorded(box)] == ["1", "2"]


def test_nothing_is_set_aside_when_it_is_the_catalog_that_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., object]
) -> None:
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        with monkeypatch.context() as patch:
            refuse(patch, Corrupt("the catalog is damaged"))
            for number in range(3):
                send(reception, Instance(number, pixel_bytes=number * MIB))
            reception.close()
            with pytest.raises(OperatorNeeded):
                Reception(box, "worker")
        assert not (box.intake_folder / "held").exists()
        Reception(box, "worker").close()
        assert [row.instance_number for row in recorded(box)] == ["0", "1", "2"]


@pytest.mark.parametrize("attributes", [True, False])
def test_a_part_that_was_set_aside_outlives_every_sweep_and_the_log_tells_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, attributes: bool
) -> None:
    disk = FaultyDisk(error=os_error(errno.EIO), attributes=attributes)
    with box_in(tmp_path, disk=disk) as box:
        reception = Reception(box, "worker")
        instance = Instance(1, pixel_bytes=2 * MIB)
        with caplog.at_level(logging.DEBUG), monkeypatch.context() as patch:
            refuse(patch, ValueError(f"cannot digest {instance.patient_name}"))
            send(reception, instance)
            reception.close()
        assert instance.patient_name not in caplog.text
        sweep = OrphanSweep(box)
        for hour in range(3):
            assert sweep.sweep(hour * 3601.0) == 0
        (held,) = (box.intake_folder / "held").iterdir()
        assert list(box.objects.ids()) == [held.stem]


def test_setting_aside_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., object]
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    disk = FaultyDisk(error=os_error(errno.ENOSPC))
    with box_in(tmp_path, disk=disk) as box:
        reception = Reception(box, "worker")
        with monkeypatch.context() as patch:
            refuse(patch, ValueError("a defect"))
            monkeypatch.setattr(module, "_GATHER_SECONDS", 0.5)
            send(reception, Instance(1, pixel_bytes=2 * MIB))
            disk.fail_from = len(disk.calls) + 1
            seen = len(disk.calls)
            eventually(lambda: len(disk.calls) > seen + 3)
            assert reception.is_settling
            disk.fail_from = 0
            held = box.intake_folder / "held"
            eventually(lambda: held.is_dir() and any(path.stat().st_size for path in held.iterdir()))
        send(reception, Instance(2))
        reception.close()
        assert [row.instance_number for row in recorded(box)] == ["2"]


def test_a_settling_that_is_tried_again_knows_what_it_dropped_as_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., object]
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(module, "_GATHER_SECONDS", 1.0)
    original, calls = instances.record_many, [0]

    def busy_at_the_third(tx: object, batch: object) -> object:
        calls[0] += 1
        if calls[0] == 3:
            raise Transient("busy")
        return original(tx, batch)  # type: ignore[arg-type]

    sent = [Instance(1, pixel_bytes=2 * MIB, variant=variant) for variant in (0, 0, 0, 1, 2)]
    with box_in(tmp_path) as box:
        monkeypatch.setattr(instances, "record_many", busy_at_the_third)
        reception = Reception(box, "worker")
        for each in sent:
            send(reception, each)
        eventually(lambda: len(recorded(box)) == 3)
        reception.close()
        assert calls[0] > 3
        assert not (box.intake_folder / "held").exists()
        assert len(list(box.objects.ids())) == 3


def test_a_part_may_get_its_name_while_it_is_being_replayed(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        left_behind(box, Instance(1, pixel_bytes=2 * MIB))
        (waiting,) = recorded_parts(box, "worker")
        box.objects.path(waiting.received.stored.object_id)  # the console shows it
        with waiting.open(box) as reader:
            assert reader.size == waiting.received.stored.size_bytes
        assert os.listdir(box.objects.parts / "worker") == []


def test_a_part_that_is_recorded_during_a_sweep_stays(tmp_path: Path) -> None:
    disk = FaultyDisk(error=os_error(errno.EIO), attributes=False)
    with box_in(tmp_path, disk=disk) as box:
        left_behind(box, Instance(1, pixel_bytes=2 * MIB))
        look = box.objects.abandoned_parts

        def settled_meanwhile() -> list[object]:
            found = look()
            Reception(box, "worker").close()  # recorded, named, and its log recycled
            return list(found)

        box.objects.abandoned_parts = settled_meanwhile  # type: ignore[assignment, method-assign]
        sweep = OrphanSweep(box)
        sweep.sweep(0.0)
        sweep.sweep(1e6)
        (row,) = recorded(box)
        assert list(box.objects.ids()) == [row.object_id]


@pytest.mark.slow
def test_a_large_image_that_is_being_set_aside_is_lost_at_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FaultyDisk(error=Killed)
    with box_in(tmp_path, disk=disk) as box:
        for step in count(1):
            image = Instance(step, pixel_bytes=2 * MIB)
            left_behind(box, image)
            with monkeypatch.context() as defect:
                refuse(defect, ValueError("a defect"))
                disk.fail_at = len(disk.calls) + step
                with suppress(Killed):
                    Reception(box, "worker").close()
            is_cut, disk.fail_at = len(disk.calls) == disk.fail_at, 0
            Reception(box, "worker").close()  # mended, and started again
            assert image.sop_instance_uid in {row.sop_instance_uid for row in recorded(box)}
            if not is_cut:
                break
    assert step > 3, "it was cut"
