"""R5: the cloud goes away, answers 503, loses answers and cuts bodies; reception goes on, and everything arrives, once.

A device sends all the while. The line to the bucket stands in four weathers, one after the other: none at all, 503 for
everything, faults at random on a slow line, and calm; in between it is mended and what waited must drain. At the end
the bucket must hold what was acknowledged, each object written once, and Tink must open each to the bytes that were sent.

How fast what waited goes up after the outage is measured on a line of `UPLINK_BYTES_PER_SECOND`, which is what a clinic has, shared by
all that goes up: from the first object on it (until then the box waits out its back-off) to the last that waited. The share of the
line is judged by whoever runs the campaign, on a machine that does nothing else (`Outcome.is_kept`), and by no test.
"""

from __future__ import annotations

import hashlib
import logging
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from appliance.catalog import deliveries, totals
from tests.bench.wire import Encoded, PeerFailed, Sender
from tests.boxes import data_set_of, recorded
from tests.instances import CT_IMAGE, Instance
from tests.replication.cloud import REGION, Cloud, Fault, Line, Request, Uplink, cloud, line
from tests.store.test_envelope import tink_opens
from tests.system.running import CALLER, MIB, Appliance, appliance, wait_for

SIZES = (20_000, 20_000, 200_000, 20_000, 900_000, 20_000, 20_000, 2_500_000)
LARGE_BYTES = 17 * MIB  # sent in parts
EVERY_SECONDS = 0.15
DRAIN_SECONDS = 1500.0  # the longest wait of the back-off, and the work after it
CALM_SECONDS = 3.0
SLOW_BYTES_PER_SECOND = 8.0 * MIB
FAULTS = (Fault.HANG_UP, Fault.CUT, Fault.LOSE_ANSWER, Fault.UNAVAILABLE, Fault.BROKEN, Fault.SKEWED)
UPLINK_BYTES_PER_SECOND = 1.25e6  # 10 Mbit/s, what cable and DSL give a clinic
QUIET_SECONDS = (
    3.0  # between two instances while the drain is measured: a device that fills the line measures itself
)
DRAINED_SHARE = 0.8
THREADS = 2
"""Threads of the courier for one destination, by its default: each may be in a request when the line is cut."""


