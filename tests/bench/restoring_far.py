"""How long a restore from a bucket far away takes, until the box is in service, against the size of the clinic.

`make bench ARGS=restore` (`python -m tests.bench restore`) fills a box with the rows of 100 to 100,000 studies (`years`), lays a backup and
a manifest a study in an archive, lets the studies of one more day come, and restores a blank box over S3's protocol from a bucket that
answers each request 60 ms late (`far_bucket`): by the backup, and by the manifests alone. The goal is 30 minutes; one that takes longer
fails the run, as does one that brings back fewer studies or images. What keeps it honest:

* each restore is a process of its own, whose processor time and peak of memory are printed: those count where the machine is not quiet;
* requests and bytes are counted by the bucket. The line is as wide as loopback is: what is fetched takes its time beside;
* no image lies in the bucket: none is read until the box is in service (`restore --disk` measures the way home).
"""

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from appliance.backup import making, restoring
from appliance.box import open_box
from appliance.catalog import totals
from appliance.model import DestinationSettings
from appliance.replication.destinations import Archive, build
from appliance.replication.destinations.vault import VaultDestination
from appliance.store.recovery import RecoveryKey
from tests.boxes import config_in

from .far_bucket import WITHOUT, FarBucket, far_bucket
from .retaining import A_DAY, FILMS_A_STUDY
from .wire import PeerFailed
from .years import box_of_years, by_itself, lay_slot, live

SIZES = (100, 1_000, 10_000, 100_000)
LATENCY_MILLISECONDS = 60
GOAL = timedelta(minutes=30)
WAYS = {"backup": "clinic", "manifests": WITHOUT}
BAR = 50


@dataclass(frozen=True)
class Restored:
    """One restore: of how many studies, by what, what it took of the box, and what it asked of the bucket."""

    studies: int
    way: str
    seconds: float
    processor_seconds: float
    peak_bytes: int
    requests: int = 0
    at_once: int = 0
    fetched_bytes: int = 0


def measure(options: argparse.Namespace) -> int:
    """Measure and print; the exit code is 1 when something did not come back, or too late."""
    found: list[Restored] = []
    try:
        for size in options.sizes:
            folder = Path(tempfile.mkdtemp(prefix="restore-", dir=options.folder))
            try:
                found += _of_size(folder, size, options.rounds, options.latency / 1000)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except PeerFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    load = f"load average {options.load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end"
    print(f"{os.cpu_count()} cores, {load}, {options.rounds} rounds, each answer {options.latency} ms late\n")
    print(table(found))
    print()
    print(plot(found))
    if wrong := missed(found):
        print(f"bench: {wrong}", file=sys.stderr)
    return 1 if wrong else 0


