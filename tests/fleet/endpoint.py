"""The vendor's side of remote support, real: an sshd that lets the box forward a port, and people who come in through it."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from appliance import settings
from appliance.box import Box
from appliance.catalog import operator_settings
from appliance.fleet import support
from tests.networks import run

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin") or "sshd"
WRONG: tuple[tuple[dict[str, str], str], ...] = (
    ({"authority": "stranger"}, "Permission denied"),
    ({"valid": "-2h:-1h"}, "Permission denied"),
    ({"principal": "appliance-operate"}, "Permission denied"),
    ({"valid": "-1h:+52w"}, "the certificate lives too long"),
)
"""With which certificates nobody comes into a session for looking, and what is said: the first by the box's sshd, the last by its desk."""
_LISTENS = "0A"
"""How /proc/net/tcp writes it."""


@dataclass
class Vendor:
    """The vendor's endpoint, its authority, and the people it signs for. `inside` enters the network that they are in."""

    folder: Path
    port: int
    forward_port: int
    process: subprocess.Popen[bytes]
    inside: Sequence[str] = ()

    def key(self, name: str) -> str:
        return (self.folder / f"{name}.pub").read_text().strip()

    def visit(
        self,
        *lines: str,
        principal: str = "appliance-diagnose",
        valid: str = "-1h:+1h",
        authority: str = "authority",
    ) -> subprocess.CompletedProcess[str]:
        """Come in with a fresh certificate and type `lines`."""
        caller = self.caller(principal=principal, valid=valid, authority=authority)
        out, err = caller.communicate("".join(f"{line}\n" for line in lines), timeout=120)
        return subprocess.CompletedProcess(caller.args, caller.returncode, out, err)

    def caller(
        self, *, principal: str = "appliance-diagnose", valid: str = "-1h:+1h", authority: str = "authority"
    ) -> subprocess.Popen[str]:
        """Somebody who comes in and stays."""
        person = self.folder / "person"
        (self.folder / "person-cert.pub").unlink(missing_ok=True)
        run(
            "ssh-keygen",
            "-q",
            "-s",
            self.folder / authority,
            "-I",
            "Ana Roy",
            "-n",
            principal,
            "-V",
            valid,
            "-z",
            7,
            f"{person}.pub",
        )
        return subprocess.Popen(
            [
                *(*self.inside, "ssh", "-T", "-F", "none", "-p", str(self.forward_port), "-i", str(person)),
                *("-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"),
                *("-o", f"UserKnownHostsFile={self.folder / 'known_boxes'}", "-o", "StrictHostKeyChecking=yes"),
                f"{getpass.getuser()}@127.0.0.1",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def knows_line(self) -> bool:
        """Whether the box's tunnel stands: something listens on its port, in the network that the vendor's sshd is in."""
        return self.forward_port in listening(self.process.pid)


def listening(process: int | str) -> set[int]:
    """The TCP ports on which anything listens in the network that a process is in ("self": this one's)."""
    rows = [
        row.split()
        for name in ("tcp", "tcp6")
        for row in Path(f"/proc/{process}/net/{name}").read_text().splitlines()[1:]
    ]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == _LISTENS}


@contextmanager
def vendor_of(
    box: Box,
    folder: Path,
    ports: tuple[int, int],
    *,
    address: str = "127.0.0.1",
    inside: Sequence[str] = (),
) -> Iterator[Vendor]:
    """An sshd at `address` that lets `box` in to forward a port, and nothing else; the box is told of it."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host", "authority", "stranger", "person"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name)
    port, forward_port = ports
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        keys = support.keys_of(tx, box, now)
    (folder / "boxes").write_text(f"restrict,port-forwarding {support.public(keys.dialling)}\n")
    (folder / "known_boxes").write_text(f"[127.0.0.1]:{forward_port} {support.public(keys.own)}\n")
    (folder / "config").write_text(
        f"ListenAddress {address}:{port}\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/boxes\nAuthenticationMethods publickey\nAllowTcpForwarding remote\nLogLevel ERROR\n"
    )
    process = subprocess.Popen(
        [*inside, SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL
    )
    try:
        found = Vendor(folder, port, forward_port, process, inside)
        with box.catalog.transaction() as tx:
            values = {
                "support.host": address,
                "support.user": getpass.getuser(),
                "support.host_key": found.key("host"),
                "support.authority": found.key("authority"),
                "support.forward_port": forward_port,
            }
            settings.change(tx, box.audit_key, values, actor="tests", now=now)
            # Any port, as a box has kept it that chose one before they were named: on this machine, 22 is somebody else's.
            operator_settings.put(tx, "support.port", port, now)
        yield found
    finally:
        process.terminate()
        process.wait()


def lines_running(below: psutil.Process | None = None) -> list[psutil.Process]:
    """Every process of remote support that runs below this one: the line, its ssh and its sshd, and who stands at the counter."""
    found = []
    for process in (below or psutil.Process()).children(recursive=True):
        try:
            words = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if any(each in words for each in ("support line", "support counter", "/inner", "support-line-")):
            found.append(process)
    return found
