"""Updates as a box meets them: a cut of the power in the middle, refused ones, one that is good, and two that fail.

`image-build/build test-updates` makes what is offered: three newer versions, each signed, of which only the first one works.
The box looks for them over its cable, as it would at the vendor's address; nobody lays a hand on it in between.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from appliance.config import StoreConfig
from appliance.health import gathering, looks
from tests.image.machine import PATIENCE_SECONDS, RESTART_SECONDS, Hardware, Machine, switched_on
from tests.image.promises import BUILT, image, kept, running
from tests.image.serving import NAME, Shop, shop
from tests.image.timed import rolled_back

OFFERED = BUILT / "test-updates"
ROLLED_BACK = BUILT / "rolled-back.jsonl"
"""What each walk of the version that fails has timed, a line each."""
ADDRESS = "http://10.0.2.100/"
BY_NAME = f"https://{NAME}/"
"""As a vendor's address is."""

TAKE = "systemctl start update.service"
STARTED = (
    "tr -d '\\000' </sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    " | sed -n 's/.*appliance_\\([0-9.]*[0-9]\\).*/\\1/p'"
)
"""Prints the version that the loader has started (Boot Loader Interface)."""

STARTS = "journalctl --list-boots --output=json --no-pager"
SERVING = "systemctl show --timestamp=unix --value -p ActiveEnterTimestamp appliance-dicom.service appliance-web.service nginx.service"
"""Prints the moment at which each became active."""

LOOKED = f"{gathering.UPDATES}/{looks.FILE}"
FORGET, SAID = f"rm -f {LOOKED}", f"cat {LOOKED}"
"""Takes away what the box said of its last look, so that what it says next is of the next; and prints it."""

START_WHAT_WAITS = "systemctl start --no-block update-restart.service"
"""What the timer starts."""

OVERLAID = "/run/named"
KNOW_NAME = f"""set -eu
mkdir -p {OVERLAID}
{{ cat /etc/hosts; echo '10.0.2.100 {NAME}'; }} >{OVERLAID}/hosts
chmod 0644 {OVERLAID}/hosts
nsenter --mount --target "$(systemctl show --value -p MainPID systemd-resolved.service)" mount --bind {OVERLAID}/hosts /etc/hosts
"""
"""Lets the box's resolver know the name until it starts again. No other of its processes sees that file: who looks the name up has to ask."""

BELIEVE = f"""set -eu
mkdir -p {OVERLAID}
cp -a /etc/ssl/certs {OVERLAID}/certs
printf %s '{{authority}}' >{OVERLAID}/authority.pem
into={OVERLAID}/certs/$(openssl x509 -hash -noout -in {OVERLAID}/authority.pem).0
cp {OVERLAID}/authority.pem "$into"
chmod 0644 "$into"
mount --bind {OVERLAID}/certs /etc/ssl/certs
"""
"""Lets the box believe an authority beside Debian's until it starts again: its own root is nobody's to write."""


def start_what_waits(machine: Machine) -> None:
    """Once the box has nothing to wait for, in hours that are set to the whole day: those it is delivered with are `tests.image.night`'s."""
    machine.inside("appliance setting set updates.window 00:00-23:59")
    machine.wait_until("appliance update may-restart")
    machine.inside(START_WHAT_WAITS)


def updates(hardware: Hardware, parts: frozenset[str]) -> None:
    """The cut of the power, and those of `PARTS` that are named, in their order, on one box."""
    hardware.assemble(image(".test"))
    with shop() as offers:
        if "cut" in parts:
            with switched_on(hardware, to_here={80: offers.port}) as machine:
                running(machine)
                cut(machine, offers)
        with switched_on(hardware, to_here={80: offers.port, 443: offers.named_port}) as machine:
            running(machine)
            kept("in the version that it was unpacked with", version(machine) == unpacked_version())
            kept("and there is no other to start", len(kernels(machine)) == 1, str(kernels(machine)))
            for name, part in PARTS.items():
                if name in parts:
                    machine.inside(f"echo {ADDRESS} >/var/lib/update/source")
                    part(machine, offers)
            machine.power_off()


# --- what a box says of itself ---------------------------------------------------------------------------------------


def version(machine: Machine) -> str:
    """The version that the loader has started: roots may be the same to the bit, kernel images say which they belong to."""
    return machine.inside(STARTED).strip()


def kernels(machine: Machine) -> list[str]:
    """The kernel images that the loader has to choose from, with what is left of their tries in their names."""
    return sorted(machine.inside("ls $(bootctl --print-boot-path)/EFI/Linux").split())


