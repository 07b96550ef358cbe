"""The sender: contexts, associations, statuses, and peers that misbehave."""

from __future__ import annotations

import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from appliance.dicom.association_request import (
    CONTEXTS_PER_ASSOCIATION,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    Peer,
    Proposal,
    plan_associations,
)
from appliance.dicom.part10 import file_head
from appliance.dicom.scu import Timeouts, associate, echo
from appliance.errors import ApplianceError, OperatorNeeded, OutOfResources, Refused, Transient
from appliance.model import AETitle, ObjectId, Uid
from appliance.replication.destinations import Parcel
from appliance.replication.destinations.dicom import DicomDestination
from tests.instances import CT_IMAGE, Instance
from tests.replication.receivers import Receiver, free_port, storescp

JPEG_LOSSLESS = Uid("1.2.840.10008.1.2.4.70")
CALLED, CALLING = AETitle("RECEIVER"), AETitle("CLINICBOX")
QUICK = Timeouts(connect_seconds=2, acse_seconds=2, network_seconds=5, response_seconds=2)

uids = st.integers(1, 400).map(lambda number: Uid(f"1.2.840.10008.5.{number}"))
syntaxes = st.one_of(
    st.sampled_from([EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, JPEG_LOSSLESS]),
    st.integers(1, 300).map(lambda number: Uid(f"1.2.840.10008.1.2.9.{number}")),
)


# --- Which contexts are proposed -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(uids, syntaxes), max_size=400))
def test_every_object_finds_its_stored_syntax_and_both_fallbacks_on_one_association(
    wanted: list[tuple[Uid, Uid]],
) -> None:
    plan = plan_associations(wanted)
    for sop_class, syntax in wanted:
        assert any(
            {
                Proposal(sop_class, syntax),
                Proposal(sop_class, EXPLICIT_VR_LITTLE_ENDIAN),
                Proposal(sop_class, IMPLICIT_VR_LITTLE_ENDIAN),
            }
            <= set(association)
            for association in plan
        )


@given(st.lists(st.tuples(uids, syntaxes), max_size=400))
def test_no_association_has_more_than_128_contexts_or_one_twice(wanted: list[tuple[Uid, Uid]]) -> None:
    for association in plan_associations(wanted):
        assert 1 <= len(association) <= CONTEXTS_PER_ASSOCIATION
        assert len(set(association)) == len(association)


def test_nothing_wanted_is_nothing_proposed() -> None:
    assert plan_associations([]) == []


def test_one_kind_of_object_needs_one_association() -> None:
    assert plan_associations([(CT_IMAGE, JPEG_LOSSLESS)] * 50) == [
        (
            Proposal(CT_IMAGE, JPEG_LOSSLESS),
            Proposal(CT_IMAGE, EXPLICIT_VR_LITTLE_ENDIAN),
            Proposal(CT_IMAGE, IMPLICIT_VR_LITTLE_ENDIAN),
        )
    ]


def test_more_than_128_contexts_are_delivered_over_several_associations(data_dir: object) -> None:
    # 60 SOP classes of 3 contexts each: storescp takes unknown classes when promiscuous.
    parcels = [_parcel(Instance(number, sop_class_uid=Uid(str(generate_uid())))) for number in range(60)]
    with storescp("--promiscuous") as receiver:
        destination = DicomDestination.from_settings(receiver.settings, calling=CALLING)
        with destination.open(parcels) as session:
            receipts = [session.send(parcel) for parcel in parcels]
        assert len(receiver.files()) == 60
    assert {receipt["status"] for receipt in receipts} == {"0000"}


# --- A peer that answers ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with storescp() as running:
        yield running


def test_an_echo_takes_a_measured_time(receiver: Receiver) -> None:
    assert 0 < echo("127.0.0.1", receiver.port, receiver.ae_title, CALLING) < 30


