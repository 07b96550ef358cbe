"""What the parts of `tests.image` share: the disks that were built, a start that is judged, and a promise that is said.

What is asked of any machine that is on, whoever made it (`Box`), `tests.provisioning` asks too.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
import urllib.request
from pathlib import Path
from typing import Protocol

from tests.image.machine import Machine

BUILT = Path(__file__).parents[2] / ".cache" / "image"
PROMISED_PORTS = (443, 11112)


class Box(Protocol):
    """A machine that is on."""

    ports: dict[int, int]
    """Port of the box → port here."""

    def inside(self, command: str, *, check: bool = True) -> str:
        """What `command` prints there, as root; `AssertionError` if it fails (`check`)."""


def kept(promise: str, so: bool, otherwise: str = "") -> None:
    """Say it, or end."""
    print(f"{time.strftime('%H:%M:%S')} {'kept' if so else 'BROKEN'}: {promise}", flush=True)
    if not so:
        raise SystemExit(otherwise or 1)


def image(kind: str = "") -> Path:
    """The newest disk that was built; `kind` ".test" is the one with a way in."""
    found = [each for each in (BUILT / "out").glob(f"appliance_*{kind}.raw") if _is_disk(each, kind)]
    if not found:
        raise SystemExit("there is no image: make image")
    return max(found, key=lambda each: each.stat().st_mtime)


def _is_disk(path: Path, kind: str) -> bool:
    return re.fullmatch(r"appliance_[0-9.]+", path.name.removesuffix(f"{kind}.raw")) is not None


def running(machine: Machine, promise: str = "it starts, and nothing has failed") -> None:
    """Wait until everything has started."""
    machine.wait_until("systemctl is-system-running --wait || systemctl is-system-running | grep -q degraded")
    state = machine.inside("systemctl is-system-running", check=False).strip()
    failed = machine.inside(
        "systemctl --failed --no-legend --plain; journalctl -b -p 3 --no-pager -o cat | tail -20;"
        " ls -l /dev/tpm*; journalctl -b -k --no-pager -o short-monotonic -g tpm",
        check=False,
    )
    kept(promise, state == "running", f"{state}: {failed}")


def answers(port: int) -> bool:
    """Whether anything but QEMU's own forwarding answers on `port` here: it must speak, or hold the line."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.settimeout(5)
        try:
            line.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(line.recv(1))
        except OSError:
            return False


def https(machine: Box, path: str, bearer: str, body: object = None, *, host: str = "127.0.0.1") -> str:
    """What the console answers at `host`, to a `body` too, which it is sent as JSON. Its certificate is its own: here it is not judged, the
    screen's fingerprint is for people."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    request = urllib.request.Request(
        f"https://{host}:{machine.ports[443]}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120, context=context) as answer:
        return str(answer.read().decode())


def practitioner(machine: Box) -> str:
    """Invite a person who may see all studies and whose they are; the token of a program that asks for her."""
    typed(machine, "appliance user invite olivia --name Olivia --role practitioner")
    scopes = " ".join(f"--scope {each}" for each in ("studies:view", "studies:all", "patients:identify"))
    return str(json.loads(typed(machine, f"appliance token add olivia --name test --json {scopes}"))["token"])


def typed(machine: Box, verb: str) -> str:
    """What a verb prints that somebody types. An emulated machine can be busy for the half minute that one waits (75, EX_TEMPFAIL): she
    types it again, as it says."""
    again = f"for each in 1 2 3; do {verb} && exit 0; code=$?; [ $code = 75 ] || break; done; exit $code"
    return machine.inside(again)


def listening(machine: Box) -> set[tuple[str, int]]:
    """Protocol and port of every socket that hears more than this machine itself (/proc/net/tcp, udp; kernel's proc(5))."""
    found = set()
    for name, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in machine.inside(f"cat /proc/net/{name}").splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            loopback = address.endswith("7F") or address in ("0" * 24 + "01000000",)
            # The answers of the DHCP server come to a port that the firewall opens to that server alone.
            if fields[3] == state and not loopback and int(port, 16) not in (68, 546):
                found.add((name.removesuffix("6"), int(port, 16)))
    return found


def writes_no_memory_down(machine: Box) -> None:
    """What a process has in its memory reaches no disk, by the kernel's own word."""
    swaps = machine.inside("cat /proc/swaps").splitlines()[1:]
    kept("there is no swap", not swaps, str(swaps))
    pattern = machine.inside("cat /proc/sys/kernel/core_pattern").strip()
    kept("a core is given to a program that throws it away", pattern == "|/bin/false", pattern)
