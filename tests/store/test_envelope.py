"""Sealed objects: they open with Tink and Tink's open here, and nothing altered, cut, moved or exchanged opens."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
import tink
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st
from tink import proto_keyset_format, secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, tink_pb2

from appliance.errors import Corrupt
from appliance.store import envelope
from appliance.store.envelope import (
    FIRST_PLAINTEXT_BYTES,
    HEADER_BYTES,
    PLAINTEXT_BYTES,
    SEGMENT_BYTES,
    TAG_BYTES,
    Opener,
    Sealer,
)

VECTORS = Path(__file__).parent / "vectors" / "envelope.json"
KEY = bytes(range(32))
OBJECT_ID = b"0123456789abcdef0123456789abcdef"
BOUNDARIES = [
    0,
    1,
    FIRST_PLAINTEXT_BYTES - 1,
    FIRST_PLAINTEXT_BYTES,
    FIRST_PLAINTEXT_BYTES + 1,
    FIRST_PLAINTEXT_BYTES + PLAINTEXT_BYTES - 1,
    FIRST_PLAINTEXT_BYTES + PLAINTEXT_BYTES,
    FIRST_PLAINTEXT_BYTES + PLAINTEXT_BYTES + 1,
    3 * SEGMENT_BYTES + 12345,
]


def plaintext_of(size: int) -> bytes:
    """`size` bytes that no two places share (SHAKE128 of the size), the rule that the vectors name."""
    return hashlib.shake_128(size.to_bytes(8, "big")).digest(size)


def seal(
    plaintext: bytes, key: bytes = KEY, object_id: bytes = OBJECT_ID, drawn: bytes | None = None
) -> bytes:
    sealer = Sealer(key, object_id, _drawn=drawn)
    sealed, offset = bytearray(sealer.header), 0
    while len(plaintext) - offset > (room := sealer.room):
        sealed += sealer.seal(plaintext[offset : offset + room], last=False)
        offset += room
    sealed += sealer.seal(plaintext[offset:], last=True)
    return bytes(sealed)


def open_sealed(sealed: bytes, key: bytes = KEY, object_id: bytes = OBJECT_ID) -> bytes:
    count = envelope.segment_count(len(sealed))
    opener = Opener(key, object_id, sealed[:HEADER_BYTES])
    plaintext = bytearray()
    for index in range(count):
        offset, length = envelope.segment_span(index, len(sealed))
        plaintext += opener.open_segment(index, sealed[offset : offset + length], last=index == count - 1)
    return bytes(plaintext)


def tink_primitive(key: bytes) -> streaming_aead.StreamingAead:
    """Tink's own primitive over our raw key, built from its AES256_GCM_HKDF_1MB template."""
    streaming_aead.register()
    streaming_key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(key_value=key)
    template = streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
    streaming_key.params.CopyFrom(
        aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKeyFormat.FromString(template.value).params
    )
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add(key_id=1, status=tink_pb2.ENABLED, output_prefix_type=tink_pb2.RAW)
    entry.key_data.type_url = template.type_url
    entry.key_data.value = streaming_key.SerializeToString()
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    handle = proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


def tink_seals(plaintext: bytes, key: bytes = KEY, object_id: bytes = OBJECT_ID) -> bytes:
    class Kept(io.BytesIO):
        def close(self) -> None:  # Tink closes its destination; the bytes are wanted afterwards
            self.kept = self.getvalue()
            super().close()

    destination = Kept()
    with tink_primitive(key).new_encrypting_stream(destination, object_id) as stream:
        stream.write(plaintext)
    return destination.kept


def tink_opens(sealed: bytes, key: bytes = KEY, object_id: bytes = OBJECT_ID) -> bytes:
    with tink_primitive(key).new_decrypting_stream(io.BytesIO(sealed), object_id) as stream:
        return stream.read()


# --- the same bytes as Tink ---


@pytest.mark.parametrize("size", BOUNDARIES)
def test_tink_opens_what_we_seal(size: int) -> None:
    plaintext = plaintext_of(size)
    assert tink_opens(seal(plaintext)) == plaintext


