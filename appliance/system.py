"""Under what system the appliance runs here: its own image, where nobody can log in, or one with a command line.

Read from `os-release`, where mkosi writes the image's name (``ImageId=`` of `image-build/mkosi.conf`). Chose the name over the
look for a shell or an account, because it says what was built and not what happens to be installed; rejected a setting, which a
restore would carry from the one to the other.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

IMAGE_ID: Final = "appliance"
DISK_TOLD = Path("/run/appliance-disk/pin")
"""What root says of the disk at each start (`appliance.disk_pin`): there on the image alone, which always encrypts its disk."""


class System(StrEnum):
    """What people can be told to do at this machine."""

    IMAGE = "image"  # the console, a stick, the screen and the power button: there is nothing else
    OPEN = "open"  # a command line too: a Debian that was provisioned, a container, a developer's machine


def system(release: Mapping[str, str] | None = None) -> System:
    """The system of this machine, or that of an `os-release`."""
    told = _release() if release is None else release
    return System.IMAGE if told.get("IMAGE_ID") == IMAGE_ID else System.OPEN


def disk_is_encrypted() -> bool:
    """Whether the whole disk is known to be encrypted, so that it opens in its own machine or by its recovery key.

    Known of the image alone: a provisioned Debian's disk is as whoever installed it has chosen.
    """
    return DISK_TOLD.exists()


def _release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}
