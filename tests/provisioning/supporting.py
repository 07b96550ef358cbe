"""A vendor's endpoint on this machine's end of the cable, and somebody there who comes in through the line of remote support."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from functools import cache
from pathlib import Path

from tests.provisioning import machine
from tests.provisioning.machine import Machine

VENDOR_PORT, FORWARD_PORT = 2222, 2223
"""Where the vendor's sshd of the test of remote support is, and at which port there the box can be come to."""


@cache
def vendor(scratch: Path) -> Path:
    """The vendor's endpoint on this machine's end of the cable: an sshd that lets the box forward a port to itself."""
    folder = scratch / "vendor"
    folder.mkdir()
    for name in ("host", "authority", "person"):
        machine.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    principal = ("-I", "Ana Roy", "-n", "appliance-diagnose", "-V", "-5m:+1h")
    machine.run("ssh-keygen", "-q", "-s", folder / "authority", *principal, folder / "person.pub")
    (folder / "boxes").touch()
    (folder / "config").write_text(
        f"ListenAddress {machine.HERE}:{VENDOR_PORT}\nHostKey {folder}/host\nPidFile {folder}/pid\nUsePAM no\n"
        f"StrictModes no\nAuthorizedKeysFile {folder}/boxes\nAllowTcpForwarding remote\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    machine.run("/usr/sbin/sshd", "-f", folder / "config")
    return folder


def support_looks(box: Machine) -> bool:
    """Enter the vendor, open a session, come in through the tunnel, look, and leave."""
    folder = vendor(box.key.parent)
    for name, value in (
        ("host", machine.HERE),
        ("port", VENDOR_PORT),
        ("user", "root"),
        ("host_key", (folder / "host.pub").read_text().strip()),
        ("authority", (folder / "authority.pub").read_text().strip()),
        ("forward_port", FORWARD_PORT),
    ):
        box.inside(f"appliance setting set support.{name} '{value}'")
    dialling, own = (
        line.split(":", 1)[1].strip() for line in box.inside("appliance support keys").splitlines()
    )
    (folder / "boxes").write_text(f"restrict,port-forwarding {dialling}\n")
    (folder / "known").write_text(f"[127.0.0.1]:{FORWARD_PORT} {own}\n")
    box.inside("appliance support open --reason test --hours 1")
    box.wait_until("systemctl is-active support-line.service")
    said = come_in(folder, "status\nlogs jobs\nleave\n")
    recorded = box.inside("appliance support recording 1")
    return "Everything is recorded" in said and "Kept:" in said and "Unchanged since it ended" in recorded


def support_ends(box: Machine) -> bool:
    """Close the session, and see the line go."""
    box.inside("appliance support close")
    box.wait_until("! systemctl is-active support-line.service")
    left = box.inside("pgrep -c -u appliance-support", check=False).strip()
    folder = vendor(box.key.parent)
    ended = left == "0" and "Kept:" not in come_in(folder, "status\n", tries=1)
    os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
    return ended


def come_in(folder: Path, typed: str, tries: int = 240) -> str:
    """What somebody of the vendor is shown who types that; waits for the tunnel to stand."""
    command = [
        *("ssh", "-q", "-T", "-F", "none", "-p", str(FORWARD_PORT), "-i", str(folder / "person")),
        *(
            "-o",
            f"UserKnownHostsFile={folder / 'known'}",
            "-o",
            "BatchMode=yes",
            "appliance-support@127.0.0.1",
        ),
    ]
    for _ in range(tries):
        done = subprocess.run(command, input=typed, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        time.sleep(1)
    return ""