def offered_version(folder: Path) -> str:
    """Which version lies in `folder`."""
    (uki,) = folder.glob("*.efi")
    return uki.name.removeprefix("appliance_").removesuffix(".efi")


def root_identifier(folder: Path) -> str:
    """The identifier of the partition that the root in `folder` becomes."""
    (root,) = folder.glob("*.root.raw.gz")
    found = re.fullmatch(r"appliance_[0-9.]+_([0-9a-f]{32})\.root\.raw\.gz", root.name)
    assert found is not None, root.name
    digits = found[1]
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


# --- what is offered -------------------------------------------------------------------------------------------------


def refused(machine: Machine, offers: Shop) -> None:
    """Signed by another, signed long ago, altered on its way, unsigned: of none a byte comes to be started.

    The box says which it was: a server that could not be reached at all would leave nothing to start either.
    """
    before = kernels(machine)
    with tempered() as made:
        for name, why, came in (
            ("stranger", "that somebody else has signed", looks.Came.REFUSED),
            ("expired", "whose signature has expired", looks.Came.REFUSED),
            ("unsigned", "that nobody has signed", looks.Came.REFUSED),
            ("altered", "that was altered on its way", looks.Came.UNFINISHED),
        ):
            offers.folder = made / name
            machine.inside(FORGET)
            taken = machine.inside(f"{TAKE} && echo taken", check=False)
            told = machine.inside("journalctl -b -u update.service -n 20 -o cat --no-pager")
            kept(f"an update {why} is refused", "taken" not in taken, told)
            word = machine.inside(SAID, check=False)
            kept(f"the box says so: {came}", word.split()[1:] == [came], word + told)
            kept(
                "and nothing is there that could be started",
                kernels(machine) == before,
                str(kernels(machine)),
            )


