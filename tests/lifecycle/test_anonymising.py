"""A study that two people have approved to be made anonymous: its images stay, and nothing says whose they were."""

from __future__ import annotations

import errno
import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest

from appliance.box import Box
from appliance.catalog import deliveries, destinations, instances, rules, studies, tombstones
from appliance.catalog.columns import canonical_json
from appliance.catalog.holds import HoldKind
from appliance.catalog.instances import InstanceRow
from appliance.errors import Refused, Transient
from appliance.ingest.importing import import_file
from appliance.ingest.orphans import GRACE_SECONDS, OrphanSweep
from appliance.lifecycle import anonymising, certificate, holds, purging
from appliance.lifecycle.acting import Act
from appliance.lifecycle.request import Method
from appliance.model import DestinationSettings, Intake, Origin, Rule, Uid
from appliance.replication.destinations import prepare
from tests.backup.conftest import Clinic, clinic_in
from tests.boxes import box_in
from tests.catalog.arrivals import received
from tests.lifecycle.purge import LATER, approve, carry_out
from tests.lifecycle.remains import clear_pages
from tests.rot import last_byte_changed
from tests.synthetic.dental import colour_photo, full_mouth_series

pytestmark = pytest.mark.slow


@pytest.fixture
def clinic(tmp_path: Path, disk: DestinationSettings) -> Iterator[Clinic]:
    with clinic_in(tmp_path / "box", disk) as clinic:
        yield clinic


@pytest.fixture
def disk(tmp_path: Path) -> DestinationSettings:
    (tmp_path / "usb").mkdir()
    return prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))


def take_in(box: Box, photo: bool = True) -> tuple[int, list[pydicom.Dataset]]:
    """A study of three films and a photograph, on which a name could be; its row and the films."""
    films = [*full_mouth_series(scale=0.2)][:3]
    everything = films + ([colour_photo(scale=0.2)] if photo else [])
    for each in everything:
        each.StudyInstanceUID, each.PatientID, each.PatientName = "1.2.3.77", "GONE-77", "Zzyzxmarker^Alma"
        each.AccessionNumber = ""
        file = io.BytesIO()
        pydicom.dcmwrite(file, each, enforce_file_format=True)
        file.seek(0)
        import_file(box, file, Origin(Intake.IMPORT, "tests"))
    with box.catalog.reading() as conn:
        (row,) = [each for each in studies.find(conn, limit=10) if each.study_instance_uid == "1.2.3.77"]
    return row.id, films


def rows_of(box: Box, study_id: int) -> list[InstanceRow]:
    with box.catalog.reading() as conn:
        row = studies.study_by_id(conn, study_id)
        return instances.instances_of_study(conn, row.study_instance_uid) if row else []


def all_studies(box: Box) -> list[studies.StudyRow]:
    with box.catalog.reading() as conn:
        return studies.find(conn, limit=100)


def data_of(box: Box, row: InstanceRow) -> bytes:
    with box.open_object(row.object_id, row.key_id) as reader:
        return reader.read() or b""


def test_the_images_stay_without_the_person_and_the_study_is_gone_everywhere(
    clinic: Clinic, tmp_path: Path
) -> None:
    box = clinic.box
    study, films = take_in(box)
    clinic.deliver()
    clinic.back_up()
    gone = study_of_row(box, study)
    with box.catalog.reading() as conn:
        assert anonymising.kept_of(conn, [study]) == anonymising.Stays(3, 4)
    approve(box, study, method=Method.ANONYMISE)
    carry_out(clinic)
    (kept,) = all_studies(box)
    assert kept.id != study
    rows = rows_of(box, kept.id)
    assert len(rows) == 3, "the photograph may say whose it is"
    made = [pydicom.dcmread(io.BytesIO(data_of(box, each))) for each in rows]
    by_pixels = {each.pixel_array.tobytes() for each in made}
    assert by_pixels == {each.pixel_array.tobytes() for each in films}
    assert len({each.SeriesInstanceUID for each in made}) == len({each.SeriesInstanceUID for each in films})
    for uid in {gone.study_instance_uid, *(str(each.SOPInstanceUID) for each in films)}:
        assert all(uid.encode() not in data_of(box, each) for each in rows)
    clinic.deliver()
    with box.catalog.reading() as conn:
        assert all(deliveries.holders(conn, each.object_id) for each in rows), (
            "the copies are archived like any image"
        )
        (paper,) = tombstones.certificates(conn)
        told = certificate.document(conn, paper, LATER)
    assert told["authority"]["method"] == "anonymise"
    assert [each["kept_anonymous"] for each in told["studies"]] == [3]
    assert str(kept.study_instance_uid) not in canonical_json(told), "nothing says which study it became"
    pages = clear_pages(box.config.data / "catalog.db", box.root.derive("catalog"))
    assert b"Zzyzxmarker" not in pages
    assert b"GONE-77" not in pages


