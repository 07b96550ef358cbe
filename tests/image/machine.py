"""A whole machine in QEMU: firmware with Secure Boot, a TPM2 (swtpm), a disk, one cable. Emulated, so it runs anywhere.

The cable leads nowhere but to the ports that are forwarded here; ``10.0.2.2`` is this machine as the box sees it.

The way in (`Door`) is a unit that the harness hands over as a system credential in SMBIOS strings, which only the test's
kernel image reads: it answers commands on a virtio port. A production image has no such way, and a test shows it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

FIRMWARE = Path("/usr/share/OVMF")
PROGRAMS = {
    "sfdisk": "fdisk",
    "qemu-system-x86_64": "qemu-system-x86",
    "swtpm": "swtpm",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
}
RELAY = Path(__file__).with_name("relay.py")
DISK_BYTES = 8 << 30
PATIENCE_SECONDS = 1500.0
"""Emulated, a start takes three minutes on an idle machine."""

RESTART_SECONDS = 120.0
"""Until a question is put again to a machine that may have gone down over it."""

TPM_PRIORITY = -10
"""The kernel gives a TPM2 20 ms for its short answers, and takes one that is late for gone."""

SETUP_SECONDS = 10
"""Where nobody may ask for it, OVMF does not wait at all."""

WATCHDOG_RAN_DOWN = "tco_timer_expired"
"""What QEMU writes of the chipset's watchdog each time: at the second in a row it resets the machine."""

_AGENT = """
import json, subprocess
port = open("/dev/virtio-ports/inside", "r+b", buffering=0)
left = b""
while True:
    while b"\\n" not in left:
        left += port.read(4096) or b""
    line, left = left.split(b"\\n", 1)
    asked = json.loads(line)
    done = subprocess.run(["/bin/sh", "-c", asked["command"]], stdin=subprocess.DEVNULL, capture_output=True)
    told = {"number": asked["number"], "code": done.returncode, "out": done.stdout.decode(errors="replace"),
            "err": done.stderr.decode(errors="replace")}
    answer = json.dumps(told).encode() + b"\\n"
    while answer:
        answer = answer[port.write(answer):]
"""

DOOR_UNIT = f"""[Unit]
DefaultDependencies=no
After=systemd-udevd.service
StartLimitIntervalSec=0
ConditionPathExists=!/etc/initrd-release

[Service]
ExecStart=/usr/bin/python3 -I -c "import base64; exec(base64.b64decode('{base64.b64encode(_AGENT.encode()).decode()}'))"
Restart=always
RestartSec=2
OOMScoreAdjust=-900
"""


def credential(name: str, text: str) -> list[str]:
    """The words by which QEMU hands over a system credential in an SMBIOS string (type 11)."""
    value = base64.b64encode(text.encode()).decode()
    return ["-smbios", f"type=11,value=io.systemd.credential.binary:{name}={value}"]


SLOW = "[Service]\nTimeoutStartSec=30min\nWatchdogSec=15min\n"
"""Emulated, Python starts twenty times slower than on a box: a unit's patience is for hardware."""

JUDGED_LATE = "[Service]\nTimeoutStartSec=30min\n"
"""The check of a start has a minute on a box. Under a name of its own, before the one that a version which is to fail brings
(`make_test_updates`): of one name, only what comes by SMBIOS would hold."""

SLOW_UNITS = tuple(f"appliance-{name}.service" for name in ("dicom", "courier", "jobs", "web"))

DOOR = [
    *(
        word
        for unit in (*SLOW_UNITS, "screen.service")
        for word in credential(f"systemd.unit-dropin.{unit}", SLOW)
    ),
    *(
        word
        for name in ("chrony", "dbus", "nginx", "systemd-logind", "systemd-networkd", "systemd-resolved")
        for word in credential(f"systemd.unit-dropin.{name}.service", "[Service]\nTimeoutStartSec=30min\n")
    ),
    *credential("systemd.unit-dropin.boot-check.service~40-emulated", JUDGED_LATE),
    *credential("systemd.extra-unit.door.service", DOOR_UNIT),
    *credential("systemd.unit-dropin.sysinit.target", "[Unit]\nWants=door.service\n"),
]