@pytest.mark.parametrize("data_bytes", [0, 16_378, 16_379, 16_380, 1_000_000, 1_048_320, 3_000_001])
def test_a_data_set_of_any_length_arrives_whole(receiver: Receiver, data_bytes: int) -> None:
    instance = Instance(data_bytes, pixel_bytes=data_bytes)
    peer = Peer("127.0.0.1", receiver.port, receiver.ae_title, CALLING)
    with associate(peer, [Proposal(CT_IMAGE, EXPLICIT_VR_LITTLE_ENDIAN)]) as association:
        response = association.store(
            sop_class_uid=CT_IMAGE,
            sop_instance_uid=instance.sop_instance_uid,
            transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
            data_set=io.BytesIO(instance.data_set),
        )
    assert response.status == 0
    assert receiver.data_set(instance.sop_instance_uid) == instance.data_set


def test_a_small_pdu_limit_is_kept() -> None:
    instance = Instance(1, pixel_bytes=200_000)
    with storescp("--max-pdu", "4096") as receiver:
        peer = Peer("127.0.0.1", receiver.port, receiver.ae_title, CALLING)
        with associate(peer, [Proposal(CT_IMAGE, EXPLICIT_VR_LITTLE_ENDIAN)]) as association:
            association.store(
                sop_class_uid=CT_IMAGE,
                sop_instance_uid=instance.sop_instance_uid,
                transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
                data_set=io.BytesIO(instance.data_set),
            )
        assert receiver.data_set(instance.sop_instance_uid) == instance.data_set


def test_a_source_that_reads_in_odd_pieces_arrives_whole(receiver: Receiver) -> None:
    instance = Instance(77, pixel_bytes=2_500_000)

    class Odd(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 70_001))

    peer = Peer("127.0.0.1", receiver.port, receiver.ae_title, CALLING)
    with associate(peer, [Proposal(CT_IMAGE, EXPLICIT_VR_LITTLE_ENDIAN)]) as association:
        association.store(
            sop_class_uid=CT_IMAGE,
            sop_instance_uid=instance.sop_instance_uid,
            transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
            data_set=Odd(instance.data_set),
        )
    assert receiver.data_set(instance.sop_instance_uid) == instance.data_set


def test_a_refused_context_is_not_used(receiver: Receiver) -> None:
    peer = Peer("127.0.0.1", receiver.port, receiver.ae_title, CALLING)
    proposal = Proposal(CT_IMAGE, JPEG_LOSSLESS)
    with associate(peer, [proposal, Proposal(CT_IMAGE, EXPLICIT_VR_LITTLE_ENDIAN)]) as association:
        assert not association.accepts(CT_IMAGE, JPEG_LOSSLESS)
        assert association.accepts(CT_IMAGE, EXPLICIT_VR_LITTLE_ENDIAN)
        with pytest.raises(Refused):
            association.store(
                sop_class_uid=CT_IMAGE,
                sop_instance_uid=Uid("1.2"),
                transfer_syntax_uid=JPEG_LOSSLESS,
                data_set=io.BytesIO(b""),
            )


@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_a_peer_that_aborts_is_tried_again(option: str) -> None:
    parcel = _parcel(Instance(1, pixel_bytes=3_000_000))
    with storescp(option) as receiver:
        destination = DicomDestination.from_settings(receiver.settings, calling=CALLING)
        with destination.open([parcel]) as session, pytest.raises(Transient):
            session.send(parcel)


# --- A peer that does not ---------------------------------------------------------------------------------------------


@contextmanager
def scripted(*answers: bytes | Callable[[socket.socket], None]) -> Iterator[int]:
    """A peer that reads a PDU before each of its answers, and says nothing when they run out."""
    server = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        with server:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                for answer in answers:
                    _read_pdu(connection)
                    if callable(answer):
                        answer(connection)
                    else:
                        connection.sendall(answer)
                done.wait(10)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        done.set()
        server.close()
        thread.join(10)


