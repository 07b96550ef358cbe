"""How often a version that waits was put off: counted on a disk with no room left, too, or it would wait there for ever."""

import re
import subprocess
from pathlib import Path

from appliance import disk_pin
from appliance.cli.updates import Answer
from tests.image.test_configuration import EXTRA
from tests.networks import apart

FULL = """
set -eu
mount -t tmpfs -o size=8k tmpfs "$1"
systemd-tmpfiles --create "$2"
cat /dev/zero >"$1/ballast" 2>/dev/null || :
! echo more >"$1/more" 2>/dev/null
sh -c "$3" || [ $? = 1 ]
sh -c "$3" || [ $? = 1 ]
cat "$1/put-off-times"
"""
"""Of a disk with no room for a byte: what the script leaves there, asked twice."""


def test_a_version_is_put_off_no_longer_where_the_disk_is_full(tmp_path: Path) -> None:
    """It may be the version that mends what has filled it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "waiting").write_text("0.2.0\n")
    (tmp_path / "pin").write_text("none\n \n")
    (tmp_path / "os-release").write_text("IMAGE_VERSION=0.1.0\n")
    (tmp_path / "appliance").write_text(
        f'#!/bin/sh\necho "$4" >>{tmp_path}/asked\nexit {int(Answer.IN_USE)}\n'
    )
    (tmp_path / "appliance").chmod(0o755)
    text = (EXTRA / "usr/lib/appliance/libexec/update-restart-condition").read_text()
    for place in (
        "/run/appliance-update/waiting",
        str(disk_pin.TOLD),
        "/usr/bin/appliance",
        "/usr/lib/os-release",
    ):
        text = text.replace(place, str(tmp_path / place.rsplit("/", 1)[1]))
    text = text.replace("/var/lib/update/", f"{disk}/")
    (laid,) = re.findall(
        r"^f /var/lib/update/put-off-times .*$",
        (EXTRA / "usr/lib/tmpfiles.d/image.conf").read_text(),
        re.MULTILINE,
    )
    (tmp_path / "laid.conf").write_text(laid.replace("/var/lib/update/", f"{disk}/"))
    words = ["sh", "-c", FULL, "sh", str(disk), str(tmp_path / "laid.conf"), text]
    done = subprocess.run(
        [*apart(), "unshare", "--mount", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].split() == ["0.1.0", "2"], done.stdout
    assert (tmp_path / "asked").read_text().split() == ["0", "1"]


def test_where_it_cannot_be_kept_how_often_a_version_was_put_off_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "waiting").write_text("0.2.0\n")
    (tmp_path / "pin").write_text("none\n \n")
    (tmp_path / "os-release").write_text("IMAGE_VERSION=0.1.0\n")
    (tmp_path / "appliance").write_text(f"#!/bin/sh\nexit {int(Answer.IN_USE)}\n")
    (tmp_path / "appliance").chmod(0o755)
    text = (EXTRA / "usr/lib/appliance/libexec/update-restart-condition").read_text()
    for place in (
        "/run/appliance-update/waiting",
        str(disk_pin.TOLD),
        "/usr/bin/appliance",
        "/usr/lib/os-release",
    ):
        text = text.replace(place, str(tmp_path / place.rsplit("/", 1)[1]))
    (tmp_path / "put-off-times").symlink_to("/dev/full")
    text = text.replace("/var/lib/update/put-off-times", str(tmp_path / "put-off-times"))
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "could not be kept" in done.stderr