@pytest.mark.parametrize("size", BOUNDARIES)
def test_we_open_what_tink_seals(size: int) -> None:
    plaintext = plaintext_of(size)
    sealed = tink_seals(plaintext)
    assert len(sealed) == envelope.sealed_size(size)
    assert open_sealed(sealed) == plaintext


def test_tink_refuses_our_object_under_another_id() -> None:
    with pytest.raises(tink.TinkError):
        tink_opens(seal(b"film"), object_id=OBJECT_ID[::-1])


# --- vectors, kept for ever ---


def vectors() -> list[dict[str, Any]]:
    return json.loads(VECTORS.read_text())["vectors"]


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"])
def test_vectors_seal_and_open_to_the_byte(vector: dict[str, Any]) -> None:
    key, object_id = bytes.fromhex(vector["key"]), vector["associated_data"].encode()
    plaintext = plaintext_of(vector["plain_bytes"])
    sealed = seal(
        plaintext, key, object_id, bytes.fromhex(vector["salt"]) + bytes.fromhex(vector["nonce_prefix"])
    )
    assert len(sealed) == vector["sealed_bytes"]
    assert hashlib.sha256(sealed).hexdigest() == vector["sealed_sha256"]
    assert sealed[:64].hex() == vector["sealed_begins"]
    assert sealed[-32:].hex() == vector["sealed_ends"]
    assert open_sealed(sealed, key, object_id) == plaintext
    assert tink_opens(sealed, key, object_id) == plaintext


def test_layout_is_the_table_in_the_module() -> None:
    plaintext = plaintext_of(FIRST_PLAINTEXT_BYTES + 100)
    sealed = seal(plaintext)
    assert sealed[0] == 40
    cipher = AESGCM(HKDF(hashes.SHA256(), 32, sealed[1:33], OBJECT_ID).derive(KEY))
    first = cipher.decrypt(sealed[33:40] + bytes([0, 0, 0, 0, 0]), sealed[40 : 1 << 20], b"")
    last = cipher.decrypt(sealed[33:40] + bytes([0, 0, 0, 1, 1]), sealed[1 << 20 :], b"")
    assert first + last == plaintext


# --- sizes and places ---


@pytest.mark.parametrize("size", BOUNDARIES)
def test_sizes_are_told_without_opening(size: int) -> None:
    sealed = seal(plaintext_of(size))
    assert envelope.sealed_size(size) == len(sealed)
    assert envelope.plain_size(len(sealed)) == size


@given(st.integers(0, 1 << 50))
def test_every_plain_size_has_one_sealed_size(size: int) -> None:
    assert envelope.plain_size(envelope.sealed_size(size)) == size


@given(st.integers(-1, 5 * SEGMENT_BYTES) | st.integers(0, 4).flatmap(
    lambda count: st.integers(count * SEGMENT_BYTES - 60, count * SEGMENT_BYTES + 60)
))  # fmt: skip
def test_a_size_that_no_object_has_is_corrupt(sealed_bytes: int) -> None:
    try:
        plain_bytes = envelope.plain_size(sealed_bytes)
    except Corrupt:
        # Independent restatement: what remains after whole segments is too little to be one.
        assert sealed_bytes < 56 or 1 <= sealed_bytes % SEGMENT_BYTES <= TAG_BYTES
    else:
        assert plain_bytes >= 0
        assert envelope.sealed_size(plain_bytes) == sealed_bytes


@given(st.integers(0, 4 << 20), st.integers(-5, 5 << 20), st.integers(-5, 5 << 20))
def test_segments_for_a_span_are_exactly_those_that_hold_it(size: int, offset: int, length: int) -> None:
    sealed_bytes = envelope.sealed_size(size)
    held = [
        index
        for index in range(envelope.segment_count(sealed_bytes))
        if offset >= 0
        and max(offset, envelope.plaintext_offset(index))
        < min(offset + length, size, envelope.plaintext_offset(index + 1))
    ]
    assert list(envelope.segments_for(offset, length, sealed_bytes)) == held


