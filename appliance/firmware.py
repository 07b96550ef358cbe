"""What the machine's firmware says of Secure Boot, which holds the key of the box's disk together with the TPM2.

Beside `appliance.health`, which needs much of the product: the box's own screen asks this too. Read on the image alone (`appliance.disk_pin.TOLD` is there): a provisioned Debian's disk is as whoever installed it has chosen.
"""

from __future__ import annotations

from pathlib import Path

from appliance import disk_pin
from appliance.model import SecureBoot

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""Whose variables these are, by the specification of UEFI (3.3)."""
VARIABLES = Path("/sys/firmware/efi/efivars")
SECURE_BOOT = VARIABLES / f"SecureBoot-{GLOBAL}"
SETUP_MODE = VARIABLES / f"SetupMode-{GLOBAL}"


def secure_boot() -> SecureBoot:
    """Whether the machine refuses what isn't signed; unknown off the image, and where the firmware does not say."""
    if not disk_pin.TOLD.exists():
        return SecureBoot.UNKNOWN
    match _value(SECURE_BOOT):
        case 1:
            return SecureBoot.ON
        case 0:
            return SecureBoot.WITHOUT_KEYS if _value(SETUP_MODE) == 1 else SecureBoot.OFF
        case _:
            return SecureBoot.UNKNOWN


def _value(variable: Path) -> int | None:
    """Four bytes of attributes, then the one that counts."""
    try:
        data = variable.read_bytes()
    except OSError:
        return None
    return data[4] if len(data) == 5 else None
