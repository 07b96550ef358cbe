"""What keeping the law costs a clinic of many years: who is due is worked out, listed and foreseen with 100,000 studies.

`make bench ARGS=retention` (`python -m tests.bench retention`) fills a catalog with rows of studies, two images each, without the images:
nothing of this reads one. Most patients have three studies; one number in a hundred stands for many people, as the
numbers that a machine fills in do (``0``, ``UNKNOWN``), and one study in a thousand holds an image of somebody else. Then it measures:

* a pass over everything, as after a change of the rules, and the longest transaction in it, for which an image that arrives waits;
* the pass of a night with the studies of a day, and with one more study of a number that thousands share;
* the page of what is due, the first and a later one, today and in twelve months, with all that it counts;
* the whole list as a spreadsheet, which is the longest thing that a person can ask for;
* the memory that all this takes at most.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median

import psutil

from appliance import settings
from appliance.catalog import Catalog, instances, retention_dates, studies
from appliance.catalog.retention_dates import Kept
from appliance.lifecycle import due_list, retention
from appliance.model import Header, Intake, KeyId, ObjectId, Origin, Received, Stored, Uid

STUDIES, FILMS_A_STUDY, STUDIES_A_PATIENT = 100_000, 2, 3
SHARED_ONE_IN, CONTRADICTED_ONE_IN = 100, 1_000
SHARED_ID = "UNKNOWN"
YEARS = 25
A_DAY = 60
"""Studies that a large clinic makes in a day."""
AT_ONCE = 500
PAGE = 50
TRIES = 5
NOW = datetime(2026, 11, 25, 20, 30, tzinfo=UTC)
KEY, AUDIT_KEY = bytes(range(32)), bytes(32)
DX = Uid("1.2.840.10008.5.1.4.1.1.1.1")
EXPLICIT = Uid("1.2.840.10008.1.2.1")


@dataclass(frozen=True)
class Pass:
    """One pass: of how many parts, the seconds of all, and of the longest transaction."""

    parts: int
    seconds: float
    longest_seconds: float


@dataclass(frozen=True)
class Found:
    """All that was measured, in seconds; `due` and `foreseen` are how many studies are due today and in a year."""

    studies: int
    everything: Pass
    night: Pass
    shared: Pass
    pages: dict[str, float]
    spreadsheet_seconds: float
    due: int
    foreseen: int
    memory_bytes: int


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    options = _options(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="retention-", dir=options.folder))
    try:
        filled(folder, options.studies)
        print(f"{os.cpu_count()} cores, load average {options.load:.1f} at the start\n")
        print(table(measured(folder, options.studies)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


# --- a catalog of many years -----------------------------------------------------------------------------------------


def filled(folder: Path, wanted: int) -> None:
    """Make the catalog, in a process of its own: what that takes of memory is not what is measured."""
    context = multiprocessing.get_context("fork")
    filling = context.Process(target=_fill, args=(folder, wanted))
    filling.start()
    filling.join()
    if filling.exitcode:
        raise RuntimeError("the catalog could not be filled")


def _fill(folder: Path, wanted: int) -> None:
    with _catalog(folder) as catalog:
        with catalog.transaction() as tx:
            settings.change(tx, AUDIT_KEY, {"clinic.province": "ON"}, actor="bench", now=NOW)
        for start in range(0, wanted, AT_ONCE):
            arrive(catalog, range(start, min(start + AT_ONCE, wanted)), wanted)


def arrive(catalog: Catalog, numbers: Sequence[int], of: int) -> None:
    """Record the studies of these numbers; the higher of `of`, the later they came."""
    batch = [(received(number, film, of), 0) for number in numbers for film in range(FILMS_A_STUDY)]
    with catalog.transaction() as tx:
        instances.record_many(tx, batch)


def received(study: int, film: int, of: int) -> Received:
    """A film of the study of a number, as it came."""
    at = NOW - timedelta(days=365 * YEARS) * max(0.0, 1 - study / of)
    chance = random.Random(study)
    person = chance.randrange(max(1, of // STUDIES_A_PATIENT))
    contradicts = film > 0 and study % CONTRADICTED_ONE_IN == 1
    name = f"Person^Number {person}{' Other' if contradicts else ''}"
    header = Header(
        sop_class_uid=DX,
        sop_instance_uid=Uid(f"1.2.3.{study}.1.{film}"),
        study_instance_uid=Uid(f"1.2.3.{study}"),
        series_instance_uid=Uid(f"1.2.3.{study}.1"),
        transfer_syntax_uid=EXPLICIT,
        patient_id=SHARED_ID if study % SHARED_ONE_IN == 0 else f"P-{person}",
        patient_name=name,
        patient_birth_date=f"{1930 + person % 95}0{1 + person % 9}15",
        study_date=f"{at:%Y%m%d}",
        study_time=f"{at:%H%M%S}",
        study_description="Panoramic",
        modality=("IO", "PX", "DX")[study % 3],
        instance_number=str(film),
        rows=1500,
        columns=1000,
    )
    number = study * FILMS_A_STUDY + film
    stored = Stored(ObjectId(f"{number:032x}"), KeyId(f"{study:032x}"), bytes(60), 600_000, 600_060)
    return Received(header, Origin(Intake.DICOM, "DX1", "10.0.0.7"), stored, at)


@contextmanager
def _catalog(folder: Path) -> Iterator[Catalog]:
    catalog = Catalog.open(folder / "catalog.db", KEY)
    try:
        yield catalog
    finally:
        catalog.close()


# --- measuring -------------------------------------------------------------------------------------------------------


def measured(folder: Path, of: int) -> Found:
    """Measure all of it, once filled. Raises `AssertionError` when something was left out."""
    today, in_a_year = NOW.date(), NOW.date() + timedelta(days=365)
    before = psutil.Process().memory_info().rss
    peak = before

    def look() -> None:
        nonlocal peak
        peak = max(peak, psutil.Process().memory_info().rss)

    with _catalog(folder) as catalog:
        everything = worked_out(catalog, look)
        arrive(catalog, range(of + 1, of + 1 + A_DAY), of)
        night = worked_out(catalog, look)
        arrive(catalog, [SHARED_ONE_IN * (of // SHARED_ONE_IN + 2)], of)
        shared = worked_out(catalog, look)
        pages: dict[str, float] = {}
        pages["first page, today"] = _median_seconds(lambda: _page(catalog, today, None))
        pages["first page, in 12 months"] = _median_seconds(lambda: _page(catalog, in_a_year, None))
        with catalog.reading() as conn:
            due = retention_dates.due(conn, in_a_year)
        pages["a later page, in 12 months"] = _median_seconds(
            lambda: _page(catalog, in_a_year, due[len(due) // 2])
        )
        began = time.monotonic()
        with catalog.reading() as conn:
            lines = due_list.lines(conn, due_list.every(conn, in_a_year), studies.study_by_id)
            written = sum(1 for _ in due_list.csv_lines(lines))
            look()
        spreadsheet = time.monotonic() - began
        assert written == len(due) + 1, f"{written} lines of {len(due)} studies"
        with catalog.reading() as conn:
            due_today = retention_dates.tally(conn, today).studies
    return Found(of, everything, night, shared, pages, spreadsheet, due_today, len(due), peak - before)


def worked_out(catalog: Catalog, look: Callable[[], None] = lambda: None) -> Pass:
    """Do what the job of the retention dates does, without its pauses, until everything is up to date."""
    parts, longest, began = 0, 0.0, time.monotonic()
    while True:
        with catalog.reading() as conn:
            if retention.is_current(conn):
                return Pass(parts, time.monotonic() - began, longest)
            part = retention.work_out(conn)
        held = time.monotonic()
        with catalog.transaction() as tx:
            part.write(tx, NOW)
        longest = max(longest, time.monotonic() - held)
        parts += 1
        look()


def _page(catalog: Catalog, on: date, after: Kept | None) -> None:
    """What the page of the console asks the catalog."""
    with catalog.reading() as conn:
        retention.clock_of(conn, NOW)
        due_list.page(conn, on, studies.study_by_id, limit=PAGE, after=after)
        retention_dates.tally(conn, on)
        retention_dates.without_rule(conn)
        retention.is_current(conn)


def _median_seconds(ask: Callable[[], None]) -> float:
    taken = []
    for _ in range(TRIES):
        began = time.monotonic()
        ask()
        taken.append(time.monotonic() - began)
    return median(taken)


# --- what is printed -------------------------------------------------------------------------------------------------


def table(found: Found) -> str:
    """One line for each thing measured, as markdown."""
    lines = [
        f"| {found.studies} studies, {found.due} due today, {found.foreseen} in 12 months | time | longest transaction |",
        "| --- | --- | --- |",
    ]
    for title, each in (
        ("everything, in {} parts", found.everything),
        (f"a night after {A_DAY} new studies, in {{}} parts", found.night),
        ("one more of a number that many share, in {} parts", found.shared),
    ):
        lines.append(
            f"| {title.format(each.parts)} | {each.seconds:.2f} s | {1000 * each.longest_seconds:.0f} ms |"
        )
    lines += [f"| {title} | {1000 * seconds:.0f} ms | |" for title, seconds in found.pages.items()]
    lines += [
        f"| all that is due in 12 months, as a spreadsheet | {found.spreadsheet_seconds:.1f} s | |",
        "",
        f"Memory on top of what the process has at the start: {found.memory_bytes / 1e6:.0f} MB.",
    ]
    return "\n".join(lines)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench retention", description="Measure retention in a catalog of many studies."
    )
    parser.add_argument("--studies", type=int, default=STUDIES, metavar="N")
    parser.add_argument(
        "--folder", type=Path, default=Path("var/bench"), metavar="DIR", help="on a real disk"
    )
    options = parser.parse_args(arguments)
    options.folder = options.folder.absolute()
    options.load = os.getloadavg()[0]
    return options
