"""Starts that must not be, starts that nobody sees hang, and first starts of a version that the power cuts short.

`signed` alters what the firmware is to start; `two` leaves an earlier disk of the box in the machine; `hang` stops a machine in three ways, and waits for it to come back by itself; `first`
cuts the power at several points of a new version's first start, of which each begins on the same disk, firmware and TPM2.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.image.load import admit, cut_under_load, nothing_is_lost
from tests.image.loader import menus
from tests.image.machine import PATIENCE_SECONDS, WATCHDOG_RAN_DOWN, Hardware, Machine, switched_on
from tests.image.promises import BUILT, PROMISED_PORTS, image, kept, running
from tests.image.serving import shop
from tests.image.updates import ADDRESS, OFFERED, TAKE, kernels, offered_version, unpacked_version, version

ESP = "@@1M"
"""The first partition begins at the first megabyte (mtools(1) takes the offset behind the name of the disk)."""

KERNELS, LOADER = "::/EFI/Linux", "::/EFI/BOOT/BOOTX64.EFI"
REFUSED = re.compile(r"access denied|security violation", re.IGNORECASE)
"""What the firmware says of an image whose signature isn't right, and the loader after it."""

STARTED = re.compile(r"EFI stub:|Linux version")
"""What a kernel image says first. The screen's control characters stand in between."""

SETTLED_SECONDS = 60.0
"""How long a machine that has refused is watched: what else it may start, it does then."""

TRIES = 3
PE_CERTIFICATES = 24 + 112 + 4 * 8
"""From "PE": where its table of certificates is, and how long (the fifth directory of a PE32+ header)."""

SECURE_BOOT = "od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
MARK = "/var/lib/mark"
"""What lies on one of two disks alone."""

PID_1 = "/sys/fs/cgroup/init.scope"
WATCHDOG = "/sys/class/watchdog/watchdog0"

CUTS = (
    ("once the loader has taken it", r"EFI stub:"),
    ("once its root is there", r"Welcome to [^\n]*trixie"),
    ("once its disk is open", r"Mounted [^\n]*var\.mount"),
    ("while its programs start", r"Starting [^\n]*appliance-web\.service"),
)
"""By what the machine says and not by the clock: emulated, the same second is another point of the start each time."""


def starts(hardware: Hardware, parts: frozenset[str]) -> None:
    """Those of `PARTS` that are named, each on a box from its carton."""
    for name, part in PARTS.items():
        if name in parts:
            hardware.assemble(image(".test"))
            part(hardware)


# --- which disk -----------------------------------------------------------------------------------------------------


def two(hardware: Hardware) -> None:
    """The disk that was replaced is still in the machine, and opens by the same TPM2: neither is opened, and with one alone it starts."""
    with switched_on(hardware) as machine:
        running(machine)
        machine.inside(f"touch {MARK}")
        machine.power_off()
    old = hardware.twin("old").disk
    with switched_on(hardware) as machine:
        machine.wait_until(f"rm {MARK}")
        machine.power_off()
    before = [digest(disk) for disk in (hardware.disk, old)]
    with switched_on(hardware, beside=old) as machine:
        until_said(machine, "There are 2 disks with a box's data in this machine.")
        machine.wait_until("test $(ls /dev/disk/by-box/each | wc -l) = 2 && test ! -e /dev/mapper/data")
        kept("of two disks with a box's data none is opened, and the screen says it", True)
        until_said(machine, "It tries again in 30 seconds.")
        until_said(machine, "There are 2 disks with a box's data in this machine.", times=2)
        machine.cut_power()
    kept("neither was written to", [digest(disk) for disk in (hardware.disk, old)] == before)
    with switched_on(hardware) as machine:
        running(machine, "with one alone it starts, and nothing has failed")
        kept(
            "and it is the one that stayed",
            machine.inside(f"test ! -e {MARK} && echo stayed").strip() == "stayed",
        )
        machine.power_off()