@pytest.mark.parametrize("size", BOUNDARIES)
def test_spans_cover_the_file_without_gap_or_overlap(size: int) -> None:
    sealed_bytes = envelope.sealed_size(size)
    end = HEADER_BYTES
    for index in range(envelope.segment_count(sealed_bytes)):
        offset, length = envelope.segment_span(index, sealed_bytes)
        assert offset == end
        end = offset + length
    assert end == sealed_bytes
    with pytest.raises(IndexError):
        envelope.segment_span(envelope.segment_count(sealed_bytes), sealed_bytes)


LONG = plaintext_of(3 * SEGMENT_BYTES + 12345)
LONG_SEALED = seal(LONG)


@settings(deadline=None)
@given(st.integers(0, len(LONG) - 1), st.integers(1, 2 * SEGMENT_BYTES))
def test_any_span_opens_without_the_rest(offset: int, length: int) -> None:
    opener = Opener(KEY, OBJECT_ID, LONG_SEALED[:HEADER_BYTES])
    count = envelope.segment_count(len(LONG_SEALED))
    indices = envelope.segments_for(offset, length, len(LONG_SEALED))
    opened = bytearray()
    for index in indices:
        begin, size = envelope.segment_span(index, len(LONG_SEALED))
        opened += opener.open_segment(index, LONG_SEALED[begin : begin + size], last=index == count - 1)
    within = offset - envelope.plaintext_offset(indices[0])
    assert opened[within : within + length] == LONG[offset : offset + length]


@settings(deadline=None)
@given(st.binary(max_size=4096), st.binary(min_size=32, max_size=32), st.binary(max_size=64))
def test_whatever_is_sealed_opens_again(plaintext: bytes, key: bytes, object_id: bytes) -> None:
    sealed = seal(plaintext, key, object_id)
    assert open_sealed(sealed, key, object_id) == plaintext
    assert len(plaintext) < 8 or plaintext not in sealed


# --- sealing without copies ---


def test_seal_into_writes_the_same_bytes_and_leaves_the_rest_alone() -> None:
    drawn = secrets.token_bytes(39)
    plaintext = plaintext_of(1000)
    out = bytearray(b"\xee" * 2000)
    size = Sealer(KEY, OBJECT_ID, _drawn=drawn).seal_into(memoryview(plaintext), memoryview(out), last=True)
    assert size == 1016
    assert out[:size] == Sealer(KEY, OBJECT_ID, _drawn=drawn).seal(plaintext, last=True)
    assert out[size:] == b"\xee" * (2000 - size)


def test_seal_into_seals_in_place() -> None:
    drawn = secrets.token_bytes(39)
    plaintext = plaintext_of(FIRST_PLAINTEXT_BYTES)
    buffer = bytearray(plaintext + bytes(TAG_BYTES))
    Sealer(KEY, OBJECT_ID, _drawn=drawn).seal_into(memoryview(buffer)[:-TAG_BYTES], buffer, last=False)
    assert buffer == Sealer(KEY, OBJECT_ID, _drawn=drawn).seal(plaintext, last=False)


def test_salt_and_nonce_prefix_are_drawn_for_each_object() -> None:
    assert len({Sealer(KEY, OBJECT_ID).header for _ in range(100)}) == 100


