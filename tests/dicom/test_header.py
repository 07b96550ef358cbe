"""The header reader agrees with the library on every file it reads, and never does worse than say no."""

from __future__ import annotations

import random
import struct
import warnings
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dicom.charset import decode, encodings
from appliance.dicom.element import MAX_DEPTH
from appliance.dicom.header import MAX_INFLATED_BYTES, Missing, read_header
from appliance.errors import NotUnderstood
from appliance.model import Header, Uid

from .corpus import Sample, samples
from .peers import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT

UIDS = {
    (0x0008, 0x0016): "1.2.840.10008.5.1.4.1.1.2",
    (0x0008, 0x0018): "1.2.3.4",
    (0x0020, 0x000D): "1.2.3",
    (0x0020, 0x000E): "1.2.3.1",
}
LONG = {"OB", "OW", "SQ", "UN", "UT", "UC", "UR", "OF", "OD", "OL", "OV", "SV", "UV"}
UNDEFINED = 0xFFFFFFFF


def element(
    tag: tuple[int, int], vr: str, value: bytes, syntax: str = EXPLICIT, length: int | None = None
) -> bytes:
    order = ">" if syntax == BIG_ENDIAN else "<"
    size = len(value) if length is None else length
    if syntax == IMPLICIT:
        return struct.pack("<HHL", *tag, size) + value
    if vr in LONG:
        return struct.pack(order + "HH2sHL", *tag, vr.encode(), 0, size) + value
    return struct.pack(order + "HH2sH", *tag, vr.encode(), size) + value


def encoded(
    values: dict[tuple[int, int], tuple[str, bytes]] | None = None,
    syntax: str = EXPLICIT,
    *,
    without: tuple[int, int] | None = None,
    raw: dict[tuple[int, int], bytes] | None = None,
) -> bytes:
    """A data set of the four UIDs and `values`, in order of tag; `raw` elements are taken as they are."""
    elements = {
        tag: element(tag, "UI", uid.encode() + b"\0" * (len(uid) % 2), syntax) for tag, uid in UIDS.items()
    }
    elements |= {tag: element(tag, vr, value, syntax) for tag, (vr, value) in (values or {}).items()}
    elements |= raw or {}
    elements.pop(without or (0, 0), None)
    return b"".join(elements[tag] for tag in sorted(elements))


def header_of(data: bytes, syntax: str = EXPLICIT) -> Header:
    header = read_header(data, Uid(syntax), complete=True)
    assert header is not None
    return header


def text_of(value: Any) -> str:
    return "" if value is None else str(value).rstrip("=").strip(" \0")


KEYWORDS = {
    "sop_class_uid": "SOPClassUID",
    "sop_instance_uid": "SOPInstanceUID",
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "patient_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "accession_number": "AccessionNumber",
    "study_description": "StudyDescription",
    "referring_physician_name": "ReferringPhysicianName",
    "modality": "Modality",
    "series_number": "SeriesNumber",
    "series_description": "SeriesDescription",
    "body_part_examined": "BodyPartExamined",
    "laterality": "Laterality",
    "image_laterality": "ImageLaterality",
    "burned_in_annotation": "BurnedInAnnotation",
    "instance_number": "InstanceNumber",
    "manufacturer": "Manufacturer",
    "manufacturer_model_name": "ManufacturerModelName",
    "station_name": "StationName",
}


@pytest.mark.parametrize("sample", samples(), ids=repr)
def test_agrees_with_the_library(sample: Sample) -> None:
    header = header_of(sample.data_set, sample.transfer_syntax_uid)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {name: text_of(sample.dataset.get(keyword)) for name, keyword in KEYWORDS.items()}
    assert {name: getattr(header, name).rstrip("=") for name in KEYWORDS} == expected
    assert (header.rows, header.columns) == (
        sample.dataset.get("Rows") or 0,
        sample.dataset.get("Columns") or 0,
    )
    frames = text_of(sample.dataset.get("NumberOfFrames"))
    assert header.number_of_frames == (int(frames) if frames.isdigit() else 0)


def test_the_corpus_is_there() -> None:
    assert len(samples()) > 150


