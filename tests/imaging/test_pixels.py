"""The greyscale pipeline against pydicom's own, and what must not be drawn."""

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file, get_testdata_files
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from appliance.imaging import NotShown, View, Window
from appliance.imaging.facts import describe
from appliance.imaging.pixels import draw, render


def image(pixels: np.ndarray, **elements: object) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(str(elements.pop("syntax", ExplicitVRLittleEndian)))
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.SOPInstanceUID = "2.25.1"
    shape = pixels.shape if pixels.ndim == 2 else pixels.shape[1:]
    if pixels.ndim == 3:
        ds.NumberOfFrames = pixels.shape[0]
    ds.Rows, ds.Columns = shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def part10(ds: Dataset) -> io.BytesIO:
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return io.BytesIO(out.getvalue())


def expected_by_pydicom(ds: Dataset) -> np.ndarray:
    """Modality LUT, then VOI LUT, then scaled from the range of the output, as PS3.3 C.11.2.1.2 says."""
    with np.errstate(over="ignore"):
        values = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds)
    low = 0.0 if not ds.PixelRepresentation else -float(1 << (ds.BitsStored - 1))
    high = float((1 << ds.BitsStored) - 1) + low
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    low, high = low * slope + intercept, high * slope + intercept
    grey = (values.astype(float) - low) / (high - low)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    return np.rint(grey * 255)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_window_agrees_with_pydicom(dtype: str, function: str, photometric: str, syntax: str) -> None:
    info = np.iinfo(dtype)
    pixels = np.linspace(info.min, info.max, 64 * 48).astype(dtype).reshape(64, 48)
    ds = image(
        pixels,
        syntax=syntax,
        PhotometricInterpretation=photometric,
        RescaleSlope="1.5",
        RescaleIntercept="-20",
        WindowCenter=["40.5", "10"],
        WindowWidth=["120", "20"],
        VOILUTFunction=function,
    )
    drawn = draw(part10(ds), View())
    assert np.abs(drawn.astype(float) - expected_by_pydicom(ds)).max() <= 1


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_bigendian.dcm",
    ],
)
def test_real_files_agree_with_pydicom(name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert path is not None, "it comes with the pydicom wheel"
    ds = pydicom.dcmread(path)
    if "WindowCenter" not in ds:
        values = apply_modality_lut(ds.pixel_array, ds).astype(float)
        expected = np.rint((values - values.min()) / (values.max() - values.min()) * 255)
    else:
        expected = expected_by_pydicom(ds)
    with Path(path).open("rb") as stream:
        drawn = draw(stream, View())
    assert np.abs(drawn.astype(float) - expected).max() <= 1


def test_voi_lut_sequence_is_preferred_to_the_window() -> None:
    item = Dataset()
    item.LUTDescriptor = [4, 10, 8]
    item["LUTDescriptor"].VR = "US"
    item.add_new(0x00283006, "US", [0, 100, 200, 255])
    ds = image(np.array([[0, 10], [12, 200]], "uint8"), VOILUTSequence=[item], WindowCenter=1, WindowWidth=2)
    assert draw(part10(ds), View()).tolist() == [[0, 0], [200, 255]]


def test_without_a_window_the_range_of_the_frame_is_drawn_and_padding_left_out() -> None:
    ds = image(np.array([[100, 200], [300, 65535]], "uint16"))
    ds.add_new(0x00280120, "US", 65535)
    assert draw(part10(ds), View()).tolist() == [[0, 128], [255, 255]]


def test_bits_above_the_stored_ones_are_not_drawn() -> None:
    pixels = np.array([[0x0000, 0x0FFF], [0xF000, 0xFFFF]], "uint16")
    ds = image(pixels, BitsStored=12, HighBit=11)
    assert draw(part10(ds), View()).tolist() == [[0, 255], [0, 255]]


def test_a_window_of_ones_own_replaces_the_recorded_one() -> None:
    ds = image(np.array([[0, 50], [100, 200]], "uint8"), WindowCenter=10, WindowWidth=2)
    window = View(tone="window", window=Window(100.0, 101.0))
    assert draw(part10(ds), window).tolist() == [[0, 1], [129, 255]]


def test_inverting_twice_is_the_recorded_image() -> None:
    ds = image(np.arange(256, dtype="uint8").reshape(16, 16), PhotometricInterpretation="MONOCHROME1")
    recorded, inverted = draw(part10(ds), View()), draw(part10(ds), View(inverted=True))
    assert recorded[0, 0] == 255
    assert (recorded == 255 - inverted).all()


def test_frames_of_a_volume_share_one_range() -> None:
    pixels = np.stack([np.full((8, 8), 10 * n, "uint16") for n in range(5)])
    pixels[2, 0, 0] = 200
    ds = image(pixels)
    greys = [int(draw(part10(ds), View(frame=n))[4, 4]) for n in range(5)]
    assert greys == sorted(greys)
    assert greys[0] == 0
    assert greys[4] > greys[3]


def test_a_frame_that_is_not_there_is_refused() -> None:
    with pytest.raises(NotShown) as caught:
        draw(part10(image(np.zeros((2, 4, 4), "uint8"))), View(frame=2))
    assert caught.value.reason == "no-such-frame"


def test_enhanced_multi_frame_takes_its_rescale_from_the_frame() -> None:
    ds = image(np.array([[[10, 20]], [[10, 20]]], "uint16"))
    groups = []
    for slope in (1, 2):
        transformation, voi, group = Dataset(), Dataset(), Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = slope, 0
        voi.WindowCenter, voi.WindowWidth = 20, 41
        group.PixelValueTransformationSequence = [transformation]
        group.FrameVOILUTSequence = [voi]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    assert draw(part10(ds), View(frame=0))[0, 1] * 1.9 < draw(part10(ds), View(frame=1))[0, 1]


def test_colour_and_palette_are_drawn_as_rgb() -> None:
    for name in ("SC_rgb_rle.dcm", "examples_palette.dcm", "SC_rgb.dcm"):
        path = get_testdata_file(name, download=False)
        if path is None:
            continue
        with Path(path).open("rb") as stream:
            drawn = draw(stream, View())
        assert drawn.ndim == 3
        assert drawn.shape[2] == 3
        assert drawn.dtype == np.uint8
        assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 2


def test_longest_side_is_kept_and_both_formats_open() -> None:
    ds = image(np.arange(200 * 100, dtype="uint16").reshape(200, 100))
    for form in ("jpeg", "png"):
        picture = Image.open(io.BytesIO(render(part10(ds), View(longest=50, format=form))))
        assert picture.size == (25, 50)
        assert picture.format == form.upper()


@pytest.mark.parametrize("center", ["nan", "inf", "-inf"])
def test_a_window_that_is_no_number_does_not_blacken_the_picture(center: str) -> None:
    pixels = np.arange(256, dtype="uint8").reshape(16, 16)
    data = part10(image(pixels, WindowCenter="1234", WindowWidth="99")).getvalue()
    spoilt = data.replace(b"1234", center.encode().ljust(4), 1)
    assert spoilt != data
    assert describe(io.BytesIO(spoilt)).windows == ()
    assert np.array_equal(draw(io.BytesIO(spoilt), View()), draw(part10(image(pixels)), View()))


def test_text_beside_the_picture_cannot_turn_the_page_around() -> None:
    region = Dataset()
    region.CodeMeaning = "\u202eJAW\x07"
    ds = image(np.zeros((2, 2), "uint8"), SpecificCharacterSet="ISO_IR 192", AnatomicRegionSequence=[region])
    assert describe(part10(ds)).region == "JAW"


def test_an_absurd_size_is_not_allocated() -> None:
    ds = image(np.zeros((4, 4), "uint8"))
    ds.Rows = ds.Columns = 65535
    with pytest.raises(NotShown) as caught:
        draw(part10(ds), View())
    assert caught.value.reason == "too-large"


def test_truncated_pixels_are_malformed() -> None:
    data = part10(image(np.zeros((64, 64), "uint16"))).getvalue()[:-100]
    with pytest.raises(NotShown) as caught:
        draw(io.BytesIO(data), View())
    assert caught.value.reason == "malformed"


def test_every_file_of_the_pydicom_wheel_is_drawn_or_refused_with_a_reason() -> None:
    outcomes = {"drawn": 0, "refused": 0}
    for path in get_testdata_files("*.dcm"):
        with Path(path).open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert draw(stream, View()).dtype == np.uint8
                describe(stream)
                outcomes["drawn"] += 1
            except NotShown:
                outcomes["refused"] += 1
    assert outcomes["drawn"] >= 40


def test_facts_name_side_region_teeth_spacing_and_loss() -> None:
    tooth, region = Dataset(), Dataset()
    tooth.CodeValue, tooth.CodingSchemeDesignator, tooth.CodeMeaning = (
        "T-54270",
        "SRT",
        "Maxillary right first molar",
    )
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "T-D1214", "SRT", "Maxilla"
    region.AnatomicRegionModifierSequence = [tooth]
    ds = image(
        np.zeros((4, 6), "uint8"),
        ImageLaterality="R",
        AnatomicRegionSequence=[region],
        PixelSpacing=["0.1", "0.1"],
        LossyImageCompression="01",
        WindowCenter=5,
        WindowWidth=10,
    )
    facts = describe(part10(ds))
    assert (facts.rows, facts.columns, facts.frames) == (4, 6, 1)
    assert facts.teeth == ("Maxillary right first molar",)
    assert facts.region == "Maxilla"
    assert facts.laterality == "R"
    assert facts.lossy
    assert facts.spacing_mm == (0.1, 0.1)
    assert facts.windows == (Window(5.0, 10.0),)
    assert describe(part10(image(np.zeros((2, 2), "uint8")))).spacing_mm is None