@dataclass
class Device:
    """Sends instance after instance; what was acknowledged, and how long each took to be."""

    port: int
    every_seconds: float
    acknowledged: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    weather: str = "calm"
    wrong: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def send(self) -> None:
        try:
            with Sender(self.port, [CT_IMAGE], called="CLINICBOX", calling=CALLER) as sender:
                number = 0
                while not self._stop.wait(self.every_seconds):
                    number += 1
                    size_bytes = LARGE_BYTES if number % 80 == 40 else SIZES[number % len(SIZES)]
                    instance = Instance(number, study=number // 40, pixel_bytes=size_bytes)
                    data = instance.data_set
                    begun = time.monotonic()
                    status = sender.store(Encoded(CT_IMAGE, instance.sop_instance_uid, (data,)))
                    self.seconds.setdefault(self.weather, []).append(time.monotonic() - begun)
                    if status:
                        self.wrong.append(f"{status:04X} in {self.weather}")
                    else:
                        self.acknowledged[instance.sop_instance_uid] = hashlib.sha256(data).hexdigest()
                sender.release()
        except (PeerFailed, OSError) as error:
            self.wrong.append(f"{error} in {self.weather}")

    def stop(self) -> None:
        self._stop.set()


@dataclass(frozen=True)
class Outcome:
    """Figures of a campaign that found nothing wrong."""

    acknowledged: int
    requests_while: dict[str, int]
    drained_seconds: dict[str, float]
    faults: Counter[str]
    seconds: float
    waited_bytes: int
    drained_share: float

    @property
    def is_kept(self) -> bool:
        """Whether what waited went up as fast as was promised. Means something on a quiet machine alone."""
        return self.drained_share >= DRAINED_SHARE

    def __str__(self) -> str:
        asked = ", ".join(f"{count} requests in {weather}" for weather, count in self.requests_while.items())
        drained = ", ".join(f"{took:.0f} s after {weather}" for weather, took in self.drained_seconds.items())
        return (
            f"{self.seconds:.0f} s: {self.acknowledged} instances acknowledged without a refusal; {asked}; drained "
            f"{drained}; after the outage {self.waited_bytes / 1e6:.0f} MB went up at {100 * self.drained_share:.0f} % of the line "
            f"({100 * DRAINED_SHARE:.0f} % promised: {'kept' if self.is_kept else 'NOT KEPT'}); {self.faults.total()} faults at random; every object in the bucket once, opened by Tink"
        )


def run(
    folder: Path,
    ports: Callable[[], int],
    *,
    outage_seconds: float,
    storm_seconds: float,
    faulty_seconds: float,
    every_seconds: float = EVERY_SECONDS,
    uplink_bytes_per_second: float = UPLINK_BYTES_PER_SECOND,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Play all weathers for so long each, an instance every so often; raises AssertionError at the first broken promise."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # the server would print a line for each request
    begun = time.monotonic()
    asked: dict[str, int] = {}
    drained: dict[str, float] = {}
    faults: Counter[str] = Counter()
    with (
        cloud() as there,
        line(there.port) as to_there,
        appliance(folder, ports, start=["dicom", "courier"]) as box,
    ):
        bucket = there.new_bucket(versioned=True)
        _add_destination(box, to_there, bucket)
        device = Device(box.dicom_port, every_seconds)
        sending = threading.Thread(target=device.send, name="device")
        sending.start()
        try:
            time.sleep(CALM_SECONDS)
            _until_drained(box, device)

            device.weather = "an outage"
            to_there.down = True
            asked["an outage"] = _requests_during(to_there, outage_seconds)
            _assert_few(asked["an outage"], outage_seconds)
            uplink = Uplink(uplink_bytes_per_second)
            drained["the outage"] = _drained_by(uplink, box, to_there, device)
            waited_bytes, drained_at = uplink.carried_bytes, time.monotonic()
            report(f"outage over: {len(device.acknowledged)} acknowledged, {asked['an outage']} requests")

            device.weather = "a storm of 503"
            to_there.fault = lambda _: Fault.UNAVAILABLE
            asked["a storm of 503"] = _requests_during(to_there, storm_seconds)
            _assert_few(asked["a storm of 503"], storm_seconds)
            to_there.fault = lambda _: None
            drained["the storm"] = _until_drained(box, device)
            report(f"storm over: {len(device.acknowledged)} acknowledged")

            device.weather = "faults at random"
            to_there.fault = _at_random(seed, faults)
            to_there.bytes_per_second = SLOW_BYTES_PER_SECOND
            time.sleep(faulty_seconds)
            to_there.fault, to_there.bytes_per_second = lambda _: None, 0.0
            device.weather = "calm"
            drained["the faults"] = _until_drained(box, device)
        finally:
            device.stop()
            sending.join()
        _until_drained(box, device)
        box.wait_until_confirmed(len(device.acknowledged))
        assert device.wrong == []
        _assert_undisturbed(device)
        assert faults.total() >= min(5, faulty_seconds / 3), "too few faults to mean anything"
        _verify(box, there, bucket, device)
    return Outcome(
        acknowledged=len(device.acknowledged),
        requests_while=asked,
        drained_seconds=drained,
        faults=faults,
        seconds=time.monotonic() - begun,
        waited_bytes=waited_bytes,
        drained_share=waited_bytes / (drained_at - uplink.began_at) / uplink_bytes_per_second,
    )


def _drained_by(uplink: Uplink, box: Appliance, to_there: Line, device: Device) -> float:
    """Mend a line that was down, to be one of a clinic; the seconds until all that waited was there."""
    often, device.every_seconds = device.every_seconds, max(QUIET_SECONDS, device.every_seconds)
    to_there.uplink, to_there.down = uplink, False
    seconds = _until_drained(box, device)
    to_there.uplink, device.every_seconds = None, often
    return seconds


def _add_destination(box: Appliance, to_there: Line, bucket: str) -> None:
    options = ("--bucket", bucket, "--region", REGION, "--endpoint-url", to_there.url, "--canadian")
    box.say("destination", "add", "s3", "cloud", *options, "--access-key-id", "tests", typed="tests\n")
    box.say("rule", "add", "--to", "cloud")


def _requests_during(to_there: Line, seconds: float) -> int:
    """How many requests reach the line in so many seconds from now."""
    before = len(to_there.requests)
    time.sleep(seconds)
    return len(to_there.requests) - before


def _assert_few(requests: int, seconds: float) -> None:
    """While it is down it is asked once per interval of the back-off, however many objects wait.

    The intervals are restated here: 2 s, doubling up to 10 min, each shorter by up to a tenth. Before the first, each
    thread may have been in a request, and one of them in a manifest.
    """
    probes, at, interval = 0, 0.0, 2.0
    while (at := at + 0.9 * interval) <= seconds:
        probes += 1
        interval = min(600.0, interval * 2)
    most = THREADS + 1 + probes
    assert requests <= most, (
        f"{requests} requests in {seconds:.0f} s while down; at most {most} were promised"
    )


def _at_random(seed: int, faults: Counter[str]) -> Callable[[Request], Fault | None]:
    """A line on which a quarter of the requests goes wrong, each in one of the ways."""
    dice = random.Random(seed)
    lock = threading.Lock()

    def fault(_: Request) -> Fault | None:
        with lock:
            if dice.random() >= 0.25:
                return None
            chosen = dice.choice(FAULTS)
            faults[chosen.name] += 1
            return chosen

    return fault


def _until_drained(box: Appliance, device: Device) -> float:
    """Wait until all that was acknowledged by now is recorded and confirmed; how many seconds that took."""
    begun, wanted = time.monotonic(), len(device.acknowledged)
    with box.opened() as opened:

        def confirmed() -> int:
            with opened.catalog.reading() as reading:
                owed = totals.totals(reading).instances
                waiting = sum(
                    sum(count for state, count in each.counts.items() if state != "CONFIRMED")
                    for each in deliveries.waiting_summary(reading)
                )
            return owed - waiting

        wait_for(
            lambda: confirmed() >= wanted,
            lambda: f"{wanted} delivered, found {confirmed()}:\n{box.log()[-3000:]}",
            seconds=DRAIN_SECONDS,
        )
    return time.monotonic() - begun


def _assert_undisturbed(device: Device) -> None:
    """Reception takes no longer while the cloud is away than it does when all is well, whatever this machine's speed."""
    calm = statistics.median(device.seconds["calm"])
    for weather, seconds in device.seconds.items():
        assert statistics.median(seconds) < 3 * calm + 0.2, f"{weather}: {statistics.median(seconds):.3f} s"


def _verify(box: Appliance, there: Cloud, bucket: str, device: Device) -> None:
    """The bucket holds what was acknowledged, once, and what Tink finds in it is what was sent."""
    pages = there.client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix="objects/")
    written = Counter(each["Key"] for page in pages for each in page.get("Versions", []))
    assert set(written.values()) == {1}, f"written again: {[k for k, n in written.items() if n > 1]}"
    assert there.uploads(bucket) == [], "uploads were left unfinished"
    with box.opened() as opened:
        found = {}
        for row in recorded(opened):
            sealed = there.get(bucket, f"objects/{row.object_id[:2]}/{row.object_id}.sealed")
            part10 = tink_opens(sealed, opened.study_keys.key(row.key_id), row.object_id.encode("ascii"))
            data_set = part10[144 + int.from_bytes(part10[140:144], "little") :]
            assert data_set == data_set_of(opened, row)
            found[row.sop_instance_uid] = hashlib.sha256(data_set).hexdigest()
    assert found == device.acknowledged
    assert len(written) == len(found)
    studies = {row["study_instance_uid"] for row in box.studies()}
    wait_for(lambda: len(there.keys(bucket, "manifests/")) == len(studies), "a manifest for each study")