def _read_pdu(connection: socket.socket) -> bytes:
    head = connection.recv(6, socket.MSG_WAITALL)
    return connection.recv(struct.unpack(">L", head[2:])[0], socket.MSG_WAITALL) if len(head) == 6 else b""


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def accepted(*results: tuple[int, int, Uid], max_pdu: int = 16384) -> bytes:
    body = struct.pack(">HH", 1, 0) + b"RECEIVER".ljust(16) + b"CLINICBOX".ljust(16) + bytes(32)
    body += _item(0x10, b"1.2.840.10008.3.1.1.1")
    for context, result, syntax in results:
        body += _item(0x21, bytes([context, 0, result, 0]) + _item(0x40, syntax.encode()))
    body += _item(0x50, _item(0x51, struct.pack(">L", max_pdu)))
    return struct.pack(">BBL", 2, 0, len(body)) + body


def rejected(result: int, source: int, reason: int) -> bytes:
    return struct.pack(">BBLBBBB", 3, 0, 4, 0, result, source, reason)


def answered(status: int, *, message_id: int = 1) -> bytes:
    elements = struct.pack("<HHLH", 0, 0x100, 2, 0x8001) + struct.pack("<HHLH", 0, 0x120, 2, message_id)
    elements += struct.pack("<HHLH", 0, 0x800, 2, 0x0101) + struct.pack("<HHLH", 0, 0x900, 2, status)
    command = struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements
    return struct.pack(">BBLLBB", 4, 0, len(command) + 6, len(command) + 2, 1, 3) + command


ACCEPTED = accepted((1, 0, EXPLICIT_VR_LITTLE_ENDIAN), (3, 0, IMPLICIT_VR_LITTLE_ENDIAN), max_pdu=0)
ABORTED = struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, 2, 0)


def _send(port: int, parcel: Parcel) -> dict[str, object]:
    destination = DicomDestination(Peer("127.0.0.1", port, CALLED, CALLING), QUICK)
    with destination.open([parcel]) as session:
        return dict(session.send(parcel))


def _consume(answer: bytes) -> tuple[Callable[[socket.socket], None], ...]:
    """Answers to the command and to the data set of one C-STORE."""
    return (lambda _: None, lambda connection: connection.sendall(answer))


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0x0107, 0xB000, 0xB006, 0xB007, 0xBFFF])
def test_success_and_warnings_are_delivered_and_the_receipt_tells_them_apart(status: int) -> None:
    with scripted(ACCEPTED, *_consume(answered(status))) as port:
        receipt = _send(port, _parcel(Instance(1)))
    assert receipt["status"] == f"{status:04X}"
    assert receipt["warning"] is (status != 0)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0xA700, OutOfResources),
        (0xA7FF, OutOfResources),
        (0x0110, Transient),
        (0x0212, Transient),
        (0xA900, Refused),
        (0xC000, Refused),
        (0xCFFF, Refused),
        (0x0122, Refused),
        (0x0124, Refused),
        (0x0111, Refused),
        (0xFF00, Refused),
    ],
)
def test_a_failure_status_says_who_acts_next(status: int, kind: type[ApplianceError]) -> None:
    with scripted(ACCEPTED, *_consume(answered(status))) as port, pytest.raises(ApplianceError) as error:
        _send(port, _parcel(Instance(1)))
    assert type(error.value) is kind
    assert f"{status:04X}" in str(error.value)


@pytest.mark.parametrize(
    ("source", "reason", "words"),
    [
        (1, 3, "does not know our AE title CLINICBOX"),
        (1, 7, "is not called RECEIVER"),
        (2, 2, "protocol version"),
    ],
)
def test_a_permanent_rejection_needs_a_person_who_is_told_why(source: int, reason: int, words: str) -> None:
    with scripted(rejected(1, source, reason)) as port, pytest.raises(OperatorNeeded, match=words) as error:
        _send(port, _parcel(Instance(1)))
    assert error.value.hint


