"""Installs a box from a stick: what the stick brings is written to a disk that somebody chooses, and confirms.

The stick starts a kernel image of its own (`image-build/build installer`), which is signed to start and not to be given the key of
any `/var`. Beside its system it carries the box's disk, packed, in a partition of a type of its own: nothing else makes one, mounts
one, or is taken for one, as a name might be. Nothing of what it holds is judged here: what isn't signed with our keys does not start
from the disk either.

Chose to write the whole disk, bit for bit; because it is then the very disk that was tested, and can be read back and compared.
Rejected a copy of the stick's own partitions: its kernel image would have to be taken out of them again.

The first megabyte, where the table of partitions is, comes last: a disk whose writing was cut is empty, and not half a box.

Whoever stands before the machine has its screen and nothing else. Whatever goes wrong is one line there, with what to do, and waits
for a key.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

IMAGE_TYPE = "7b0c4e5d-96a1-4c1e-8f0e-2d1a5b3c9e64"
"""The type of the partition with the box's disk (`image-build/build installer` gives it)."""

SMALLEST_BYTES = 8 << 30
"""Two slots, what starts them, and the least of `/var`."""

BLOCK_BYTES = 4 << 20
HEAD_BYTES = 1 << 20
CONFIRMED = "ERASE"
PACKED_BYTES = 1 << 20
COLUMNS = "PATH,TYPE,SIZE,RO,LOG-SEC,MODEL,SERIAL,PARTLABEL,PARTTYPE,FSTYPE"
SECTOR_BYTES = 512
"""By which the image's table of partitions counts: on a disk with others neither firmware nor kernel would find one."""
CHIP = Path("/sys/class/tpm/tpm0/tpm_version_major")
NUMBER = Path("/sys/class/dmi/id/product_uuid")
SECURE_BOOT = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
WIDTH = 80
"""Characters of a line of the screen: a console breaks a longer one wherever it ends."""
NO_DISKS = ("/dev/zram", "/dev/ram", "/dev/loop")


GZIP = 31
"""What zlib calls one member of gzip, with its checksum."""


class Differs(Exception):
    """What was read back is not what was written."""


class NoStick(Exception):
    """It can't be told what to write: no stick is there, or more than one."""


class NoChip(Exception):
    """The box's disk would have no TPM2 to keep its key, so that no start would ever end."""


class NoNumber(Exception):
    """The firmware has no number of this machine's own, of which its machine ID is made: without, each start would have another, and systemd
    throws away the key under which the machine seal lies."""


class NoListing(Exception):
    """The machine does not say which disks it has."""


@dataclass(frozen=True)
class Disk:
    """A disk that may be chosen. `holds_box`: there is a `/var` of a box on it. `beside`: the other disks in this machine that hold one.
    `sector_bytes`: by which whoever asks it counts (its logical sectors)."""

    path: str
    size_bytes: int
    name: str
    holds_box: bool
    beside: list[str] = field(default_factory=list)
    sector_bytes: int = SECTOR_BYTES

    def __str__(self) -> str:
        """One line of the list."""
        warning = "   [a box's data / données d'un boîtier]" if self.holds_box else ""
        return f"{self.path}   {self.size_bytes / 1e9:.0f} GB   {self.name}{warning}"


def choosable(listing: str) -> list[Disk]:
    """The disks in what `lsblk --json` tells that a box has room on: none that is read-only, and no stick that installs."""
    found = []
    there = json.loads(listing)["blockdevices"]
    held = [
        f"{each['path']} ({_name(each)})"
        for each in there
        if any(_is_var(part) for part in each.get("children") or [])
    ]
    for each in there:
        parts, size = each.get("children") or [], int(each["size"])
        if each["type"] != "disk" or each["ro"] or size < SMALLEST_BYTES or each["path"].startswith(NO_DISKS):
            continue
        if any(_is_image(part) for part in parts):
            continue
        beside = [disk for disk in held if not disk.startswith(f"{each['path']} ")]
        sector_bytes = int(each.get("log-sec") or SECTOR_BYTES)
        holds_box = any(_is_var(part) for part in parts)
        found.append(Disk(each["path"], size, _name(each), holds_box, beside, sector_bytes))
    return found


def _name(disk: dict[str, str]) -> str:
    return " ".join(str(word).strip() for word in (disk.get("model"), disk.get("serial")) if word)


def image_of(listing: str) -> Path:
    """The partition with the box's disk. Raises `NoStick`, since a second one may be another version's."""
    found = [
        part["path"]
        for each in json.loads(listing)["blockdevices"]
        for part in each.get("children") or []
        if _is_image(part)
    ]
    if len(found) == 1:
        return Path(found[0])
    raise NoStick(
        f"there are {len(found)} sticks that install\n{len(found)} clés d'installation sont branchées"
    )


def _is_var(part: dict[str, str]) -> bool:
    """As the system itself knows it (`92-data.rules`)."""
    return part.get("partlabel") == "data" and part.get("fstype") == "crypto_LUKS"


