"""Command sets: ours are read by the library, and no length in theirs is believed."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dsutils import decode as library_decode

from appliance.dicom import status
from appliance.dicom.header import Missing
from appliance.dicom.message import Command, command_pdus, read_command, response
from appliance.errors import ApplianceError, NotUnderstood, OperatorNeeded, Transient
from appliance.model import Uid

from .peers import CT, command, element

REQUEST = Command(1, 77, True, Uid(CT), Uid("1.2.3"))


def test_the_library_reads_our_response() -> None:
    encoded = response(REQUEST, 0xC000, offending_element=0x0020000D, error_comment="no study")
    dataset = library_decode(io.BytesIO(encoded), True, True)
    assert dataset.CommandGroupLength == len(encoded) - 12
    assert dataset.CommandField == 0x8001
    assert dataset.MessageIDBeingRespondedTo == 77
    assert dataset.CommandDataSetType == 0x0101
    assert dataset.Status == 0xC000
    assert dataset.OffendingElement == 0x0020000D
    assert dataset.ErrorComment == "no study"
    assert (dataset.AffectedSOPClassUID, dataset.AffectedSOPInstanceUID) == (CT, "1.2.3")


def test_a_command_set_is_read() -> None:
    assert read_command(command(1, 77, CT, "1.2.3")) == REQUEST
    assert read_command(command(0x30, 5, data_set=False)) == Command(0x30, 5, False, Uid(""), Uid(""))


@given(st.binary(max_size=200))
def test_rubbish_is_read_or_not_understood(data: bytes) -> None:
    try:
        read_command(data)
    except NotUnderstood:
        pass


def test_truncated_anywhere_is_not_understood() -> None:
    whole = command(1, 77, CT, "1.2.3")
    short_of_meaning = {
        len(whole) - len(element(0x1000, b"1.2.3"))
    }  # ends between two elements: only the UID is missing
    short_of_meaning |= {len(whole) - len(element(0x1000, b"1.2.3")) - len(element(0x0800, b"\0\0"))}
    for length in set(range(len(whole))) - short_of_meaning:
        with pytest.raises(NotUnderstood):
            read_command(whole[:length])


@given(st.binary(max_size=500), st.integers(0, 600))
def test_a_command_fits_the_peers_pdus(data: bytes, max_pdu: int) -> None:
    encoded = command_pdus(5, data, max_pdu)
    got = b""
    offset = 0
    while offset < len(encoded):
        length = int.from_bytes(encoded[offset + 2 : offset + 6], "big")
        assert length <= max(max_pdu, 8) or max_pdu == 0
        assert int.from_bytes(encoded[offset + 6 : offset + 10], "big") == length - 4
        context_id, control = encoded[offset + 10 : offset + 12]
        last = offset + 6 + length == len(encoded)
        assert (context_id, control) == (5, 3 if last else 1)
        got += encoded[offset + 12 : offset + 6 + length]
        offset += 6 + length
    assert got == data


def test_the_comment_has_64_plain_characters_and_no_hint() -> None:
    assert status.comment_of(Transient("é" + "x" * 100)) == "x" * 64
    assert status.comment_of(OperatorNeeded("key\nis\\gone", hint="look under the mat")) == "key is gone"


def test_the_missing_uid_is_the_offending_element() -> None:
    assert status.offending_element_of(Missing(0x0020000D)) == 0x0020000D
    assert status.offending_element_of(Transient("busy")) is None


def test_every_error_has_a_failure_status() -> None:
    def kinds(kind: type[ApplianceError]) -> set[type[ApplianceError]]:
        return {kind}.union(*(kinds(each) for each in kind.__subclasses__()))

    for kind in kinds(ApplianceError) - {Missing}:
        error = kind.__new__(kind)
        ApplianceError.__init__(error, "x", hint="y")  # some kinds say what they are by other arguments
        code = status.status_of(error)
        assert code != status.SUCCESS
        assert code >> 12 != 0xB, "a warning would let the sender delete its copy"
