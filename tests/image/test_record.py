"""The signed list of what was built, as whoever builds the same again, or was sent it, goes by it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.image.test_configuration import BUILD

STANDING_IN = """
set -euo pipefail
keys=$1/keys
identifier() { if [ "$2" = root ]; then printf 647752; else printf ed8c2f; fi; }
gpg() { cp "${@: -1}" "${@: -2:1}"; }
gpgconf() { :; }
"""
"""Two partitions' identifiers, and somebody who signs by making a copy: the arguments are those of gpg(1), the list is the last."""

NAME = "appliance_1.2.3"
PARTS = ("root.raw", "verity.raw", "manifest", "cdx.json", "efi", "raw")


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A folder with what a build leaves, and the list of it."""
    text = (BUILD / "build").read_text()
    steps = [
        re.search(rf"^{name}\(\) {{.*?(?:^}}| }})\n", text, re.MULTILINE | re.DOTALL)
        for name in ("root_hash", "sign_list", "record")
    ]
    for part in (*PARTS, "test.raw", "differences"):
        (tmp_path / f"{NAME}.{part}").write_text(part)
    program = "".join([STANDING_IN, *(step[0] for step in steps if step), f'record "$1/{NAME}"\n'])
    subprocess.run(["bash", "-c", program, "record", str(tmp_path)], check=True)
    return tmp_path


def is_right(built: Path) -> bool:
    """What `sha256sum` says, with no complaint about a line that it does not understand."""
    asked = ["sha256sum", "--check", "--strict", "--quiet", f"{NAME}.SHA256SUMS"]
    return subprocess.run(asked, cwd=built, capture_output=True, check=False).returncode == 0


def test_all_that_was_built_is_listed_and_nothing_of_the_tests(built: Path) -> None:
    first, *lines = (built / f"{NAME}.SHA256SUMS").read_text().splitlines()
    assert first == "# root hash 647752ed8c2f", "the halves, the root's first"
    assert [line.split()[1] for line in lines] == [f"{NAME}.{part}" for part in PARTS]


@pytest.mark.parametrize("part", PARTS)
def test_what_was_altered_since_is_found(built: Path, part: str) -> None:
    assert is_right(built)
    (built / f"{NAME}.{part}").write_text("another")
    assert not is_right(built)


def test_the_list_is_what_is_signed(built: Path) -> None:
    assert (built / f"{NAME}.SHA256SUMS.gpg").read_text() == (built / f"{NAME}.SHA256SUMS").read_text()


def test_what_is_promised_to_be_the_same_is_what_two_builds_are_compared_by() -> None:
    text = (BUILD / "build").read_text()
    compared = re.search(
        r"check_reproducible\(\) {.*?root_hash.*?for part in ([a-z. ]+);.*?^}", text, re.MULTILINE | re.DOTALL
    )
    assert compared is not None
    assert compared[1].split() == ["manifest", "root.raw", "verity.raw"]
    assert set(compared[1].split()) < set(PARTS)
