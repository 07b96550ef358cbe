"""How long a restore from a disk takes against the size of the clinic: until the box is in service, and until all images are home.

`make bench ARGS="restore --disk"` (`python -m tests.bench restore --disk`) fills a box with studies of two films of 20 KB, delivers them to a disk
and makes a backup, for each size anew. Then it restores a blank box from the disk three times in turn, by the backup and by the study
manifests alone, and brings the images home. What keeps it honest:

* the disk of the archive is the disk of the box, in one process: a USB disk is slower;
* *in service* is from a blank folder until every study can be searched and shown, the opening of the box included;
* *home* is until every image was fetched, opened from end to end, and lies on the box's own disk, synced;
* after each restore all studies and images are counted; one that is missing fails the run.
"""

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from appliance.backup import homecoming, making, restoring
from appliance.box import Box, open_box
from appliance.catalog import totals
from appliance.config import CourierConfig
from appliance.model import DestinationSettings
from appliance.replication import recall
from appliance.replication.batch import Counts, Errand, Held, Surroundings
from appliance.replication.destinations import Archive, build, prepare
from appliance.replication.lane import Lane
from appliance.store.recovery import RecoveryKey
from tests.backup.conftest import clinic_in
from tests.boxes import config_in, recorded, take_in
from tests.campaigns.clinic_places import WithoutBackups
from tests.instances import Instance

from . import restoring_far
from .wire import PeerFailed

SIZES = (100, 1_000, 5_000)
FILMS_A_STUDY = 2
FILM_BYTES = 20_000
KEEP = timedelta(days=35)
BAR = 50
WAYS = ("backup", "manifests")


