"""What is acknowledged is durable, recorded once, byte for byte, with everything it is owed."""

from __future__ import annotations

import errno
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import audit, health
from appliance.box import Box
from appliance.catalog import deliveries, destinations, instances, rules
from appliance.dicom.header import read_start
from appliance.errors import Mismatch, NotUnderstood, OutOfResources
from appliance.ingest import Awaiting, OrphanSweep, Reception, accept, import_file, sealing
from appliance.ingest.importing import seal_file
from appliance.ingest.orphans import GRACE_SECONDS
from appliance.lifecycle import freezing
from appliance.lifecycle.acting import Act
from appliance.model import DestinationId, DestinationSettings, Intake, ObjectId, Origin, Rule
from appliance.store.intake_log import metadata_in
from tests.boxes import MODALITY, box_in, data_set_of, recorded, send
from tests.instances import EXPLICIT_LITTLE_ENDIAN, Instance
from tests.store.faults import FaultyDisk, os_error

MIB = 1 << 20
SIZES = [0, 2000, 130_000, MIB - 2000, MIB, MIB + 1, 3 * MIB, 17 * MIB]


def owe_everything(box: Box, folder: Path) -> DestinationId:
    with box.catalog.transaction() as tx:
        destination_id = destinations.add(
            tx, DestinationSettings("elsewhere", "folder", "dicom", {"path": str(folder)})
        )
        rules.add_rule(tx, Rule(destination_id, "elsewhere", "dicom"))
    return destination_id


@pytest.mark.parametrize("size", SIZES)
def test_the_data_set_is_kept_byte_for_byte_whatever_its_size(tmp_path: Path, size: int) -> None:
    instance = Instance(1, pixel_bytes=size)
    with box_in(tmp_path, log_bytes=16 * MIB) as box:
        reception = Reception(box, "worker")
        send(reception, instance)
        reception.close()
        (row,) = recorded(box)
        assert data_set_of(box, row) == instance.data_set
        assert row.sealed_bytes == box.objects.path(row.object_id).stat().st_size
        assert (row.origin_name, row.version, row.patient_conflict) == ("MODALITY", 0, False)


def test_an_acknowledged_instance_is_owed_and_audited_in_the_same_moment(tmp_path: Path) -> None:
    with box_in(tmp_path / "box") as box:
        owe_everything(box, tmp_path / "there")
        reception = Reception(box, "worker")
        send(reception, Instance(1))
        reception.close()
        with box.catalog.reading() as reading:
            (owed,) = deliveries.list_deliveries(reading)
            assert owed.state == "PENDING"
            assert audit.verify(reading, box.audit_key, None) == []
            assert [entry["action"] for entry in audit.export(reading)] == ["instance:receive"]