def study_of_row(box: Box, study: int) -> studies.StudyRow:
    with box.catalog.reading() as conn:
        row = studies.study_by_id(conn, study)
    assert row is not None
    return row


class Cut(BaseException):
    """The power failed."""


def test_cut_at_any_step_there_are_never_both_and_never_neither(
    tmp_path: Path, disk: DestinationSettings
) -> None:
    data = tmp_path / "box"
    with clinic_in(data, disk) as clinic:
        study, _ = take_in(clinic.box)
        clinic.deliver()
        approve(clinic.box, study, method=Method.ANONYMISE)
    for word in ("copies sealed", "destroying"):

        def reached(step: str, at: str = word) -> None:
            if step == at:
                raise Cut

        with box_in(data) as box:
            with pytest.raises(Cut):
                purging.carry_out(box, LATER, purging.Around(reached=reached))
            assert [each.id for each in all_studies(box)] == [study]
            left = {row.object_id for row in rows_of(box, study)}
            assert set(box.objects.ids()) - left, "sealed copies lie there"
            sweep = OrphanSweep(box)
            assert sweep.sweep(0.0) == 0
            assert sweep.sweep(GRACE_SECONDS) == 3
            assert set(box.objects.ids()) == left
    with box_in(data) as box:
        assert purging.carry_out(box, LATER) == 1
        (kept,) = all_studies(box)
        assert kept.instances == 3
        assert {row.object_id for row in rows_of(box, kept.id)} == set(box.objects.ids())


def test_copies_that_the_sweep_has_eaten_destroy_nothing(clinic: Clinic) -> None:
    """A study that takes longer than the grace: its first copies are orphans, and gone when the last one is made."""
    box = clinic.box
    study, _ = take_in(box)
    clinic.deliver()
    approve(box, study, method=Method.ANONYMISE)
    originals = {row.object_id for row in rows_of(box, study)}

    def reached(step: str) -> None:
        if step == "copies sealed":
            sweep = OrphanSweep(box)
            sweep.sweep(0.0)
            assert sweep.sweep(GRACE_SECONDS) == 3

    assert purging.carry_out(box, LATER, purging.Around(reached=reached)) == 0
    assert [each.id for each in all_studies(box)] == [study]
    assert set(box.objects.ids()) == originals
    assert purging.carry_out(box, LATER) == 1
    (kept,) = all_studies(box)
    assert {row.object_id for row in rows_of(box, kept.id)} == set(box.objects.ids())


def test_a_copy_that_is_cut_short_destroys_nothing(clinic: Clinic) -> None:
    box = clinic.box
    study, _ = take_in(box)
    clinic.deliver()
    approve(box, study, method=Method.ANONYMISE)
    originals = {row.object_id for row in rows_of(box, study)}

    def reached(step: str) -> None:
        if step == "copies sealed":
            path = box.objects.path(min(set(box.objects.ids()) - originals))
            path.write_bytes(path.read_bytes()[:-1])

    assert purging.carry_out(box, LATER, purging.Around(reached=reached)) == 0
    assert [each.id for each in all_studies(box)] == [study]
    assert set(box.objects.ids()) == originals


# --- what is wrong with one image --------------------------------------------------------------------------------------

