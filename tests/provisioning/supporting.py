"""A vendor's endpoint on this machine's end of the cable, and somebody there who comes in through the line of remote support."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.provisioning import machine

VENDOR_PORT, FORWARD_PORT = 443, 2223
"""Where the vendor's sshd of the test of remote support is, and at which port there the box can be come to."""


class Supported(Protocol):
    """A machine on which somebody opens a session."""

    def inside(self, command: str, *, check: bool = True) -> str:
        """What `command` prints there, as root; `AssertionError` if it fails (`check`)."""

    def wait_until(self, command: str) -> None:
        """Return once `command` ends well there."""


@dataclass(frozen=True)
class Endpoint:
    """The vendor's: keys and files in `folder`, an sshd that listens at `listens`, which the box calls `called`; people come in at `forward_port`."""

    folder: Path
    listens: tuple[str, int]
    called: tuple[str, int]
    forward_port: int = FORWARD_PORT


@contextmanager
def standing(endpoint: Endpoint) -> Iterator[None]:
    """An sshd that lets the box forward a port to itself."""
    folder, (address, port) = endpoint.folder, endpoint.listens
    folder.mkdir()
    for name in ("host", "authority", "person"):
        machine.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    principal = ("-I", "Ana Roy", "-n", "appliance-diagnose", "-V", "-5m:+4h")
    machine.run("ssh-keygen", "-q", "-s", folder / "authority", *principal, folder / "person.pub")
    (folder / "boxes").touch()
    (folder / "config").write_text(
        f"ListenAddress {address}:{port}\nHostKey {folder}/host\nPidFile {folder}/pid\nUsePAM no\n"
        f"StrictModes no\nAuthorizedKeysFile {folder}/boxes\nAllowTcpForwarding remote\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    machine.run("/usr/sbin/sshd", "-f", folder / "config")
    try:
        yield
    finally:
        with suppress(OSError):
            os.kill(int((folder / "pid").read_text()), signal.SIGTERM)


def opens(box: Supported, endpoint: Endpoint) -> None:
    """Enter the vendor and open a session; the line has begun when this returns."""
    folder, (host, port) = endpoint.folder, endpoint.called
    for name, value in (
        ("host", host),
        ("port", port),
        ("user", "root"),
        ("host_key", (folder / "host.pub").read_text().strip()),
        ("authority", (folder / "authority.pub").read_text().strip()),
        ("forward_port", endpoint.forward_port),
    ):
        box.inside(f"appliance setting set support.{name} '{value}'")
    dialling, own = (
        line.split(":", 1)[1].strip() for line in box.inside("appliance support keys").splitlines()
    )
    (folder / "boxes").write_text(f"restrict,port-forwarding {dialling}\n")
    (folder / "known").write_text(f"[127.0.0.1]:{endpoint.forward_port} {own}\n")
    box.inside("appliance support open --reason test --hours 1")
    box.wait_until("systemctl is-active support-line.service")


def looks(box: Supported, endpoint: Endpoint) -> bool:
    """Come in through the tunnel, look, and leave; it is recorded."""
    said = come_in(endpoint, "status\nlogs jobs\nleave\n")
    recorded = box.inside("appliance support recording 1")
    return "Everything is recorded" in said and "Kept:" in said and "Unchanged since it ended" in recorded


def ends(box: Supported, endpoint: Endpoint) -> bool:
    """Close the session, and see the line go."""
    box.inside("appliance support close")
    box.wait_until("! systemctl is-active support-line.service")
    left = box.inside("pgrep -c -u appliance-support", check=False).strip()
    return left == "0" and "Kept:" not in come_in(endpoint, "status\n", tries=1)


def caller(endpoint: Endpoint) -> list[str]:
    """The words by which somebody of the vendor comes in through the line."""
    return [
        *("ssh", "-q", "-T", "-F", "none", "-p", str(endpoint.forward_port)),
        *("-i", str(endpoint.folder / "person"), "-o", f"UserKnownHostsFile={endpoint.folder / 'known'}"),
        *("-o", "BatchMode=yes", "appliance-support@127.0.0.1"),
    ]


def come_in(endpoint: Endpoint, typed: str, tries: int = 240) -> str:
    """What somebody of the vendor is shown who types that; waits for the tunnel to stand."""
    for _ in range(tries):
        done = subprocess.run(caller(endpoint), input=typed, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        time.sleep(1)
    return ""
