"""The test study: the same bytes each time, unmistakable, and right by an outside judge."""

import io
import subprocess
from pathlib import Path

import numpy as np
import pydicom

from appliance.dicom.part10 import file_head
from appliance.imaging import Darkroom, View
from appliance.wizard import sample
from appliance.wizard.sample import Sample, new_sample

MADE = new_sample("20260301", "093000")


def part10(made: Sample) -> bytes:
    return (
        file_head(
            sop_class_uid=sample.SOP_CLASS,
            sop_instance_uid=made.sop_instance_uid,
            transfer_syntax_uid=sample.TRANSFER_SYNTAX,
            source_ae_title="TEST",
        )
        + made.data_set()
    )


def test_it_is_drawn_the_same_to_the_byte_each_time() -> None:
    assert MADE.data_set() == MADE.data_set()
    assert new_sample("20260301", "093000").data_set() != MADE.data_set()


def test_nobody_can_take_it_for_a_patient() -> None:
    ds = pydicom.dcmread(io.BytesIO(part10(MADE)))
    assert ds.PatientName == "TEST^CLINICBOX"
    assert ds.PatientID == "CLINICBOX-TEST"
    assert "no patient" in ds.StudyDescription
    assert ds.PatientBirthDate == ""
    assert ds.Modality == "PX"


def test_its_picture_is_drawn_by_the_viewers_own_darkroom() -> None:
    from PIL import Image

    whole = part10(MADE)
    darkroom = Darkroom(1, task_seconds=300)
    try:
        picture = Image.open(io.BytesIO(darkroom.render(io.BytesIO(whole), len(whole), View())))
    finally:
        darkroom.close()
    grey = np.asarray(picture.convert("L"))
    assert picture.size == (sample.COLUMNS, sample.ROWS)
    assert grey.std() > 20, "an empty picture proves nothing"


def test_an_outside_judge_finds_no_error_in_it(tmp_path: Path) -> None:
    file = tmp_path / "test.dcm"
    file.write_bytes(part10(MADE))
    said = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
    errors = [line for line in said.stderr.splitlines() if line.startswith("Error")]
    assert not errors, errors
