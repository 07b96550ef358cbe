"""What the parts of `tests.image` share: the disks that were built, a start that is judged, and a promise that is said."""

from __future__ import annotations

import re
import time
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