BROKEN = {
    "a decimal that is none": (b"\x28\x00\x50\x10DS\x04\x001024", b"\x28\x00\x50\x10DS\x04\x00abc "),
    "a whole number that is none": (b"\x28\x00\x08\x00IS\x02\x001 ", b"\x28\x00\x08\x00IS\x02\x00x "),
    "a number of three bytes": (
        b"\x28\x00\x06\x01US\x02\x00\x07\x00",
        b"\x28\x00\x06\x01US\x03\x00\x07\x00\x00",
    ),
    "two numbers for one": (
        b"\x28\x00\x00\x01US\x02\x00\x10\x00",
        b"\x28\x00\x00\x01US\x04\x00\x10\x00\x10\x00",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_an_image_of_which_no_copy_can_be_made_keeps_no_other_from_its_own(
    clinic: Clinic, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    box = clinic.box
    caplog.set_level(logging.INFO, "appliance")
    study, _ = take_in(box, photo=False)
    films = [*full_mouth_series(scale=0.2)][3:4]
    for each in films:
        each.StudyInstanceUID, each.PatientID, each.PatientName = "1.2.3.77", "GONE-77", "Zzyzxmarker^Alma"
        each.AccessionNumber, each.WindowCenter, each.NumberOfFrames = "", "1024", "1"
        each.SmallestImagePixelValue = 7
        file = io.BytesIO()
        pydicom.dcmwrite(file, each, enforce_file_format=True)
        right, wrong = BROKEN[broken]
        assert file.getvalue().count(right) == 1
        import_file(box, io.BytesIO(file.getvalue().replace(right, wrong)), Origin(Intake.IMPORT, "tests"))
    clinic.deliver()
    assert len(rows_of(box, study)) == 4
    approve(box, study, method=Method.ANONYMISE)
    assert purging.carry_out(box, LATER) == 1
    (kept,) = all_studies(box)
    assert kept.instances == 3
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("appliance")]
    assert any("is left out" in each for each in ours)
    assert all("abc" not in each for each in ours)


def other_study(box: Box, number: int) -> int:
    """A study of another patient; its row."""
    film = next(iter(full_mouth_series(seed=number, scale=0.2)))
    film.StudyInstanceUID, film.PatientID, film.AccessionNumber = f"1.2.3.8{number}", f"P-{number}", ""
    file = io.BytesIO()
    pydicom.dcmwrite(file, film, enforce_file_format=True)
    file.seek(0)
    import_file(box, file, Origin(Intake.IMPORT, "tests"))
    with box.catalog.reading() as conn:
        (row,) = [
            each for each in studies.find(conn, limit=100) if each.study_instance_uid == film.StudyInstanceUID
        ]
    return row.id


@pytest.mark.parametrize(
    "failure",
    [MemoryError(), OSError(errno.ENOMEM, "no memory"), Transient("no memory to decompress")],
    ids=repr,
)
def test_a_machine_that_can_make_no_copy_now_leaves_no_image_out(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """It says nothing of the image, whose original would be destroyed without a copy."""
    box = clinic.box
    study, _ = take_in(box)
    clinic.deliver()
    approve(box, study, method=Method.ANONYMISE)
    before = set(box.objects.ids())
    written: list[object] = []
    write = pydicom.dcmwrite

    def second_fails(*given: Any, **named: Any) -> None:
        written.append(given)
        if len(written) == 2:
            raise failure
        write(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(pydicom, "dcmwrite", second_fails)
        assert purging.carry_out(box, LATER) == 0
    assert len(written) == 2
    assert [each.id for each in all_studies(box)] == [study]
    assert set(box.objects.ids()) == before
    assert purging.carry_out(box, LATER) == 1
    (kept,) = all_studies(box)
    assert kept.instances == 3


def test_a_defect_in_one_request_is_told_when_the_others_are_carried_out(clinic: Clinic) -> None:
    box = clinic.box
    study, _ = take_in(box)
    other = other_study(box, 1)
    clinic.deliver()
    approve(box, study, method=Method.ANONYMISE)
    approve(box, other)
    gone = {row.object_id for row in rows_of(box, other)}

    def reached(step: str) -> None:
        if step == "copies sealed":
            raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        purging.carry_out(box, LATER, purging.Around(reached=reached))
    assert [each.id for each in all_studies(box)] == [study]
    assert not gone & set(box.objects.ids())


def test_all_studies_of_a_request_are_carried_out_in_one_run(clinic: Clinic) -> None:
    """Copies, and whatever arrives meanwhile, are newer than the start of the run: no reason to doubt the clock."""
    box = clinic.box
    wanted = [other_study(box, number) for number in (1, 2, 3)]
    clinic.deliver()
    approve(box, *wanted, method=Method.ANONYMISE)
    newest = LATER

    def reached(step: str) -> None:
        nonlocal newest
        if step == "destroyed":
            newest += timedelta(microseconds=1)
            with box.catalog.transaction() as tx:
                instances.record(tx, received(newest, study_instance_uid=Uid("1.2.3.99")), version=0)

    assert purging.carry_out(box, LATER, purging.Around(reached=reached)) == 3
    assert not {each.id for each in all_studies(box)} & set(wanted)


# --- what stays ---------------------------------------------------------------------------------------------------------


def test_a_hold_that_comes_while_the_copies_are_made_leaves_the_study_and_no_copy(clinic: Clinic) -> None:
    box = clinic.box
    study, _ = take_in(box)
    clinic.deliver()
    approve(box, study, method=Method.ANONYMISE)

    def reached(step: str) -> None:
        if step == "copies sealed":
            marie = Act(by="marie", now=LATER, audit_key=box.audit_key)
            with box.catalog.transaction() as tx:
                holds.place(
                    tx, marie, kind=HoldKind.LEGAL, study=study, whole_patient=False, reason="a claim"
                )

    assert purging.carry_out(box, LATER, purging.Around(reached=reached)) == 0
    assert [each.id for each in all_studies(box)] == [study]
    assert set(box.objects.ids()) == {row.object_id for row in rows_of(box, study)}


def test_a_study_of_which_nothing_can_stay_is_not_destroyed_under_that_name(clinic: Clinic) -> None:
    box = clinic.box
    photo = colour_photo(scale=0.2)
    file = io.BytesIO()
    pydicom.dcmwrite(file, photo, enforce_file_format=True)
    file.seek(0)
    import_file(box, file, Origin(Intake.IMPORT, "tests"))
    clinic.deliver()
    (row,) = all_studies(box)
    approve(box, row.id, method=Method.ANONYMISE)
    assert purging.carry_out(box, LATER) == 0
    assert [each.id for each in all_studies(box)] == [row.id]
    with box.catalog.reading() as conn, pytest.raises(Refused, match="without saying whose"):
        anonymising.refuse_unless_some_stay(conn, [row.id])


def test_an_image_that_cannot_be_read_as_one_is_left_out_and_keeps_nothing_else_back(clinic: Clinic) -> None:
    box = clinic.box
    study, films = take_in(box, photo=False)
    broken = films[0].copy()
    broken.SOPInstanceUID = broken.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID("1.2.3.77.99")
    file = io.BytesIO()
    pydicom.dcmwrite(file, broken, enforce_file_format=True)
    # BitsStored of three bytes: what reads it raises an error of its own.
    data = file.getvalue().replace(b"\x28\x00\x01\x01US\x02\x00", b"\x28\x00\x01\x01US\x03\x00\x00", 1)
    import_file(box, io.BytesIO(data), Origin(Intake.IMPORT, "tests"))
    clinic.deliver()
    approve(box, study, method=Method.ANONYMISE)
    assert purging.carry_out(box, LATER) == 1
    (kept,) = all_studies(box)
    assert kept.instances == 3


def test_a_copy_that_is_gone_before_the_study_is_destroyed_keeps_it(clinic: Clinic) -> None:
    box = clinic.box
    study, _ = take_in(box)
    clinic.deliver()
    approve(box, study, method=Method.ANONYMISE)
    before = set(box.objects.ids())

    def reached(step: str) -> None:
        if step == "copies sealed":
            box.objects.remove(next(each for each in box.objects.ids() if each not in before))

    assert purging.carry_out(box, LATER, purging.Around(reached=reached)) == 0
    assert [each.id for each in all_studies(box)] == [study]
    assert set(box.objects.ids()) == before
    assert purging.carry_out(box, LATER) == 1


def test_one_study_whose_image_is_damaged_keeps_no_other_from_being_destroyed(clinic: Clinic) -> None:
    box = clinic.box
    study, _ = take_in(box)
    other = colour_photo(scale=0.2)
    other.StudyInstanceUID = "1.2.3.78"
    file = io.BytesIO()
    pydicom.dcmwrite(file, other, enforce_file_format=True)
    file.seek(0)
    import_file(box, file, Origin(Intake.IMPORT, "tests"))
    clinic.deliver()
    row = next(each for each in rows_of(box, study) if each.modality == "IO")
    path = box.objects.path(row.object_id)
    path.write_bytes(last_byte_changed(path.read_bytes()))
    approve(box, study, method=Method.ANONYMISE)
    (second,) = [each.id for each in all_studies(box) if each.id != study]
    approve(box, second)
    assert purging.carry_out(box, LATER) == 1
    assert [each.id for each in all_studies(box)] == [study]


def test_copies_go_to_archives_only(clinic: Clinic) -> None:
    """Another DICOM system has got the study with its name: the anonymous one is not for it."""
    box = clinic.box
    with box.catalog.transaction() as tx:
        peer = DestinationSettings(
            "pacs", "dicom", "dicom", {"host": "127.0.0.1", "port": 1, "called_ae_title": "PACS"}
        )
        peer = replace(peer, id=destinations.add(tx, peer))
    study, _ = take_in(box)
    clinic.deliver()
    with box.catalog.transaction() as tx:
        rules.add_rule(tx, Rule(peer.id, peer.name, peer.takes))
    approve(box, study, method=Method.ANONYMISE)
    assert purging.carry_out(box, LATER) == 1
    with box.catalog.reading() as conn:
        assert {each.destination for each in deliveries.list_deliveries(conn, limit=100)} == {"usb"}
