"""What a peer may count on, and what it cannot do to us, over a real socket."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

from appliance.errors import (
    Corrupt,
    Mismatch,
    NotAuthorised,
    NotUnderstood,
    OperatorNeeded,
    OutOfResources,
    Transient,
)

from .conftest import Scp, eventually
from .peers import (
    BIG_ENDIAN,
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_LOSSLESS,
    VERIFICATION,
    Aborted,
    Closed,
    Peer,
    Rejected,
    associate_rq,
    command,
    element,
    item,
    p_data,
    pdv,
)

StartScp = Callable[..., Scp]


def test_echo_is_answered(scp: Scp) -> None:
    with scp.peer() as peer:
        peer.associate([(1, VERIFICATION, [IMPLICIT])])
        answer = peer.echo(message_id=4711)
        assert answer.status == 0
        assert answer.message_id == 4711
        assert answer.elements[0x0100] == b"\x30\x80"
        peer.release()


@pytest.mark.parametrize("size", [0, 1, 2, 1000, 16000, 131066, 3_000_001])
@pytest.mark.parametrize("fragment", [1000, 131066])
def test_data_set_arrives_byte_for_byte(scp: Scp, size: int, fragment: int) -> None:
    data = bytes(i * 7 % 251 for i in range(1000)) * (size // 1000 + 1)
    with scp.peer() as peer:
        peer.associate()
        assert peer.store(data[:size], "1.2.3", fragment_bytes=fragment).status == 0
        peer.release()
    (kept,) = scp.reception.kept
    assert kept.data_set == data[:size]
    assert (kept.sop_class_uid, kept.sop_instance_uid, kept.transfer_syntax_uid) == (CT, "1.2.3", EXPLICIT)
    assert (kept.origin.name, kept.origin.address) == ("MODALITY", "127.0.0.1")


def test_fragments_may_share_a_pdu_and_split_anywhere(scp: Scp) -> None:
    request = command(1, 9, CT, "1.2.3")
    with scp.peer() as peer:
        peer.associate()
        peer.send(
            p_data(
                pdv(1, 1, request[:5]),
                pdv(1, 1, b""),
                pdv(1, 3, request[5:]),
                pdv(1, 0, b"ab"),
                pdv(1, 0, b"c"),
            )
        )
        for byte in p_data(pdv(1, 0, b"defg"), pdv(1, 2, b"")):
            peer.send(bytes((byte,)))
        assert peer.response().status == 0
    assert scp.reception.kept[0].data_set == b"abcdefg"


def test_response_names_the_request(scp: Scp) -> None:
    with scp.peer() as peer:
        peer.associate()
        answer = peer.store(b"x", "1.2.3.4", message_id=300)
        assert answer.message_id == 300
        assert answer.elements[0x0100] == b"\x01\x80"
        assert answer.elements[0x0800] == b"\x01\x01"
        assert answer.elements[0x0002].rstrip(b"\0").decode() == CT
        assert answer.elements[0x1000].rstrip(b"\0") == b"1.2.3.4"


def test_a_peer_that_takes_small_pdus_gets_small_pdus(scp: Scp) -> None:
    with scp.peer() as peer:
        peer.associate(max_pdu=64)
        answer = peer.store(b"x", "1.2.3.4")
        assert answer.status == 0
        assert answer.pdus > 1


def test_a_peer_without_limit_gets_one_pdu(scp: Scp) -> None:
    with scp.peer() as peer:
        peer.associate(max_pdu=0)
        assert peer.store(b"x", "1.2.3.4").pdus == 1


def test_the_configured_maximum_is_offered(start_scp: StartScp) -> None:
    with start_scp(max_pdu_bytes=65536).peer() as peer:
        assert peer.associate().max_pdu == 65536


def test_asynchronous_window_is_answered_one_one(scp: Scp) -> None:
    with scp.peer() as peer:
        peer.associate(user_items=item(0x53, struct.pack(">HH", 8, 8)))
        assert item(0x53, struct.pack(">HH", 1, 1)) in peer.user_information


def test_the_sender_keeps_the_user_role_only(scp: Scp) -> None:
    role = item(0x54, struct.pack(">H", len(CT)) + CT.encode() + b"\1\1")
    with scp.peer() as peer:
        peer.associate(user_items=role)
        assert item(0x54, struct.pack(">H", len(CT)) + CT.encode() + b"\1\0") in peer.user_information


def test_each_context_gets_the_syntax_its_sender_prefers(scp: Scp) -> None:
    contexts = [
        (1, CT, [JPEG_LOSSLESS, EXPLICIT]),
        (3, CT, [BIG_ENDIAN, IMPLICIT]),
        (5, CT, [DEFLATED]),
        (7, "1.2.826.0.1.999.1", ["1.2.826.0.1.999.2"]),
        (9, "1.2.840.10008.5.1.4.31", [EXPLICIT]),
    ]
    with scp.peer() as peer:
        peer.associate(contexts)
        results = peer.contexts
    assert results[1] == (0, JPEG_LOSSLESS)
    assert results[3] == (0, IMPLICIT)
    assert results[5] == (0, DEFLATED)
    assert results[7] == (0, "1.2.826.0.1.999.2")
    assert results[9][0] == 3


def test_association_without_acceptable_context_is_rejected(scp: Scp) -> None:
    with scp.peer() as peer, pytest.raises(Rejected) as rejected:
        peer.associate([(1, "1.2.840.10008.5.1.4.31", [EXPLICIT])])
    assert rejected.value.code == (1, 1, 1)


def test_128_contexts_are_accepted(scp: Scp) -> None:
    contexts = [(2 * n + 1, f"1.2.840.10008.5.1.4.1.1.{n + 1}", [EXPLICIT, IMPLICIT]) for n in range(128)]
    with scp.peer() as peer:
        peer.associate(contexts)
        assert len(peer.contexts) == 128
        assert peer.store(b"x", "1.2.3", context_id=255).status == 0


# --- the door --------------------------------------------------------------------------------------------------------


def test_unknown_caller_is_rejected_for_good(scp: Scp) -> None:
    with scp.peer() as peer, pytest.raises(Rejected) as rejected:
        peer.associate(calling=b"STRANGER")
    assert rejected.value.code == (1, 1, 3)
    assert scp.desk.tally.turned_away == 1


@pytest.mark.parametrize("calling", [b"MODALITY        ", b"  MODALITY", b"MODALITY\0\0"])
def test_padding_of_the_calling_title_is_trimmed(scp: Scp, calling: bytes) -> None:
    with scp.peer() as peer:
        peer.associate(calling=calling)
    assert scp.door.calls == [("MODALITY", "127.0.0.1")]


@pytest.mark.parametrize("calling", [b"", b"\xe9\xe8", b"A\\B", b"A\nB"])
def test_a_title_that_is_none_is_rejected(scp: Scp, calling: bytes) -> None:
    with scp.peer() as peer, pytest.raises(Rejected) as rejected:
        peer.associate(calling=calling)
    assert rejected.value.code == (1, 1, 3)


@pytest.mark.parametrize("called", [b"", b"SOMETHING ELSE", b"\xff\x00\xe9"])
def test_any_called_title_will_do(scp: Scp, called: bytes) -> None:
    with scp.peer() as peer:
        peer.associate(called=called)
        assert peer.store(b"x", "1.2.3").status == 0


def test_nothing_of_a_stranger_is_decoded(scp: Scp) -> None:
    fixed = associate_rq([], calling=b"STRANGER")[6:74]
    with scp.peer() as peer:
        peer.send(struct.pack(">BBL", 1, 0, 72) + fixed + b"\xff\xff\xff\xff")
        with pytest.raises(Rejected):
            peer.pdu()


def test_full_store_rejects_the_association_transiently(scp: Scp) -> None:
    scp.reception.full = True
    with scp.peer() as peer, pytest.raises(Rejected) as rejected:
        peer.associate()
    assert rejected.value.code == (2, 3, 2)
    eventually(scp.is_idle, "a rejected association still counts")


def test_busy_catalog_rejects_the_association_transiently(scp: Scp) -> None:
    scp.door.busy = True
    with scp.peer() as peer, pytest.raises(Rejected) as rejected:
        peer.associate()
    assert rejected.value.code == (2, 3, 1)


def test_one_association_too_many_is_rejected_transiently(start_scp: StartScp) -> None:
    scp = start_scp(max_associations=2)
    with scp.peer() as one, scp.peer() as two:
        one.associate()
        two.associate()
        with scp.peer() as three, pytest.raises(Rejected) as rejected:
            three.associate()
        assert rejected.value.code == (2, 3, 2)
        one.release()
        eventually(lambda: scp.desk.tally.open_now == 1, "a released association still counts")
        with scp.peer() as four:
            four.associate()


def test_protocol_version_other_than_one_is_rejected(scp: Scp) -> None:
    with scp.peer() as peer, pytest.raises(Rejected) as rejected:
        peer.associate(version=2)
    assert rejected.value.code == (1, 2, 2)


def test_future_protocol_versions_that_include_the_first_are_accepted(scp: Scp) -> None:
    with scp.peer() as peer:
        peer.associate(version=3)


# --- errors of ours: a status, and the association goes on ------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotUnderstood("cannot be read"), 0xC000),
        (Mismatch("another class"), 0xA900),
        (OutOfResources("no space"), 0xA700),
        (NotAuthorised("may not"), 0x0124),
        (Corrupt("bytes at rest"), 0x0110),
        (Transient("busy"), 0x0110),
        (OperatorNeeded("key gone", hint="secret remedy"), 0x0110),
    ],
)
@pytest.mark.parametrize("where", ["fails_in_begin", "fails_in_write", "fails_in_finish"])
def test_every_error_has_its_status_and_spares_the_association(
    scp: Scp, where: str, error: Exception, status: int
) -> None:
    setattr(scp.reception, where, error)
    scp.reception.fails_after_bytes = 40_000
    with scp.peer() as peer:
        peer.associate()
        answer = peer.store(b"x" * 100_000, "1.2.3")
        assert answer.status == status
        assert answer.comment == str(error).partition(" — ")[0]
        setattr(scp.reception, where, None)
        assert peer.store(b"y" * 100_000, "1.2.4").status == 0
        peer.release()
    assert [kept.sop_instance_uid for kept in scp.reception.kept] == ["1.2.4"]
    assert not scp.reception.open_arrivals


def test_store_on_a_verification_context_is_refused(scp: Scp) -> None:
    with scp.peer() as peer:
        peer.associate([(1, VERIFICATION, [IMPLICIT])])
        assert peer.store(b"x" * 50_000, "1.2.3").status == 0x0122
        assert peer.echo().status == 0


@pytest.mark.parametrize("field", [0x0020, 0x0021, 0x0010, 0x0130, 0x0140])
def test_services_we_do_not_offer_are_refused_and_spare_the_association(scp: Scp, field: int) -> None:
    with scp.peer() as peer:
        peer.associate()
        peer.send(p_data(pdv(1, 3, command(field, 5, CT))) + p_data(pdv(1, 2, b"identifier")))
        assert peer.response().status == 0x0122
        peer.send(p_data(pdv(1, 3, command(field, 6, CT, data_set=False))))
        assert peer.response().status == 0x0122
        assert peer.store(b"x", "1.2.3").status == 0


def test_cancel_and_stray_responses_are_passed_over(scp: Scp) -> None:
    cancel = element(0x0100, b"\xff\x0f") + element(0x0120, b"\1\0") + element(0x0800, b"\1\1")
    with scp.peer() as peer:
        peer.associate()
        peer.send(p_data(pdv(1, 3, cancel)))
        peer.send(p_data(pdv(1, 3, command(0x8001, 5, CT, data_set=False))))
        assert peer.store(b"x", "1.2.3").status == 0


@pytest.mark.parametrize("missing", ["sop_class", "instance", "data_set"])
def test_store_that_does_not_say_what_is_not_understood(scp: Scp, missing: str) -> None:
    request = command(
        1,
        5,
        "" if missing == "sop_class" else CT,
        "" if missing == "instance" else "1.2.3",
        data_set=missing != "data_set",
    )
    with scp.peer() as peer:
        peer.associate()
        peer.send(p_data(pdv(1, 3, request)))
        if missing != "data_set":
            peer.send(p_data(pdv(1, 2, b"x")))
        assert peer.response().status == 0xC000
        assert peer.store(b"x", "1.2.3").status == 0


# --- errors of theirs: an abort, and nothing left behind --------------------------------------------------------------

STORE = p_data(pdv(1, 3, command(1, 1, CT, "1.2.3")))
VIOLATIONS: dict[str, bytes] = {
    "data before any command": p_data(pdv(1, 2, b"x")),
    "context that was not accepted": p_data(pdv(99, 3, command(0x30, 1, VERIFICATION, data_set=False))),
    "even context id": p_data(pdv(2, 3, command(0x30, 1, VERIFICATION, data_set=False))),
    "command within a data set": STORE + p_data(pdv(1, 0, b"x")) + STORE,
    "command on another context within a command": p_data(pdv(1, 1, b"\0\0"), pdv(3, 1, b"\0\0")),
    "data set on another context": STORE + p_data(pdv(3, 2, b"x")),
    "data within a command": p_data(pdv(1, 1, b"\0\0"), pdv(1, 0, b"x")),
    "PDU beyond our maximum": struct.pack(">BBL", 4, 0, 131072 + 2000),
    "PDU of 4 GB": struct.pack(">BBL", 4, 0, 0xFFFFFFFF),
    "empty P-DATA": p_data(),
    "fragment longer than its PDU": p_data(pdv(1, 3, b"\0\0", length=500)),
    "fragment of 4 GB": p_data(pdv(1, 3, b"\0\0", length=0xFFFFFFFF)),
    "fragment shorter than its header": p_data(pdv(1, 3, b"\0\0", length=1)),
    "fragment of no length": p_data(pdv(1, 3, b"\0\0", length=0)),
    "PDU that ends within a fragment's header": p_data(pdv(1, 1, b"\0\0"), b"\0\0\0"),
    "command set without end": p_data(pdv(1, 1, b"\0" * 60_000)) + p_data(pdv(1, 1, b"\0" * 60_000)),
    "command set of rubbish": p_data(pdv(1, 3, b"rubbish!")),
    "command set of another group": p_data(pdv(1, 3, element(0x10, b"DOE^JANE", group=0x10))),
    "element beyond the command set": p_data(pdv(1, 3, b"\0\0\0\1\xff\xff\0\0\1\0")),
    "empty command set": p_data(pdv(1, 3, b"")),
    "command without field": p_data(pdv(1, 3, element(0x110, b"\1\0"))),
    "request without message id": p_data(pdv(1, 3, element(0x100, b"\1\0") + element(0x800, b"\0\0"))),
    "instance that is no UID": p_data(pdv(1, 3, command(1, 1, CT, "1" * 200))),
    "second association request": associate_rq([(1, CT, [EXPLICIT])]),
    "association accept": b"\2\0" + associate_rq([(1, CT, [EXPLICIT])])[2:],
    "association reject": b"\3\0\0\0\0\4\0\1\1\1",
    "release response": b"\6\0\0\0\0\4\0\0\0\0",
    "long release": struct.pack(">BBL", 5, 0, 100_000),
    "unknown PDU": struct.pack(">BBL", 9, 0, 4) + b"\0\0\0\0",
    "not DICOM at all": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("violation", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_violation_aborts_and_leaves_nothing(scp: Scp, violation: bytes) -> None:
    with scp.peer() as peer:
        peer.associate([(1, CT, [EXPLICIT]), (3, CT, [IMPLICIT])])
        peer.send(violation)
        assert peer.expect_abort().source == 2
    eventually(scp.is_idle, "the aborted association is still there")
    assert scp.reception.kept == []


OPENINGS: dict[str, bytes] = {
    "data first": p_data(pdv(1, 2, b"x")),
    "release first": b"\5\0\0\0\0\4\0\0\0\0",
    "unknown PDU": struct.pack(">BBL", 0x55, 0, 4) + bytes(4),
    "huge request": struct.pack(">BBL", 1, 0, 0x7FFFFFFF),
    "tiny request": struct.pack(">BBL", 1, 0, 10) + bytes(10),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000 1fc0303".replace(" ", "")) + bytes(64),
    "even context id": associate_rq([(2, CT, [EXPLICIT])]),
    "one id twice": associate_rq([(1, CT, [EXPLICIT]), (1, CT, [IMPLICIT])]),
    "item beyond the end": associate_rq([])[:-4] + b"\x20\0\xff\xff",
    "rubbish items": struct.pack(">BBL", 1, 0, 72) + associate_rq([])[6:74] + b"\xff\xff\xff\xff",
}


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS.keys())
def test_opening_that_is_no_request_is_aborted_or_rejected(scp: Scp, opening: bytes) -> None:
    with scp.peer() as peer:
        peer.send(opening)
        with pytest.raises((Aborted, Rejected)):
            peer.pdu()
    eventually(scp.is_idle, "the aborted association is still there")


@pytest.mark.parametrize("how", ["abort", "close", "reset", "release"])
def test_peer_that_leaves_in_mid_transfer_leaves_nothing_behind(scp: Scp, how: str) -> None:
    peer = scp.peer()
    peer.associate()
    assert peer.store(b"whole", "1.2.1").status == 0
    peer.begin_store("1.2.3")
    peer.send(p_data(pdv(1, 0, b"x" * 50_000)))
    eventually(lambda: len(scp.reception.open_arrivals) == 1, "the transfer did not begin")
    if how == "abort":
        peer.send(b"\7\0\0\0\0\4\0\0\0\0")
    elif how == "release":
        peer.release()
    elif how == "reset":
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.close()
    eventually(scp.is_idle, "the abandoned association is still there")
    assert scp.reception.abandoned == 1
    assert [kept.sop_instance_uid for kept in scp.reception.kept] == ["1.2.1"]


def test_half_a_pdu_and_silence_ends(start_scp: StartScp) -> None:
    scp = start_scp(network_timeout_seconds=1)
    with scp.peer() as peer:
        peer.associate()
        peer.begin_store("1.2.3")
        peer.send(p_data(pdv(1, 0, b"x" * 50_000))[:20_000])
        assert peer.expect_abort().source == 2
    eventually(scp.is_idle, "the silent association is still there")
    assert scp.reception.abandoned == 1


def test_slow_loris_ends_though_it_never_pauses(start_scp: StartScp) -> None:
    scp = start_scp(network_timeout_seconds=1)
    with scp.peer() as peer:
        peer.associate()
        peer.begin_store("1.2.3")
        dripping = threading.Event()

        def drip() -> None:
            peer.send(struct.pack(">BBL", 4, 0, 60_000))
            while not dripping.wait(0.02):
                try:
                    peer.send(b"\0")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises((Aborted, Closed)):
                peer.pdu()
            eventually(scp.is_idle, "the dripping association is still there")
        finally:
            dripping.set()
            thread.join()


@pytest.mark.parametrize("said", [b"", b"\1", associate_rq([(1, CT, [EXPLICIT])])[:-1]])
def test_half_open_connection_ends(start_scp: StartScp, said: bytes) -> None:
    scp = start_scp(acse_timeout_seconds=1)
    with scp.peer() as peer:
        peer.send(said)
        with pytest.raises((Aborted, Closed)):
            peer.pdu()


def test_silence_between_messages_ends_after_the_network_timeout(start_scp: StartScp) -> None:
    scp = start_scp(network_timeout_seconds=1)
    with scp.peer() as peer:
        peer.associate()
        peer.expect_abort()


def test_half_open_connections_do_not_take_all_threads(start_scp: StartScp) -> None:
    scp = start_scp(max_associations=1)
    before = threading.active_count()
    silent = [Peer(scp.port) for _ in range(40)]
    try:
        eventually(lambda: threading.active_count() > before, "no connection was accepted")
        time.sleep(0.2)
        assert threading.active_count() - before <= 4
    finally:
        for peer in silent:
            peer.socket.close()

    def associates() -> bool:
        try:
            with scp.peer() as peer:
                peer.associate()
                return True
        except (Closed, Rejected, OSError):
            return False

    eventually(associates, "the half-open connections still take the room")


def test_a_connection_without_a_thread_leaves_its_place(
    start_scp: StartScp, monkeypatch: pytest.MonkeyPatch
) -> None:
    scp = start_scp(max_associations=1)
    refused, start = [0], threading.Thread.start

    def no_more_threads(thread: threading.Thread) -> None:
        if "process_request_thread" in thread.name and refused[0] < 6:
            refused[0] += 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    for _ in range(6):
        Peer(scp.port).socket.close()
    eventually(lambda: refused[0] == 6, "not every connection was tried")
    with scp.peer() as peer:
        peer.associate()


def test_stopping_lets_a_message_finish_and_then_aborts(scp: Scp) -> None:
    with scp.peer() as idle, scp.peer() as busy:
        idle.associate()
        busy.associate()
        busy.begin_store("1.2.3")
        busy.send(p_data(pdv(1, 0, b"x" * 1000)))
        eventually(lambda: len(scp.reception.open_arrivals) == 1, "the transfer did not begin")
        scp.desk.stopping.set()
        assert idle.expect_abort() == Aborted(0, 0)
        busy.send(p_data(pdv(1, 2, b"y" * 1000)))
        assert busy.response().status == 0
        assert busy.expect_abort() == Aborted(0, 0)
    assert len(scp.reception.kept) == 1


def test_fifty_concurrent_associations(scp: Scp) -> None:
    results: list[int] = []

    def send(number: int) -> None:
        with scp.peer() as peer:
            peer.associate()
            for k in range(4):
                data = f"{number}.{k}".encode() * 5000
                results.append(peer.store(data, f"1.2.{number}.{k}").status)
            peer.release()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0] * 200
    assert {kept.sop_instance_uid: kept.data_set for kept in scp.reception.kept} == {
        f"1.2.{n}.{k}": f"{n}.{k}".encode() * 5000 for n in range(50) for k in range(4)
    }
    eventually(scp.is_idle, "associations are still there")


def test_a_defect_of_ours_ends_one_association_only(scp: Scp, caplog: pytest.LogCaptureFixture) -> None:
    scp.reception.fails_in_write = ZeroDivisionError("DOE^JANE")  # type: ignore[assignment]
    with scp.peer() as peer:
        peer.associate()
        peer.begin_store("1.2.3")
        peer.send(p_data(pdv(1, 2, b"x")))
        peer.expect_abort()
    eventually(scp.is_idle, "the association is still there")
    assert scp.reception.abandoned == 1
    scp.reception.fails_in_write = None
    with scp.peer() as peer:
        peer.associate()
        assert peer.store(b"x", "1.2.3").status == 0
    eventually(lambda: "ZeroDivisionError" in caplog.text, "the defect was not logged")
    assert "DOE^JANE" not in caplog.text


def test_logs_carry_no_identifier(scp: Scp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    uid = "1.2.826.0.1.3680043.99.12345"
    scp.reception.fails_in_finish = NotUnderstood("no Study Instance UID")
    with scp.peer() as peer:
        peer.associate()
        peer.store(b"DOE^JANE", uid)
        peer.release()
    eventually(scp.is_idle, "the association is still there")
    assert "status=0xC000" in caplog.text
    assert uid not in caplog.text
    assert "DOE" not in caplog.text
