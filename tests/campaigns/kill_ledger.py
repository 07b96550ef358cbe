"""R1: `kill -9` of any process, at random, under load. What was acknowledged is in a ledger; nothing of it may be lost.

Senders behave as a modality does: what was not acknowledged is sent again, on a new association, until it is. So at
the end the store must hold exactly what the ledger holds: each instance once, byte for byte, opened to its last byte,
owed and delivered, and nothing else. The archive has each as well, and after the last kill a backup still ends well.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from appliance import audit
from appliance.box import Box
from appliance.catalog import deliveries, destinations, devices, instances, rules
from appliance.ingest import OrphanSweep
from appliance.model import DestinationSettings, Device, Rule, Uid, ae_title
from appliance.replication.destinations import prepare
from appliance.replication.destinations.archive import object_key
from tests.bench.wire import Encoded, PeerFailed, Sender
from tests.boxes import box_in, data_set_of, delivery_states, recorded
from tests.campaigns.processes import CALLING, Appliance
from tests.instances import CT_IMAGE, Instance

SIZES = (2_000, 20_000, 20_000, 20_000, 300_000, 900_000, 2_500_000)
SENDERS = 4
ARCHIVE = "archive"
SETTLE_SECONDS = 600
KILLS_OF_A_BOX = 250
"""A longer campaign goes through several boxes, each judged and removed: some 2 GB lie in each, and twice as much beside it."""


@dataclass
class Ledger:
    """What was acknowledged: SOP Instance UID to SHA-256 of the data set."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    resent: int = 0
    refused: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, uid: str, digest: str) -> None:
        with self._lock:
            self.acknowledged[uid] = digest

    def note_resent(self) -> None:
        with self._lock:
            self.resent += 1


@dataclass(frozen=True)
class Outcome:
    """Figures of a campaign that found nothing wrong."""

    kills: Counter[str]
    acknowledged: int
    resent: int
    seconds: float

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.kills + other.kills,
            self.acknowledged + other.acknowledged,
            self.resent + other.resent,
            self.seconds + other.seconds,
        )

    def __str__(self) -> str:
        killed = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({killed}) in {self.seconds:.0f} s: {self.acknowledged} instances acknowledged, "
            f"{self.resent} sent again, 0 lost, 0 kept twice, 0 half visible"
        )


