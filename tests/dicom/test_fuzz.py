"""Associations of which any byte may be wrong: nothing crashes, hangs or stays behind. The seed is fixed."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Callable

import pytest

from appliance.dicom.exchange import Exchange, Tally, Violation
from appliance.dicom.negotiation import Answer, Outcome
from appliance.errors import NotUnderstood
from appliance.model import Intake, Origin, Uid

from .conftest import FakeReception, Scp, eventually
from .peers import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    Aborted,
    Closed,
    Peer,
    Rejected,
    associate_rq,
    command,
    p_data,
    pdv,
)

CONTEXTS = [(1, CT, [EXPLICIT, IMPLICIT]), (3, VERIFICATION, [IMPLICIT]), (5, "1.2.3.4", [EXPLICIT])]
DATA = bytes(range(256)) * 40
PDUS = [
    associate_rq(CONTEXTS),
    p_data(pdv(3, 3, command(0x30, 1, VERIFICATION, data_set=False))),
    p_data(pdv(1, 3, command(1, 2, CT, "1.2.3"))),
    p_data(pdv(1, 0, DATA[:4000]), pdv(1, 0, DATA[4000:8000])),
    p_data(pdv(1, 2, DATA[8000:])),
    p_data(
        pdv(5, 1, command(1, 3, "1.2.3.4", "1.2.4")[:30]), pdv(5, 3, command(1, 3, "1.2.3.4", "1.2.4")[30:])
    ),
    p_data(pdv(5, 2, DATA)),
    b"\5\0\0\0\0\4\0\0\0\0",
]
LENGTHS = [0, 1, 2, 5, 6, 0x7FFF, 0xFFFF, 0x20000, 0x7FFFFFFF, 0xFFFFFFFF]


def mutated(chance: random.Random, pdus: list[bytes]) -> bytes:
    """The PDUs with one to four things wrong: bytes, lengths, order, repetition, an end too early."""
    pdus = list(pdus)
    for _ in range(chance.randint(1, 4)):
        where = chance.randrange(len(pdus))
        pdu = bytearray(pdus[where])
        place = chance.randrange(len(pdu))
        kind = chance.randrange(8)
        if kind == 0:
            pdu[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            pdu[place] = chance.randrange(256)
        elif kind == 2:
            pdu[2:6] = struct.pack(">L", chance.choice(LENGTHS))
        elif kind == 3 and len(pdu) > 12:
            pdu[6:10] = struct.pack(">L", chance.choice(LENGTHS))
        elif kind == 4:
            del pdu[place : place + chance.randint(1, 40)]
        elif kind == 5:
            pdu[place:place] = chance.randbytes(chance.randint(1, 40))
        elif kind == 6:
            pdus.insert(chance.randrange(len(pdus) + 1), bytes(pdu))
        else:
            other = chance.randrange(len(pdus))
            pdus[other], pdus[where] = pdus[where], pdus[other]
            continue
        pdus[where] = bytes(pdu)
    stream = b"".join(pdus)
    return stream[: chance.randrange(len(stream))] if chance.random() < 0.2 else stream


def say(port: int, stream: bytes) -> None:
    """Send all of it, end, and take whatever comes until the other side closes."""
    with Peer(port) as peer:
        try:
            peer.send(stream)
            peer.socket.shutdown(socket.SHUT_WR)
            while peer.socket.recv(65536):
                pass
        except OSError:  # the other side has cut, or is gone already
            pass


@pytest.mark.parametrize("seed", range(10))
def test_no_stream_of_bytes_breaks_the_receiving_side(scp: Scp, seed: int) -> None:
    chance = random.Random(seed)
    say(scp.port, b"".join(PDUS))
    assert len(scp.reception.kept) == 2
    threads = threading.active_count()
    for _ in range(40):
        say(scp.port, mutated(chance, PDUS))
    for _ in range(5):
        say(scp.port, PDUS[0] + chance.randbytes(2000))
        say(scp.port, chance.randbytes(2000))
    eventually(scp.is_idle, "an association is still there")
    eventually(lambda: threading.active_count() <= threads, "a thread is still there")
    with scp.peer() as peer:
        peer.associate()
        assert peer.store(DATA, "1.2.99").status == 0


@pytest.mark.parametrize("seed", range(10))
def test_no_order_of_fragments_breaks_an_exchange(seed: int) -> None:
    chance = random.Random(seed)
    accepted = {
        number: Answer(number, Uid(uid), Outcome.ACCEPTED, Uid(EXPLICIT))
        for number, uid in ((1, CT), (3, VERIFICATION))
    }
    requests = [
        command(1, 2, CT, "1.2.3"),
        command(0x30, 3, VERIFICATION, data_set=False),
        command(0x20, 4, CT),
        command(0x8001, 5, CT, data_set=False),
        b"",
        b"rubbish",
    ]
    for _ in range(300):
        reception = FakeReception()
        if chance.random() < 0.3:
            reception.fails_in_write = NotUnderstood("no")
        sent: list[bytes] = []
        exchange = Exchange(
            accepted,
            reception,
            Origin(Intake.DICOM, "MODALITY", "127.0.0.1"),
            sent.append,
            peer_max_pdu_bytes=16384,
            tally=Tally(),
        )
        try:
            for _ in range(chance.randint(1, 20)):
                control = chance.randrange(4)
                exchange.begin(chance.choice([1, 1, 1, 1, 3, 5]), control)
                payload = chance.choice(requests) if control & 1 else chance.randbytes(chance.randrange(50))
                half = len(payload) // 2
                exchange.piece(memoryview(payload)[:half])
                exchange.piece(memoryview(payload)[half:])
                exchange.end(control)
        except Violation:
            pass
        exchange.abandon()
        assert not reception.open_arrivals
        assert len(reception.kept) <= len(sent)


@pytest.mark.slow
def test_five_hundred_connections_that_say_nothing(start_scp: Callable[..., Scp]) -> None:
    scp = start_scp(acse_timeout_seconds=2)
    silent = [socket.create_connection(("127.0.0.1", scp.port)) for _ in range(500)]
    try:
        eventually(lambda: answered(scp), "nobody else is served")
    finally:
        for each in silent:
            each.close()


def answered(scp: Scp) -> bool:
    try:
        with scp.peer() as peer:
            peer.associate()
            return peer.store(b"x", "1.2.3").status == 0
    except (OSError, Aborted, Closed, Rejected):
        return False
