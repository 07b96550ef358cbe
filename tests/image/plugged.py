"""Disks that somebody puts into a box and pulls out again: one for backups, one that brings an update, and the one that installs."""

from __future__ import annotations

import filecmp
import os
import subprocess
import time
from pathlib import Path

from appliance.health import gathering, looks
from tests.image.loader import enrols
from tests.image.machine import DISK_BYTES, PATIENCE_SECONDS, Hardware, Machine, switched_on
from tests.image.promises import BUILT, answers, image, kept, running
from tests.image.updates import OFFERED, kernels, offered_version

KEYS_SECONDS = 45.0
"""Between two tries to answer a question that may not have been asked yet: nothing of the production image says when it is."""

WRITTEN_BYTES = 64 << 20
STICK_BYTES = 600 << 20
SCREEN = BUILT / "screen.ppm"
"""The screen of the machine that was installed, as it was last seen: where nothing comes of it, this says why."""
CERTIFICATE = BUILT / "keys/secure-boot.crt"
MOUNTED = "grep -q ' /media/backup ext4 ' /proc/mounts"


def sticks(hardware: Hardware) -> None:
    """One box, and what a clinic plugs into it in its first weeks."""
    hardware.assemble(image(".test"))
    with switched_on(hardware) as machine:
        running(machine)
        machine.wait_until("appliance status --json")
        backups(machine, hardware.folder)
        update(machine, hardware.folder)
        running(machine, "after all that nothing has failed")
        machine.power_off()


def stick(path: Path, label: str, *files: Path) -> Path:
    """A USB stick as a clinic's computer formats one, with `files` on it."""
    with path.open("wb") as stream:
        stream.truncate(STICK_BYTES)
    subprocess.run(["mkfs.vfat", "-n", label, str(path)], check=True, stdout=subprocess.DEVNULL)
    if files:
        subprocess.run(["mcopy", "-i", str(path), *map(str, files), "::/"], check=True)
    return path


def backups(machine: Machine, folder: Path) -> None:
    """A disk for backups: only an empty one is taken, it works at once, and it may be pulled out and put back."""
    letter = folder / "letter.txt"
    letter.write_text("somebody's only copy\n")
    machine.plug(stick(folder / "full.raw", "BOXBACKUP", letter), "full")
    machine.wait_until("journalctl -b -o cat --no-pager -u 'backup-disk-prepare@*' | grep -q 'left as it is'")
    kept("a stick with anything on it is left as it is", True)
    machine.unplug("full")
    machine.wait_until("! test -e /dev/disk/by-label/BOXBACKUP")
    kept("its file is still there", letter.read_bytes() == _read(folder / "full.raw", letter.name))

    empty = stick(folder / "empty.raw", "BOXBACKUP")
    machine.plug(empty, "empty")
    machine.wait_until(MOUNTED)
    machine.wait_until("systemctl is-active backup-disk.service")
    owner = machine.inside("stat -c '%U:%G %a' /media/backup").strip()
    kept(
        "an empty one becomes a disk for backups that is the appliance's alone",
        owner == "appliance:appliance 700",
        owner,
    )
    machine.inside("appliance destination add vault usb --path /media/backup")
    made = machine.inside("appliance backup now --to usb")
    listed = machine.inside("appliance backup list --json")
    kept("a backup is laid on it, from within the walls of its process", '"usb"' in listed, made + listed)

    machine.unplug("empty")
    machine.wait_until(f"! {MOUNTED}")
    told = machine.inside("appliance destination test usb 2>&1 && echo taken", check=False)
    kept("pulled out, it is missed, and nothing is written in its place", "taken" not in told, told)
    left = machine.inside("ls -A /media/backup 2>/dev/null; true").strip()
    kept("where it was, there is nothing", left == "", left)
    machine.plug(empty, "again")
    machine.wait_until(MOUNTED)
    machine.wait_until("appliance destination test usb")
    kept(
        "put back, it is the same disk, with its backup",
        machine.inside("appliance backup list --json") == listed,
    )
    machine.unplug("again")
    machine.wait_until(f"! {MOUNTED}")
    machine.inside("appliance destination remove usb")


def update(machine: Machine, folder: Path) -> None:
    """A version comes on a stick, and waits for its time as one from the network does."""
    offered = OFFERED / "good"
    wanted = offered_version(offered)
    boot = machine.boot()
    machine.plug(stick(folder / "update.raw", "BOXUPDATE", *offered.iterdir()), "update")
    machine.wait_until(f"ls $(bootctl --print-boot-path)/EFI/Linux | grep -q 'appliance_{wanted}+'")
    machine.wait_until("! systemctl is-active --quiet update-from-stick.service")
    there = kernels(machine)
    kept("a version comes from a stick", len(there) == 2, str(there))
    said = machine.inside("appliance status --json", check=False)
    kept("and waits for the next start", "update-waiting" in said and wanted in said, said)
    told = machine.inside(f"cat {gathering.UPDATES}/{looks.FILE_OF_STICK}", check=False)
    kept("and whoever brought it is told", told.endswith(f" {looks.Came.TAKEN}\n"), told)
    kept("nothing has started again by day", machine.boot() == boot)


def installation(hardware: Hardware) -> None:
    """The stick starts a machine with an empty disk, somebody at its keyboard gives the firmware our keys, chooses the disk and types the
    word, and the machine starts from that disk."""
    hardware.assemble_blank()
    installed(hardware, image(), bare=True)
    with switched_on(hardware, door=False, ports=(443,)) as machine:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not answers(machine.ports[443]) and time.monotonic() < deadline:
            machine.picture(SCREEN)
            time.sleep(3)
        kept("and the machine starts from it, and answers", answers(machine.ports[443]), str(SCREEN))


def installed(hardware: Hardware, written: Path, *, bare: bool = False) -> None:
    """By the stick that brings `written`, which is on the disk afterwards to the bit, and by somebody at the keyboard. Of a machine that the
    loader takes for hardware (`bare`) she enrols the keys first."""
    stick = written.with_suffix(".install.raw")
    if not stick.exists():
        raise SystemExit(f"there is no {stick.name}: image-build/build installer, or test-installer")
    with switched_on(hardware, door=False, stick=stick, bare=bare) as machine:
        if bare:
            enrols(machine, CERTIFICATE)
        deadline = time.monotonic() + 2 * PATIENCE_SECONDS
        while _held_bytes(hardware.disk) < WRITTEN_BYTES:
            machine.picture(SCREEN)
            assert time.monotonic() < deadline, f"nothing was written to the disk: {SCREEN}"
            machine.type_keys("1\nERASE\n")
            time.sleep(KEYS_SECONDS)
        kept("the stick starts, asks, and writes to the disk that was chosen", True)
        while machine.is_on:
            machine.picture(SCREEN)
            assert time.monotonic() < deadline, f"it never came to its end: {SCREEN}"
            machine.type_keys("\n")
            time.sleep(KEYS_SECONDS)
    os.truncate(hardware.disk, written.stat().st_size)
    kept(
        "what stands on the disk is the box's, to the bit", filecmp.cmp(hardware.disk, written, shallow=False)
    )
    os.truncate(hardware.disk, DISK_BYTES)


def _held_bytes(disk: Path) -> int:
    return disk.stat().st_blocks * 512


def _read(disk: Path, name: str) -> bytes:
    return subprocess.run(
        ["mcopy", "-n", "-i", str(disk), f"::/{name}", "-"], capture_output=True, check=True
    ).stdout
