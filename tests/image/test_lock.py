"""Who may offer a version whose packages are not the locked ones: the step of the build that tells it, with what it calls stood in for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.image.test_configuration import BUILD

STANDING_IN = """
set -euo pipefail
work=$1 keys=$1 version=1.2.3 python=differs
say() { echo "$*"; }
die() { echo "$*" >&2; exit 1; }
differs() { [ "$2" != compare ] || { echo "openssl: 3.5.1 → 3.5.2"; return "$differs"; }; }
lay_out() { echo "laid out"; }
sign() { echo "signed"; }
record() { echo "recorded"; }
"""


def told(folder: Path, *, differs: bool, **environment: str) -> subprocess.CompletedProcess[str]:
    """What becomes of an image that was just built."""
    text = (BUILD / "build").read_text()
    steps = [
        re.search(rf"^{name}\(\) {{\n.*?^}}\n", text, re.MULTILINE | re.DOTALL) for name in ("locked", "tell")
    ]
    (folder / "out").mkdir()
    return subprocess.run(
        [
            "bash",
            "-c",
            "".join([STANDING_IN, *(step[0] for step in steps if step), "tell\n"]),
            "tell",
            str(folder),
        ],
        env={"PATH": "/usr/bin:/bin", "differs": str(int(differs)), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_as_locked_is_offered(tmp_path: Path) -> None:
    (tmp_path / "vendor").touch()
    said = told(tmp_path, differs=False)
    assert said.returncode == 0, said.stderr
    assert "signed\nrecorded" in said.stdout


@pytest.mark.parametrize(
    ("vendors", "asked", "offered"),
    [(False, {}, True), (True, {}, False), (False, {"LOCKED": "1"}, False), (True, {"LOCKED": "0"}, True)],
    ids=["whoever looks", "a vendor", "who asks for it", "a vendor who says so"],
)
def test_a_vendor_offers_no_version_that_is_not_locked(
    vendors: bool, asked: dict[str, str], offered: bool, tmp_path: Path
) -> None:
    if vendors:
        (tmp_path / "vendor").touch()
    said = told(tmp_path, differs=True, **asked)
    assert "openssl: 3.5.1 → 3.5.2" in said.stdout, "it is told in any case"
    assert ("signed" in said.stdout, said.returncode == 0) == (offered, offered), said.stderr
    assert ("recorded" in said.stdout) == offered, "no signature is under what is not offered"
    assert ("image-build/build lock" in said.stderr) == (not offered), "and the remedy with it"
