"""A booted Debian in QEMU: a kernel, a disk, a clock and a start of its own, where `machine` has a container's.

Chose its kernel beside the disk (`-kernel`) and one file system on it over firmware, partitions and a boot loader: those are what a
clinic's own Debian has from its installer and provisioning does not touch; the image's own chain `tests.image` boots. Debian's kernel
for clouds, because its start is the shortest where everything is emulated.

Of this machine's network nothing is to be had, as in the container: three ports of the box are forwarded here, one of 10.0.2.100
leads to who plays a system of the clinic, and a second cable to who tells the time (`clocks`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.image.machine import EMULATION, SLOW, SLOW_UNITS, cable, free_port
from tests.provisioning import clocks
from tests.provisioning.machine import CLINIC_PORT, Machine, base, copied, run

KERNEL_PACKAGE = "linux-image-cloud-amd64"
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mke2fs": "e2fsprogs",
    "mkswap": "util-linux",
    "debootstrap": "debootstrap",
}
DISK_BYTES, BACKUP_BYTES, SWAP_BYTES = 6 << 30, 1 << 30, 64 << 20
TAIL_BYTES = 1 << 20
"""What its file system leaves free at the end of a disk."""

SYSTEM, BACKUP, SWAP = "SYSTEM", "BACKUP", "SWAP"
"""Labels of its disks; an installer of Debian gives a machine swap, which a box is not to have."""

HERE, THERE = "10.0.2.2", "10.0.2.15"
"""This machine as the box sees it, and the box."""
CLINIC = ("10.0.2.100", CLINIC_PORT)
PORTS = (22, 443, 11112)
PATIENCE_SECONDS = 1800.0

NETWORK = f"""[Match]
MACAddress=52:54:00:12:34:56

[Network]
Address={THERE}/24
Gateway={HERE}
IPv6AcceptRA=no
"""

TIME_MAC = "52:54:00:12:34:57"
"""The hardware address of the second cable."""

TIME_NETWORK = f"[Match]\nMACAddress={TIME_MAC}\n\n[Network]\nAddress={clocks.THERE}/24\nIPv6AcceptRA=no\n"

SLOW_STARTS = "[Manager]\nDefaultTimeoutStartSec=30min\nDefaultDeviceTimeoutSec=30min\n"
"""Emulated, everything starts twenty times slower than on a box."""

SLOW_DISK = "[Unit]\nJobRunningTimeoutSec=30min\n"
"""A disk of fstab has a minute and a half: emulated, that may be over before udev has started."""


def command(folder: Path, ports: dict[int, int], clinic_here: int) -> list[str]:
    """QEMU's command line for the machine in `folder`; `ports`: of the box → here; `clinic_here`: where the clinic is played."""
    return [
        *("qemu-system-x86_64", "-machine", "q35", *EMULATION),
        *("-kernel", f"{folder}/vmlinuz", "-initrd", f"{folder}/initrd.img"),
        *("-append", f"root=LABEL={SYSTEM} rw console=ttyS0"),
        *(
            word
            for name in (SYSTEM, BACKUP, SWAP)
            for word in (
                *("-drive", f"if=none,id={name},format=raw,discard=unmap,file={folder}/{name}.raw"),
                *("-device", f"virtio-blk-pci,drive={name}"),
            )
        ),
        *cable(ports, {CLINIC[1]: clinic_here}),
        *("-netdev", f"tap,id=time,ifname={clocks.CABLE},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=time,mac={TIME_MAC}"),
        *("-rtc", f"base={clocks.behind()}"),
        *("-device", "virtio-rng-pci", "-serial", f"file:{folder}/console.log", "-monitor", "none"),
    ]


def made(bases: Path, suite: str, folder: Path) -> Path:
    """A machine's disks and kernel in `folder`, from the base that is kept in `bases`; the key that opens its SSH."""
    with copied(base(bases, suite, KERNEL_PACKAGE), folder) as (root, key):
        at_home(root)
        for name in ("vmlinuz", "initrd.img"):
            (found,) = (root / "boot").glob(f"{name}-*")
            shutil.copy(found, folder / name)
        disk(folder / f"{SYSTEM}.raw", SYSTEM, DISK_BYTES, root)
    disk(folder / f"{BACKUP}.raw", BACKUP, BACKUP_BYTES)
    swap = folder / f"{SWAP}.raw"
    swap.touch()
    os.truncate(swap, SWAP_BYTES)
    run("mkswap", "--quiet", "--label", SWAP, swap)
    os.truncate(swap, SWAP_BYTES + TAIL_BYTES)
    return key