@pytest.mark.parametrize("sample", samples()[::7], ids=repr)
def test_a_shorter_head_says_more_please_or_the_same(sample: Sample) -> None:
    whole = header_of(sample.data_set, sample.transfer_syntax_uid)
    size = len(sample.data_set)
    for length in sorted({*range(0, min(size, 3000), 7), *range(0, size, max(size // 50, 1)), size}):
        head = memoryview(sample.data_set)[:length]
        got = read_header(head, sample.transfer_syntax_uid, complete=False)
        assert got is None or got == whole


@pytest.mark.parametrize(
    "syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, "1.2.840.10008.1.2.4.70", "1.2.3.999"]
)
def test_every_syntax(syntax: str) -> None:
    inner = {DEFLATED: EXPLICIT}.get(syntax, syntax)
    order = ">" if syntax == BIG_ENDIAN else "<"
    data = encoded(
        {
            (0x0008, 0x0060): ("CS", b"PX"),
            (0x0010, 0x0010): ("PN", b"DOE^JANE"),
            (0x0028, 0x0008): ("IS", b"12"),
            (0x0028, 0x0010): ("US", struct.pack(order + "H", 1500)),
            (0x0028, 0x0011): ("US", struct.pack(order + "H", 2800)),
        },
        inner,
    )
    if syntax == DEFLATED:
        squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
        data = squeezer.compress(data) + squeezer.flush()
    header = header_of(data, syntax)
    assert (header.modality, header.patient_name, header.study_instance_uid) == ("PX", "DOE^JANE", "1.2.3")
    assert (header.number_of_frames, header.rows, header.columns) == (12, 1500, 2800)
    assert header.transfer_syntax_uid == syntax


@pytest.mark.parametrize(("said", "written"), [(EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT)])
def test_the_encoding_that_is_there_counts_not_the_one_announced(said: str, written: str) -> None:
    assert header_of(encoded({(0x0010, 0x0020): ("LO", b"4711")}, written), said).patient_id == "4711"


@pytest.mark.parametrize("tag", UIDS)
@pytest.mark.parametrize(
    "value", [None, b"", b"\0\0", b"  ", b"1.2\\1.3", b"1" * 66, b"1.2 3", b"\xff\xff", b"1\n2."]
)
def test_each_uid_is_mandatory(tag: tuple[int, int], value: bytes | None) -> None:
    data = encoded(without=tag) if value is None else encoded({tag: ("UI", value)})
    with pytest.raises(Missing) as missing:
        read_header(data, Uid(EXPLICIT), complete=True)
    assert missing.value.tag == tag[0] << 16 | tag[1]


@pytest.mark.parametrize("padding", [b"", b"\0", b" ", b"\0\0\0", b"  \0"])
def test_uids_lose_their_padding(padding: bytes) -> None:
    assert header_of(encoded({(0x0020, 0x000D): ("UI", b"1.2.3" + padding)})).study_instance_uid == "1.2.3"


def test_odd_lengths_and_nul_padding_are_read() -> None:
    header = header_of(encoded({(0x0010, 0x0020): ("LO", b"123"), (0x0010, 0x0010): ("PN", b"DOE^J\0\0")}))
    assert (header.patient_id, header.patient_name) == ("123", "DOE^J")


def test_a_patient_id_keeps_its_backslash_and_a_code_its_first_value() -> None:
    header = header_of(encoded({(0x0010, 0x0020): ("LO", b"A\\1"), (0x0008, 0x0060): ("CS", b"CT\\PT ")}))
    assert (header.patient_id, header.modality) == ("A\\1", "CT")


@pytest.mark.parametrize("value", [b"", b"1A", b"-1", b"1.5", b"9" * 300])
def test_a_number_that_is_none_counts_as_absent(value: bytes) -> None:
    assert header_of(encoded({(0x0028, 0x0008): ("IS", value)})).number_of_frames == 0


def sequence(depth: int, syntax: str = EXPLICIT, vr: str = "SQ") -> bytes:
    """A sequence of undefined length, `depth` deep, of items of undefined length."""
    inner = (
        sequence(depth - 1, syntax, vr) if depth > 1 else element((0x0010, 0x0020), "LO", b"WRONG", syntax)
    )
    order = ">" if syntax == BIG_ENDIAN else "<"
    item = (
        struct.pack(order + "HHL", 0xFFFE, 0xE000, UNDEFINED)
        + inner
        + struct.pack(order + "HHL", 0xFFFE, 0xE00D, 0)
    )
    return element(
        (0x0008, 0x1110), vr, item + struct.pack(order + "HHL", 0xFFFE, 0xE0DD, 0), syntax, length=UNDEFINED
    )


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("depth", [1, 2, MAX_DEPTH])
def test_what_is_nested_is_not_the_patient(syntax: str, depth: int) -> None:
    data = encoded(
        {(0x0010, 0x0020): ("LO", b"RIGHT ")}, syntax, raw={(0x0008, 0x1110): sequence(depth, syntax)}
    )
    assert header_of(data, syntax).patient_id == "RIGHT"
    assert (
        header_of(encoded(syntax=syntax, raw={(0x0008, 0x1110): sequence(depth, syntax)}), syntax).patient_id
        == ""
    )


def test_nesting_has_an_end() -> None:
    for depth in (MAX_DEPTH + 1, 5000):
        raw = b"".join(
            struct.pack("<HH2sHLHHL", 8, 0x1110, b"SQ", 0, UNDEFINED, 0xFFFE, 0xE000, UNDEFINED)
            for _ in range(depth)
        )
        with pytest.raises(NotUnderstood, match="nested"):
            read_header(encoded(raw={(0x0008, 0x1110): raw}), Uid(EXPLICIT), complete=True)


def test_unknown_of_undefined_length_is_implicit_inside() -> None:
    inside = element((0x0010, 0x0020), "LO", b"WRONG ", IMPLICIT) + sequence(2, IMPLICIT)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED) + inside + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    raw = element((0x0009, 0x1010), "UN", item + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0), length=UNDEFINED)
    data = encoded({(0x0010, 0x0020): ("LO", b"RIGHT ")}, raw={(0x0009, 0x1010): raw})
    assert header_of(data).patient_id == "RIGHT"


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_private_creators_and_blocks_are_passed(syntax: str) -> None:
    values = {
        (0x0009, 0x0010): ("LO", b"ACME 1.0"),
        (0x0009, 0x1001): ("UN", b"\xff" * 40),
        (0x0019, 0x1002): ("OB", b"\0" * 10),
        (0x0010, 0x0020): ("LO", b"4711"),
    }
    assert header_of(encoded(values, syntax), syntax).patient_id == "4711"


@pytest.mark.parametrize(
    "odd",
    [
        struct.pack("<HH2sHL", 0x0009, 0x1001, b"ZZ", 0, 4) + b"abcd",  # a VR of the future
        struct.pack("<HH2sH", 0x0009, 0x1001, b"ZZ", 4) + b"abcd",
        struct.pack("<HH2sH", 0x0009, 0x1001, b"??", 4) + b"abcd",
        struct.pack("<HHL", 0x0009, 0x1001, 4) + b"abcd",  # implicit among explicit
        struct.pack("<HHL", 0xFFFE, 0xE00D, 0),  # closes nothing
    ],
)
def test_odd_elements_are_passed(odd: bytes) -> None:
    data = encoded({(0x0010, 0x0020): ("LO", b"4711")}, raw={(0x0009, 0x1001): odd})
    assert header_of(data).patient_id == "4711"


def test_padding_after_the_data_set_does_no_harm() -> None:
    data = (
        encoded({(0x0028, 0x0011): ("US", b"\1\0")})
        + struct.pack("<HH2sHL", 0xFFFC, 0xFFFC, b"OB", 0, 4)
        + bytes(4)
    )
    assert header_of(data).columns == 1


def test_pixels_before_the_study_uid_are_not_waited_for() -> None:
    data = encoded(without=(0x0020, 0x000D)) + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 1 << 30)
    with pytest.raises(Missing):
        read_header(data, Uid(EXPLICIT), complete=False)


def test_inflating_has_an_end() -> None:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    filler = element((0x0009, 0x1001), "OB", bytes(MAX_INFLATED_BYTES + 1_000_000))
    bomb = squeezer.compress(encoded(raw={(0x0009, 0x1001): filler})) + squeezer.flush()
    assert len(bomb) < 20_000
    with pytest.raises(NotUnderstood):
        read_header(bomb, Uid(DEFLATED), complete=False)


def test_a_deflated_data_set_that_was_cut_is_not_understood() -> None:
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    whole = squeezer.compress(
        encoded(raw={(0x7FE0, 0x0010): element((0x7FE0, 0x0010), "OW", random.randbytes(9000))})
    )
    whole += squeezer.flush()
    assert read_header(whole, Uid(DEFLATED), complete=True)
    with pytest.raises(NotUnderstood, match="cut short"):
        read_header(whole[: len(whole) // 2], Uid(DEFLATED), complete=True)
    assert read_header(whole[: len(whole) // 2], Uid(DEFLATED), complete=False)


def test_what_cannot_be_inflated_is_not_understood() -> None:
    with pytest.raises(NotUnderstood):
        read_header(b"\xff" * 500, Uid(DEFLATED), complete=False)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_truncated_anywhere_is_not_understood(syntax: str) -> None:
    data = encoded({(0x0028, 0x0011): ("US", b"\1\1")}, syntax, raw={(0x0008, 0x1110): sequence(3, syntax)})
    without_columns = len(data) - len(element((0x0028, 0x0011), "US", b"\1\1", syntax))
    for length in set(range(len(data))) - {without_columns}:  # that one is a whole data set
        assert read_header(data[:length], Uid(syntax), complete=False) is None
        with pytest.raises(NotUnderstood):
            read_header(data[:length], Uid(syntax), complete=True)


@given(st.binary(max_size=400), st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED]), st.booleans())
def test_rubbish_is_read_or_not_understood(data: bytes, syntax: str, complete: bool) -> None:
    try:
        header = read_header(data, Uid(syntax), complete=complete)
    except NotUnderstood:
        return
    assert isinstance(header, Header) or not complete


@pytest.mark.parametrize("seed", range(40))
def test_mutated_files_are_read_or_not_understood(seed: int) -> None:
    chance = random.Random(seed)
    for sample in chance.sample(samples(), 12):
        data = bytearray(sample.data_set[:5000])
        for _ in range(chance.randint(1, 12)):
            place = chance.randrange(len(data))
            kind = chance.randrange(4)
            if kind == 0:
                data[place] = chance.randrange(256)
            elif kind == 1:
                data[place : place + 4] = chance.choice(
                    [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"]
                )
            elif kind == 2:
                del data[place : place + chance.randint(1, 30)]
            else:
                data[place:place] = chance.randbytes(chance.randint(1, 30))
        for complete in (True, False):
            try:
                header = read_header(bytes(data), sample.transfer_syntax_uid, complete=complete)
            except NotUnderstood:
                continue
            assert isinstance(header, Header) or not complete


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "value", "text"),
    [
        (b"", b"DOE^JANE ", "DOE^JANE"),
        (b"", "Hélène".encode("latin-1"), "Hélène"),
        (b"", "l’œil".encode("cp1252"), "l’œil"),
        (b"ISO_IR 6", "Hélène".encode("latin-1"), "Hélène"),
        (b"ISO_IR 100", "Hélène".encode("latin-1"), "Hélène"),
        (b"ISO_IR 192", "Hélène".encode(), "Hélène"),
        (b"ISO_IR 192", "Hélène".encode("latin-1"), "Hélène"),  # declared wrong
        (b"iso-ir 192 ", "Hélène".encode(), "Hélène"),
        (b"SOMETHING", "Hélène".encode("latin-1"), "Hélène"),
        (b"ISO_IR 144", "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
        (b"GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        (b"\\ISO 2022 IR 149", b"Hong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong=洪^吉洞"),
        (b"ISO_IR 100", b"A\x00B\nC\x1b[0m", None),
        (b"\\ISO 2022 IR 87", b"\x1b", ""),
    ],
)
def test_text_is_decoded_for_display(declared: bytes, value: bytes, text: str | None) -> None:
    decoded = decode(value, encodings(declared))
    assert decoded.isprintable()
    if text is not None:
        assert decoded == text


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_text_can_be_shown(declared: bytes, value: bytes) -> None:
    decoded = decode(value, encodings(declared))
    assert decoded.isprintable()
    decoded.encode()
