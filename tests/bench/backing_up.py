"""What a backup costs reception, or reading everything again: four modalities send as fast as they can, with and without it.

`make bench ARGS=backup` (`python -m tests.bench backup`) fills the catalog of a real `appliance dicom`, then sends in interleaved pairs:
alone, and while another process makes one backup after the other into a folder on the same disk, without a pause. That is the worst that
can be; in a clinic one is made a day. The goal is that reception loses no more than a tenth. `make bench ARGS=scrub` does the same
beside slices of the scrub without a pause, of which a clinic's box reads one in ten minutes, and says how large an archive is read again
within thirty days (`reading_speed`).
"""

import argparse
import logging
import multiprocessing
import os
import random
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median

from appliance.backup import making
from appliance.box import Box, open_box
from appliance.catalog import destinations
from appliance.config import load_config
from appliance.lifecycle import scrub
from appliance.model import DestinationSettings
from appliance.replication.destinations import prepare

from . import material, reading_speed
from .measure import Column, Measured, measure
from .receivers import Receiver, appliance
from .wire import PeerFailed

SENDERS = 4
GOAL = 0.9
KEEP = timedelta(days=35)
PLACE = "folder"
OBJECTS = 200
"""In a slice of the scrub: what a box with 288,000 images reads in one."""


@dataclass(frozen=True)
class Pair:
    """One round: reception alone, and beside so many backups, or slices of the scrub."""

    alone: Measured
    beside: Measured
    backups: int

    @property
    def ratio(self) -> float:
        """What is left of the rate."""
        return self.beside.instances_per_second / self.alone.instances_per_second


@dataclass(frozen=True)
class Work:
    """What is done beside reception again and again: `name` in the plural, `verb` for the command, `act` for one of them."""

    name: str
    verb: str
    act: Callable[[Box], object]


def _make_one(box: Box) -> None:
    with box.catalog.reading() as conn:
        place = destinations.destination(conn, PLACE)
    assert place is not None
    making.back_up(box, place, datetime.now(UTC), actor="bench", keep=KEEP)


BACKUPS = Work("backups", "backup", _make_one)
SLICES = Work("slices of the scrub", "scrub", lambda box: scrub.scrub(box, datetime.now(UTC), most=OBJECTS))


def read_again(arguments: Sequence[str]) -> int:
    """As `main`, beside the scrub; and how large an archive it keeps up with."""
    code = main(arguments, SLICES)
    print()
    print(reading_speed.told(reading_speed.measured(_options(arguments, SLICES).folder), os.cpu_count() or 1))
    return code


def main(arguments: Sequence[str], work: Work = BACKUPS) -> int:
    """Measure and print; the exit code is 1 when an image was refused, no backup could be made, or the goal is missed."""
    options = _options(arguments, work)
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{work.verb}-", dir=options.folder))
    try:
        receiver = appliance(folder)
        try:
            add_place(receiver, folder)
            chance = random.Random(secrets.randbits(64))
            measure(column(options.fill), receiver, chance)
            pairs = []
            for number in range(options.rounds):
                pairs.append(pair(receiver, column(options.instances), chance, number, work))
                print(_said(number, options.rounds, pairs[-1], work), file=sys.stderr, flush=True)
        finally:
            receiver.stop()
    except PeerFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    held = SENDERS * options.fill
    print(f"{os.cpu_count()} cores, load average {options.load:.1f} at the start, {held} instances before\n")
    print(table(pairs, work))
    if wrong := missed(pairs, work):
        print(f"bench: {wrong}", file=sys.stderr)
    return 1 if wrong else 0


def column(per_sender: int) -> Column:
    """Films of 20 KB, which of all sizes ask the catalog for the most rows a second."""
    return Column("tiny4", "tiny ×4", material.tiny(), per_sender, SENDERS, False)


def add_place(receiver: Receiver, folder: Path) -> None:
    """A folder that takes backups and is owed no image."""
    (folder / PLACE).mkdir()
    place = DestinationSettings(PLACE, "vault", "ciphertext", {"path": str(folder / PLACE)})
    box = open_box(load_config(os.environ | receiver.environment))
    try:
        with box.catalog.transaction() as tx:
            destinations.add(tx, prepare(place))
    finally:
        box.close()