def _is_image(part: dict[str, str]) -> bool:
    return (part.get("parttype") or "").lower() == IMAGE_TYPE


def blocks(image: Path) -> Iterator[bytes]:
    """The box's disk as it was packed, from its start; the last block may be shorter. What lies behind it in the partition is not
    read. Raises `OSError`, `EOFError` if it is cut, `zlib.error` if it is damaged."""
    unpack, block = zlib.decompressobj(GZIP), b""
    with image.open("rb", buffering=0) as packed:
        while not unpack.eof:
            data = unpack.unconsumed_tail or packed.read(PACKED_BYTES)
            more = unpack.decompress(data, BLOCK_BYTES - len(block))
            if not data and not more and not unpack.eof:
                raise EOFError("it ends too early / elle est incomplète")
            block += more
            if len(block) == BLOCK_BYTES:
                yield block
                block = b""
    if block:
        yield block


def write(image: Path, disk: Path, told: Callable[[int], None]) -> None:
    """Write it, the head last. `told` is given the bytes so far. Raises `OSError`, and what `blocks` raises."""
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
    """What lsblk tells. Without `--tree` it lays a disk's partitions beside the disk, unless the column NAME is asked for."""
    asked = ["lsblk", "--json", "--tree", "--bytes", "--paths", "--output", COLUMNS]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def looked() -> tuple[Path, list[Disk]]:
    """What to write, and where it can be written: known before any disk is named. Raises `NoStick` and `NoListing`."""
    try:
        listing = listed()
        return image_of(listing), choosable(listing)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoListing(f"{type(error).__name__}: {error}") from error


def find_chip() -> None:
    """Raises `NoChip` where the kernel knows no TPM2."""
    try:
        kind = CHIP.read_text("ascii").strip()
    except (OSError, ValueError):
        kind = ""
    if kind != "2":
        raise NoChip("this machine has no TPM 2.0, or it is off\npas de TPM 2.0, ou il est désactivé")


def find_number() -> None:
    """Raises `NoNumber` where the firmware has none, or what systemd doesn't take for one: all zeros, or all ones."""
    try:
        digits = set(NUMBER.read_text("ascii").strip().lower()) - {"-"}
    except (OSError, ValueError):
        digits = set()
    if digits in (set(), {"0"}, {"f"}):
        raise NoNumber(
            "the firmware has no number of this machine's own (UUID)\nle micrologiciel n'a pas de numéro (UUID)"
        )


def secure_boot_is_off() -> bool:
    """Whether the firmware says so: four bytes of attributes, then one. False where it says nothing."""
    try:
        return SECURE_BOOT.read_bytes()[4:] == b"\0"
    except OSError:
        return False


def choose(disks: list[Disk]) -> Disk | None:
    """The disk that somebody has chosen and confirmed; None if they have thought better of it."""
    say("\nThis installs the appliance. Everything on the disk that you choose is lost.")
    say("Ceci installe le boîtier. Tout ce qui se trouve sur le disque choisi est perdu.\n")
    if secure_boot_is_off():
        say("  SECURE BOOT IS OFF: anybody with a stick of their own could read this box's")
        say("  disk. Better switch off now, put Secure Boot into Setup Mode in the firmware,")
        say("  start the stick with the space bar held down, and choose:")
        say("  Enroll Secure Boot keys.")
        say("  SECURE BOOT EST DÉSACTIVÉ : quiconque avec sa propre clé USB pourrait lire le")
        say("  disque. Mieux vaut éteindre, mettre Secure Boot en Setup Mode dans le")
        say("  micrologiciel, démarrer la clé en tenant la barre d'espace, et choisir :")
        say("  Enroll Secure Boot keys.\n")
    for number, disk in enumerate(disks, 1):
        say(f"  {number}   {disk}")
    answer = ask("\nNumber of the disk, or Enter to look again / Numéro du disque : ").strip()
    if not answer.isdecimal() or not 1 <= int(answer) <= len(disks):
        return None
    chosen = disks[int(answer) - 1]
    if chosen.beside:
        say("\nAnother disk in this machine has a box's data. At a start it would be mistaken")
        say("for the new one. Switch off, take that disk out, keep it, and begin again.")
        say("Un autre disque contient les données d'un boîtier et serait pris pour")
        say("le nouveau. Éteignez, retirez ce disque, gardez-le, et recommencez.")
        for disk in chosen.beside:
            say(f"  {disk}")
        ask("Enter to look again / Entrée pour chercher encore : ")
        return None
    if chosen.sector_bytes != SECTOR_BYTES:
        say(
            f"\nThis disk counts in sectors of {chosen.sector_bytes} bytes: no machine could start the box from"
        )
        say(f"it. Have its maker's program set it to {SECTOR_BYTES} (512e), or take another disk.")
        say(f"Ce disque compte en secteurs de {chosen.sector_bytes} octets : rien ne démarrerait de lui.")
        say(f"Réglez-le à {SECTOR_BYTES} (512e) avec le programme du fabricant, ou changez de disque.")
        ask("Enter to look again / Entrée pour chercher encore : ")
        return None
    say(f"\n  {chosen}\n")
    typed = ask(f"Type {CONFIRMED} to erase it / Tapez {CONFIRMED} pour l'effacer : ").strip()
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


