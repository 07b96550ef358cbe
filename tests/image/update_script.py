"""The program `update` of the image, in a folder of a test."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from appliance.health import gathering, looks
from appliance.updates import noting
from tests.image.test_configuration import EXTRA

IN_THE_FOLDER = (
    "/var/lib/update/source",
    "/usr/lib/os-release",
    "/run/sysupdate.d",
    "/run/update.lock",
    f"{gathering.UPDATES}/{gathering.WAITING}",
    f"{gathering.UPDATES}/{noting.FETCHING}",
    f"{gathering.UPDATES}/{looks.FILE}",
)
"""What it reads and writes, which lies in the folder by its last name."""


def update_in(folder: Path, programs: Mapping[str, str]) -> str:
    """Its text, to be run where 0.1.0 runs. `programs` are those that it calls of which a test has its own, in the words of a shell; the
    others are the project's."""
    text = (EXTRA / "usr/lib/appliance/libexec/update").read_text()
    (folder / "os-release").write_text("IMAGE_VERSION=0.1.0\n")
    replaced = {}
    for called, does in programs.items():
        program = folder / called.replace("/", "_")
        program.write_text(f"#!/bin/sh\n{does}\n")
        program.chmod(0o755)
        replaced[called] = str(program)
    replaced |= {each: str(folder / each.rsplit("/", 1)[1]) for each in IN_THE_FOLDER}
    if "/usr/lib/appliance/venv/bin/python" not in programs:
        replaced["/usr/lib/appliance/venv/bin/python"] = sys.executable
    for place in ("/usr/share/appliance/update", "/usr/lib/appliance/update_"):
        replaced[place] = str(EXTRA / place.removeprefix("/"))
    for called, here in replaced.items():
        assert called in text, f"{called} is not of it any more"
        text = text.replace(called, here)
    return text