def pair(receiver: Receiver, sent: Column, chance: random.Random, number: int, work: Work = BACKUPS) -> Pair:
    """One round, which begins with the one or the other by its number. Raises `PeerFailed`."""
    alone = measure(sent, receiver, chance) if number % 2 == 0 else None
    with backups(receiver.environment, work) as made:
        before = made.value
        beside = measure(sent, receiver, chance)
        count = made.value - before
    return Pair(alone or measure(sent, receiver, chance), beside, count)


@contextmanager
def backups(environment: Mapping[str, str], work: Work = BACKUPS) -> "Iterator[Synchronized[int]]":
    """Make one after the other meanwhile, the first before it begins; the value counts them. Raises `PeerFailed`."""
    context = multiprocessing.get_context("fork")
    stop, begun, made = context.Event(), context.Event(), context.Value("i", 0)
    working = context.Process(target=_go_on, args=(dict(environment), work.act, stop, begun, made))
    working.start()
    try:
        while not begun.wait(0.1) and working.is_alive():
            pass
        if not begun.is_set():
            raise PeerFailed(f"none of the {work.name} came to its end")
        yield made
    finally:
        stop.set()
        working.join()
    if working.exitcode:
        raise PeerFailed(f"one of the {work.name} failed")


def _go_on(
    environment: dict[str, str],
    act: Callable[[Box], object],
    stop: Event,
    begun: Event,
    made: "Synchronized[int]",
) -> None:
    logging.getLogger("appliance").setLevel(logging.CRITICAL)
    box = open_box(load_config(os.environ | environment))
    try:
        while not stop.is_set():
            act(box)
            made.value += 1
            begun.set()
    finally:
        box.close()


# --- what is printed -------------------------------------------------------------------------------------------------


def table(pairs: Sequence[Pair], work: Work = BACKUPS) -> str:
    """Each round, and the median of the ratios against the goal, as markdown."""
    lines = [
        f"| round | alone, per s | beside {work.name}, per s | {work.name} finished | ratio |",
        "| --- | --- | --- | --- | --- |",
    ]
    for number, each in enumerate(pairs, start=1):
        rates = (each.alone.instances_per_second, each.beside.instances_per_second)
        lines.append(f"| {number} | {rates[0]:.0f} | {rates[1]:.0f} | {each.backups} | {each.ratio:.0%} |")
    met = "missed" if missed(pairs, work) else "met"
    lines += [
        "",
        f"Reception keeps {kept(pairs):.0%} (median) beside {work.name} without a pause; the goal of {GOAL:.0%} is {met}.",
    ]
    return "\n".join(lines)


def kept(pairs: Sequence[Pair]) -> float:
    """What is left of reception beside the work: the median of the rounds."""
    return median(each.ratio for each in pairs)


def missed(pairs: Sequence[Pair], work: Work = BACKUPS) -> str:
    """Which goal is missed, in words; empty when it is met."""
    left = kept(pairs)
    return (
        "" if left >= GOAL else f"goal missed: reception keeps {left:.0%} beside {work.name}, not {GOAL:.0%}"
    )


def _said(number: int, rounds: int, found: Pair, work: Work) -> str:
    rates = f"{found.beside.instances_per_second:.0f} of {found.alone.instances_per_second:.0f} a second"
    return f"round {number + 1}/{rounds}  {rates} ({found.ratio:.0%}) beside {found.backups} {work.name}"


def _options(arguments: Sequence[str], work: Work) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.bench {work.verb}", description=f"Measure reception beside {work.name}."
    )
    parser.add_argument("--fill", type=int, default=5_000, metavar="N", help="instances a sender before")
    parser.add_argument("--instances", type=int, default=1_500, metavar="N", help="a sender, each time")
    parser.add_argument("--rounds", type=int, default=6, metavar="N")
    parser.add_argument(
        "--folder", type=Path, default=Path("var/bench"), metavar="DIR", help="on a real disk"
    )
    options = parser.parse_args(arguments)
    options.folder = options.folder.absolute()
    options.load = os.getloadavg()[0]
    return options
