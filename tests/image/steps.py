"""An update that ends before each of its steps, without a machine: what would start then, and whether the next try completes it.

`offers` cuts what is fetched at twenty points; here it is each change of the disk and of the folder of kernels, those after the fetch
too: the labels of the slots, in either copy of the table of partitions, the kernel's mode and its name. What is asserted is what a start
goes by: a table that the kernel reads, the slots by their identifiers, and which of the kernel images the loader takes first.
"""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
import sys
import uuid
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.image.offers import HAD, SLOT_BYTES, Bench, Offer, benched, offer
from tests.image.promises import kept
from tests.image.serving import Shop

STOPPING = Path(__file__).with_name("stopping.py")
SECTOR = 512
SLOTS_BEGIN = 1 << 20
ALL = "0.0"
"""No step is left out."""


def every_step() -> None:
    """A version comes into an empty slot, and the next one into its place before it was ever started, cut at each step."""
    with benched() as (bench, shown, vendor, *_):
        first = offer(bench, "0.1.1", vendor)
        sweep(bench, shown, first, None)
        sweep(bench, shown, offer(bench, "0.1.2", vendor), first)


def sweep(bench: Bench, shown: Shop, comes: Offer, waits: Offer | None) -> None:
    """`comes` is taken once for each step that it has, and not to its end, and then to its end; at last it is there. `waits` is in the slot
    before; None: nothing is."""
    shown.folder = comes.folder
    before = state(bench)
    where = "into an empty slot" if waits is None else "in the place of one that waits"
    code, changes, told = stopped(bench, ALL)
    kept(f"an update {where} is taken as its steps are counted", code == 0, told)
    after = state(bench)
    kept("then it is the one that starts", starts(after, before, comes) == comes.version)
    cuts = cuts_of(changes)
    for cut, change in cuts:
        restore(bench, before)
        code, made, told = stopped(bench, cut)
        at = f"cut {where} at {cut} of {cuts[-1][0]} ({change}),"
        kept(
            f"{at} it ended there", code == 137 and kind(made[-1]) == f"{cut} {change}", f"{made[-1:]} {told}"
        )
        found = state(bench)
        offered = [each for each in (comes, waits) if each is not None]
        would = starts(found, before, *offered)
        by = "first" if copy_of_table(found.disk, 1) else "second"
        kept(
            f"what starts is whole: {would}, by the {by} copy of the table",
            would in {HAD, *(each.version for each in offered)},
            would,
        )
        kept("and what runs is the same to the bit, under its name", runs(found) == runs(before))
        code, told = bench.take()
        kept("the next try completes it", code == 0, told)
        kept("and leaves what one without a cut does", meant(state(bench)) == meant(after))
    print(f"{len(cuts)} cuts {where}")


def stopped(bench: Bench, cut: str) -> tuple[int, list[str], str]:
    """Exit status, each change that was begun, and what was said."""
    report = bench.folder / "report"
    watched = f"{bench.disk}:/tmp/bench/kernels"
    under = (sys.executable, "-I", str(STOPPING), watched, cut, str(report))
    with bench.update(under=under) as process:
        told, _ = process.communicate()
    return process.returncode, report.read_text().splitlines(), told


def kind(change: str) -> str:
    """Of a line of the report, without what is another each time: the rest of a temporary name."""
    return re.sub(r"/\.#sysupdate(\S+?\.efi)\S*", r"/.#\1", change)


def cuts_of(changes: Iterable[str]) -> list[tuple[str, str]]:
    """Where to cut and before what: at the first change of each step, and at the second of those that have several."""
    parted = (kind(each).split(" ", 1) for each in changes)
    return [(cut, change) for cut, change in parted if cut.partition(".")[2] in ("1", "2")]


# --- what a start finds ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """All that stays when the power goes."""

    disk: bytes
    kernels: Mapping[str, bytes]


def state(bench: Bench) -> State:
    """As the kernel would read it now."""
    kernels = {each.name: each.read_bytes() for each in bench.kernels.iterdir()}
    return State(Path(bench.disk).read_bytes(), kernels)


