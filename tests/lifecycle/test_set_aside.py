"""An image that came and could not be recorded names a patient, in no study: that study is not destroyed past it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog import instances, studies, tombstones
from appliance.ingest import Reception, set_aside
from appliance.lifecycle import destruction, purging
from appliance.lifecycle.acting import Act
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.boxes import recorded, send
from tests.instances import Instance
from tests.lifecycle.purge import GONE, LATER, approve, study_of

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk


def put_aside(box: Box, image: Instance, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of `image`, which came while a defect kept it from being recorded."""
    record_many = instances.record_many

    def refuse_it(tx: object, batch: object) -> object:
        if any(received.header.sop_instance_uid == image.sop_instance_uid for received, _ in batch):  # type: ignore[attr-defined]
            raise ValueError("a defect")
        return record_many(tx, batch)  # type: ignore[arg-type]

    with monkeypatch.context() as defect:
        defect.setattr(instances, "record_many", refuse_it)
        reception = Reception(box, "dicom-0")
        send(reception, image)
        reception.close()
    (record,) = set_aside.paths(box)
    return record


def test_a_study_of_which_an_image_is_set_aside_stays_until_that_is_accepted(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    box = clinic.box
    clinic.receive(*GONE[1:])
    aside = put_aside(box, GONE[0], monkeypatch)
    clinic.deliver()
    asked = approve(box, study_of(box, GONE[1]).id)
    purging.carry_out(box, LATER)
    with box.catalog.reading() as conn:
        assert tombstones.certificates(conn) == [] and len(studies.find(conn)) == 1, (
            "nothing says that it is gone"
        )
    assert "an image of the study came and is set aside" in caplog.text
    assert aside.exists()
    Reception(box, "dicom-0").close()  # mended, and the box starts again
    assert not aside.exists()
    clinic.deliver()
    with box.catalog.transaction() as tx:
        marie = Act(by="marie", now=LATER, audit_key=box.audit_key)
        destruction.withdraw(tx, marie, asked, reason="one image more than was approved")
    approve(box, study_of(box, GONE[1]).id)
    purging.carry_out(box, LATER)
    with box.catalog.reading() as conn:
        (paper,) = tombstones.certificates(conn)
        assert tombstones.studies_of(conn, paper.id)[0].instances == len(GONE)
    assert recorded(box) == []


@pytest.mark.parametrize("of", ["another study", "nobody, since it is damaged"])
def test_one_that_is_not_of_the_study_keeps_it_from_nothing(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    box = clinic.box
    another = next(each for each in IMAGES if each.study_instance_uid != GONE[0].study_instance_uid)
    clinic.receive(*GONE)
    aside = put_aside(box, another, monkeypatch)
    if of != "another study":
        aside.write_bytes(b"nothing opens this")
    clinic.deliver()
    approve(box, study_of(box, GONE[0]).id)
    purging.carry_out(box, LATER)
    assert recorded(box) == []
    assert aside.exists()


def test_a_record_on_a_bad_sector_may_be_anybodys_and_keeps_no_image_from_being_received(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = clinic.box
    another = next(each for each in IMAGES if each.study_instance_uid != GONE[0].study_instance_uid)
    clinic.receive(*GONE)
    aside, read_bytes = put_aside(box, another, monkeypatch), Path.read_bytes

    def read(path: Path) -> bytes:
        if path == aside:
            raise OSError(errno.EIO, "Input/output error")
        return read_bytes(path)

    clinic.deliver()
    approve(box, study_of(box, GONE[0]).id)
    with monkeypatch.context() as sector:
        sector.setattr(Path, "read_bytes", read)
        purging.carry_out(box, LATER)
        assert len(recorded(box)) == len(GONE), "it waits"
        reception = Reception(box, "dicom-0")
        reception.close()
    assert aside.exists()
    purging.carry_out(box, LATER)
    assert recorded(box) == []
