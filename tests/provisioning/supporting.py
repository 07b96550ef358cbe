"""A vendor's endpoint on this machine's end of the cable, and somebody there who comes in through the line of remote support."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from tests.provisioning import machine

VENDOR_PORT, FORWARD_PORT = 443, 2223
"""Where the vendor's sshd of the test of remote support is, and at which port there the box can be come to."""

PROMISED_SECONDS = 5.0
"""So long after its end nothing of a session is left (R17)."""

LENGTHS = (60, 120, 240, 480, 960)
"""Seconds of a session that is to run out with somebody in: where nobody came in before, the next is longer."""

SHORTENED = """
import sys
from datetime import timedelta
from appliance.cli.session import now, opened_box
from appliance.fleet import support
from appliance.fleet.session import Scope
with opened_box() as box, box.catalog.transaction() as tx:
    began = now() - timedelta(hours=1) + timedelta(seconds=int(sys.argv[1]))
    made = support.open_session(tx, box, reason="test", scope=Scope.DIAGNOSE, hours=1, by="test", now=began)
    print(made.id, made.expires_utc.isoformat())
"""
"""Opens a session of an hour, the shortest there is, that began so long ago that only those seconds are left of it. By both clocks."""

STOPPED = "systemctl show --timestamp=us+utc --value -p InactiveEnterTimestamp support-line.service"
"""Prints when the last process of the line was gone."""

TOLD = """appliance audit export --lines | grep '"action": "support:'"""
"""Prints the rows of the audit that tell of support."""


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


@dataclass(frozen=True)
class RanOut:
    """Seconds from the end of a session until each, all by the clock of the box that had it."""

    visitor: float
    """Until whoever was in was out."""
    line: float
    """Until the last process of the line was gone."""
    audit: float
    """Until it was written down, for which nothing is promised."""

    def is_kept(self) -> bool:
        """Whether both were over in time, and not before: the clock that ends it may be a little off the one that tells."""
        return all(-1 <= each <= PROMISED_SECONDS for each in (self.visitor, self.line))

    def __str__(self) -> str:
        told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in asdict(self).items())
        return f"{told} after its end, by its own clock; promised are {PROMISED_SECONDS:g} s"


def ran_out(session: int, expires: datetime, rows: str, stopped: str) -> RanOut:
    """What a box says of the end of a session in which somebody was.

    Args:
        session: Its number.
        expires: When it was to end.
        rows: What ``appliance audit export --lines`` prints.
        stopped: What `STOPPED` prints.

    Raises:
        ValueError: It has not said all.
    """
    noted: list[datetime] = []
    visits: dict[str, list[datetime]] = {}
    for row in map(json.loads, rows.splitlines()):
        at, subject = datetime.fromisoformat(row["at_utc"]), str(row["subject"])
        if row["action"] == "support:expire" and subject == str(session):
            noted.append(at)
        elif row["action"] == "support:enter" and json.loads(row["details"])["session"] == session:
            visits[subject] = []
        elif row["action"] == "support:leave" and subject in visits:
            visits[subject].append(at)
    if not noted or not visits or not all(visits.values()):
        raise ValueError(
            f"of session {session} the audit does not say that somebody came and went, and its end: {rows}"
        )
    gone = datetime.strptime(stopped.strip(), "%a %Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=UTC)
    last = max(at for each in visits.values() for at in each)
    return RanOut(*((each - expires).total_seconds() for each in (last, gone, noted[0])))


def runs_out(box: Supported, endpoint: Endpoint) -> RanOut:
    """Open a session of which little is left, come in, stay, and see it end by itself: how long after its end all of it was gone."""
    for lasts in LENGTHS:
        session, expires = shortened(box, lasts)
        somebody = joined(endpoint, lasts)
        if somebody is not None:
            with somebody:
                try:
                    somebody.wait(lasts + 300)
                finally:
                    somebody.kill()
        box.wait_until("! systemctl is-active support-line.service")
        box.wait_until(f"{TOLD} | grep -q '{written(session)}'")
        if somebody is not None:
            return ran_out(session, expires, box.inside(TOLD), box.inside(STOPPED))
    raise AssertionError(f"nobody came in before a session of {LENGTHS[-1]} s was over")


def written(session: int) -> str:
    """What stands in the row of the audit that tells of the end of a session that ran out; what came before is told before."""
    return f'"action": "support:expire", "subject": "{session}"'


def shortened(box: Supported, lasts_seconds: int) -> tuple[int, datetime]:
    """Open a session that lasts so long: its number, and when it ends. As the box's own verbs run, but for the program."""
    wrapper = 'sed "s|^program=.*|program=/usr/lib/appliance/venv/bin/python|" /usr/bin/appliance'
    words = f'sh -c "$({wrapper})" appliance -I -c {shlex.quote(SHORTENED)} {lasts_seconds}'
    number, expires = box.inside(words).split()
    return int(number), datetime.fromisoformat(expires)


def joined(endpoint: Endpoint, seconds: float) -> subprocess.Popen[bytes] | None:
    """Somebody who has come in through the line, and stays; None if that took longer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        somebody = subprocess.Popen(caller(endpoint), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert somebody.stdout is not None
        if somebody.stdout.readline():
            return somebody
        with somebody:
            somebody.kill()
        time.sleep(1)
    return None


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