def restore(bench: Bench, wanted: State) -> None:
    """All of it as it was."""
    with Path(bench.disk).open("r+b") as disk:
        disk.write(wanted.disk)
    for each in bench.kernels.iterdir():
        each.unlink()
    for name, data in wanted.kernels.items():
        (bench.kernels / name).write_bytes(data)
    subprocess.run(["sync", "--file-system", bench.disk, str(bench.kernels)], check=True)


@dataclass(frozen=True)
class Slot:
    """A partition: by `identifier` a kernel image finds its root, by `label` sysupdate knows its version."""

    label: str
    identifier: str
    begins: int
    ends: int
    """Bytes of the disk."""


def table(disk: bytes) -> list[Slot]:
    """The partitions as a kernel with ``gpt`` in its command line finds them: by the first copy of the table, else by the second, at the
    disk's end (block/partitions/efi.c). None where neither is whole."""
    return copy_of_table(disk, 1) or copy_of_table(disk, len(disk) // SECTOR - 1)


def copy_of_table(disk: bytes, sector: int) -> list[Slot]:
    """The partitions by the header in `sector`; none if its sums are wrong (UEFI 2.10, 5.3.2)."""
    header = disk[sector * SECTOR : (sector + 1) * SECTOR]
    signature, size, crc = header[:8], *struct.unpack_from("<II", header, 12)
    if signature != b"EFI PART" or not 92 <= size <= SECTOR:
        return []
    if zlib.crc32(header[:16] + bytes(4) + header[20:size]) != crc or struct.unpack_from(
        "<Q", header, 24
    ) != (sector,):
        return []
    at, count, each, sums = struct.unpack_from("<QIII", header, 72)
    entries = disk[at * SECTOR : at * SECTOR + count * each]
    if zlib.crc32(entries) != sums:
        return []
    found = []
    for number in range(count):
        entry = entries[number * each : (number + 1) * each]
        if any(entry[:16]):
            first, last = struct.unpack_from("<QQ", entry, 32)
            label = entry[56:128].decode("utf-16-le").rstrip("\0")
            identifier = str(uuid.UUID(bytes_le=entry[16:32]))
            found.append(Slot(label, identifier, first * SECTOR, (last + 1) * SECTOR))
    return found


def first_of(names: Iterable[str]) -> str:
    """The version that the loader takes first: what has tries left before what has none, then the newest (systemd-boot(7))."""
    read = (
        re.fullmatch(r"appliance_([0-9.]+?)(?:\+(\d+)(?:-\d+)?)?\.efi", each, re.IGNORECASE) for each in names
    )
    found = [
        (each[2] is None or int(each[2]) > 0, tuple(map(int, each[1].split("."))), each[1])
        for each in read
        if each
    ]
    return max(found)[2] if found else "nothing"


def starts(found: State, before: State, *offered: Offer) -> str:
    """The version that would start, of those that are whole; else what is wrong with it."""
    version = first_of(found.kernels)
    slots = {each.identifier: each for each in table(found.disk)}
    (kernel,) = (name for name in found.kernels if re.match(rf"appliance_{re.escape(version)}[+.]", name))
    if version == HAD:
        is_whole = found.kernels[kernel] == before.kernels.get(kernel) and runs(found) == runs(before)
        return version if is_whole else f"{version}, which is not whole"
    for each in (each for each in offered if each.version == version):
        if found.kernels[kernel] != (each.folder / f"appliance_{version}.efi").read_bytes():
            return f"{version}, whose kernel is not whole"
        for name, contents in each.contents.items():
            slot = slots.get(each.identifiers[name])
            if slot is None or found.disk[slot.begins : slot.ends] != contents:
                return f"{version}, whose {name} is not whole"
        return version
    return f"{version}, which nobody has offered"


def runs(found: State) -> tuple[list[Slot], str]:
    """The slots of the version that runs, as the table has them, and the digest of what is in them."""
    there = found.disk[SLOTS_BEGIN : SLOTS_BEGIN + sum(SLOT_BYTES.values())]
    return table(found.disk)[:2], hashlib.sha256(there).hexdigest()


def meant(found: State) -> tuple[list[Slot], list[str], Mapping[str, bytes]]:
    """The slots, what is in each, and the kernels: all but the bytes between."""
    slots = table(found.disk)
    return (
        slots,
        [hashlib.sha256(found.disk[each.begins : each.ends]).hexdigest() for each in slots],
        found.kernels,
    )
