"""What `tests.image.runbooks` reads of a box it reads right, and the stick that it installs from is never signed with a vendor's keys."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_screen import RECOVERY, shown
from tests.image import person, runbooks, screen
from tests.image.machine import DISK_BYTES, Hardware
from tests.image.test_configuration import BUILD
from tests.image.test_promises import COLUMNS, terminal


def test_the_claim_code_is_read_off_a_terminal() -> None:
    assert person.claim_code(screen.lines_of(terminal(), COLUMNS)) == "ABCD-EFGH"
    assert person.claim_code(["Clinic edge appliance", "  Starting"]) == ""


def test_the_disks_key_is_read_off_the_screen_that_shows_it() -> None:
    for owned, asked in ((False, False), (True, True)):
        there = shown(disk_recovery=RECOVERY, claim_code="" if owned else "ABCD-EFGH", is_key_asked=asked)
        assert person.disk_key(there.lines()) == RECOVERY
    assert person.disk_key(shown(disk_recovery=RECOVERY, claim_code="").lines()) == ""


@pytest.mark.parametrize(
    ("states", "wanted", "so"),
    [
        (["CONFIRMED"] * 3, 3, True),
        (["CONFIRMED"] * 2, 3, False),
        (["CONFIRMED", "CONFIRMED", "WAITING"], 3, False),
        ([], 0, False),
    ],
)
def test_all_is_confirmed_only_if_all_is(states: list[str], wanted: int, so: bool) -> None:
    told = json.dumps([{"state": each} for each in states])
    asked = [sys.executable, "-I", "-c", runbooks.CONFIRMED, str(wanted)]
    done = subprocess.run(asked, input=told, text=True, check=False)
    assert (done.returncode == 0) == so


def test_images_are_home_only_if_none_is_elsewhere() -> None:
    assert re.search(runbooks.HOME, "3 objects read in full: all are whole.\n", re.MULTILINE)
    for said in (
        "3 objects read in full: all are whole. 2 more are in an archive, and not on this box.",
        "0 objects read in full: all are whole.",
        "3 objects opened: all are whole.",
    ):
        assert not re.search(runbooks.HOME, said, re.MULTILINE)


def test_the_disk_that_failed_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    hardware = Hardware(tmp_path)
    hardware.disk.write_bytes(b"a box")
    hardware.new_disk()
    assert (tmp_path / "old-disk.raw").read_bytes() == b"a box"
    assert (hardware.disk.stat().st_size, hardware.disk.stat().st_blocks) == (DISK_BYTES, 0)


def test_the_stick_with_the_tests_disk_is_never_made_with_a_vendors_keys() -> None:
    """What it carries takes credentials from the hardware, and its kernel image opens any box that trusts the keys."""
    step = re.search(
        r"^  test-installer\)\n(.*?)^    ;;$", (BUILD / "build").read_text(), re.MULTILINE | re.DOTALL
    )
    assert step is not None
    forbids, makes = (line.strip() for line in step[1].splitlines())
    assert forbids == "forbid_vendors_keys"
    assert makes.startswith("make_installer ")
    assert makes.endswith('.test.raw"')
