"""Re-encoding for a receiver that refuses the stored syntax: the pixels and the text stay what they were."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from appliance.dicom.part10 import read_part10
from appliance.dicom.transcode import EXPLICIT, IMPLICIT, transcode
from appliance.errors import Refused
from appliance.model import Uid
from tests.replication.parcels import part10

TARGETS = [EXPLICIT, IMPLICIT]

FILES = {
    path.name: path for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
}
UNREADABLE = {"no_ts.dcm", "meta_missing_tsyntax.dcm", "rtplan_truncated.dcm", "MR_truncated.dcm"}
NATIVE_SYNTAXES = {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
}
LOSSY = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
BIG_ENDIAN = "1.2.840.10008.1.2.2"


def files(*, native: bool) -> list[str]:
    """Names of the wheel's files that can be read, whose pixels are (not) compressed."""
    found = []
    for name, path in FILES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head = pydicom.dcmread(path, force=True, specific_tags=["SOPClassUID"])
        syntax = str(head.file_meta.get("TransferSyntaxUID", ""))
        if name not in UNREADABLE and syntax and (syntax in NATIVE_SYNTAXES) is native:
            found.append(name)
    return found


def stored(name: str) -> tuple[bytes, Dataset]:
    """A file of the wheel as it is stored here, with file meta information of our own; and as pydicom reads it."""
    file = FILES[name].read_bytes()
    before = pydicom.dcmread(io.BytesIO(file), force=True)
    syntax = str(before.file_meta.TransferSyntaxUID)
    offset = 132 + 12 + before.file_meta.get("FileMetaInformationGroupLength", 0)
    if file[128:132] != b"DICM" or "FileMetaInformationGroupLength" not in before.file_meta:
        offset = read_part10(io.BytesIO(file)).dataset_offset
    ours = part10(file[offset:], sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax_uid=syntax)
    return ours, pydicom.dcmread(io.BytesIO(ours), force=True)


def read(data_set: bytes, syntax: Uid) -> Dataset:
    """A data set, read back by pydicom."""
    file = part10(data_set, sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax_uid=syntax)
    return pydicom.dcmread(io.BytesIO(file), force=True)


def values(dataset: Dataset, *, raw: bool, leave_out: Collection[int] = ()) -> list[tuple[int, object]]:
    """Tags and values in order, items of sequences within: as bytes if `raw`, else as pydicom understands them."""
    rows: list[tuple[int, object]] = []
    for tag in sorted(dataset.keys()):
        if tag.element == 0 or int(tag) in leave_out:
            continue
        element = dataset.get_item(tag) if raw else dataset[tag]
        if element.VR in {"SQ", "UN", None} and dataset[tag].VR == "SQ":
            rows.append((int(tag), [values(item, raw=raw) for item in dataset[tag].value]))
        elif raw:
            rows.append((int(tag), element.value or b""))
        elif not isinstance(element.value, bytes):
            rows.append((int(tag), str(element.value)))
    return rows


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", files(native=True))
def test_an_uncompressed_object_keeps_every_value(name: str, target: Uid) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file, before = stored(name)
        after = read(transcode(io.BytesIO(file), target), target)
        raw = before.file_meta.TransferSyntaxUID != BIG_ENDIAN
        assert values(after, raw=raw) == values(before, raw=raw)
        if "PixelData" in before and name not in {
            "badVR.dcm",
            "nested_priv_SQ.dcm",
        }:  # no pixels to understand
            np.testing.assert_array_equal(after.pixel_array, before.pixel_array)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", files(native=False))
def test_a_compressed_object_keeps_its_pixels_and_everything_else(name: str, target: Uid) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file, before = stored(name)
        expected = pydicom.dcmread(io.BytesIO(file), force=True)
        if "PixelData" not in before:
            assert values(read(transcode(io.BytesIO(file), target), target), raw=True) == values(
                before, raw=True
            )
            return
        try:
            expected.decompress(as_rgb=False, generate_instance_uid=False)
        except Exception:  # noqa: BLE001 - whatever pydicom cannot do
            with pytest.raises(Refused):
                transcode(io.BytesIO(file), target)
            return
        after = read(transcode(io.BytesIO(file), target), target)
        assert bytes(after.PixelData) == bytes(expected.PixelData)
        assert after.pixel_array.size == before.pixel_array.size
        if before.file_meta.TransferSyntaxUID in LOSSY:
            assert after.LossyImageCompression == "01"
        else:
            assert after.get("LossyImageCompression") == before.get("LossyImageCompression")
        changed = {0x7FE00010, 0x7FE00001, 0x7FE00002, 0x00280004, 0x00280006, 0x00282110}
        assert values(after, raw=True, leave_out=changed) == values(before, raw=True, leave_out=changed)


def test_chrominance_of_every_pixel_is_not_called_subsampled() -> None:
    file, before = stored("examples_ybr_color.dcm")
    assert before.PhotometricInterpretation == "YBR_FULL_422"
    after = read(transcode(io.BytesIO(file), EXPLICIT), EXPLICIT)
    assert after.PhotometricInterpretation == "YBR_FULL"