def until_said(machine: Machine, words: str, *, times: int = 1) -> None:
    """Waits until the screen has said `words` so often; `AssertionError` if it never does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while machine.console().count(words) < times:
        assert machine.is_on and time.monotonic() < deadline, machine.console()[-3000:]
        time.sleep(1)


def digest(disk: Path) -> str:
    """Of its `/var`, the last partition: a start may count its tries on the ESP."""
    table = json.loads(subprocess.check_output(["sfdisk", "--json", disk]))["partitiontable"]
    (var,) = [each for each in table["partitions"] if each.get("name") == "data"]
    found, left = hashlib.sha256(), int(var["size"]) * 512
    with disk.open("rb") as data:
        data.seek(int(var["start"]) * 512)
        while left and (block := data.read(min(left, 1 << 24))):
            found.update(block)
            left -= len(block)
    return found.hexdigest()


# --- what isn't ours does not start ----------------------------------------------------------------------------------


def signed(hardware: Hardware) -> None:
    """With the same disk, the same firmware and the same TPM2: altered it is refused, and whole it starts."""
    with switched_on(hardware) as machine:
        running(machine)
        kept("Secure Boot is on", machine.inside(SECURE_BOOT).split() == ["1"])
        machine.power_off()
    kernel = f"{KERNELS}/appliance_{unpacked_version()}.efi"
    for place, what, altered in spoilt(hardware, kernel):
        own = taken_out(hardware, place)
        laid_in(hardware, place, altered)
        with switched_on(hardware) as machine:
            refused(machine, what)
        laid_in(hardware, place, own)
    with switched_on(hardware) as machine:
        running(
            machine, "with its own loader and kernel image the same machine starts, and nothing has failed"
        )
        machine.power_off()
    beside(hardware)


def spoilt(hardware: Hardware, kernel: str) -> Iterator[tuple[str, str, bytes]]:
    """Where on the ESP, what is wrong with it, and what is laid there."""
    own = taken_out(hardware, kernel)
    for section, what in ((".linux", "kernel"), (".cmdline", "command line")):
        yield kernel, f"a kernel image in whose {what} one bit is another", flipped(own, section)
    bare = unsigned(own)
    yield kernel, "a kernel image that nobody has signed", bare
    yield kernel, "a kernel image that somebody else has signed", by_a_stranger(hardware.folder, bare)
    yield LOADER, "a loader in which one bit is another", flipped(taken_out(hardware, LOADER), ".text")


def beside(hardware: Hardware) -> None:
    """An altered kernel image of a newer version, in the other slot: it uses up its tries, and the version before starts.

    systemd-boot 257 starts nothing else in the same go, and does not start the machine again: it gives back to the firmware. What that
    does is its maker's matter, and OVMF's is not the same each time: it stops there, or begins again, until the version before starts.
    Where it stops, the power is cut, as somebody does who finds the box dark.
    """
    folder = OFFERED / "good"
    newer = offered_version(folder)
    uki = (folder / f"appliance_{newer}.efi").read_bytes()
    laid_in(hardware, f"{KERNELS}/appliance_{newer}+{TRIES}-0.efi", flipped(uki, ".linux"))
    for attempt in range(TRIES + 1):
        with switched_on(hardware) as machine:
            if attempt == 0:
                not_taken(machine, "an altered newer version")
            else:
                decided(machine)
            if begins_again(machine):
                the_one_before(machine, newer)
                return
            kept(
                f"tried {attempt + 1} times, it has started nothing, and does not answer",
                not machine.is_open(5),
            )
            machine.cut_power()
    kept("once its tries are used up, the version before starts", False)


def the_one_before(machine: Machine, newer: str) -> None:
    """The machine runs in the version that it was unpacked with, and has used up the tries of `newer`."""
    running(machine, "once its tries are used up, the version before starts, and nothing has failed")
    kept("as the loader has it", version(machine) == unpacked_version(), version(machine))
    there = kernels(machine)
    kept("the newer one is left", f"appliance_{newer}+0-{TRIES}.efi" in there, str(there))
    machine.power_off()


def begins_again(machine: Machine) -> bool:
    """Whether it starts something by itself after it has refused: what that is, whoever runs it says."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while time.monotonic() < deadline:
        if STARTED.search(machine.console()):
            return True
        time.sleep(2)
    return False


def refused(machine: Machine, what: str) -> None:
    """The machine says that it does not start this, and starts nothing."""
    not_taken(machine, what)
    kept(
        "and nothing of it, nor anything else, has started",
        not begins_again(machine),
        machine.console()[-3000:],
    )
    kept("and the machine does not answer", not machine.is_open(5))
    machine.cut_power()


