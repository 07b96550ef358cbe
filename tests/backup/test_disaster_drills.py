"""What the plan says of a drill that failed: why."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from appliance.backup import disaster_plan, drill
from appliance.backup.drill import Certificate
from appliance.errors import ApplianceError, Corrupt
from appliance.web.language import Words
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.test_disaster_plan import (
    LANGUAGES,
    NOW,
    lines_of,
)
from tests.boxes import recorded

CODES = pytest.mark.parametrize("code", ["en", "fr", "es", "zh"])


def of_drill(clinic: Clinic, name: str, words: Words) -> str:
    """What the plan says of the latest drill of an archive."""
    plan = disaster_plan.gather(clinic.box, "marie", NOW)
    return lines_of(plan, "plan.last_drill", words)[words("plan.drill", archive=name)]


def try_out(clinic: Clinic) -> Certificate:
    return drill.drill(clinic.box, clinic.place, NOW, actor="tests", dice=random.Random(1))


def backed_up(clinic: Clinic) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    clinic.back_up()


def flip(path: Path) -> None:
    """Alter one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@CODES
def test_a_damaged_backup_is_no_drill_that_could_not_be_carried_out(
    clinic: Clinic, tmp_path: Path, code: str
) -> None:
    backed_up(clinic)
    flip(max((tmp_path / "usb" / "snapshots").iterdir()) / "000000")
    with pytest.raises(Corrupt):
        try_out(clinic)
    words = LANGUAGES.words(code)
    why = words.cause("a piece of a backup is not what was written")
    assert (code == "en") == (why == "A piece of a backup is not what was written")
    failed = words("plan.drill_stopped", at=words.moment(NOW))
    assert of_drill(clinic, "usb", words) == words("plan.drill_why", drill=failed, why=f"{why}.")


@CODES
def test_a_disk_in_a_drawer_is_one_that_could_not_be_and_it_is_said_why(
    clinic: Clinic, tmp_path: Path, code: str
) -> None:
    backed_up(clinic)
    (tmp_path / "usb").rename(tmp_path / "drawer")
    with pytest.raises(ApplianceError) as error:
        try_out(clinic)
    words = LANGUAGES.words(code)
    said = of_drill(clinic, "usb", words)
    assert said.startswith(words("plan.drill_broken", at=words.moment(NOW)))
    assert said.endswith(f"{words.cause(error.value.message)}.")


@CODES
def test_what_a_drill_has_found_is_said_besides_what_it_measured(
    clinic: Clinic, tmp_path: Path, code: str
) -> None:
    backed_up(clinic)
    for row in recorded(clinic.box)[:2]:
        flip(next((tmp_path / "usb" / "objects").rglob(f"{row.object_id}*")))
    found = try_out(clinic)
    assert len(found.findings) == 2
    words = LANGUAGES.words(code)
    said = of_drill(clinic, "usb", words)
    assert said.startswith(words("plan.drill_failed", **dict.fromkeys(PLACES, "{}")).partition("{}")[0])
    assert said.endswith(" ".join(f"{words.cause(each)}." for each in found.findings))


PLACES = ("at", "studies", "images", "catalog", "sampled", "sample")
