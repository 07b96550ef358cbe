"""Nothing of whoever an image is of is in its anonymous copy, and everything that it takes to draw and measure it is."""

from __future__ import annotations

import io
import re

import numpy as np
import pydicom
import pytest
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from appliance.errors import NotUnderstood
from appliance.lifecycle.anonymous import anonymous
from appliance.model import Uid
from tests.synthetic import dental_set
from tests.synthetic.dental import cephalometric, panoramic

TEXTS = {"AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
MARKERS = {
    **dict.fromkeys(TEXTS, "ZZMARK"),
    "DA": "19770707",
    "TM": "070707",
    "DT": "19770707070707",
    "OB": b"ZZMARK",
    "UN": b"ZZMARK",
    "UI": "1.7.7.77777",
}
TRACES = (b"ZZMARK", b"19770707", b"070707", b"1.7.7.77777")


def part10(ds: Dataset) -> bytes:
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


def renamed() -> tuple[dict[str, Uid], object]:
    seen: dict[str, Uid] = {}

    def uid_of(old: str) -> Uid:
        return seen.setdefault(old, Uid(f"2.25.{len(seen) + 10**20}"))

    return seen, uid_of


def copied(ds: Dataset) -> Dataset:
    return pydicom.dcmread(io.BytesIO(anonymous(part10(ds), renamed()[1])))  # type: ignore[arg-type]


def marked(ds: Dataset, nested: bool = True) -> Dataset:
    """`ds` with a trace of the person in every attribute of the dictionary that can hold one, beside what it has."""
    for number, (vr, _, _, _, keyword) in DicomDictionary.items():
        tag = Tag(number)
        if tag.group <= 2 or tag in ds or keyword.startswith(("PixelData", "FloatPixelData", "DoubleFloat")):
            continue
        if vr in MARKERS:
            ds.add_new(tag, vr, MARKERS[vr])
        elif vr == "SQ" and nested:
            ds.add_new(tag, "SQ", Sequence([marked_item()]))
    block = ds.private_block(0x0019, "ZZMARK MAKER", create=True)
    block.add_new(1, "LO", "ZZMARK")
    ds.add_new(0x60003000, "OW", b"ZZMARK")
    return ds


def marked_item() -> Dataset:
    item = Dataset()
    item.PatientName = item.CodeMeaning = item.LUTExplanation = item.WindowCenterWidthExplanation = "ZZMARK"
    item.ContentDate = "19770707"
    item.ReferencedSOPInstanceUID = "1.7.7.77777"
    return item


def test_no_attribute_of_the_dictionary_says_whose_the_image_is() -> None:
    original = marked(panoramic())
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyDescription", "InstitutionName"):
        setattr(original, keyword, "ZZMARK")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(original, keyword, "1.7.7.77777")
    original.StudyDate, original.PatientBirthDate = "19770707", "19770707"
    before = part10(original)
    assert all(each in before for each in TRACES), "the test can see"
    after = anonymous(before, renamed()[1])  # type: ignore[arg-type]
    for each in TRACES:
        assert each not in after, [
            keyword_for_tag(found.tag)
            for found in pydicom.dcmread(io.BytesIO(after))
            if each in repr(found).encode()
        ]
    made = pydicom.dcmread(io.BytesIO(after))
    assert made.PatientIdentityRemoved == "YES"
    assert not [each.tag for each in made.iterall() if each.tag.is_private]


@pytest.mark.parametrize("number", range(3))
def test_what_it_takes_to_draw_and_measure_it_stays(number: int) -> None:
    original = [*dental_set(scale=0.2)][number * 3]
    made = copied(original)
    assert np.array_equal(made.pixel_array, original.pixel_array)
    for keyword in (
        "SOPClassUID",
        "Modality",
        "Laterality",
        "ImageLaterality",
        "PatientOrientation",
        "PixelSpacing",
        "ImagerPixelSpacing",
        "EstimatedRadiographicMagnificationFactor",
        "WindowCenter",
        "WindowWidth",
        "RescaleSlope",
        "RescaleIntercept",
        "PhotometricInterpretation",
        "PresentationLUTShape",
        "InstanceNumber",
    ):
        assert made.get(keyword) == original.get(keyword), keyword


def test_the_same_uid_gets_the_same_new_one_and_another_gets_another() -> None:
    seen, uid_of = renamed()
    films = [*dental_set(scale=0.2)][:4]
    for each in films:
        anonymous(part10(each), uid_of)  # type: ignore[arg-type]
    olds = {each.StudyInstanceUID for each in films} | {each.SOPInstanceUID for each in films}
    assert olds <= set(seen)
    assert len(set(seen.values())) == len(seen)
    assert not set(seen) & set(seen.values())


def test_words_that_the_standard_does_not_know_do_not_stay() -> None:
    original = cephalometric()
    original.BodyPartExamined, original.ViewPosition, original.ImageLaterality = "TREMBLAY", "ALMA", "R"
    original.ImageType = ["ORIGINAL", "PRIMARY", "TREMBLAY"]
    original.PatientOrientation = ["A", "TREMBLAY"]
    original.InstanceNumber = "19770707"
    made = copied(original)
    assert "BodyPartExamined" not in made
    assert "ViewPosition" not in made
    assert "PatientOrientation" not in made
    assert "InstanceNumber" not in made
    assert made.ImageType == ["ORIGINAL", "PRIMARY"]
    assert made.ImageLaterality == "R"


@pytest.mark.parametrize(("signed", "drawn"), [(False, 0x7000), (True, 0x3000)])
def test_an_overlay_in_the_spare_bits_of_the_pixels_is_cleared(signed: bool, drawn: int) -> None:
    original = cephalometric()
    values = np.arange(int(original.Rows) * int(original.Columns), dtype=np.uint16) % 4096
    original.BitsAllocated, original.BitsStored, original.HighBit = 16, 12, 11
    original.PixelRepresentation = int(signed)
    original.PixelData = (values | drawn).astype("<u2").tobytes()
    made = copied(original)
    stored = np.frombuffer(made.PixelData, dtype="<u2")
    assert np.array_equal(stored & 0x0FFF, values)
    spare = stored & 0xF000
    assert set(np.unique(spare)) <= ({0, 0xF000} if signed else {0})
    if signed:
        assert np.array_equal(spare != 0, (values & 0x0800) != 0), "the sign of a pixel is all that is there"


def test_a_comment_within_a_compressed_image_does_not_come_along() -> None:
    from PIL import Image

    original = cephalometric()
    rows, columns = int(original.Rows), int(original.Columns)
    drawn = Image.fromarray((np.arange(rows * columns) % 251).astype(np.uint8).reshape(rows, columns))
    jpeg = io.BytesIO()
    drawn.save(jpeg, "JPEG", comment=b"ZZMARK")
    original.BitsAllocated = original.BitsStored = 8
    original.HighBit, original.PixelRepresentation = 7, 0
    original.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    original.PixelData = encapsulate([jpeg.getvalue()])
    original["PixelData"].is_undefined_length = True
    before = part10(original)
    assert b"ZZMARK" in before
    after = anonymous(before, renamed()[1])  # type: ignore[arg-type]
    assert b"ZZMARK" not in after
    assert pydicom.dcmread(io.BytesIO(after)).pixel_array.shape == (rows, columns)


def test_what_trails_the_last_frame_is_left_behind() -> None:
    original = cephalometric()
    original.PixelData = original.PixelData + b"ZZMARK"
    assert b"ZZMARK" not in anonymous(part10(original), renamed()[1])  # type: ignore[arg-type]


def test_pixels_that_are_not_as_the_image_says_are_not_guessed() -> None:
    original = cephalometric()
    original.PixelData = original.PixelData[:-100]
    with pytest.raises(NotUnderstood, match=re.escape("not as it says")):
        anonymous(part10(original), renamed()[1])  # type: ignore[arg-type]


# --- numbers and tables ----------------------------------------------------------------------------------------------


def with_table(descriptor: list[int] | None, vr: str, data: object) -> Dataset:
    original, item = cephalometric(), Dataset()
    if descriptor is not None:
        item.LUTDescriptor = descriptor
    item.add_new("LUTData", vr, data)
    original.VOILUTSequence = [item]
    return original


def table_of(made: Dataset) -> bytes:
    """The bytes of its look-up table."""
    value = made.VOILUTSequence[0].LUTData
    return value if isinstance(value, bytes) else np.array(value, "<i4").astype("<u2").tobytes()


RAMP = np.arange(4, dtype="<u2") * 0x3FFF
NAME = b"TREMBLAY^ANNE 1965"


@pytest.mark.parametrize("vr", ["OW", "US"])
def test_what_trails_a_look_up_table_is_left_behind(vr: str) -> None:
    words = np.frombuffer(RAMP.tobytes() + NAME, "<u2")
    original = with_table([4, 0, 16], vr, words.tobytes() if vr == "OW" else words.tolist())
    before = part10(original)
    assert NAME in before
    after = anonymous(before, renamed()[1])  # type: ignore[arg-type]
    assert NAME not in after
    assert table_of(pydicom.dcmread(io.BytesIO(after))) == RAMP.tobytes()


@pytest.mark.parametrize(
    ("descriptor", "data", "kept"),
    [
        ([0, 0, 16], bytes(range(256)) * 512, bytes(range(256)) * 512),  # 65,536 entries
        ([6, 0, 8], b"\1\2\3\4\5\6ANNE"[:10], b"\1\2\3\4\5\6"),
        ([5, 0, 8], b"\1\2\3\4\5A", b"\1\2\3\4\5\0"),
        ([3, 0, 8], b"\1\0\2\0\3\0", b"\1\0\2\0\3\0"),  # one in each word
        ([3, 0, 8], b"\1\0\2\0\3\0" + NAME, b"\1\0\2\0\3\0"),
        ([6, 0, 8], b"\1\2\3\4", b"\1\2\3\4"),  # shorter than it says
    ],
)
def test_a_table_stays_as_long_as_its_descriptor_says(
    descriptor: list[int], data: bytes, kept: bytes
) -> None:
    assert table_of(copied(with_table(descriptor, "OW", data))) == kept


@pytest.mark.parametrize(
    "data", [b"\1\2\3\4\5\6" + NAME, (np.arange(6, dtype="<u2") * 257).tobytes()], ids=["a name", "words"]
)
def test_a_table_that_may_be_words_or_a_name_behind_bytes_is_left_out_with_its_image(data: bytes) -> None:
    with pytest.raises(NotUnderstood, match="a table of this object is not as it says"):
        copied(with_table([6, 0, 8], "OW", data))


def test_a_table_without_a_descriptor_does_not_stay() -> None:
    made = copied(with_table(None, "OW", NAME))
    assert "VOILUTSequence" not in made


def test_a_table_of_signed_numbers_stays_as_it_is() -> None:
    made = copied(with_table([3, 0, 16], "SS", [-5, 0, 5, 21, 22]))
    assert list(made.VOILUTSequence[0].LUTData) == [-5, 0, 5]


def test_palettes_stay_as_long_as_their_descriptors_say() -> None:
    original = cephalometric()
    for colour in ("Red", "Green", "Blue"):
        setattr(original, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 16])
        original.add_new(f"{colour}PaletteColorLookupTableData", "OW", RAMP.tobytes() + NAME)
    after = anonymous(part10(original), renamed()[1])  # type: ignore[arg-type]
    assert NAME not in after
    assert after.count(RAMP.tobytes()) == 3


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("SmallestImagePixelValue", "OW", NAME),
        ("SmallestImagePixelValue", "US", np.frombuffer(NAME, "<u2").tolist()),
        ("PixelSpacing", "DS", ["0.1", "0.1", "19770707"]),
    ],
)
def test_a_number_that_is_more_than_it_may_be_does_not_stay(keyword: str, vr: str, value: object) -> None:
    original = cephalometric()
    original.add_new(keyword, vr, value)
    before = part10(original)
    trace = next(each for each in (NAME, b"19770707") if each in before)
    after = anonymous(before, renamed()[1])  # type: ignore[arg-type]
    assert trace not in after


@pytest.mark.parametrize(
    ("position", "stays"),
    [
        (["A", "F"], True),
        (["PR", "FA"], True),
        (["LPH", "HRA"], True),
        (["RALPH", "A"], False),
        (["PAPA", "F"], False),
        (["AA", "F"], False),
        (["A", "F", "HAL"], False),
        (["A", ""], False),
    ],
)
def test_a_position_is_one_direction_of_each(position: list[str], stays: bool) -> None:
    original = cephalometric()
    original.PatientOrientation = position
    made = copied(original)
    assert made.get("PatientOrientation", []) == (position if stays else [])