EMULATION = (
    "-accel",
    os.environ.get("QEMU_ACCELERATOR", "tcg,thread=multi"),
    "-cpu",
    "max",
    "-smp",
    "2",
    "-m",
    "2048",
    "-nodefaults",
    "-display",
    "none",
)


def tap(name: str) -> list[str]:
    """The words of a cable that leads to a tap."""
    return [
        "-netdev",
        f"tap,id=cable,ifname={name},script=no,downscript=no",
        "-device",
        "virtio-net-pci,netdev=cable",
    ]


def cable(forwarded: dict[int, int], to_here: dict[int, int]) -> list[str]:
    """The words of a cable that leads nowhere else: `forwarded`, port of the box → port here; `to_here`, port of 10.0.2.100 → port
    of this machine."""
    words = "user,id=cable,restrict=on" + "".join(
        f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in forwarded.items()
    )
    for there, here in to_here.items():
        # A command for each connection: to a port, QEMU itself connects once, and that is all.
        words += f",guestfwd=tcp:10.0.2.100:{there}-cmd:{sys.executable} -I -S {RELAY} {here}"
    return ["-netdev", words, "-device", "virtio-net-pci,netdev=cable"]


def disk(file: Path, writes: Path | None) -> list[str]:
    """The words of the machine's disk. Where `writes` is to tell what it was told, it takes neither discards nor zeroes without their
    data: QEMU before 10.1 writes those down in the wrong place."""
    if writes is None:
        return [
            *("-drive", f"if=none,id=disk,format=raw,discard=unmap,file={file}"),
            *("-device", "virtio-blk-pci,drive=disk,bootindex=1"),
        ]
    log = f"driver=blklogwrites,file.driver=file,file.filename={file},log.driver=file,log.filename={writes}"
    return [
        *("-drive", f"if=none,id=disk,{log}"),
        *("-device", "virtio-blk-pci,drive=disk,bootindex=1,discard=off,write-zeroes=off"),
    ]


def unseen(folder: Path) -> list[str]:
    """The words by which a loader takes the machine for hardware: no bit of the processor says otherwise, nor one of the firmware's table
    (SMBIOS 3.7, type 0: "BIOS Characteristics Extension Byte 2", bit 4)."""
    told = struct.pack("<BBHBBHBBQBBBBBB", 0, 24, 0, 1, 2, 0xE800, 3, 0, 1 << 3, 0, 1 << 3, 0, 0, 0xFF, 0xFF)
    table = folder / "firmware.smbios"
    table.write_bytes(told + b"a firmware\0001\00001/01/2026\0\0")
    return ["-cpu", "max,-hypervisor", "-smbios", f"file={table}"]


