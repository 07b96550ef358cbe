"""What the parts of `tests.image` share: the disks that were built, a start that is judged, and a promise that is said."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
import urllib.request
from pathlib import Path

from tests.image.machine import Machine

BUILT = Path(__file__).parents[2] / ".cache" / "image"
PROMISED_PORTS = (443, 11112)


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


def https(machine: Machine, path: str, bearer: str, body: object = None) -> str:
    """What the console answers, to a `body` too, which it is sent as JSON. Its certificate is its own: here it is not judged, the screen's fingerprint is for people."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    request = urllib.request.Request(
        f"https://127.0.0.1:{machine.ports[443]}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120, context=context) as answer:
        return str(answer.read().decode())
