"""A booted Debian on this machine: its own systemd, its own network, on a copy that is thrown away.

Chose a container with systemd as its first process (systemd-nspawn) over a virtual machine: the units, their walls, the
firewall and the credentials are the kernel's and systemd's own, and it boots in seconds where emulation takes minutes.
What it cannot show is a boot chain, a TPM2 and an encrypted disk.

The network is a namespace with one pair of interfaces, whose addresses are from the block for documentation: nothing
leaves this machine, so everything that is installed must be there before (`BASE_PACKAGES`, and a folder of wheels).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BASE_PACKAGES = (
    "systemd,systemd-sysv,dbus,libpam-systemd,iproute2,procps,openssh-server,python3,python3-apt,python3-venv,"
    "ca-certificates,chrony,nftables,nginx-light,openssl,tpm2-tools,unattended-upgrades,"
    "libpango-1.0-0,libpangoft2-1.0-0,libharfbuzz-subset0,fonts-dejavu-core,fonts-droid-fallback"
)
HERE, THERE = "198.51.100.1", "198.51.100.2"
NAMESPACE = "appliance-test"
PATIENCE_SECONDS = 180.0


def run(*words: object, check: bool = True, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(each) for each in words], check=check, text=True, **more)  # type: ignore[call-overload]


def base(folder: Path, suite: str) -> Path:
    """The installed system, made once and kept: `folder` / `suite`."""
    made = folder / suite
    if not (made / "etc/os-release").exists():
        shutil.rmtree(made, ignore_errors=True)
        made.parent.mkdir(parents=True, exist_ok=True)
        run("debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", suite, made)
    return made


@dataclass
class Machine:
    """A machine that runs; `root` is its file system as seen from here, `key` opens its SSH."""

    root: Path
    key: Path
    process: subprocess.Popen[bytes]

    def ssh(self, command: str, *, check: bool = True, typed: str = "") -> str:
        """What `command` prints there, as root."""
        done = subprocess.run(
            [
                *("ssh", "-q", "-i", str(self.key), "-o", "StrictHostKeyChecking=no"),
                *("-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5"),
                # One connection for all: the firewall lets in ten new ones a minute.
                *("-o", "ControlMaster=auto", "-o", f"ControlPath={self.key}.mux", "-o", "ControlPersist=60"),
                *(f"root@{THERE}", command),
            ],
            capture_output=True,
            text=True,
            input=typed,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def wait_until(self, command: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Return once `command` succeeds there."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.ssh(command)
                return
            except AssertionError as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"not within {seconds:.0f} s: {error}") from error
                time.sleep(0.5)


@contextmanager
def booted(base_root: Path, scratch: Path) -> Iterator[Machine]:
    """A machine that starts from `base_root` and forgets everything afterwards."""
    key = scratch / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    upper, work, root = scratch / "upper", scratch / "work", scratch / "root"
    for each in (upper, work, root):
        each.mkdir()
    run(
        "mount",
        "-t",
        "overlay",
        "overlay",
        "-o",
        f"lowerdir={base_root},upperdir={upper},workdir={work}",
        root,
    )
    try:
        ssh = root / "root/.ssh"
        ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(key.with_suffix(".pub"), ssh / "authorized_keys")
        (root / "etc/hostname").write_text("clinicbox\n")
        (root / "etc/machine-id").write_text("")
        with network():
            process = subprocess.Popen(
                [
                    *(
                        "systemd-nspawn",
                        "--quiet",
                        "--boot",
                        f"--directory={root}",
                        "--machine=appliance-test",
                    ),
                    *("--register=no", "--keep-unit", f"--network-namespace-path=/run/netns/{NAMESPACE}"),
                    "--capability=CAP_NET_ADMIN",
                    *("--console=pipe", "--resolv-conf=off", "--timezone=off"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=(scratch / "console.log").open("wb"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                machine = Machine(root, key, process)
                machine.wait_until("systemctl is-system-running --wait; true")
                yield machine
            finally:
                _power_off(process)
    finally:
        with suppress(subprocess.CalledProcessError):
            run("umount", root)


def _power_off(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def network() -> Iterator[None]:
    """A namespace with one cable to this machine."""
    run("ip", "netns", "add", NAMESPACE)
    try:
        run("ip", "link", "add", "box-here", "type", "veth", "peer", "name", "box-there", "netns", NAMESPACE)
        run("ip", "addr", "add", f"{HERE}/24", "dev", "box-here")
        run("ip", "link", "set", "box-here", "up")
        for words in (
            ("addr", "add", f"{THERE}/24", "dev", "box-there"),
            ("link", "set", "box-there", "up"),
            ("link", "set", "lo", "up"),
        ):
            run("ip", "-n", NAMESPACE, *words)
        yield
    finally:
        run("ip", "netns", "delete", NAMESPACE, check=False)
