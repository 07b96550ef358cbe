"""A booted Debian on this machine: its own systemd, its own network, on a copy that is thrown away.

Chose a container with systemd as its first process (systemd-nspawn) for the long story: the units, their walls, the
firewall and the credentials are the kernel's and systemd's own, and it boots in seconds where emulation takes minutes.
What it cannot show is a kernel, a disk, a clock and a start of its own: for those there is `emulated`. What neither shows is a
TPM2 and an encrypted disk.

The network is a namespace with one pair of interfaces, whose addresses are from the block for documentation: nothing
leaves this machine, so everything that is installed must be there before: as packages in apt's cache (`stock`), or installed (`base`), and
as a folder of wheels.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

STOCK_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "iproute2",
    "procps",
    "python3",
    "ca-certificates",
)
"""What every Debian has that was installed, and debootstrap's smallest hasn't."""

ROLE_PACKAGES = (
    *("openssh-server", "python3-apt", "python3-venv", "chrony", "nftables", "nginx-light", "openssl"),
    *("tpm2-tools", "unattended-upgrades", "libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0"),
    *("fonts-dejavu-core", "fonts-droid-fallback"),
)
"""What the role `base` installs."""

FOUND_PACKAGES = ("openssh-server", "openssl")
"""Of these, what is there before: by which Ansible comes in, and what `ca-certificates` brings along."""

UNWANTED_PACKAGES = ("avahi-daemon", "inetutils-telnet", "rpcbind", "telnet", "ufw")
"""Of what a machine may have had before, and the role takes away: some that need no desktop and no mail."""

HERE, THERE = "198.51.100.1", "198.51.100.2"
NAMESPACE = "appliance-test"
PATIENCE_SECONDS = 180.0
CLINIC_PORT = 2224
"""Where a system of the clinic listens, which the box may call by some of its accounts."""


def run(*words: object, check: bool = True, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(each) for each in words], check=check, text=True, **more)  # type: ignore[call-overload]


def base(folder: Path, suite: str, *more: str) -> Path:
    """The installed system, with `more` packages and all that the role installs, made once and kept in `folder`."""
    return _made(folder / "-".join((suite, *more)), suite, (*STOCK_PACKAGES, *ROLE_PACKAGES, *more))


def stock(folder: Path, suite: str, *more: str) -> Path:
    """A system as the role finds one: what it installs is in apt's cache alone, and what it takes away is there."""
    installed = (*STOCK_PACKAGES, *FOUND_PACKAGES, *UNWANTED_PACKAGES, *more)
    return _made(folder / "-".join((suite, "stock", *more)), suite, installed, ROLE_PACKAGES)


def _made(root: Path, suite: str, installed: Sequence[str], fetched: Sequence[str] = ()) -> Path:
    """`root` with these packages, and others in apt's cache; made anew where it was made of others."""
    of = root.with_name(f"{root.name}.packages")
    wanted = " ".join((*installed, "and", *fetched))
    if root.exists() and of.exists() and of.read_text() == wanted:
        return root
    for each in (half := root.with_name(f"{root.name}.half"), root):
        if each.exists():
            shutil.rmtree(each)
    half.parent.mkdir(parents=True, exist_ok=True)
    # What debootstrap mounts there, and whoever works for it, goes with it, however it ends.
    apart = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child")
    run(*apart, "debootstrap", "--variant=minbase", f"--include={','.join(installed)}", suite, half)
    if fetched:
        apt = (*apart, "chroot", half, "apt-get", "--quiet", "--yes")
        run(*apt, "update")
        run(*apt, "install", "--no-install-recommends", "--download-only", *fetched)
    half.rename(root)
    of.write_text(wanted)
    return root


def installed(box: Machine, packages: Iterable[str]) -> set[str]:
    """Which of `packages` are installed there."""
    there = box.inside("dpkg-query -W -f '${db:Status-Status} ${Package}\\n'").splitlines()
    return {name for status, name in map(str.split, there) if status == "installed"} & {*packages}


