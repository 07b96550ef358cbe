"""What a backup sends, and what one by differences would: by the size of the catalog, after a day's work.

`make bench ARGS=snapshot` (`python -m tests.bench snapshot`) fills boxes with the rows of 1,000 to 100,000 studies (`years`), makes a backup
into a folder, lets the studies of one more day come, and counts two kinds of pages:

* of the catalog's own file, those that differ from the day before: what one by differences would send of it as it lies;
* of the copy that is sent, which is written anew row by row so that nothing deleted is left in it, those whose content, once opened and
  written row by row, is nowhere in the copy of the day before: what one by differences would send of that.

From the size follow the seconds on a clinic's uplink, and what a month of daily backups costs in a bucket, by list price: each kept for
35 days, whole, against a whole one a week and differences between.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlcipher3 import dbapi2 as sqlcipher

from appliance.backup import making, snapshot
from appliance.backup.snapshot import Index
from appliance.box import Box
from appliance.catalog import destinations
from appliance.lifecycle import prices
from appliance.lifecycle.storage_class import STANDARD
from appliance.model import DestinationSettings
from appliance.replication.destinations.vault import VaultDestination

from .retaining import A_DAY
from .wire import PeerFailed
from .years import box_of_years, by_itself, live, reopened

SIZES = (1_000, 10_000, 100_000)
FILMS_A_STUDY = 4
UPLINK_BITS_PER_SECOND = 20_000_000
PAGE_BYTES = 4096
KEPT_DAYS, WEEK_DAYS = 35, 7


@dataclass(frozen=True)
class Found:
    """Of one size: the copy that is sent, what it took, and the pages of a day, of the catalog's file and of the copy."""

    studies: int
    sent_bytes: int
    seconds: float
    processor_seconds: float
    file_bytes: int
    file_pages: int
    copy_pages: int

    @property
    def less_bytes(self) -> int:
        """The least that one by differences would send."""
        return min(self.file_pages, self.copy_pages) * PAGE_BYTES


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    options = _options(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    found = []
    for size in options.sizes:
        folder = Path(tempfile.mkdtemp(prefix="snapshot-", dir=options.folder))
        try:
            found.append(by_itself(measured, folder, size))
        except PeerFailed as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"{size} studies: {found[-1]}", file=sys.stderr, flush=True)
    print(f"{os.cpu_count()} cores, load average {options.load:.1f} at the start\n")
    print(table(found))
    return 0


def measured(folder: Path, studies: int) -> Found:
    """Fill, make a backup, live a day, make another, and compare."""
    data, archive = folder / "box", folder / "usb"
    archive.mkdir()
    place = DestinationSettings("usb", "vault", "ciphertext", {"path": str(archive)})
    with box_of_years(data, place) as (box, known, _):
        live(box, known, archive, range(studies), studies, FILMS_A_STUDY)
    before = _pages(data / "catalog.db")
    with reopened(data) as box:
        with box.catalog.reading() as conn:
            (known,) = destinations.destinations(conn)
        began, processor = time.monotonic(), time.process_time()
        index = making.make(box, VaultDestination(archive), datetime.now(UTC))
        seconds, processor = time.monotonic() - began, time.process_time() - processor
        old = set(_opened_pages(folder, box, archive, index))
        live(box, known, archive, range(studies, studies + A_DAY), studies + A_DAY, FILMS_A_STUDY)
        later = making.make(box, VaultDestination(archive), datetime.now(UTC))
        fresh = sum(digest not in old for digest in _opened_pages(folder, box, archive, later))
    after = _pages(data / "catalog.db")
    changed = sum(one != other for one, other in zip(before, after, strict=False))
    changed += max(0, len(after) - len(before))
    return Found(studies, index.size_bytes, seconds, processor, len(before) * PAGE_BYTES, changed, fresh)


def _pages(path: Path) -> list[bytes]:
    """A digest of each page of a file."""
    with path.open("rb") as file:
        return [
            hashlib.blake2b(page, digest_size=16).digest()
            for page in iter(lambda: file.read(PAGE_BYTES), b"")
        ]


def _opened_pages(folder: Path, box: Box, archive: Path, index: Index) -> Iterator[bytes]:
    """A digest of each page of a backup, opened; the file that they are read from is removed."""
    place = VaultDestination(archive)
    key = box.root.unseal(place.document(snapshot.key_key(index.name)), snapshot.key_context(index.name))
    sealed, opened = folder / "sealed.db", folder / "opened.db"
    with sealed.open("wb") as file:
        for number in range(len(index.pieces)):
            file.write(place.document(snapshot.piece_key(index.name, number)))
    database = sqlcipher.connect(str(sealed), isolation_level=None)
    try:
        database.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        database.execute("ATTACH DATABASE ? AS opened KEY ''", (str(opened),))
        database.execute("SELECT sqlcipher_export('opened')")
    finally:
        database.close()
        sealed.unlink()
    try:
        yield from _pages(opened)
    finally:
        opened.unlink(missing_ok=True)


# --- what is printed -------------------------------------------------------------------------------------------------


def table(found: Sequence[Found]) -> str:
    """One line a size, as markdown."""
    head = (
        "| studies | a backup sends | in | processor | at 20 Mbit/s | 35 days of them, a month | pages a day, file | pages a day, copy |"
        " by differences | saves, a day | saves, a month |"
    )
    lines = [head, "| --- " * 11 + "|"]
    for each in found:
        whole = cost([each.sent_bytes] * KEPT_DAYS)
        less = cost(
            [each.sent_bytes if day % WEEK_DAYS == 0 else each.less_bytes for day in range(KEPT_DAYS)]
        )
        saved = uplink_seconds(each.sent_bytes - each.less_bytes) * (WEEK_DAYS - 1) / WEEK_DAYS
        pages = each.file_bytes // PAGE_BYTES
        lines.append(
            f"| {each.studies} | {_megabytes(each.sent_bytes)} | {each.seconds:.1f} s | {each.processor_seconds:.1f} s"
            f" | {uplink_seconds(each.sent_bytes):.0f} s | {whole:.2f} $ | {each.file_pages} of {pages}"
            f" | {each.copy_pages} | {_megabytes(each.less_bytes)} | {saved:.0f} s | {whole - less:.2f} $ |"
        )
    return "\n".join(lines)


def uplink_seconds(size: int) -> float:
    """How long so many bytes are on their way on a clinic's uplink."""
    return size * 8 / UPLINK_BITS_PER_SECOND


def cost(sizes: Sequence[int]) -> float:
    """What backups of these sizes cost a month, by list price."""
    return prices.a_month({STANDARD.name: sum(sizes)})


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench snapshot", description="Measure what a backup sends."
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="N", help="studies")
    parser.add_argument(
        "--folder", type=Path, default=Path("var/bench"), metavar="DIR", help="on a real disk"
    )
    options = parser.parse_args(arguments)
    options.folder = options.folder.absolute()
    options.load = os.getloadavg()[0]
    return options