def _of_size(folder: Path, size: int, rounds: int, latency: float) -> list[Restored]:
    archive = folder / "bucket"
    archive.mkdir()
    found = []
    with far_bucket(archive, latency) as bucket:
        began = time.monotonic()
        paper = RecoveryKey.parse(by_itself(filled, folder, bucket.place("clinic"), size))
        print(f"{size} studies filled in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        for number in range(rounds):
            for way in WAYS if number % 2 == 0 else reversed(WAYS):
                found.append(restored(folder, bucket, paper, size, way))
                print(_said(found[-1]), file=sys.stderr, flush=True)
    return found


def filled(folder: Path, place: DestinationSettings, studies: int) -> str:
    """A clinic of so many studies, described in the bucket at `place`, with a backup from before the last day; the recovery key."""
    data, archive = folder / "before", folder / "bucket"
    day = min(A_DAY, studies // 2)
    with box_of_years(data, place) as (box, known, paper):
        lay_slot(box, data, archive)
        live(box, known, archive, range(studies - day), studies, FILMS_A_STUDY)
        making.make(box, VaultDestination(archive), datetime.now(UTC))
        yesterday = time.time() - 24 * 3600
        for each in (archive / "manifests").iterdir():
            os.utime(each, (yesterday, yesterday))
        live(box, known, archive, range(studies - day, studies), studies, FILMS_A_STUDY)
    return str(paper)


def restored(folder: Path, bucket: FarBucket, paper: RecoveryKey, studies: int, way: str) -> Restored:
    """Restore once into a blank folder. Raises `PeerFailed` when anything is missing."""
    bucket.forget()
    after = folder / "after"
    os.sync()
    try:
        took, processor, peak, held = by_itself(_restore, after, bucket.place(WAYS[way]), paper)
    finally:
        shutil.rmtree(after, ignore_errors=True)
    if held != (studies, studies * FILMS_A_STUDY):
        raise PeerFailed(f"of {studies} studies {held[0]} came back by the {way}, with {held[1]} images")
    asked = (bucket.requests, bucket.most_at_once, bucket.bytes_read)
    return Restored(studies, way, took, processor, peak, *asked)


def _restore(
    after: Path, place: DestinationSettings, paper: RecoveryKey
) -> tuple[float, float, int, tuple[int, int]]:
    archive = build(place, None)  # type: ignore[arg-type]
    assert isinstance(archive, Archive)
    began, processor = time.monotonic(), time.process_time()
    restoring.restore(config_in(after), archive, place, paper, tell=lambda *_: None, actor="bench")
    box = open_box(config_in(after))
    try:
        with box.catalog.reading() as conn:
            kept = totals.totals(conn)
    finally:
        box.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return (
        time.monotonic() - began,
        time.process_time() - processor,
        peak,
        (kept.studies, kept.instances),
    )


# --- what is printed -------------------------------------------------------------------------------------------------


def table(found: Sequence[Restored]) -> str:
    """Medians over the rounds, as markdown."""
    lines = [
        "| studies | by | in service | processor | requests | at once | fetched | peak memory |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for studies, way, each in _cells(found):
        last = each[-1]
        lines.append(
            f"| {studies} | {way} | {median(one.seconds for one in each):.1f} s"
            f" | {median(one.processor_seconds for one in each):.1f} s | {last.requests} | {last.at_once}"
            f" | {last.fetched_bytes / 1e6:.1f} MB | {max(one.peak_bytes for one in each) / 1e6:.0f} MB |"
        )
    lines += ["", f"The goal of {GOAL.seconds // 60} minutes is {'missed' if missed(found) else 'met'}."]
    return "\n".join(lines)


def plot(found: Sequence[Restored]) -> str:
    """Seconds until in service against size, a bar for each size and way."""
    longest = max(each.seconds for each in found)
    lines = ["seconds until in service:"]
    for studies, way, each in _cells(found):
        seconds = median(one.seconds for one in each)
        lines.append(f"{studies:>7} {way:<9} {'█' * max(1, round(BAR * seconds / longest))} {seconds:.1f}")
    return "\n".join(lines)


def missed(found: Sequence[Restored]) -> str:
    """Which goal is missed, in words; empty when it is met."""
    slow = [each for each in found if each.seconds > GOAL.total_seconds()]
    if not slow:
        return ""
    worst = max(slow, key=lambda each: each.seconds)
    return (
        f"goal missed: {worst.studies} studies by the {worst.way} are in service after {worst.seconds / 60:.0f}"
        f" minutes, not {GOAL.seconds // 60}"
    )


def _cells(found: Sequence[Restored]) -> list[tuple[int, str, list[Restored]]]:
    return [
        (studies, way, of_both)
        for studies in sorted({each.studies for each in found})
        for way in WAYS
        if (of_both := [each for each in found if (each.studies, each.way) == (studies, way)])
    ]


def _said(found: Restored) -> str:
    return (
        f"{found.studies} studies by the {found.way}: in service {found.seconds:.1f} s, processor"
        f" {found.processor_seconds:.1f} s, {found.requests} requests, {found.at_once} at once, load {os.getloadavg()[0]:.1f}"
    )
