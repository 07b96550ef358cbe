"""A data set is called cut short when it is, and never when it is whole."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dicom.element import as_written
from appliance.dicom.extent import Extent
from appliance.dicom.header import DEFLATED, read_start
from appliance.model import Uid

from .corpus import CUT_SHORT, Sample, cut_short, samples
from .peers import BIG_ENDIAN, EXPLICIT, IMPLICIT
from .test_header import UNDEFINED, element, encoded

PIXELS = (0x7FE0, 0x0010)


def missing(data: bytes, syntax: str, *, pieces: int = 1) -> bool:
    """Whether `data`, all there is, is cut short; fed in so many pieces."""
    extent = Extent(as_written(data, Uid(syntax)))
    size = -(-len(data) // pieces)
    for start in range(0, len(data), max(size, 1)):
        extent.feed(memoryview(data)[start : start + size])
    return extent.missing()


def fragments(*frames: bytes, closed: bool = True) -> bytes:
    items = b"".join(b"\xfe\xff\x00\xe0" + len(each).to_bytes(4, "little") + each for each in (b"", *frames))
    return element(PIXELS, "OB", items + (b"\xfe\xff\xdd\xe0\0\0\0\0" if closed else b""), length=UNDEFINED)


@pytest.mark.parametrize("sample", [*samples(), *cut_short()], ids=repr)
def test_every_file_of_the_library_is_whole_but_for_those_cut_on_purpose(sample: Sample) -> None:
    start = read_start(sample.data_set, sample.transfer_syntax_uid, complete=True)
    assert start is not None
    extent = Extent(start.encoding)
    extent.feed(sample.data_set[start.offset :])
    assert extent.missing() is (sample.name in CUT_SHORT)


@pytest.mark.parametrize("sample", samples(), ids=repr)
def test_a_file_cut_within_its_last_value_is_cut_short(sample: Sample) -> None:
    if sample.transfer_syntax_uid in DEFLATED:
        return
    if "PixelData" not in sample.dataset or len(sample.dataset.PixelData) < 100:
        return
    chance = random.Random(sample.name)
    start = read_start(sample.data_set, sample.transfer_syntax_uid, complete=True)
    assert start is not None
    body = sample.data_set[start.offset :]
    end = body.rindex(bytes(sample.dataset.PixelData)[-40:]) + 40
    first = max(end - len(sample.dataset.PixelData) // 2, 20)
    for length in {end - 2, *(chance.randrange(first, end - 2) for _ in range(8))}:
        extent = Extent(start.encoding)
        extent.feed(body[:length])
        assert extent.missing(), length


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_cut_anywhere_but_between_two_elements_is_cut_short(syntax: str) -> None:
    elements = [
        element((0x0028, 0x0010), "US", b"\1\1", syntax),
        element((0x0029, 0x1001), "UN", bytes(9), syntax),
        element(PIXELS, "OW", bytes(60), syntax),
    ]
    data = b"".join(elements)
    whole = {len(elements[0]), len(elements[0]) + len(elements[1]), len(data)}
    padded = {more for end in whole for more in range(end, len(data)) if not data[end:more].strip(b"\0")}
    whole |= {each - 1 for each in whole} | padded  # one byte too few is let pass, and so are zeros
    for length in range(8, len(data)):
        assert missing(data[:length], syntax) is (length not in whole), length


def test_what_devices_in_the_field_write_is_let_pass() -> None:
    pixels = element(PIXELS, "OB", bytes(60))
    assert not missing(encoded() + pixels + bytes(7), EXPLICIT), "zeros behind the pixel data"
    assert not missing(encoded() + pixels + b"\xfc\xff\xfc\xffOB\0\0\xff\0\0\0", EXPLICIT), (
        "padding that lies"
    )
    assert not missing(encoded() + fragments(b"frame!"), EXPLICIT)
    assert not missing(encoded() + fragments(b"frame!", closed=False), EXPLICIT), "no delimiter at the end"
    assert missing(encoded() + fragments(b"frame!", closed=False)[:-3], EXPLICIT)
    odd = element(PIXELS, "OB", bytes(59), length=60)
    assert not missing(encoded() + odd, EXPLICIT)


def test_padding_behind_what_is_no_image_is_let_pass() -> None:
    document = element((0x0042, 0x0011), "OB", bytes(range(59)) + b"\0", length=59)
    assert not missing(encoded() + document, EXPLICIT), "its pad byte, and a length that does not count it"
    assert not missing(encoded() + document + bytes(4), EXPLICIT)
    assert missing(encoded() + document[:-20], EXPLICIT)


def test_an_un_with_explicit_vr_inside_refuses_no_whole_image() -> None:
    """PS3.5 6.2.2 wants implicit VR in it; devices write what they would have written anyway."""
    inside = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + element((0x0009, 0x1002), "LO", b"value ")
    inside += b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    private = element((0x0029, 0x1010), "UN", inside, length=UNDEFINED)
    assert not missing(encoded() + private + element(PIXELS, "OW", bytes(60)), EXPLICIT)


def test_an_open_sequence_is_cut_short() -> None:
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + element((0x0008, 0x0100), "SH", b"AB")
    inside = element((0x0040, 0x0555), "SQ", item, length=UNDEFINED)
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    assert not missing(encoded() + inside + end, EXPLICIT)
    for length in range(len(inside) - 10, len(inside + end)):
        assert missing(encoded() + (inside + end)[:length], EXPLICIT)


@given(st.data())
def test_the_answer_does_not_depend_on_the_pieces(data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(samples()))
    if sample.transfer_syntax_uid in DEFLATED:
        return
    body = sample.data_set[: data.draw(st.integers(8, min(len(sample.data_set), 40_000)))]
    expected = missing(body, sample.transfer_syntax_uid)
    assert missing(body, sample.transfer_syntax_uid, pieces=data.draw(st.integers(2, 400))) is expected


@given(st.binary(max_size=300), st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN]), st.integers(1, 40))
def test_rubbish_is_judged_without_a_fault(data: bytes, syntax: str, pieces: int) -> None:
    if len(data) >= 8:
        assert missing(data, syntax, pieces=pieces) in (True, False)


def test_a_deflated_data_set_is_not_followed() -> None:
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    extent = Extent(None)
    extent.feed(squeezer.compress(encoded()) + squeezer.flush())
    assert not extent.missing()