@pytest.mark.parametrize("size", [0, 1, FIRST_PLAINTEXT_BYTES - 1, FIRST_PLAINTEXT_BYTES + 1])
def test_a_first_segment_that_is_not_full_must_be_the_last(size: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Sealer(KEY, OBJECT_ID).seal(bytes(size), last=False)


def test_sealing_stops_after_the_last_segment_and_leaves_no_empty_tail() -> None:
    sealer = Sealer(KEY, OBJECT_ID)
    sealer.seal(bytes(sealer.room), last=False)
    with pytest.raises(ValueError, match="does not fit"):
        sealer.seal(b"", last=True)
    sealer.seal(b"x", last=True)
    with pytest.raises(ValueError, match="already"):
        sealer.seal(b"x", last=True)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_length_is_a_defect(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(bytes(size), OBJECT_ID)


# --- attacks ---


def assert_corrupt(sealed: bytes, key: bytes = KEY, object_id: bytes = OBJECT_ID) -> None:
    with pytest.raises(Corrupt):
        open_sealed(sealed, key, object_id)


def test_any_altered_byte_of_a_small_object_is_found() -> None:
    sealed = seal(plaintext_of(200))
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1 << (place % 8)
        assert_corrupt(bytes(altered))


def test_altered_bytes_of_a_long_object_are_found() -> None:
    edges = [index * SEGMENT_BYTES for index in range(1, 4)]
    places = {0, 1, 32, 33, 39, 40, len(LONG_SEALED) - 1, len(LONG_SEALED) - 17}
    places |= {edge + step for edge in edges for step in (-17, -16, -1, 0, 1)}
    for place in places:
        altered = bytearray(LONG_SEALED)
        altered[place] ^= 0x80
        assert_corrupt(bytes(altered))


def test_a_small_object_cut_at_any_length_is_found() -> None:
    sealed = seal(plaintext_of(200))
    for size in range(len(sealed)):
        assert_corrupt(sealed[:size])


@pytest.mark.parametrize("segments", [1, 2, 3])
@pytest.mark.parametrize("step", [-17, -16, -1, 0, 1, 16, 17])
def test_a_long_object_cut_about_a_segment_boundary_is_found(segments: int, step: int) -> None:
    assert_corrupt(LONG_SEALED[: segments * SEGMENT_BYTES + step])


@pytest.mark.parametrize("size", [200, FIRST_PLAINTEXT_BYTES, FIRST_PLAINTEXT_BYTES + PLAINTEXT_BYTES])
@pytest.mark.parametrize("more", [1, 16, 17, SEGMENT_BYTES])
def test_appended_bytes_are_found(size: int, more: int) -> None:
    assert_corrupt(seal(plaintext_of(size)) + bytes(more))


def pieces(sealed: bytes) -> list[bytes]:
    return [sealed[at : at + SEGMENT_BYTES] for at in range(0, len(sealed), SEGMENT_BYTES)]


def test_segments_in_another_order_are_found() -> None:
    first, second, third, last = pieces(LONG_SEALED)
    assert_corrupt(first + third + second + last)


def test_a_repeated_segment_is_found() -> None:
    first, second, third, last = pieces(LONG_SEALED)
    assert_corrupt(first + second + second + last)
    assert_corrupt(first + second + third + third + last)


def test_a_missing_segment_is_found() -> None:
    first, second, _, last = pieces(LONG_SEALED)
    assert_corrupt(first + second + last)


def test_a_segment_from_another_object_is_found() -> None:
    first, _, third, last = pieces(LONG_SEALED)
    same_id_again, another_id = seal(LONG), seal(LONG, object_id=OBJECT_ID[::-1])
    for other in (same_id_again, another_id):
        assert_corrupt(first + pieces(other)[1] + third + last)
        assert_corrupt(other[:HEADER_BYTES] + LONG_SEALED[HEADER_BYTES:])


def test_an_object_under_another_name_or_key_is_found() -> None:
    sealed = seal(b"panoramic")
    assert_corrupt(sealed, object_id=OBJECT_ID[::-1])
    assert_corrupt(sealed, object_id=b"")
    assert_corrupt(sealed, key=bytes(32))


def test_the_last_segment_does_not_open_as_another_nor_the_reverse() -> None:
    opener = Opener(KEY, OBJECT_ID, LONG_SEALED[:HEADER_BYTES])
    full = LONG_SEALED[SEGMENT_BYTES : 2 * SEGMENT_BYTES]
    assert opener.open_segment(1, full, last=False)
    for index, last in ((1, True), (2, False), (0, False)):
        with pytest.raises(Corrupt):
            opener.open_segment(index, full, last=last)


@pytest.mark.parametrize("header", [b"", bytes(39), bytes(40), b"\x28" + bytes(40), b"\x18" + bytes(23)])
def test_what_is_no_header_is_corrupt(header: bytes) -> None:
    with pytest.raises(Corrupt):
        Opener(KEY, OBJECT_ID, header)
