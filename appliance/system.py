"""Under what system the appliance runs here: its own image, where nobody can log in, or one with a command line.

Read from `os-release`, where mkosi writes the image's name (``ImageId=`` of `image-build/mkosi.conf`). Chose the name over the
look for a shell or an account, because it says what was built and not what happens to be installed; rejected a setting, which a
restore would carry from the one to the other.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

IMAGE_ID: Final = "appliance"


class System(StrEnum):
    """What people can be told to do at this machine."""

    IMAGE = "image"  # the console, a stick, the screen and the power button: there is nothing else
    OPEN = "open"  # a command line too: a Debian that was provisioned, a container, a developer's machine


def system(release: Mapping[str, str] | None = None) -> System:
    """The system of this machine, or that of an `os-release`."""
    told = _release() if release is None else release
    return System.IMAGE if told.get("IMAGE_ID") == IMAGE_ID else System.OPEN


def _release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}
