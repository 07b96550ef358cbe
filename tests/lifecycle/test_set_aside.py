"""An image that came and could not be recorded names a patient, in no study: that study is not destroyed past it."""

from __future__ import annotations

import pytest

from appliance.catalog import instances, studies, tombstones
from appliance.ingest import Reception
from appliance.ingest.held import HELD
from appliance.lifecycle import destruction, purging
from appliance.lifecycle.acting import Act
from tests.backup.conftest import Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.boxes import recorded, send
from tests.lifecycle.purge import GONE, LATER, approve, study_of

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk


def test_a_study_of_which_an_image_is_set_aside_stays_until_that_is_accepted(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    box, record_many = clinic.box, instances.record_many
    clinic.receive(*GONE[1:])

    def refuse_one(tx: object, batch: object) -> object:
        if any(received.header.sop_instance_uid == GONE[0].sop_instance_uid for received, _ in batch):  # type: ignore[attr-defined]
            raise ValueError("a defect")
        return record_many(tx, batch)  # type: ignore[arg-type]

    with monkeypatch.context() as defect:
        defect.setattr(instances, "record_many", refuse_one)
        reception = Reception(box, "dicom-0")
        send(reception, GONE[0])
        reception.close()
    (aside,) = (box.intake_folder / HELD).iterdir()
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


def test_one_of_another_study_and_a_damaged_record_keep_nobody(clinic: Clinic) -> None:
    box = clinic.box
    clinic.receive(*GONE)
    clinic.deliver()
    (box.intake_folder / HELD).mkdir()
    (box.intake_folder / HELD / "damaged.record").write_bytes(b"nothing opens this")
    approve(box, study_of(box, GONE[0]).id)
    purging.carry_out(box, LATER)
    assert recorded(box) == []
