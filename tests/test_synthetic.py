"""The synthetic clinic keeps its promises: valid, repeatable, recognisable, and full of words that a scan can find."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests import synthetic
from tests.synthetic.patients import PYTHON_CODEC

SMALL = 0.1


@pytest.fixture(scope="module")
def clinic() -> list[Dataset]:
    return list(synthetic.clinic_set(7, scale=SMALL))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return synthetic.write(synthetic.clinic_set(7, scale=SMALL), tmp_path_factory.mktemp("clinic"))


def test_the_validator_finds_no_error(files: list[Path]) -> None:
    for path in files:
        verdict = subprocess.run(["dciodvfy", path], capture_output=True, check=False)
        lines = (verdict.stdout + verdict.stderr).decode("latin-1").splitlines()
        assert not [line for line in lines if line.startswith(("Error", "Abort"))], path.name
        assert any(line and not line.startswith("Warning") for line in lines), "the validator named no IOD"


def test_the_validator_would_find_an_error(tmp_path: Path) -> None:
    ds = synthetic.panoramic(scale=SMALL)
    del ds.DetectorType, ds.Rows
    ds.save_as(tmp_path / "broken.dcm", enforce_file_format=True)
    verdict = subprocess.run(["dciodvfy", tmp_path / "broken.dcm"], capture_output=True, check=False)
    assert b"Error" in verdict.stderr


def test_the_same_seed_gives_the_same_bytes(files: list[Path], tmp_path: Path) -> None:
    again = synthetic.write(synthetic.clinic_set(7, scale=SMALL), tmp_path)
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in files]


def test_another_seed_shares_no_uid(clinic: list[Dataset]) -> None:
    other = list(synthetic.clinic_set(8, scale=SMALL))
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        assert not {ds[keyword].value for ds in clinic} & {ds[keyword].value for ds in other}


def test_uids_are_valid_and_unique(clinic: list[Dataset]) -> None:
    uids = [ds.SOPInstanceUID for ds in clinic]
    assert len(set(uids)) == len(uids) == 35
    assert all(uid.is_valid and uid.startswith("2.25.") for uid in uids)


def test_a_study_is_told_the_same_way_by_all_its_instances(clinic: list[Dataset]) -> None:
    studies: dict[str, set[tuple[str, ...]]] = {}
    for ds in clinic:
        told = (ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyDescription, ds.PatientID, ds.StudyID)
        studies.setdefault(ds.StudyInstanceUID, set()).add(told)
    assert len(studies) == 5
    assert all(len(told) == 1 for told in studies.values())


def test_the_dental_set_is_what_the_demonstration_needs() -> None:
    kinds = Counter(ds.Modality for ds in synthetic.dental_set(scale=SMALL))
    assert kinds == {"PX": 1, "IO": 18, "DX": 1, "CT": 1, "XC": 1}


def test_a_panoramic_is_a_digital_x_ray_with_modality_px() -> None:
    ds = synthetic.panoramic(scale=SMALL)
    assert (ds.SOPClassUID.name, ds.Modality) == ("Digital X-Ray Image Storage - For Presentation", "PX")


def test_the_full_mouth_names_every_tooth() -> None:
    films = synthetic.full_mouth_series(scale=SMALL)
    numbers = {
        int(item.EquivalentCodeSequence[0].CodeValue)
        for film in films
        for item in film.PrimaryAnatomicStructureSequence
    }
    assert numbers == {10 * quadrant + tooth for quadrant in (1, 2, 3, 4) for tooth in range(1, 9)}
    assert {film.ImageLaterality for film in films} == {"R", "L", "B"}
    assert len({film.SeriesInstanceUID for film in films}) == 1


def test_tooth_codes_agree_with_their_meaning() -> None:
    sides = {
        1: ("maxillary", "right"),
        2: ("maxillary", "left"),
        3: ("mandibular", "left"),
        4: ("mandibular", "right"),
    }
    teeth = [10 * q + n for q in range(1, 5) for n in range(1, 9)] + [
        10 * q + n for q in range(5, 9) for n in range(1, 6)
    ]
    codes = [synthetic.tooth_code(tooth) for tooth in teeth]
    assert len({code.value for code in codes}) == 52
    for tooth, code in zip(teeth, codes, strict=True):
        jaw, side = sides[(tooth // 10 - 1) % 4 + 1]
        assert jaw in code.meaning.lower() and side in code.meaning.lower(), tooth
        assert ("deciduous" in code.meaning.lower()) == (tooth > 50), tooth


@pytest.mark.parametrize("tooth", [0, 10, 19, 49, 56, 91, -11])
def test_an_impossible_tooth_is_refused(tooth: int) -> None:
    with pytest.raises(ValueError, match="no tooth"):
        synthetic.tooth_code(tooth)


def test_the_cbct_has_frames_but_no_functional_groups() -> None:
    ds = synthetic.cbct(frames=24, size=32)
    assert ds.NumberOfFrames == 24
    assert "PerFrameFunctionalGroupsSequence" not in ds
    assert ds.SliceThickness == ds.PixelSpacing[0]
    assert ds.file_meta.TransferSyntaxUID.is_little_endian
    assert len(ds.PixelData) == 24 * 32 * 32 * 2


@pytest.mark.slow
def test_the_largest_cbct_weighs_308_mb() -> None:
    ds = synthetic.cbct(frames=536, size=536)
    assert 307e6 < len(ds.PixelData) < 309e6


@pytest.mark.parametrize("bits", [12, 16])
def test_monochrome_1_is_the_inverse_of_monochrome_2(bits: int) -> None:
    one = synthetic.panoramic(scale=SMALL, bits=bits, photometric="MONOCHROME1")
    two = synthetic.panoramic(scale=SMALL, bits=bits, photometric="MONOCHROME2")
    top = (1 << bits) - 1
    total = np.frombuffer(one.PixelData, "<u2").astype(int) + np.frombuffer(two.PixelData, "<u2")
    assert np.abs(total - top).max() <= 1
    assert np.frombuffer(two.PixelData, "<u2").max() <= top


def test_pictures_have_contrast(clinic: list[Dataset]) -> None:
    for ds in clinic:
        if "PixelData" not in ds:
            continue
        samples = np.frombuffer(ds.PixelData, "u1" if ds.BitsAllocated == 8 else "<u2")
        assert len(np.unique(samples)) > 100, ds.SeriesDescription
        assert len(samples) == ds.Rows * ds.Columns * ds.SamplesPerPixel * int(ds.get("NumberOfFrames", 1))


def test_the_right_is_marked_on_the_right(clinic: list[Dataset]) -> None:
    ds = synthetic.panoramic(scale=0.25, bits=12)
    samples = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
    half_height = ds.Rows // 2
    margin = ds.Columns // 8
    assert samples[half_height:, :margin].max() > samples[half_height:, -margin:].max() * 1.2


def test_accents_survive_both_character_sets(files: list[Path]) -> None:
    seen = {}
    for path in files:
        ds = dcmread(path, stop_before_pixels=True)
        seen[str(ds.PatientName)] = ds.SpecificCharacterSet
    assert seen == {p.name: p.character_set for p in synthetic.PATIENTS}
    assert set(seen.values()) == {"ISO_IR 100", "ISO_IR 192"}


def test_every_file_holds_markers_for_a_scan_to_find(files: list[Path]) -> None:
    markers = synthetic.marker_bytes()
    assert all(any(marker in path.read_bytes() for marker in markers) for path in files)
    for patient in synthetic.PATIENTS:
        codec = PYTHON_CODEC[patient.character_set]
        assert patient.family_name.encode(codec) in markers
        assert patient.id.encode() in markers


def test_kinds_do_not_depend_on_the_order_they_are_made_in() -> None:
    last = list(synthetic.dental_set(3, scale=SMALL))[-1]
    assert last.PixelData == synthetic.colour_photo(3, scale=SMALL).PixelData


def test_the_command_writes_part_10_files(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.synthetic",
        "--to",
        str(tmp_path / "out"),
        "--seed",
        "3",
        "--scale",
        "0.1",
    ]
    said = subprocess.run(command, capture_output=True, check=True, text=True, cwd=Path(__file__).parents[1])
    assert said.stdout.startswith("35 files")
    assert len([dcmread(path) for path in sorted((tmp_path / "out").iterdir())]) == 35


def test_the_dental_set_at_full_size_is_small_enough_for_a_demonstration() -> None:
    weights = [len(ds.PixelData) for ds in synthetic.dental_set()]
    assert len(weights) == 22
    assert 20e6 < sum(weights) < 40e6
