"""What systemd says of the box's units, where it runs them.

On the image the walls around the appliance let it start no program and ask systemd nothing: there `unit-states.service` writes it every
ten minutes to a file that it may read. Rejected letting it ask: whoever may ask over the bus may ask for more than this.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from appliance.errors import Transient

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


def unit_states() -> list[dict[str, str]]:
    """Each unit by the names of systemd's own properties; empty where systemd does not run the box.

    Raises `Transient` when it does not answer.
    """
    blocks = (block.splitlines() for block in _said().split("\n\n"))
    units = [dict(line.split("=", 1) for line in block if "=" in line) for block in blocks]
    return [unit for unit in units if unit.get("LoadState") == "loaded"]


def _said() -> str:
    try:
        return TOLD.read_text("utf-8", "replace")
    except FileNotFoundError:
        pass
    command = ["systemctl", "show", "--no-pager", f"--property={','.join(FIELDS)}", "--", *PATTERNS]
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        ).stdout
    except OSError:
        return ""
    except subprocess.TimeoutExpired as error:
        raise Transient("systemd does not answer", hint="try again") from error
