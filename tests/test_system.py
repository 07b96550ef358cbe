"""Whether this machine is the appliance's own image is read from what the image says of itself, and from nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.system import IMAGE_ID, System, system

ROOT = Path(__file__).parents[1]


def test_the_name_is_the_one_that_the_image_is_built_with() -> None:
    config = (ROOT / "image-build/mkosi.conf").read_text("utf-8")
    assert re.findall(r"^ImageId=(.*)$", config, re.MULTILINE) == [IMAGE_ID]


@pytest.mark.parametrize(
    ("release", "found"),
    [
        ({"ID": "debian", "IMAGE_ID": IMAGE_ID, "IMAGE_VERSION": "1.2.0"}, System.IMAGE),
        ({"ID": "debian", "VERSION_ID": "13"}, System.OPEN),
        ({"ID": "debian", "IMAGE_ID": "cloud-image"}, System.OPEN),
        ({}, System.OPEN),
    ],
)
def test_only_what_bears_that_name_is_the_image(release: dict[str, str], found: System) -> None:
    assert system(release) is found


def test_this_machine_has_a_command_line() -> None:
    assert system() is System.OPEN