def at_home(root: Path) -> None:
    """What an installer would have written for this hardware, and more patience."""
    for name, text in {
        "fstab": f"LABEL={SYSTEM} / ext4 errors=remount-ro 0 1\nLABEL={SWAP} none swap sw 0 0\n",
        "resolv.conf": "# nobody to ask\n",
        "systemd/network/cable.network": NETWORK,
        "systemd/network/time.network": TIME_NETWORK,
        "systemd/system.conf.d/emulated.conf": SLOW_STARTS,
        **{
            f"systemd/system/dev-disk-by\\x2dlabel-{label}.device.d/emulated.conf": SLOW_DISK
            for label in (BACKUP, SWAP)
        },
        **{f"systemd/system/{unit}.d/emulated.conf": SLOW for unit in SLOW_UNITS},
    }.items():
        path = root / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be a link to where only a system that runs has something
        path.write_text(text)
    run("systemctl", f"--root={root}", "--quiet", "enable", "systemd-networkd.service")


def disk(path: Path, label: str, size_bytes: int, root: Path | None = None) -> None:
    """A disk with one file system, with all that is in `root`."""
    filled = ("-d", root) if root else ()
    run("mke2fs", "-q", "-F", "-t", "ext4", "-L", label, *filled, path, f"{size_bytes >> 20}M")
    os.truncate(path, size_bytes + TAIL_BYTES)


@contextmanager
def booted(bases: Path, suite: str, folder: Path) -> Iterator[Machine]:
    """A machine that starts from disks of its own in `folder`."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        raise SystemExit(f"apt-get install {' '.join(missing)}")
    key, ports, clinic_here = made(bases, suite, folder), {port: free_port() for port in PORTS}, free_port()
    with clocks.told(), (folder / "qemu.log").open("wb") as log:
        process = subprocess.Popen(
            command(folder, ports, clinic_here), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            box = Machine(
                key,
                process,
                address="127.0.0.1",
                ports=ports,
                here=HERE,
                clinic=CLINIC,
                clinic_here=("127.0.0.1", clinic_here),
                patience_seconds=PATIENCE_SECONDS,
            )
            answers(box, folder)
            yield box
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def answers(box: Machine, folder: Path) -> None:
    """Return once it is up; end with its console if it does not come up."""
    try:
        box.wait_until("systemctl is-system-running --wait; true")
    except AssertionError as error:
        raise SystemExit(f"{error}\n{console(folder)}") from error


def console(folder: Path) -> str:
    """The end of what QEMU and the machine's serial line said."""
    return "\n".join(each.read_text(errors="replace")[-4000:] for each in sorted(folder.glob("*.log")))


def copy_disk(box: Machine, to: Path, folder: Path) -> None:
    """What its disk holds by now."""
    box.inside("sync")
    run("cp", "--sparse=always", folder / f"{SYSTEM}.raw", to)


def restart(box: Machine) -> None:
    """Start it again, as an administrator does, and return once it is up."""
    boot = "/proc/sys/kernel/random/boot_id"
    before = box.inside(f"cat {boot}").strip()
    goes_down(box, "reboot")
    box.wait_until(f"! grep -q {before} {boot}")
    box.wait_until("systemctl is-system-running --wait; true")


def power_off(box: Machine) -> None:
    """As the button does it, so that all it holds is on its disks."""
    goes_down(box, "poweroff")
    with suppress(subprocess.TimeoutExpired):
        box.process.wait(PATIENCE_SECONDS)


def goes_down(box: Machine, how: str) -> None:
    """Ask for it, and be gone before it does it: a connection that is open would be found dead only after long."""
    box.inside(f"systemd-run --quiet --on-active=20 systemctl {how}")
    box.hang_up()
    time.sleep(20)