def real_time_clock(at: datetime | None) -> list[str]:
    """The words of a clock that is at `at` as the machine is switched on, and goes on from there; None: it is this machine's."""
    return [] if at is None else ["-rtc", f"base={at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def install_programs() -> None:
    """What a machine needs, by apt where it is missing."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    missing += [] if (FIRMWARE / "OVMF_CODE_4M.secboot.fd").exists() else ["ovmf"]
    if missing:
        subprocess.run(
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing, "swtpm-tools"], check=True
        )


@dataclass
class Hardware:
    """What stays when the power goes: the disk, the firmware's variables and the TPM2, all in `folder`."""

    folder: Path
    disk: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.disk = self.folder / "disk.raw"

    def assemble(self, image: Path) -> None:
        """A new machine, with `image` written to its disk."""
        subprocess.run(["cp", "--sparse=always", str(image), str(self.disk)], check=True)
        self._complete()

    def assemble_blank(self) -> None:
        """A new machine whose disk is empty."""
        self.disk.write_bytes(b"")
        self._complete()

    def _complete(self) -> None:
        os.truncate(self.disk, DISK_BYTES)
        shutil.copyfile(FIRMWARE / "OVMF_VARS_4M.fd", self.folder / "vars.fd")
        self.new_tpm()

    def new_disk(self) -> None:
        """An empty disk in the place of the one that was there, which is kept beside."""
        self.disk.rename(self.folder / "old-disk.raw")
        self.disk.write_bytes(b"")
        os.truncate(self.disk, DISK_BYTES)

    def twin(self, name: str) -> Hardware:
        """The same machine once more, as it stands there switched off."""
        other = Hardware(self.folder / name)
        subprocess.run(["cp", "--sparse=always", str(self.disk), str(other.disk)], check=True)
        shutil.copyfile(self.folder / "vars.fd", other.folder / "vars.fd")
        shutil.copytree(self.folder / "tpm", other.folder / "tpm", dirs_exist_ok=True)
        return other

    def new_tpm(self) -> None:
        """Another TPM2 in the same machine, as after a theft of the disk."""
        shutil.rmtree(self.folder / "tpm", ignore_errors=True)
        (self.folder / "tpm").mkdir()


@dataclass
class Machine:
    """A machine that is on."""

    hardware: Hardware
    process: subprocess.Popen[bytes]
    tpm: subprocess.Popen[bytes]
    ports: dict[int, int]
    """Port of the box → port here."""
    _door: socket.socket | None = None
    _asked: int = 0

    def inside(self, command: str, *, check: bool = True, seconds: float = PATIENCE_SECONDS) -> str:
        """What `command` prints in the box, as root; `AssertionError` if it fails (`check`) or never answers."""
        if self._door is None:
            self._door = socket.socket(socket.AF_UNIX)
            self._door.connect(str(self.hardware.folder / "inside.sock"))
        self._asked += 1
        asked = json.dumps({"number": self._asked, "command": command}).encode() + b"\n"
        self._door.sendall(asked)
        deadline, told = time.monotonic() + seconds, b""
        while True:
            self._door.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                more = self._door.recv(65536)
            except TimeoutError:
                more = b""
            if not more:
                raise AssertionError(f"no answer to: {command}\n{self.console()[-3000:]}")
            told += more
            *lines, told = told.split(b"\n")
            for line in lines:
                try:
                    answer = json.loads(line)
                except ValueError:  # the box went down in mid-word
                    continue
                if answer["number"] != self._asked:
                    continue
                if check and answer["code"]:
                    raise AssertionError(f"{command}: {answer['code']}\n{answer['out']}\n{answer['err']}")
                return str(answer["out"])

    def is_open(self, seconds: float) -> bool:
        """Whether anything in the box answers by the door within `seconds`."""
        try:
            self.inside("true", seconds=seconds)
        except AssertionError:
            return False
        return True

    def wait_until(
        self, command: str, seconds: float = PATIENCE_SECONDS, each_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Return once `command` succeeds in the box. Where it may start again meanwhile, an answer can be lost: it is
        asked again after `each_seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.inside(command, seconds=max(1.0, min(each_seconds, deadline - time.monotonic())))
                return
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(2)

    def boot(self) -> str:
        """The number that the kernel gave this start."""
        return self.inside("cat /proc/sys/kernel/random/boot_id").strip()

    def wait_for_restart(self, boot: str) -> None:
        """Return once it answers in another start than `boot`."""
        self.wait_until(
            f"! grep -q {boot} /proc/sys/kernel/random/boot_id", 2 * PATIENCE_SECONDS, RESTART_SECONDS
        )

    def plug(self, disk: Path, name: str) -> None:
        """Put a USB disk in; `name` is for `unplug`."""
        self._monitor(f"drive_add 0 if=none,id={name},format=raw,file={disk.absolute()}")
        self._monitor(f"device_add usb-storage,id={name},drive={name},bus=usb.0,removable=on")

    def unplug(self, name: str) -> None:
        """Pull it out, whatever it is doing."""
        self._monitor(f"device_del {name}")

    def type_keys(self, text: str) -> None:
        """As on its keyboard (US): capitals, digits, and Enter for a line's end."""
        for letter in text:
            key = {"\n": "ret", " ": "spc"}.get(
                letter, f"shift-{letter.lower()}" if letter.isupper() else letter
            )
            self._monitor(f"sendkey {key}")

    def press(self, key: str) -> None:
        """One key, by QEMU's name of it."""
        self._monitor(f"sendkey {key}")

    def press_sleep_key(self) -> None:
        """As on a keyboard that has one."""
        self._monitor("sendkey sleep")

    def press_power_button(self) -> None:
        """Once, briefly."""
        self._monitor("system_powerdown")

    def picture(self, path: Path) -> None:
        """What stands on its screen, as a picture (PPM): of a production image there is nothing else to see."""
        self._monitor(f"screendump {path.absolute()}")

    def _monitor(self, command: str) -> None:
        """Say it to QEMU; `AssertionError` with what it answers, unless that is nothing or "OK"."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(60)
            line.connect(str(self.hardware.folder / "monitor.sock"))
            told = _until_prompt(line)
            line.sendall(command.encode() + b"\n")
            told = _until_prompt(line)
        # The line is edited as it is typed: what comes back begins with all stages of the command.
        answer = told.split("\n", 1)[-1].removesuffix("(qemu) ").strip()
        assert answer in ("", "OK"), f"{command}: {answer}"

    def console(self) -> str:
        """What it has written to its serial line since it was switched on."""
        path = self.hardware.folder / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def is_on(self) -> bool:
        return self.process.poll() is None

    def cut_power(self) -> None:
        """All at once, as a cord that is pulled."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def power_off(self) -> None:
        """As the button does it."""
        if self.is_on:
            with suppress(AssertionError, OSError):
                self.inside("systemctl --no-block poweroff", seconds=60)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(600)


def _waiting(span: str) -> str:
    return f"[Timer]\nOnActiveSec=\nOnActiveSec={span}\nAccuracySec=1s\n"


def _until_prompt(line: socket.socket) -> str:
    told = b""
    while not told.endswith(b"(qemu) "):
        more = line.recv(65536)
        if not more:
            raise AssertionError(f"QEMU has closed its monitor: {told!r}")
        told += more
    return told.decode(errors="replace")


@contextmanager
def switched_on(
    hardware: Hardware,
    *,
    door: bool = True,
    ports: tuple[int, ...] = (),
    to_here: dict[int, int] | None = None,
    said: str = "",
    stick: Path | None = None,
    waits: str = "",
    watchdog: bool = False,
    clock: datetime | None = None,
    wired_to: tuple[str, str] | None = None,
    writes: Path | None = None,
    beside: Path | None = None,
    bare: bool = False,
    setup: bool = False,
) -> Iterator[Machine]:
    """`hardware`, on. `ports` of the box are reached here; `to_here`: ports of 10.0.2.100 lead to ports of this machine;
    `said`: words that the hardware adds to the kernel's command line (systemd-stub(7)); `stick`: a USB stick to start from; `waits`:
    how long the box waits for its disk, instead of a quarter of an hour; `watchdog`: the chipset's resets the machine, and each time it has
    run down stands in `qemu.log` (beside other work, an emulated PID 1 may be late with no fault of its own); `clock`: what its clock says; `wired_to`: the namespace and
    the tap that its cable leads to, instead of to nowhere; `writes`: the log (`tests.image.writes`) of all that its disk is told; `beside`: a second disk in it;
    `bare`: its loader is to take it for hardware; `setup`: its firmware waits `SETUP_SECONDS` for the key that brings its setup."""
    folder = hardware.folder.absolute()
    for name in ("inside.sock", "tpm.sock", "console.log"):
        (folder / name).unlink(missing_ok=True)
    tpm = subprocess.Popen(
        [
            "swtpm",
            "socket",
            "--tpm2",
            "--terminate",
            "--tpmstate",
            f"dir={folder}/tpm",
            "--ctrl",
            f"type=unixio,path={folder}/tpm.sock",
        ],
        stdout=subprocess.DEVNULL,
        stderr=(folder / "tpm.log").open("wb"),
    )
    # A TPM2 is a chip of its own: while its machine's emulation takes every core, it must still answer in time.
    os.setpriority(os.PRIO_PROCESS, tpm.pid, TPM_PRIORITY)
    forwarded = {port: free_port() for port in ports}
    deadline = time.monotonic() + 60
    while not (folder / "tpm.sock").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process = subprocess.Popen(
        [
            *(("ip", "netns", "exec", wired_to[0]) if wired_to else ()),
            *("qemu-system-x86_64", "-machine", "q35,smm=on", *EMULATION, "-vga", "std"),
            *("-uuid", "7c9d2f54-3b1e-4c57-9a6e-52f1f0c1e5aa"),
            *("-global", "driver=cfi.pflash01,property=secure,value=on"),
            *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE}/OVMF_CODE_4M.secboot.fd"),
            *("-drive", f"if=pflash,unit=1,format=raw,file={folder}/vars.fd"),
            *("-chardev", f"socket,id=tpm,path={folder}/tpm.sock", "-tpmdev", "emulator,id=tpm0,chardev=tpm"),
            *("-device", "tpm-crb,tpmdev=tpm0"),
            *disk(hardware.disk, writes),
            *(("-drive", f"if=none,id=beside,format=raw,file={beside}") if beside else ()),
            *(("-device", "virtio-blk-pci,drive=beside") if beside else ()),
            *(tap(wired_to[1]) if wired_to else cable(forwarded, to_here or {})),
            *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci", "-device", "qemu-xhci,id=usb"),
            *("-chardev", f"socket,id=inside,path={folder}/inside.sock,server=on,wait=off"),
            *("-device", "virtserialport,chardev=inside,name=inside"),
            *(
                "-serial",
                f"file:{folder}/console.log",
                "-monitor",
                f"unix:{folder}/monitor.sock,server=on,wait=off",
            ),
            *(DOOR if door else []),
            *(credential("systemd.unit-dropin.disk-unopened.timer", _waiting(waits)) if waits else ()),
            *(("-drive", f"if=none,id=stick,format=raw,readonly=on,file={stick}") if stick else ()),
            *(("-device", "usb-storage,drive=stick,bus=usb.0,bootindex=0") if stick else ()),
            *(("-global", "ICH9-LPC.noreboot=off", "-action", "watchdog=reset") if watchdog else ()),
            *real_time_clock(clock),
            *(unseen(folder) if bare else ()),
            *(("-boot", f"menu=on,splash-time={SETUP_SECONDS * 1000}") if setup else ()),
            *(("-trace", WATCHDOG_RAN_DOWN) if watchdog else ()),
            *(("-smbios", f"type=11,value=io.systemd.stub.kernel-cmdline-extra={said}") if said else ()),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "qemu.log").open("wb"),
    )
    machine = Machine(hardware, process, tpm, forwarded)
    try:
        while not (folder / "inside.sock").exists():
            if not machine.is_on:
                raise AssertionError((folder / "qemu.log").read_text())
            time.sleep(0.1)
        yield machine
    finally:
        if machine.is_on:
            machine.cut_power()
        if machine._door is not None:
            machine._door.close()
        with suppress(subprocess.TimeoutExpired):
            tpm.wait(10)
        if tpm.poll() is None:
            tpm.kill()
            tpm.wait()