@pytest.mark.parametrize("attributes", [True, False])
def test_what_was_acknowledged_is_accepted_by_the_next_process(tmp_path: Path, attributes: bool) -> None:
    sent = [Instance(number, pixel_bytes=size) for number, size in enumerate([500, MIB // 2, 2 * MIB])]
    disk = FaultyDisk(error=os_error(errno.EIO), attributes=attributes)
    with box_in(tmp_path, disk=disk) as box:
        reception = Reception(box, "worker")
        reception._queue = type(reception._queue)()  # the settler never hears of them: the process "dies"
        for instance in sent:
            send(reception, instance)
        reception._log.close()
        assert recorded(box) == []
        assert OrphanSweep(box).sweep(0.0) == 0
    with box_in(tmp_path) as box:
        Reception(box, "worker").close()
        assert [data_set_of(box, row) for row in recorded(box)] == [each.data_set for each in sent]
        Reception(box, "worker").close()
        assert len(recorded(box)) == 3
        assert list(box.objects.parts.glob("*/*")) == []
        assert list(metadata_in(box.intake_folder, box.intake_key))[3:] == []


def test_an_identical_resend_is_acknowledged_and_nothing_is_written(tmp_path: Path) -> None:
    for size in (2000, 3 * MIB):
        instance = Instance(1, pixel_bytes=size)
        with box_in(tmp_path / str(size)) as box:
            reception = Reception(box, "worker")
            send(reception, instance)
            reception.close()
            before = sorted(box.objects.ids())
            logged = len(list(metadata_in(box.intake_folder, box.intake_key)))
            reception = Reception(box, "worker")
            send(reception, instance)
            assert len(list(metadata_in(box.intake_folder, box.intake_key))) <= logged
            reception.close()
            assert sorted(box.objects.ids()) == before
            assert len(recorded(box)) == 1


def test_identical_resends_at_the_same_moment_are_kept_once(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        first, second = Reception(box, "one"), Reception(box, "two")
        for reception in (first, second, first, second):
            send(reception, Instance(1, pixel_bytes=2 * MIB))
            send(reception, Instance(2))
        first.close()
        second.close()
        assert len(recorded(box)) == 2
        assert len(list(box.objects.ids())) == 2


def test_other_bytes_under_the_same_identity_are_both_kept_and_flagged(tmp_path: Path) -> None:
    one, other = Instance(1), Instance(1, variant=1)
    with box_in(tmp_path / "box") as box:
        owe_everything(box, tmp_path / "there")
        reception = Reception(box, "worker")
        for each in (one, other, other, one):
            send(reception, each)
        reception.close()
        rows = recorded(box)
        assert [(row.version, data_set_of(box, row)) for row in rows] == [
            (0, one.data_set),
            (1, other.data_set),
        ]
        with box.catalog.reading() as reading:
            # a second version goes to no archive before a person has decided
            assert [each.sop_instance_uid for each in deliveries.list_deliveries(reading)] == [
                one.sop_instance_uid
            ]
            assert "instance:duplicate" in [entry["action"] for entry in audit.export(reading)]


def test_a_further_version_is_kept_where_a_restore_has_brought_a_later_one_alone(tmp_path: Path) -> None:
    """As after a fire, where the first version had reached no archive."""
    second, third = Instance(1, variant=1), Instance(1, variant=2)
    with box_in(tmp_path) as box:
        received = seal_file(box, io.BytesIO(second.data_set), MODALITY)
        with box.catalog.transaction() as tx:
            instances.record(tx, received, version=1)
        reception = Reception(box, "worker")
        send(reception, third)
        reception.close()
        assert [(row.version, data_set_of(box, row)) for row in recorded(box)] == [
            (1, second.data_set),
            (2, third.data_set),
        ]


def test_another_patient_in_the_same_study_is_kept_and_flagged(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        send(reception, Instance(1))
        send(reception, Instance(2, patient_id="OTHER", patient_name="Quelqu'un^D'autre"))
        reception.close()
        assert [row.patient_conflict for row in recorded(box)] == [False, True]


@pytest.mark.parametrize("size", [2000, 3 * MIB])
def test_a_data_set_that_is_not_what_was_announced_is_refused_and_leaves_nothing(
    tmp_path: Path, size: int
) -> None:
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        for announced in (
            {"sop_instance_uid": "1.2.3"},
            {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4"},
        ):
            instance = Instance(1, pixel_bytes=size)
            known = {"sop_class_uid": instance.sop_class_uid, "sop_instance_uid": instance.sop_instance_uid}
            arrival = reception.begin(
                MODALITY,
                transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
                **{**known, **announced},  # type: ignore[arg-type]
            )
            arrival.write(memoryview(instance.data_set))
            with pytest.raises(Mismatch):
                arrival.finish()
        reception.close()
        assert_nothing_is_kept(box)


def assert_nothing_is_kept(box: Box) -> None:
    assert recorded(box) == []
    assert list(box.objects.ids()) == []
    assert list(box.objects.parts.glob("*/*")) == []
    assert list(metadata_in(box.intake_folder, box.intake_key)) == []


@pytest.mark.parametrize("size", [2000, 3 * MIB])
def test_an_abort_in_mid_transfer_leaves_nothing(tmp_path: Path, size: int) -> None:
    instance = Instance(1, pixel_bytes=size)
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        arrival = reception.begin(
            MODALITY,
            sop_class_uid=instance.sop_class_uid,
            sop_instance_uid=instance.sop_instance_uid,
            transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        )
        arrival.write(memoryview(instance.data_set)[: size // 2])
        arrival.abandon()
        arrival.abandon()
        reception.close()
        assert_nothing_is_kept(box)


def test_a_study_uid_that_comes_late_still_chooses_the_key(tmp_path: Path) -> None:
    instance = Instance(1)
    encoded = instance.data_set
    at = encoded.index(b"\x10\x00\x10\x00PN")
    private = b"\x09\x00\x10\x00LO\x04\x00ABCD" + b"\x09\x00\x01\x10OB\0\0" + (5 * MIB).to_bytes(4, "little")
    late = encoded[:at] + private + bytes(5 * MIB) + encoded[at:]
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        arrival = reception.begin(
            MODALITY,
            sop_class_uid=instance.sop_class_uid,
            sop_instance_uid=instance.sop_instance_uid,
            transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        )
        for start in range(0, len(late), 70_000):
            arrival.write(memoryview(late)[start : start + 70_000])
        arrival.finish()
        reception.close()
        (row,) = recorded(box)
        assert data_set_of(box, row) == late


def test_a_data_set_that_never_says_its_study_is_read_a_few_times_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, original = [0], read_start

    def counted(*arguments: object, **named: object) -> object:
        reads[0] += 1
        return original(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(sealing, "read_start", counted)
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        arrival = reception.begin(
            MODALITY,
            sop_class_uid=Instance(1).sop_class_uid,
            sop_instance_uid=Instance(1).sop_instance_uid,
            transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        )
        arrival.write(memoryview(b"\x09\x00\x01\x10OB\0\0" + (1 << 30).to_bytes(4, "little")))
        with pytest.raises(NotUnderstood, match="64 MiB"):
            for _ in range(65):
                arrival.write(memoryview(bytes(MIB)))
        arrival.abandon()
        reception.close()
        assert reads[0] <= 8  # each begins anew, so that their number is what it costs
        assert_nothing_is_kept(box)


def test_at_the_reserve_reception_refuses_and_resumes_by_itself(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        reserve = box.guard.space().free_bytes * 2
        box.guard.reserve_bytes = reserve
        with pytest.raises(OutOfResources):
            reception.admit()
        with pytest.raises(OutOfResources):
            send(reception, Instance(1))
        box.guard.reserve_bytes = 0
        reception.admit()
        send(reception, Instance(1))
        reception.close()
        assert len(recorded(box)) == 1


def test_an_imported_file_is_recorded_at_once(tmp_path: Path) -> None:
    from appliance.dicom.part10 import file_head

    instance = Instance(7, pixel_bytes=2 * MIB)
    head = file_head(
        sop_class_uid=instance.sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        source_ae_title="ELSEWHERE",
    )
    with box_in(tmp_path) as box:
        origin = Origin(Intake.IMPORT, "a person")
        header = import_file(box, io.BytesIO(head + instance.data_set), origin)
        assert header.patient_name == instance.patient_name
        import_file(box, io.BytesIO(head + instance.data_set), origin)
        (row,) = recorded(box)
        assert data_set_of(box, row) == instance.data_set
        assert len(list(box.objects.ids())) == 1
        with pytest.raises(NotUnderstood):
            import_file(box, io.BytesIO(b"this is a letter, not an image"), origin)
        assert list(box.objects.parts.glob("*/*")) == []


def test_an_instance_that_can_never_be_recorded_is_set_aside_and_holds_up_nobody(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        original = instances.record_many

        def refuse_one(tx: object, batch: object) -> object:
            if any(received.header.instance_number == "2" for received, _ in batch):  # type: ignore[attr-defined]
                raise ValueError("a defect")
            return original(tx, batch)  # type: ignore[arg-type]

        instances.record_many = refuse_one  # type: ignore[assignment]
        try:
            for number in range(4):
                send(reception, Instance(number))
            reception.close()
        finally:
            instances.record_many = original
        assert [row.instance_number for row in recorded(box)] == ["0", "1", "3"]
        (held,) = (box.intake_folder / "held").iterdir()
        assert box.objects.path(held.stem).exists()  # type: ignore[arg-type]
        sweep = OrphanSweep(box)
        sweep.sweep(0.0)
        sweep.sweep(1e9)
        assert box.objects.path(held.stem).exists()  # type: ignore[arg-type]
        assert [each.code for each in health.status(box, datetime.now(UTC)).problems].count("set-aside") == 1
        Reception(box, "worker").close()  # the defect is mended, and the box starts again
        assert [row.instance_number for row in recorded(box)] == ["0", "1", "2", "3"]
        assert list((box.intake_folder / "held").iterdir()) == []
        assert "set-aside" not in [each.code for each in health.status(box, datetime.now(UTC)).problems]


def test_an_orphan_is_removed_only_after_two_sweeps_an_hour_apart(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        send(reception, Instance(1))
        reception.close()
        writer = box.objects.create("ab" * 16, "worker")  # type: ignore[arg-type]
        writer.write([b"never recorded"])
        writer.keep()
        sweep = OrphanSweep(box)
        assert sweep.sweep(100.0) == 0
        assert sweep.sweep(3000.0) == 0
        assert sweep.sweep(3800.0) == 1
        assert [row.object_id for row in recorded(box)] == list(box.objects.ids())


@pytest.mark.parametrize("meanwhile", ["recorded", "guarded"])
def test_an_orphan_is_looked_for_again_in_the_transaction_that_removes(
    tmp_path: Path, meanwhile: str
) -> None:
    """Copies of a whole study wait for their rows for as long as it takes; the guard may begin to hold at any moment."""
    with box_in(tmp_path) as box:
        sealed = seal_file(box, io.BytesIO(Instance(1).data_set), MODALITY)

        class Late(OrphanSweep):
            """Between its look at the catalog and the removal, something else comes first."""

            def _without_row(self) -> set[ObjectId]:
                found = super()._without_row()
                if found and self._since:
                    if meanwhile == "recorded":
                        accept(box, [Awaiting(sealed)])
                    else:
                        with box.catalog.transaction() as tx:
                            act = Act("marie", datetime.now(UTC), box.audit_key)
                            freezing.freeze(tx, act, reason="a strange message")
                return found

        sweep = Late(box)
        assert sweep.sweep(0.0) == 0
        assert sweep.sweep(GRACE_SECONDS) == 0
        assert list(box.objects.ids()) == [sealed.stored.object_id]


def test_no_clear_byte_is_on_the_disk(tmp_path: Path) -> None:
    with box_in(tmp_path) as box:
        reception = Reception(box, "worker")
        send(reception, Instance(1))
        send(reception, Instance(2, pixel_bytes=2 * MIB))
        reception.close()
    found = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file()
        and any(marker in path.read_bytes() for marker in (b"MARK0001", b"Marqueur", b"2.25.1000"))
    ]
    assert found == []