def test_a_transient_rejection_is_tried_again() -> None:
    with scripted(rejected(2, 3, 2)) as port, pytest.raises(Transient, match="limit of connections"):
        _send(port, _parcel(Instance(1)))


@pytest.mark.parametrize(
    "answer",
    [
        ABORTED,
        b"\x02\x00\x00\x00\x00\x04abcd",
        b"\xff" * 64,
        b"\x02\x00\xff\xff\xff\xff",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ACCEPTED[:100],
        lambda connection: connection.close(),
    ],
    ids=["abort", "short", "noise", "endless", "http", "half", "hang-up"],
)
def test_nonsense_for_an_answer_is_tried_again(answer: bytes | Callable[[socket.socket], None]) -> None:
    with scripted(answer) as port, pytest.raises(Transient):
        _send(port, _parcel(Instance(1)))


@pytest.mark.parametrize(
    "answer",
    [
        ABORTED,
        answered(0, message_id=99),
        struct.pack(">BBLLBB", 4, 0, 6, 500, 1, 3),
        struct.pack(">BBLLBB", 4, 0, 6, 2, 1, 3),
        struct.pack(">BBLL", 5, 0, 4, 0),
        lambda connection: connection.close(),
        lambda _: None,
    ],
    ids=["abort", "other message", "length lies", "empty", "release", "hang-up", "silence"],
)
def test_no_proper_response_is_no_delivery(answer: bytes | Callable[[socket.socket], None]) -> None:
    reply = answer if callable(answer) else lambda connection: connection.sendall(answer)
    with scripted(ACCEPTED, lambda _: None, reply) as port, pytest.raises(Transient):
        _send(port, _parcel(Instance(1)))


def test_a_syntax_that_was_not_proposed_is_not_believed() -> None:
    answer = accepted((1, 0, JPEG_LOSSLESS), (3, 0, JPEG_LOSSLESS))
    with scripted(answer) as port, pytest.raises(Refused, match="does not accept this kind of object"):
        _send(port, _parcel(Instance(1)))


def test_a_response_in_several_fragments_is_put_together() -> None:
    whole = answered(0)[12:]

    def in_fragments(connection: socket.socket) -> None:
        for first in range(0, len(whole), 7):
            piece = whole[first : first + 7]
            last = 2 if first + 7 >= len(whole) else 0
            connection.sendall(
                struct.pack(">BBLLBB", 4, 0, len(piece) + 6, len(piece) + 2, 1, 1 | last) + piece
            )

    with scripted(ACCEPTED, lambda _: None, in_fragments) as port:
        assert _send(port, _parcel(Instance(1)))["status"] == "0000"


def test_nobody_there_says_which_machine() -> None:
    port = free_port()
    with pytest.raises(Transient, match=f"RECEIVER at 127.0.0.1:{port} cannot be reached"):
        echo("127.0.0.1", port, CALLED, CALLING, timeouts=QUICK)


def test_an_unknown_host_is_tried_again() -> None:
    with pytest.raises(Transient, match="cannot be reached"):
        echo("no-such-host.invalid", 104, CALLED, CALLING, timeouts=QUICK)


def _parcel(instance: Instance) -> Parcel:
    file = (
        file_head(
            sop_class_uid=instance.sop_class_uid,
            sop_instance_uid=instance.sop_instance_uid,
            transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
            source_ae_title="TESTS",
        )
        + instance.data_set
    )
    from pathlib import Path

    return Parcel(
        study_instance_uid=instance.study_instance_uid,
        series_instance_uid=Uid("1.2.3"),
        sop_instance_uid=instance.sop_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
        object_id=ObjectId("0" * 32),
        size_bytes=len(file),
        sealed_bytes=0,
        sealed_path=Path("not-used"),
        open=lambda: io.BytesIO(file),
    )