@dataclass
class Machine:
    """A machine that runs; `key` opens its SSH."""

    key: Path
    process: subprocess.Popen[bytes]
    address: str = THERE
    """Where it is reached from here, at `ports`: port of the box → port there."""
    ports: dict[int, int] = field(default_factory=lambda: {port: port for port in (22, 443, 11112)})
    here: str = HERE
    """This machine, as the box sees it."""
    clinic: tuple[str, int] = (HERE, CLINIC_PORT)
    """A system of the clinic, as the box calls it; who plays it listens at `clinic_here`."""
    clinic_here: tuple[str, int] = (HERE, CLINIC_PORT)
    patience_seconds: float = PATIENCE_SECONDS

    def _ssh(self, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *("ssh", "-q", "-i", str(self.key), "-p", str(self.ports[22])),
                *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
                *("-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=10"),
                # One connection for all: the firewall lets in ten new ones a minute.
                *("-o", "ControlMaster=auto", "-o", f"ControlPath={self.key}.mux", "-o", "ControlPersist=60"),
                *words,
            ],
            capture_output=True,
            text=True,
            input=typed,
            check=False,
        )

    def done(self, command: str, *, typed: str = "") -> subprocess.CompletedProcess[str]:
        """What `command` comes to there, as root, however it ends."""
        return self._ssh(f"root@{self.address}", command, typed=typed)

    def inside(self, command: str, *, check: bool = True, typed: str = "") -> str:
        """What `command` prints there, as root."""
        done = self.done(command, typed=typed)
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def hang_up(self) -> None:
        """End the connection that is kept: one that hung in a machine that went down would hang for long."""
        self._ssh("-O", "exit", f"root@{self.address}")

    def wait_until(self, command: str, seconds: float | None = None) -> None:
        """Return once `command` succeeds there."""
        seconds = self.patience_seconds if seconds is None else seconds
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.inside(command)
                return
            except AssertionError as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"not within {seconds:.0f} s: {error}") from error
                time.sleep(0.5)


class Entered(Machine):
    """A container that is seen from within without its SSH, which may be shut: by the namespaces of its first process (nsenter(1))."""

    def done(self, command: str, *, typed: str = "") -> subprocess.CompletedProcess[str]:
        """What `command` comes to there, as root, however it ends."""
        enter = ("nsenter", f"--target={_first_process(self.process.pid)}")
        return subprocess.run(
            [
                *(*enter, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"),
                *("env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"),
                *("sh", "-c", command),
            ],
            capture_output=True,
            text=True,
            input=typed,
            check=False,
        )


def _first_process(container: int) -> int:
    """The process with number 1 inside of `container`; `AssertionError` as long as there is none, for nobody may take this machine for it."""
    for child in Path(f"/proc/{container}/task/{container}/children").read_text().split():
        with suppress(OSError):
            told = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{child}/status").read_text().splitlines()
                if ":\t" in line
            )
            if told["NSpid"].split()[1:] == ["1"] and told["Name"] == "systemd":
                return int(child)
    raise AssertionError("the container has no first process")


def running(box: Machine, unit: str) -> bool:
    """Whether `unit` runs there."""
    return box.inside(f"systemctl is-active {unit}", check=False).strip() == "active"


@contextmanager
def copied(base_root: Path, scratch: Path) -> Iterator[tuple[Path, Path]]:
    """A copy of `base_root` in `scratch`, which is forgotten, and the key that opens its SSH."""
    key = scratch / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    upper, work, root = scratch / "upper", scratch / "work", scratch / "root"
    for each in (upper, work, root):
        each.mkdir()
    layers = f"lowerdir={base_root},upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "overlay", "-o", layers, root)
    try:
        ssh = root / "root/.ssh"
        ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(key.with_suffix(".pub"), ssh / "authorized_keys")
        (root / "etc/hostname").write_text("clinicbox\n")
        (root / "etc/machine-id").write_text("")
        # Lists older than a day would be fetched again, and nothing is to be had here.
        (root / "var/lib/apt/lists").touch()
        yield root, key
    finally:
        with suppress(subprocess.CalledProcessError):
            run("umount", root)


@contextmanager
def booted(
    base_root: Path,
    scratch: Path,
    kind: type[Machine] = Machine,
    prepare: Callable[[Path], None] = lambda _: None,
) -> Iterator[tuple[Machine, Path]]:
    """A machine that starts from `base_root`, after `prepare`, and forgets everything afterwards; and its file system as seen from here."""
    with copied(base_root, scratch) as (root, key), network():
        prepare(root)
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
            machine = kind(key, process)
            machine.wait_until("systemctl is-system-running --wait | grep -E 'running|degraded'")
            yield machine, root
        finally:
            _power_off(process)


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