@contextmanager
def tempered() -> Iterator[Path]:
    """The good update, spoilt in four ways; what isn't spoilt is the same file."""
    folder = BUILT / "spoilt"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for name in ("stranger", "expired", "unsigned", "altered"):
            shutil.copytree(
                OFFERED / ("expired" if name == "expired" else "good"), folder / name, copy_function=os.link
            )
        (folder / "unsigned" / "SHA256SUMS.gpg").unlink()
        (altered,) = (folder / "altered").glob("*.verity.raw.gz")
        data = bytearray(altered.read_bytes())
        data[len(data) // 2] ^= 1
        altered.unlink()
        altered.write_bytes(data)
        sign_as_stranger(folder / "stranger")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sign_as_stranger(folder: Path) -> None:
    """The same list of digests, signed with a key that no box knows."""
    home = folder.parent / "home"
    home.mkdir(mode=0o700)
    gpg = ("gpg", "--homedir", str(home), "--batch", "--quiet", "--yes")
    signature = folder / "SHA256SUMS.gpg"
    signature.unlink()
    for words in (
        ("--passphrase", "", "--quick-generate-key", "stranger", "ed25519", "sign", "never"),
        ("--detach-sign", "--output", str(signature), str(folder / "SHA256SUMS")),
    ):
        subprocess.run([*gpg, *words], check=True)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


def cut(machine: Machine, offers: Shop) -> None:
    """The power goes while the next root is being written."""
    offers.folder, offers.holds = OFFERED / "good", True
    machine.inside(f"echo {ADDRESS} >/var/lib/update/source && systemctl start --no-block update.service")
    assert offers.reached.wait(1500), "the box has never asked for the root"
    machine.cut_power()
    offers.holds = False
    kept("power was cut while the next root was being written", not machine.is_on)


def corrupted(machine: Machine, offers: Shop) -> None:
    """A slot that was damaged after it had been written: the kernel finds out, and the version before returns."""
    folder = offers.folder = OFFERED / "corrupted"
    had = version(machine)
    machine.inside(TAKE)
    machine.inside(
        f"dd if=/dev/urandom of=/dev/disk/by-partuuid/{root_identifier(folder)} bs=1M count=64 conv=fsync"
    )
    boot = machine.boot()
    start_what_waits(machine)
    returned(machine, boot, had, offered_version(folder), "a version in a damaged slot")


def failing(machine: Machine, offers: Shop) -> None:
    """A version that is whole, starts, and doesn't do what a box is for."""
    folder = offers.folder = OFFERED / "failing"
    had = version(machine)
    boot = machine.boot()
    machine.inside(TAKE)
    start_what_waits(machine)
    returned(machine, boot, had, offered_version(folder), "a version that fails its own check")
    back = rolled_back(machine.inside(STARTS), boot, machine.inside(SERVING))
    back.record(ROLLED_BACK, offered_version(folder), datetime.now(UTC))
    kept(f"the version before serves {back.told()}", back.starts <= TRIES, str(back))


def returned(machine: Machine, boot: str, had: str, tried: str, what: str) -> None:
    """Wait until the box is back in version `had` by itself, having tried the other three times."""
    machine.wait_for_restart(boot)
    machine.wait_until(f'test "$({STARTED})" = {had}', 5 * PATIENCE_SECONDS, RESTART_SECONDS)
    running(machine, f"{what} is left by itself, and the one before runs")
    there = kernels(machine)
    kept("after three tries", f"appliance_{tried}+0-3.efi" in there, str(there))
    said = machine.inside("appliance status --json", check=False)
    kept("the box says that it did not work here", "update-failed" in said and tried in said, said)
    machine.inside(TAKE)
    kept("and it isn't taken a second time", kernels(machine) == there, str(kernels(machine)))


def good(machine: Machine, offers: Shop) -> None:
    """The one that works; and afterwards the one that it was unpacked with, properly signed."""
    folder = offers.folder = OFFERED / "good"
    wanted, boot = offered_version(folder), machine.boot()
    disk = machine.inside("cat /var/lib/disk-recovery/key")
    fill_up_to_the_reserve(machine)
    machine.inside(f"{KNOW_NAME}echo {BY_NAME} >/var/lib/update/source")
    word = came_of_a_look(machine)
    kept(
        "a server by whose certificate nobody stands is asked for nothing",
        word == looks.Came.UNREACHABLE,
        word,
    )
    machine.inside(BELIEVE.format(authority=offers.authority))
    word = came_of_a_look(machine)
    kept(
        "by its name and over HTTPS a version comes",
        word == looks.Came.TAKEN and offers.hosts == {NAME},
        word,
    )
    said = machine.inside("appliance status --json", check=False)
    kept("the box says that it waits for the next start", "update-waiting" in said and wanted in said, said)
    kept("nothing has started again by day", machine.boot() == boot)
    start_what_waits(machine)
    machine.wait_for_restart(boot)
    running(
        machine, "a good version is taken, and started by what the night's timer starts; nothing has failed"
    )
    kept("it is the new one", version(machine) == wanted, version(machine))
    kept(
        "the TPM2 gives it the key of the same /var", machine.inside("cat /var/lib/disk-recovery/key") == disk
    )
    machine.wait_until("systemctl is-active systemd-bless-boot.service")
    machine.inside(f"rm {BALLAST}")
    there = kernels(machine)
    kept("it has called itself good, and is doubted no more", f"appliance_{wanted}.efi" in there, str(there))
    kept("the version before stays in the other slot", len(there) == 2, str(there))
    offers.folder = BUILT / "updates" / unpacked_version()
    machine.inside(KNOW_NAME + BELIEVE.format(authority=offers.authority))
    word = came_of_a_look(machine)
    kept(
        "an older version is not taken, however well it is signed",
        kernels(machine) == there and word == looks.Came.NONE,
        word,
    )


def came_of_a_look(machine: Machine) -> str:
    """Let it look, and give its own word for what came of that. TLS, emulated, takes its time."""
    machine.inside(FORGET)
    machine.inside(TAKE, check=False, seconds=2 * PATIENCE_SECONDS)
    return machine.inside(f"cut -d ' ' -f 2 {LOOKED}", check=False).strip()


TRIES = 3
"""A new version is started so often, and then left."""

BALLAST = "/var/lib/ballast"


def fill_up_to_the_reserve(machine: Machine) -> None:
    """A full disk is held against no version: it is taken, starts, is examined and called good all the same (R3)."""
    free_bytes = json.loads(machine.inside("appliance status --json", check=False))["free_bytes"]
    machine.inside(f"fallocate -l {free_bytes - StoreConfig().reserve_bytes * 3 // 4} {BALLAST}")
    said = json.loads(machine.inside("appliance status --json", check=False))
    full = "disk-full" in {each["code"] for each in said["problems"]}
    kept("the disk is full up to its reserve", full, str(said["free_bytes"]))


def unpacked_version() -> str:
    """The version of the image that the box was unpacked with."""
    return image(".test").name.removeprefix("appliance_").removesuffix(".test.raw")


PARTS: dict[str, Callable[[Machine, Shop], None]] = {
    "refused": refused,
    "good": good,
    "corrupted": corrupted,
    "failing": failing,
}
