"""What systemd says of the box's units, where it runs them."""

from __future__ import annotations

import subprocess

from appliance.errors import Transient

PATTERNS = ("appliance*", "machine-seal*", "support-*", "tls-front*", "nginx*", "nftables*", "chrony*")
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
    command = ["systemctl", "show", "--no-pager", f"--property={','.join(FIELDS)}", "--", *PATTERNS]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except OSError:
        return []
    except subprocess.TimeoutExpired as error:
        raise Transient("systemd does not answer", hint="try again") from error
    blocks = (block.splitlines() for block in done.stdout.split("\n\n"))
    units = [dict(line.split("=", 1) for line in block if "=" in line) for block in blocks]
    return [unit for unit in units if unit.get("LoadState") == "loaded"]