def agreed() -> tuple[Path, Disk]:
    """Ask until somebody has chosen a disk and confirmed it; what to write to it. Raises `NoStick` and `NoListing`."""
    while True:
        image, disks = looked()
        if not disks:
            least = SMALLEST_BYTES >> 30
            say(f"No disk of {least} GiB or more / Aucun disque de {least} Gio ou plus.")
            ask("Enter to look again / Entrée pour chercher encore : ")
            continue
        if (chosen := choose(disks)) is None:
            continue
        # A name like /dev/sdb may have gone to another disk while somebody thought it over.
        if (image, chosen) in [(again, disk) for again, found in [looked()] for disk in found]:
            return image, chosen
        say("That disk is not there any more / Ce disque n'est plus là.")


def remedy(error: Exception) -> str:
    """What somebody before the machine can do about it, in both languages."""
    if isinstance(error, (zlib.error, EOFError)):
        return (
            "The stick is damaged: write it anew, or take another.\n"
            "La clé USB est endommagée : écrivez-la de nouveau, ou prenez-en une autre."
        )
    if isinstance(error, NoChip):
        return (
            "Nothing was erased. Switch the TPM on in the firmware's setup\n"
            "(fTPM, PTT, Security Device); a machine without can't be a box.\n"
            "Rien n'a été effacé. Activez le TPM dans le micrologiciel\n"
            "(fTPM, PTT, Security Device); sans lui, pas de boîtier."
        )
    if isinstance(error, NoNumber):
        return (
            "Nothing was erased. Whoever sold the machine can write one into it\n"
            "(System UUID), or a new firmware; else take another machine.\n"
            "Rien n'a été effacé. Le vendeur de la machine peut l'inscrire\n"
            "(System UUID), ou un nouveau micrologiciel; sinon, une autre machine."
        )
    if isinstance(error, NoStick):
        return (
            "Leave the stick in that this machine was started from, and no other.\n"
            "Laissez branchée la clé d'où la machine a démarré, et aucune autre."
        )
    if isinstance(error, (Differs, OSError)):
        return (
            "The stick or the disk fails: try again, then with another stick,\n"
            "then with another disk.\n"
            "La clé ou le disque fait défaut : réessayez, puis avec une autre clé,\n"
            "puis avec un autre disque."
        )
    return (
        "Try again. If it comes again, send support a picture of this screen.\n"
        "Réessayez. Si cela se répète, envoyez au soutien une photo de cet écran."
    )


def main() -> int:
    """Ask until it is written; 1 if it could not be, which the screen has said."""
    try:
        find_chip()
        find_number()
        image, chosen = agreed()
        write(image, Path(chosen.path), progress("written / écrit"))
        say()
        compare(image, Path(chosen.path), progress("read back / relu"))
    except Exception as error:  # noqa: BLE001 - nobody sees a traceback here, and the machine would just start again
        said = "\n".join(f"  {line}" for line in str(error).splitlines() or [type(error).__name__])
        say(f"\nIt was not installed / Échec de l'installation :\n{said}\n{remedy(error)}")
        wait("Enter to start again / Entrée pour redémarrer : ")
        return 1
    say("\n\nDone. Press Enter: the machine goes off. Take the stick out when it is off,\nand not before.")
    wait(
        "Terminé. Appuyez sur Entrée : la machine s'éteint. Retirez la clé USB\nune fois la machine éteinte. "
    )
    return 0


def wait(words: str) -> None:
    """For a key; where nobody can press one, for nothing."""
    with suppress(EOFError, OSError):
        ask(words)


def ask(words: str) -> str:
    """What is typed after `words`. `input` itself writes them to the standard error, which is the journal's and on no screen."""
    say(words, end="")
    return input()


def say(words: str = "", end: str = "\n") -> None:
    """Put it on the screen."""
    print(folded(words), end=end, flush=True)


def folded(words: str) -> str:
    """In lines that fit the screen. The rest of one begins as far in as it does; what is longer without a space stays whole."""
    lines = []
    for line in words.split("\n"):
        if len(line) < WIDTH:
            lines.append(line)
            continue
        lines += textwrap.wrap(
            line,
            WIDTH - 1,
            subsequent_indent=line[: len(line) - len(line.lstrip())],
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines[-1] += " " if line.endswith(" ") else ""
    return "\n".join(lines)


if __name__ == "__main__":
    # Ctrl-C in the middle would leave an empty disk, and say nothing.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main())