def run_boxes(
    folder: Path,
    ports: tuple[int, int],
    *,
    kills: int,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Kill `kills` times, some hundreds in a box; raises AssertionError at the first broken promise."""
    outcome = Outcome(Counter(), 0, 0, 0.0)
    while left := kills - outcome.kills.total():
        place = folder / str(seed)
        place.mkdir()
        outcome += run(place, ports, kills=min(left, KILLS_OF_A_BOX), seed=seed)
        shutil.rmtree(place)
        report(f"seed {seed}: {outcome}")
        seed += 1
    return outcome


def run(folder: Path, ports: tuple[int, int], *, kills: int, seed: int) -> Outcome:
    """Kill one box `kills` times under load; raises AssertionError at the first broken promise."""
    data, there = folder / "data", folder / "there"
    archive = folder / "archive"
    for each in (there, archive):
        each.mkdir()
    _prepare(data, there, archive)
    ledger = Ledger()
    done: Counter[str] = Counter()
    begun = time.monotonic()
    with (folder / "log").open("wb") as log:
        appliance = Appliance(data, *ports, ARCHIVE, log)
        try:
            _under_load(appliance, ledger, done, kills=kills, seed=seed)
            _until_delivered(appliance, data, ledger)
            appliance.stop()
        finally:
            appliance.kill()
    with box_in(data) as box:
        verify(box, ledger, there, archive)
    return Outcome(done, len(ledger.acknowledged), ledger.resent, time.monotonic() - begun)


def _under_load(appliance: Appliance, ledger: Ledger, done: Counter[str], *, kills: int, seed: int) -> None:
    """Send from several modalities at once, and kill, until `kills` are `done`; it is up again at the end."""
    dice = random.Random(seed)
    stop = threading.Event()
    appliance.begin()
    senders = [
        threading.Thread(
            target=_send, args=(appliance.port, number, seed, ledger, stop), name=f"sender-{number}"
        )
        for number in range(SENDERS)
    ]
    for each in senders:
        each.start()
    try:
        while done.total() < kills:
            time.sleep(dice.uniform(0.0, 0.3))
            done.update(appliance.kill_some(dice, kills - done.total()))
            appliance.wait_until_ready()
            appliance.ensure()
    finally:
        stop.set()
        for each in senders:
            each.join()
    assert not ledger.refused, ledger.refused
    appliance.wait_until_ready()


def _prepare(data: Path, there: Path, archive: Path) -> None:
    """A box with a modality, a folder that takes DICOM, and an archive of what is sealed."""
    places = [
        DestinationSettings("there", "folder", "dicom", {"path": str(there)}),
        prepare(DestinationSettings(ARCHIVE, "vault", "ciphertext", {"path": str(archive)})),
    ]
    with box_in(data) as box, box.catalog.transaction() as tx:
        devices.add_device(tx, Device(ae_title(CALLING), "127.0.0.1"), datetime.now(UTC))
        for each in places:
            rules.add_rule(tx, Rule(destinations.add(tx, each), each.name, each.takes))


def _send(port: int, number: int, seed: int, ledger: Ledger, stop: threading.Event) -> None:
    """Send instance after instance until told to stop; what is begun is sent until it is acknowledged."""
    dice = random.Random(f"{seed}/{number}")
    sent = 0
    sender: Sender | None = None
    while not stop.is_set():
        sent += 1
        instance = Instance(sent, study=number * 1000 + sent // 20, pixel_bytes=dice.choice(SIZES))
        encoded = Encoded(instance.sop_class_uid, instance.sop_instance_uid, (instance.data_set,))
        tries = 0
        while True:
            tries += 1
            try:
                if sender is None:
                    sender = Sender(port, [CT_IMAGE], called="CLINICBOX", calling=CALLING)
                status = sender.store(encoded)
            except (OSError, PeerFailed):
                if sender is not None:
                    sender.close()
                    sender = None
                time.sleep(0.02)
                continue
            if status == 0:
                break
            if status not in (0xA700, 0x0110):  # nothing that a modality would send again after
                ledger.refused.append(f"status {status:04X}")
                return
            time.sleep(0.05)
        if tries > 1:
            ledger.note_resent()
        ledger.write(instance.sop_instance_uid, hashlib.sha256(instance.data_set).hexdigest())
    if sender is not None:
        sender.close()


def _until_delivered(appliance: Appliance, data: Path, ledger: Ledger) -> None:
    """Wait until everything acknowledged is recorded and delivered.

    A worker that was killed again and again is started again after a pause, and until then its log holds what it
    acknowledged: that nothing waits to be delivered does not say that everything is recorded.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        appliance.ensure()
        with box_in(data) as box, box.catalog.reading() as reading:
            states = delivery_states(reading)
            health = destinations.health(reading)
            known = instances.known_among(reading, [Uid(uid) for uid in ledger.acknowledged])
        absent = len(ledger.acknowledged) - len(known)
        if not absent and set(states) <= {"CONFIRMED"}:
            return
        assert time.monotonic() < deadline, f"{absent} acknowledged are not recorded; {states}, {health}"
        time.sleep(0.3)


def verify(box: Box, ledger: Ledger, there: Path, archive: Path) -> None:
    """Compare the store and both places with the ledger, both ways, to the last byte."""
    rows = recorded(box)
    kept = {str(row.sop_instance_uid): hashlib.sha256(data_set_of(box, row)).hexdigest() for row in rows}
    lost = {uid for uid, digest in ledger.acknowledged.items() if kept.get(uid) != digest}
    assert not lost, f"{len(lost)} acknowledged instances are lost or altered"
    assert len(rows) == len(kept) == len(ledger.acknowledged), "something was kept twice, or was never sent"
    assert {row.version for row in rows} <= {0}, "an identical resend was taken for other bytes"
    with box.catalog.reading() as reading:
        assert audit.verify(reading, box.audit_key, None) == []
        owed = deliveries.list_deliveries(reading, limit=1_000_000)
    assert len(owed) == 2 * len(rows)
    delivered = sum(1 for path in there.rglob("*.dcm"))
    assert delivered == len(rows), f"{delivered} files were delivered of {len(rows)}"
    for row in rows:
        copy = archive / object_key(row.object_id)
        assert copy.read_bytes() == box.objects.path(row.object_id).read_bytes(), "a copy is another"
    sweep = OrphanSweep(box)
    sweep.sweep(0.0)
    sweep.sweep(1e6)
    assert {row.object_id for row in rows} == set(box.objects.ids())