@dataclass(frozen=True)
class Restored:
    """One restore: of how many studies, by what, and the seconds until in service and from there until home."""

    studies: int
    way: str
    service_seconds: float
    home_seconds: float


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit code is 1 when something did not come back, or too late."""
    options = _options(arguments)
    logging.getLogger("appliance").setLevel(logging.CRITICAL)
    options.folder.mkdir(parents=True, exist_ok=True)
    return _measure(options) if options.disk else restoring_far.measure(options)


def _measure(options: argparse.Namespace) -> int:
    found: list[Restored] = []
    for size in options.sizes:
        folder = Path(tempfile.mkdtemp(prefix="restore-", dir=options.folder))
        try:
            place, paper = filled(folder, size)
            for number in range(options.rounds):
                for way in WAYS if number % 2 == 0 else reversed(WAYS):
                    found.append(restored(folder, place, paper, size, way))
                    print(_said(found[-1]), file=sys.stderr, flush=True)
        except PeerFailed as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{os.cpu_count()} cores, load average {options.load:.1f} at the start, {options.rounds} rounds\n")
    print(table(found))
    print()
    print(plot(found))
    if max(each.service_seconds for each in found) > restoring_far.GOAL.total_seconds():
        print("bench: goal missed: a restore took longer than 30 minutes", file=sys.stderr)
        return 1
    return 0


def filled(folder: Path, studies: int) -> tuple[DestinationSettings, RecoveryKey]:
    """A clinic of so many studies, all in an archive with a backup; the archive, and the paper."""
    (folder / "usb").mkdir()
    disk = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(folder / "usb")}))
    with clinic_in(folder / "before", disk) as clinic:
        for study in range(studies):
            for number in range(FILMS_A_STUDY):
                film = Instance(number, study=study, pixel_bytes=FILM_BYTES, patient_id=f"P{study // 3}")
                take_in(clinic.box, film, datetime.now(UTC))
        _deliver(clinic.box, clinic.place)
        making.back_up(clinic.box, clinic.place, datetime.now(UTC), actor="bench", keep=KEEP)
        return clinic.place, clinic.paper


def _deliver(box: Box, place: DestinationSettings) -> None:
    box = replace(box, config=replace(box.config, courier=CourierConfig(workers_per_destination=0)))
    later = datetime.now(UTC) + timedelta(days=1)
    lane = Lane(Errand(box, place, Surroundings(now=lambda: later, jitter=lambda: 0.5), Held(), Counts()))
    while lane.one_batch():
        pass
    while _owes_manifests(box):
        lane.keep_documents()


def _owes_manifests(box: Box) -> bool:
    with box.catalog.reading() as conn:
        return bool(
            conn.exec_driver_sql("SELECT 1 FROM manifests WHERE dirty_utc IS NOT NULL LIMIT 1").first()
        )


def restored(
    folder: Path, place: DestinationSettings, paper: RecoveryKey, studies: int, way: str
) -> Restored:
    """Restore once into a blank folder. Raises `PeerFailed` when anything is missing."""
    archive = build(place, None)  # type: ignore[arg-type]
    assert isinstance(archive, Archive)
    after = folder / "after"
    os.sync()
    began = time.monotonic()
    restoring.restore(
        config_in(after),
        archive if way == "backup" else WithoutBackups(archive),
        place,
        paper,
        tell=lambda *_: None,
        actor="bench",
    )
    box = open_box(config_in(after))
    try:
        with box.catalog.reading() as conn:
            kept = totals.totals(conn)
        in_service = time.monotonic()
        while not _is_home(box):
            homecoming.bringing_home(box, datetime.now(UTC), keep_going=lambda: True)
        home = time.monotonic()
        here = sum(recall.is_here(box, row.object_id) for row in recorded(box))
    finally:
        box.close()
        shutil.rmtree(after)
    if (kept.studies, here) != (studies, studies * FILMS_A_STUDY):
        raise PeerFailed(f"of {studies} studies {kept.studies} came back, and {here} images are home")
    return Restored(studies, way, in_service - began, home - in_service)


def _is_home(box: Box) -> bool:
    with box.catalog.reading() as conn:
        return homecoming.under_way(conn) is None


# --- what is printed -------------------------------------------------------------------------------------------------


def table(found: Sequence[Restored]) -> str:
    """Medians over the rounds, as markdown."""
    lines = [
        "| studies | in service, by the backup | in service, by manifests alone | all images home | images/s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for studies in sorted({each.studies for each in found}):
        of_size = [each for each in found if each.studies == studies]
        service = [median(each.service_seconds for each in of_size if each.way == way) for way in WAYS]
        home = median(each.home_seconds for each in of_size)
        rate = studies * FILMS_A_STUDY / home
        lines.append(f"| {studies} | {service[0]:.1f} s | {service[1]:.1f} s | {home:.1f} s | {rate:.0f} |")
    return "\n".join(lines)


def plot(found: Sequence[Restored]) -> str:
    """Seconds until in service against size, a bar for each size and way."""
    longest = max(each.service_seconds for each in found)
    lines = ["seconds until in service:"]
    for studies in sorted({each.studies for each in found}):
        for way in WAYS:
            seconds = median(
                each.service_seconds for each in found if (each.studies, each.way) == (studies, way)
            )
            bar = "█" * max(1, round(BAR * seconds / longest))
            lines.append(f"{studies:>7} {way:<9} {bar} {seconds:.1f}")
    return "\n".join(lines)


def _said(found: Restored) -> str:
    return (
        f"{found.studies} studies by {found.way}: in service {found.service_seconds:.1f} s,"
        f" home {found.home_seconds:.1f} s"
    )


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench restore", description="Measure restores.")
    parser.add_argument(
        "--disk",
        action="store_true",
        help="from a disk, until all images are home; else from a bucket far away",
    )
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="studies")
    parser.add_argument("--rounds", type=int, metavar="N", help="default 1, or 3 with --disk")
    parser.add_argument(
        "--latency",
        type=int,
        default=restoring_far.LATENCY_MILLISECONDS,
        metavar="MS",
        help="by which the bucket's answers are late; default %(default)s",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("var/bench"), metavar="DIR", help="on a real disk"
    )
    options = parser.parse_args(arguments)
    options.sizes = options.sizes or list(SIZES if options.disk else restoring_far.SIZES)
    options.rounds = options.rounds or (3 if options.disk else 1)
    options.folder = options.folder.absolute()
    options.load = os.getloadavg()[0]
    return options