def not_taken(machine: Machine, what: str) -> None:
    """The machine says that it does not start this, before it starts anything."""
    said = decided(machine)
    told = machine.console()[-3000:]
    kept(f"{what} is refused, in the words {said[0] if said else 'none'!r}", said is not None, told)


def decided(machine: Machine) -> re.Match[str] | None:
    """The words by which the machine has refused, once it has refused or started something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (said := REFUSED.search(machine.console())) and time.monotonic() < deadline:
        if STARTED.search(machine.console()):
            break
        time.sleep(2)
    return said


def section_at(image: bytes, name: str) -> tuple[int, int]:
    """Where a section of a PE file begins, and how long it is (Microsoft's PE format)."""
    pe = int.from_bytes(image[0x3C:0x40], "little")
    if image[pe : pe + 4] != b"PE\0\0":
        raise ValueError("not a PE file")
    table = pe + 24 + int.from_bytes(image[pe + 20 : pe + 22], "little")
    for number in range(int.from_bytes(image[pe + 6 : pe + 8], "little")):
        entry = image[table + 40 * number : table + 40 * (number + 1)]
        if entry[:8].rstrip(b"\0") == name.encode():
            size, at = (int.from_bytes(entry[begin : begin + 4], "little") for begin in (8, 20))
            return at, size
    raise ValueError(f"there is no section {name}")


def flipped(image: bytes, name: str) -> bytes:
    """`image`, with one bit in the middle of that section another, and the signature that it had."""
    at, size = section_at(image, name)
    altered = bytearray(image)
    altered[at + size // 2] ^= 1
    return bytes(altered)


def unsigned(image: bytes) -> bytes:
    """`image` without its signatures, which stand at the end of the file."""
    entry = int.from_bytes(image[0x3C:0x40], "little") + PE_CERTIFICATES
    at = int.from_bytes(image[entry : entry + 4], "little")
    if not at:
        raise ValueError("nobody has signed it")
    bare = bytearray(image[:at])
    bare[entry : entry + 8] = bytes(8)
    return bytes(bare)


def by_a_stranger(folder: Path, image: bytes) -> bytes:
    """`image`, signed with a key that is made here: by the tools tree's sbsign, with that tree's own libraries."""
    key, certificate, bare, made = (folder / f"stranger.{end}" for end in ("key", "crt", "efi", "signed.efi"))
    bare.write_bytes(image)
    new = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=stranger")
    subprocess.run([*new, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    tools = BUILT / "tools"
    here = (
        str(tools / "usr/lib64/ld-linux-x86-64.so.2"),
        "--library-path",
        str(tools / "usr/lib/x86_64-linux-gnu"),
    )
    sign = (*here, str(tools / "usr/bin/sbsign"), "--key", str(key), "--cert", str(certificate))
    subprocess.run([*sign, "--output", str(made), str(bare)], check=True, capture_output=True)
    return made.read_bytes()


def taken_out(hardware: Hardware, place: str) -> bytes:
    """A file of the ESP of a machine that is off."""
    command = ("mcopy", "-n", "-i", f"{hardware.disk}{ESP}", place, "-")
    return subprocess.run(command, check=True, capture_output=True).stdout


def laid_in(hardware: Hardware, place: str, data: bytes) -> None:
    """Onto the ESP of a machine that is off, over what is there; and it stands there."""
    path = hardware.folder / "laid.efi"
    path.write_bytes(data)
    subprocess.run(["mcopy", "-o", "-i", f"{hardware.disk}{ESP}", str(path), place], check=True)
    assert taken_out(hardware, place) == data


# --- a machine that hangs --------------------------------------------------------------------------------------------


def hang(hardware: Hardware) -> None:
    """PID 1 stops, the kernel panics, PID 1 crashes: each time the machine comes back without a hand on it."""
    with switched_on(hardware, watchdog=True) as machine:
        running(machine)
        held = machine.inside(f"cd {WATCHDOG} && cat identity state timeout nowayout").split("\n")
        kept(
            "the hardware's watchdog runs, with two minutes",
            held[:3] == ["iTCO_wdt", "active", "120"],
            str(held),
        )
        stops(machine)
        for what, how, said in (
            ("a kernel that panics", "echo c >/proc/sysrq-trigger", "Kernel panic"),
            ("a PID 1 that crashes", "kill -SEGV 1", "Restarting system"),
        ):
            boot, seen = machine.boot(), machine.console().count(said)
            machine.inside(f"(sleep 2; {how}) >/dev/null 2>&1 &")
            machine.wait_for_restart(boot)
            kept(
                f"{what} starts again by itself",
                machine.console().count(said) > seen,
                machine.console()[-3000:],
            )
            running(machine, "and nothing has failed")
        machine.power_off()


def stops(machine: Machine) -> None:
    """PID 1 is frozen, and with it what tells the watchdog that somebody is there. Nothing else stops: only it can start the machine
    again."""
    boot, began, before = machine.boot(), time.monotonic(), expired(machine)
    machine.inside(
        f"echo 1 >{PID_1}/cgroup.freeze; until grep -q 'frozen 1' {PID_1}/cgroup.events; do sleep 1; done"
    )
    kept("PID 1 hangs, and the rest goes on", machine.boot() == boot)
    while expired(machine) < before + 2:
        assert time.monotonic() < began + PATIENCE_SECONDS, (
            f"still the same start: {machine.console()[-3000:]}"
        )
        time.sleep(1)
    seconds = time.monotonic() - began
    machine.wait_for_restart(boot)
    kept(f"the watchdog has started it again, after {seconds:.0f} s", "Kernel panic" not in machine.console())
    running(machine, "and nothing has failed")


def expired(machine: Machine) -> int:
    """How often the watchdog ran down since the machine was switched on."""
    return (machine.hardware.folder / "qemu.log").read_text(errors="replace").count(WATCHDOG_RAN_DOWN)


# --- the power goes at the first start of a version ------------------------------------------------------------------


def first(hardware: Hardware) -> None:
    """A version is taken, and the power goes while it starts for the first time: at each of `CUTS`, and at all of them in a row."""
    wanted, ledger = offered_version(OFFERED / "good"), set[str]()
    with shop() as offers:
        offers.folder = OFFERED / "good"
        with switched_on(hardware, ports=PROMISED_PORTS, to_here={80: offers.port}) as machine:
            running(machine)
            admit(machine)
            cut_under_load(machine, ledger)
        with switched_on(hardware, ports=PROMISED_PORTS, to_here={80: offers.port}) as machine:
            running(machine)
            nothing_is_lost(machine, ledger)
            machine.inside(f"echo {ADDRESS} >/var/lib/update/source && {TAKE}")
            there = kernels(machine)
            kept("a newer version waits", f"appliance_{wanted}+{TRIES}-0.efi" in there, str(there))
            machine.power_off()
    for when, word in CUTS:
        twin = hardware.twin("cut")
        cut_short(twin, when, word)
        comes_up(twin, wanted, ledger, TRIES - 1)
        shutil.rmtree(twin.folder)
    for left, (when, word) in zip(reversed(range(TRIES)), CUTS[-TRIES:], strict=True):
        cut_short(hardware, f"{when}, with {left} tries left,", word)
    comes_up(hardware, wanted, ledger, 0)


def cut_short(hardware: Hardware, when: str, word: str) -> None:
    """The power goes once the machine has said `word`."""
    began = time.monotonic()
    with switched_on(hardware) as machine:
        while not re.search(word, machine.console()):
            assert time.monotonic() < began + PATIENCE_SECONDS, machine.console()[-3000:]
            time.sleep(0.2)
        machine.cut_power()
    kept(f"{when} its first start was cut, {time.monotonic() - began:.0f} s after it began", True)


def comes_up(hardware: Hardware, wanted: str, ledger: set[str], left: int) -> None:
    """While a try is left it is the new version, which calls itself good; without one, the version before."""
    with switched_on(hardware, ports=PROMISED_PORTS) as machine:
        running(machine, "it starts, and nothing has failed")
        expected = wanted if left else unpacked_version()
        kept(f"in version {expected}", version(machine) == expected, version(machine))
        if left:
            machine.wait_until("systemctl is-active systemd-bless-boot.service")
        there = kernels(machine)
        name = f"appliance_{wanted}.efi" if left else f"appliance_{wanted}+0-{TRIES}.efi"
        kept("which is good" if left else "the new one is left", name in there, str(there))
        nothing_is_lost(machine, ledger)
        machine.power_off()


PARTS: dict[str, Callable[[Hardware], None]] = {
    "menus": menus,
    "signed": signed,
    "two": two,
    "hang": hang,
    "first": first,
}
