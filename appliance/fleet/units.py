"""What systemd says of the box's units, where it runs them.

On the image the walls around the appliance let it start no program and ask systemd nothing: there `unit-states.service` writes it every
ten minutes to a file that it may read, with how long the machine was on then: a clock that was set changes nothing about that. Rejected
letting it ask: whoever may ask over the bus may ask for more than this.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from appliance import disk_pin
from appliance.errors import Transient
from appliance.health import kernel_clock

TOLD = Path("/run/appliance-units/states")
PATTERNS = (
    "appliance*",
    "machine-seal*",
    "support-*",
    "tls-front*",
    "nginx*",
    "nftables*",
    "chrony*",
    "update*",
    "boot-check*",
    "disk-*",
    "screen*",
    "backup-disk*",
    "unit-states*",
    "clock-state*",
)
FIELDS = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "MemoryCurrent",
    "TasksCurrent",
)
SECONDS = 10.0
_ON_FOR = re.compile(r"OnForSeconds=(?P<seconds>\d{1,12})\n", re.ASCII)
"""What the image's `unit-states` writes first."""


def unit_states() -> dict[str, Any]:
    """Each unit by the names of systemd's own properties, and how many seconds ago that was so, None where that isn't said.

    No unit where systemd does not run the box. Raises `Transient` when it does not answer.
    """
    said = _said()
    blocks = (block.splitlines() for block in said.split("\n\n"))
    units = [dict(line.split("=", 1) for line in block if "=" in line) for block in blocks]
    return {
        "seconds_ago": _seconds_ago(said),
        "units": [unit for unit in units if unit.get("LoadState") == "loaded"],
    }


def _seconds_ago(said: str) -> int | None:
    then, running = _ON_FOR.match(said), kernel_clock.running()
    if then is None or running is None:
        return None
    return max(0, int(running.lasted.total_seconds()) - int(then["seconds"]))


def _said() -> str:
    try:
        return TOLD.read_text("utf-8", "replace")
    except FileNotFoundError:
        if disk_pin.TOLD.exists():  # the image, in the first minutes of a start
            return ""
    command = ["systemctl", "show", "--no-pager", f"--property={','.join(FIELDS)}", "--", *PATTERNS]
    try:
        said = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        ).stdout
    except OSError:
        return ""
    except subprocess.TimeoutExpired as error:
        raise Transient("systemd does not answer", hint="try again") from error
    running = kernel_clock.running()
    return f"OnForSeconds={int(running.lasted.total_seconds())}\n\n{said}" if running else said
