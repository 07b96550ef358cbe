"""Installs a box from a stick: what the stick brings is written to a disk that somebody chooses, and confirms.

The stick starts a kernel image of its own (`image-build/build installer`), which is signed to start and not to be given the key of
any `/var`. Beside its system it carries the box's disk, packed, in a partition named `appliance-image`. Nothing of that is judged
here: what isn't signed with our keys does not start from the disk either.

Chose to write the whole disk, bit for bit; because it is then the very disk that was tested, and can be read back and compared.
Rejected a copy of the stick's own partitions: its kernel image would have to be taken out of them again.

The first megabyte, where the table of partitions is, comes last: a disk whose writing was cut is empty, and not half a box.
"""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

IMAGE = Path("/dev/disk/by-partlabel/appliance-image")
SMALLEST_BYTES = 8 << 30
"""Two slots, what starts them, and the least of `/var`."""

BLOCK_BYTES = 4 << 20
HEAD_BYTES = 1 << 20
CONFIRMED = "ERASE"
COLUMNS = "PATH,TYPE,SIZE,RO,MODEL,SERIAL,PARTLABEL"
NO_DISKS = ("/dev/zram", "/dev/ram", "/dev/loop")


class Differs(Exception):
    """What was read back is not what was written."""


@dataclass(frozen=True)
class Disk:
    """A disk that may be chosen. `holds_box`: there is a `/var` of a box on it."""

    path: str
    size_bytes: int
    name: str
    holds_box: bool

    def __str__(self) -> str:
        """One line of the list."""
        warning = "   [a box's data / données d'un boîtier]" if self.holds_box else ""
        return f"{self.path}   {self.size_bytes / 1e9:.0f} GB   {self.name}{warning}"


def choosable(listing: str, image: str) -> list[Disk]:
    """The disks in what `lsblk --json` tells that a box has room on: none that is read-only, and not the stick, which has the
    partition `image`."""
    found = []
    for each in json.loads(listing)["blockdevices"]:
        parts = each.get("children") or []
        labels, size = {part.get("partlabel") for part in parts}, int(each["size"])
        if each["type"] != "disk" or each["ro"] or size < SMALLEST_BYTES or each["path"].startswith(NO_DISKS):
            continue
        if image in {part["path"] for part in parts} or IMAGE.name in labels:
            continue
        name = " ".join(str(word).strip() for word in (each.get("model"), each.get("serial")) if word)
        found.append(Disk(each["path"], size, name, "data" in labels))
    return found


def blocks(image: Path) -> Iterator[bytes]:
    """The box's disk as it was packed, from its start; the last block may be shorter."""
    with gzip.open(image, "rb") as packed:
        while block := packed.read(BLOCK_BYTES):
            yield block


def write(image: Path, disk: Path, told: Callable[[int], None]) -> None:
    """Write it, the head last. `told` is given the bytes so far. Raises `OSError`, `EOFError` if the stick's image is cut."""
    head, at = b"", 0
    with disk.open("r+b", buffering=0) as out:
        end = out.seek(0, os.SEEK_END)
        for place in (0, end - HEAD_BYTES):  # both copies of the table of partitions that was there
            _put(out.fileno(), bytes(HEAD_BYTES), place)
        os.fsync(out.fileno())
        for block in blocks(image):
            if at == 0:
                head, block = block[:HEAD_BYTES], bytes(HEAD_BYTES) + block[HEAD_BYTES:]
            _put(out.fileno(), block, at)
            at += len(block)
            told(at)
        os.fsync(out.fileno())
        _put(out.fileno(), head, 0)
        os.fsync(out.fileno())


def compare(image: Path, disk: Path, told: Callable[[int], None]) -> None:
    """Read it back. Raises `Differs`."""
    at = 0
    with disk.open("rb", buffering=0) as written:
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for block in blocks(image):
            if os.pread(written.fileno(), len(block), at) != block:
                raise Differs(f"{disk}: at byte {at} there is not what was written")
            at += len(block)
            told(at)


def _put(to: int, data: bytes, at: int) -> None:
    while data:
        done = os.pwrite(to, data, at)
        data, at = data[done:], at + done


def listed() -> str:
    """What lsblk tells."""
    asked = ["lsblk", "--json", "--bytes", "--paths", "--output", COLUMNS]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def choose(disks: list[Disk]) -> Disk | None:
    """The disk that somebody has chosen and confirmed; None if they have thought better of it."""
    print("\nThis installs the appliance. Everything on the disk that you choose is lost.")
    print("Ceci installe le boîtier. Tout ce qui se trouve sur le disque choisi est perdu.\n")
    for number, disk in enumerate(disks, 1):
        print(f"  {number}   {disk}")
    answer = input("\nNumber of the disk, or Enter to look again / Numéro du disque : ").strip()
    if not answer.isdecimal() or not 1 <= int(answer) <= len(disks):
        return None
    chosen = disks[int(answer) - 1]
    print(f"\n  {chosen}\n")
    typed = input(f"Type {CONFIRMED} to erase it / Tapez {CONFIRMED} pour l'effacer : ").strip()
    return chosen if typed == CONFIRMED else None


def progress(word: str) -> Callable[[int], None]:
    """Says every 100 MB."""
    said = 0

    def told(so_far: int) -> None:
        nonlocal said
        if so_far // 100_000_000 > said:
            said = so_far // 100_000_000
            print(f"\r  {word}: {said * 100} MB", end="", flush=True)

    return told


def main() -> int:
    """Ask until it is written; 1 if it could not be."""
    while True:
        # Before any disk is named it is known which one is the stick.
        disks = choosable(listed(), str(IMAGE.resolve(strict=True)))
        if not disks:
            print(
                f"No disk of {SMALLEST_BYTES >> 30} GiB or more / Aucun disque de {SMALLEST_BYTES >> 30} Gio ou plus."
            )
            input("Enter to look again / Entrée pour chercher encore : ")
            continue
        if (chosen := choose(disks)) is None:
            continue
        if chosen in choosable(listed(), str(IMAGE.resolve(strict=True))):
            break  # a name like /dev/sdb may have gone to another disk while somebody thought it over
        print("That disk is not there any more / Ce disque n'est plus là.")
    try:
        write(IMAGE, Path(chosen.path), progress("written / écrit"))
        print()
        compare(IMAGE, Path(chosen.path), progress("read back / relu"))
    except (OSError, EOFError, Differs) as error:
        print(f"\nIt was not installed / Échec de l'installation : {error}", flush=True)
        input("Enter to start again / Entrée pour redémarrer : ")
        return 1
    print("\n\nDone. Press Enter: the machine goes off. Take the stick out when it is off, and not before.")
    input(
        "Terminé. Appuyez sur Entrée : la machine s'éteint. Retirez la clé USB une fois la machine éteinte. "
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
