"""A receiving side on loopback whose instances go into memory, and the raw peers that call it."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from appliance.config import DicomConfig
from appliance.dicom.association import Desk
from appliance.dicom.listener import make_server
from appliance.errors import ApplianceError, OutOfResources, Transient
from appliance.model import AETitle, Origin, Uid

from .peers import PATIENCE_SECONDS, Peer


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until `holds`; fail with `what` if it does not within the patience of the tests."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@dataclass
class Kept:
    origin: Origin
    sop_class_uid: Uid
    sop_instance_uid: Uid
    transfer_syntax_uid: Uid
    data_set: bytes


class FakeArrival:
    def __init__(self, reception: FakeReception, announced: dict[str, Any]) -> None:
        self._reception = reception
        self._announced = announced
        self._data_set = bytearray()
        self.pieces = 0

    def write(self, fragment: memoryview) -> None:
        self.pieces += 1
        self._data_set += fragment
        if self._reception.fails_in_write and len(self._data_set) > self._reception.fails_after_bytes:
            raise self._reception.fails_in_write

    def finish(self) -> None:
        if self._reception.fails_in_finish:
            raise self._reception.fails_in_finish
        self._reception.open_arrivals.discard(self)
        self._reception.kept.append(Kept(**self._announced, data_set=bytes(self._data_set)))

    def abandon(self) -> None:
        if self in self._reception.open_arrivals:
            self._reception.open_arrivals.discard(self)
            self._reception.abandoned += 1


class FakeReception:
    """Keeps what is finished, forgets what is abandoned, and fails on demand; honours `exchange.Receiving`."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self.open_arrivals: set[FakeArrival] = set()
        self.abandoned = 0
        self.full = False
        self.fails_in_begin: ApplianceError | None = None
        self.fails_in_write: ApplianceError | None = None
        self.fails_in_finish: ApplianceError | None = None
        self.fails_after_bytes = 0

    def admit(self, *, own: bool = False) -> None:
        if self.full:
            raise OutOfResources("no space")

    def begin(
        self, origin: Origin, *, sop_class_uid: Uid, sop_instance_uid: Uid, transfer_syntax_uid: Uid
    ) -> FakeArrival:
        if self.fails_in_begin:
            raise self.fails_in_begin
        announced = {
            "origin": origin,
            "sop_class_uid": sop_class_uid,
            "sop_instance_uid": sop_instance_uid,
            "transfer_syntax_uid": transfer_syntax_uid,
        }
        arrival = FakeArrival(self, announced)
        self.open_arrivals.add(arrival)
        return arrival

    def digests(self) -> dict[str, str]:
        return {each.sop_instance_uid: hashlib.sha256(each.data_set).hexdigest() for each in self.kept}


class FakeDoor:
    """Knows everyone but `STRANGER`."""

    def __init__(self) -> None:
        self.busy = False
        self.calls: list[tuple[AETitle, str]] = []
        self.refusals: list[tuple[AETitle, str, int]] = []

    def admits(self, calling: AETitle, address: str) -> bool:
        if self.busy:
            raise Transient("the catalog is busy")
        self.calls.append((calling, address))
        return calling != "STRANGER"

    def rehearses(self, calling: AETitle, address: str) -> bool:
        del address
        return calling == "REHEARSAL"

    def note_refusal(self, calling: AETitle, address: str, code: int) -> None:
        self.refusals.append((calling, address, code))


@dataclass
class Scp:
    """A running receiving side."""

    port: int
    desk: Desk
    reception: FakeReception
    door: FakeDoor
    config: DicomConfig
    stop: Callable[[], None] = field(repr=False)

    def peer(self) -> Peer:
        return Peer(self.port)

    def is_idle(self) -> bool:
        return self.desk.tally.open_now == 0 and not self.reception.open_arrivals


@pytest.fixture
def start_scp() -> Iterator[Callable[..., Scp]]:
    """Starts receiving sides, given fields of `DicomConfig`; stops them all afterwards."""
    stops: list[Callable[[], None]] = []

    def start(**settings: int) -> Scp:
        config = DicomConfig(**settings)  # type: ignore[arg-type]
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        reception, door = FakeReception(), FakeDoor()
        desk = Desk(config, AETitle("CLINICBOX"), reception, door)
        server = make_server(desk, listening)
        port = listening.getsockname()[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()

        def stop() -> None:
            desk.stopping.set()
            server.shutdown_accepting()
            thread.join()
            server.server_close()

        stops.append(stop)
        return Scp(port, desk, reception, door, config, stop)

    yield start
    for stop in stops:
        stop()


@pytest.fixture
def scp(start_scp: Callable[..., Scp]) -> Scp:
    return start_scp()
