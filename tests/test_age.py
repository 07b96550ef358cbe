"""A file for one reader opens to that reader, and the reader needs nothing of ours."""

import base64

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from appliance import age
from appliance.errors import Refused
from tests.age_reader import READER, opened

BY_AGE_ITSELF = base64.b64decode(
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBNYVZ1RVp1eVQzUU9wZUtMTWNTZStSbEt3TkEwL0pMNVRTSFpPekZ5SUNZCjVKSmFsWDgv"
    "bVAzRXdvdUdxTXZ6S1B3ZW84N0FQT01ZaGlsMHlLSmxqS0EKLS0tIE1JLzFlRjk3TkF4WDFXSFQ3eHdDTUt2b3JGQXg3TTRjdW9Od1ZmRXhzSVEK"
    "AwpYFFKdBIQ81sMBdpNQSmgSPmVwa9gH98mTTiqC80SwHFcIyISeCNs/C1JEdLJavWlKnCXq8xze1gi9c6PECyNWnLz9ag=="
)
"""Written by age 1.1.1; it proves that the reader of these tests reads as age does."""


def test_the_reader_of_these_tests_opens_what_age_has_written() -> None:
    assert opened(BY_AGE_ITSELF) == b"a support file, written by age itself\n"


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_what_we_write_opens_to_its_reader(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    assert opened(age.encrypt(data, READER)) == data


def test_nothing_of_it_is_in_clear_and_no_two_are_alike() -> None:
    first, second = (age.encrypt(b"TREMBLAY" * 100, READER) for _ in range(2))
    assert b"TREMBLAY" not in first
    assert first[60:] != second[60:]


def test_a_file_that_was_changed_does_not_open() -> None:
    sealed = bytearray(age.encrypt(b"x" * 100, READER))
    sealed[-1] ^= 1
    with pytest.raises(InvalidTag):
        opened(bytes(sealed))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "age1",
        "age1qqqq",
        READER[:-1],
        READER.upper(),
        f"{READER}q",
        READER.replace("a906", "a907"),
        "ssh-ed25519 AAAA",
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        age.encrypt(b"", text)


@given(st.integers(4, len(READER) - 1), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l"))
def test_a_mistyped_key_is_refused(at: int, symbol: str) -> None:
    if READER[at] != symbol:
        with pytest.raises(Refused):
            age.checked(READER[:at] + symbol + READER[at + 1 :])