def test_text_outside_its_character_set_is_carried_over_byte_for_byte() -> None:
    latin = "Lévesque^Hélène".encode("latin-1")  # declared as UTF-8, which it is not
    data_set = _explicit(0x0008, 0x0005, b"CS", b"ISO_IR 192") + _explicit(
        0x0010, 0x0010, b"PN", latin + b" "
    )
    file = part10(data_set, sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax_uid=EXPLICIT)
    assert latin in transcode(io.BytesIO(file), IMPLICIT)


def test_a_sequence_of_undefined_length_stays_one() -> None:
    item = _explicit(0x0008, 0x0100, b"SH", b"11 ")
    sequence = struct.pack("<HH2sHL", 0x0008, 0x2218, b"SQ", 0, 0xFFFFFFFF)
    sequence += (
        struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + item + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    )
    sequence += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    data_set = sequence + _explicit(0x0010, 0x0020, b"LO", b"1234")
    file = part10(data_set, sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax_uid=EXPLICIT)
    implicit = transcode(io.BytesIO(file), IMPLICIT)
    back = part10(implicit, sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax_uid=IMPLICIT)
    assert transcode(io.BytesIO(back), EXPLICIT) == data_set


@pytest.mark.parametrize("stray", [b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"])
def test_what_comes_after_a_stray_delimiter_is_not_lost(stray: bytes) -> None:
    before = b"\x10\x00\x20\x00LO\x04\x004711"
    after = b"\xe0\x7f\x10\x00OW\0\0\x08\0\0\0pixels!!"
    file = part10(
        before + stray + after,
        sop_class_uid="1.2",
        sop_instance_uid="1.3",
        transfer_syntax_uid=EXPLICIT,
    )
    assert transcode(io.BytesIO(file), IMPLICIT).endswith(b"\xe0\x7f\x10\x00\x08\0\0\0pixels!!")


def test_an_unknown_element_of_undefined_length_is_a_sequence_in_implicit_form() -> None:
    inside = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    inside += struct.pack("<HHL", 0x0009, 0x1001, 4) + b"abcd" + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    inside += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    data_set = struct.pack("<HH2sHL", 0x0009, 0x1000, b"UN", 0, 0xFFFFFFFF) + inside
    data_set += _explicit(0x0010, 0x0020, b"LO", b"1234")
    file = part10(data_set, sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax_uid=EXPLICIT)
    assert transcode(io.BytesIO(file), EXPLICIT) == data_set
    assert inside in transcode(io.BytesIO(file), IMPLICIT)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.102", "1.2.3.4.5", "1.2.840.10008.1.2.4.201"])
def test_what_no_codec_here_opens_is_refused(syntax: str) -> None:
    file, _ = stored("CT_small.dcm")
    offset = read_part10(io.BytesIO(file)).dataset_offset
    odd = part10(file[offset:], sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax_uid=syntax)
    with pytest.raises(Refused):
        transcode(io.BytesIO(odd), EXPLICIT)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_expb.dcm", "rtplan.dcm", "MR_small_RLE.dcm"])
def test_a_truncated_object_is_refused_and_never_crashes(name: str) -> None:
    file, _ = stored(name)
    offset = read_part10(io.BytesIO(file)).dataset_offset
    for length in range(offset + 1, len(file), max(1, len(file) // 97)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                transcode(io.BytesIO(file[:length]), IMPLICIT)
            except Refused:
                continue


def test_deep_nesting_is_refused() -> None:
    data_set = b""
    for _ in range(200):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(data_set)) + data_set
        data_set = struct.pack("<HH2sHL", 0x0008, 0x2218, b"SQ", 0, len(item)) + item
    file = part10(data_set, sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax_uid=EXPLICIT)
    with pytest.raises(Refused, match="nested too deeply"):
        transcode(io.BytesIO(file), IMPLICIT)


def test_deep_nesting_of_undefined_length_is_refused() -> None:
    opening = struct.pack("<HH2sHL", 0x0008, 0x2218, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closing = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    file = part10(
        opening * 500 + closing * 500,
        sop_class_uid="1.2",
        sop_instance_uid="1.3",
        transfer_syntax_uid=EXPLICIT,
    )
    with pytest.raises(Refused, match="nested too deeply"):
        transcode(io.BytesIO(file), IMPLICIT)


def test_what_does_not_inflate_is_refused() -> None:
    deflated = zlib.compress(b"x" * 1000)[2:40]
    file = part10(
        b"\xff" + deflated,
        sop_class_uid="1.2",
        sop_instance_uid="1.3",
        transfer_syntax_uid="1.2.840.10008.1.2.1.99",
    )
    with pytest.raises(Refused):
        transcode(io.BytesIO(file), EXPLICIT)


def test_only_little_endian_is_written() -> None:
    with pytest.raises(ValueError, match="little endian"):
        transcode(io.BytesIO(b""), Uid(str(UID("1.2.840.10008.1.2.2"))))


def _explicit(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value
