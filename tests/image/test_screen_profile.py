"""What AppArmor lets the box's screen do is what it does, and nothing of images."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.image.test_configuration import EXTRA, allowed, settings

PROFILE, DATA = "screen", "/var/lib/appliance"
FINISH = EXTRA.parent / "scripts" / "finish"
LOOKS = """
import os, sys
from appliance.cli import main

data = os.environ["APPLIANCE_DATA"]

def watch(event, words):
    if event == "open" and isinstance(words[0], str):
        told = words[0], {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}[words[2] & os.O_ACCMODE]
        if words[2] & os.O_DIRECTORY:
            told = words[0] + "/", "r"
    elif event in ("os.scandir", "os.listdir"):
        told = f"{words[0]}/", "r"
    elif event == "os.mkdir":
        told = f"{words[0]}/", "w"
    elif event == "os.rename":
        end = "/" * os.path.isdir(words[0])
        told = f"{words[0]}{end}", "rw", f"{words[1]}{end}", "w"
    elif event == "fcntl.flock":
        path = os.readlink(f"/proc/self/fd/{words[0]}")
        told = path + "/" * os.path.isdir(path), "k"
    else:
        return
    for path, modes in zip(told[::2], told[1::2]):
        if str(path).startswith(f"{data}/"):
            print("touched", path, modes)

sys.addaudithook(watch)
main(["screen"])
"""


def touched(data: Path) -> dict[str, set[str]]:
    """Path of the box's data, as it is on the image → what was done to it."""
    told = subprocess.run(
        [sys.executable, "-c", LOOKS],
        env=os.environ | {"APPLIANCE_DATA": str(data)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    found: dict[str, set[str]] = {}
    for line in told.stdout.splitlines():
        if line.startswith("touched "):
            _, path, modes = line.split()
            found.setdefault(path.replace(str(data), DATA, 1), set()).update(modes)
    return found


def test_the_screen_may_do_what_it_does(tmp_path: Path) -> None:
    """Of a box that it makes itself, and of one that is there: watched as it does so."""
    for _ in range(2):
        found = touched(tmp_path / "box")
        assert f"{DATA}/catalog.db" in found
        refused = {path: modes - allowed(path, PROFILE) for path, modes in found.items()}
        assert not {path: modes for path, modes in refused.items() if modes}


def test_it_may_put_a_restored_box_in_the_place_of_the_blank_one(tmp_path: Path) -> None:
    """Whoever finds nobody else in the folder does so, and the screen looks every five seconds."""
    blank, restored = tmp_path / "box", tmp_path / "restored"
    for each in (blank, restored):
        touched(each)
        for name in ("intake", "backups", "tls"):
            (each / name).mkdir(exist_ok=True)
    (restored / ".occupied").unlink()
    (restored / ".opening").unlink()
    restored.rename(blank / "incoming")
    found = touched(blank)
    assert f"{DATA}/entering/" in found
    assert f"{DATA}/replaced/objects/" in found
    refused = {path: modes - allowed(path, PROFILE) for path, modes in found.items()}
    assert not {path: modes for path, modes in refused.items() if modes}
    assert allowed(f"{DATA}/replaced/objects/d9/", PROFILE) >= {"r", "w"}, "what was there is removed"
    assert not (blank / "replaced").exists()


@pytest.mark.parametrize("path", ["objects/d9/0123.sealed", "intake/0", "backups/x", "tls/ca.key"])
def test_it_may_do_nothing_to_images_and_what_is_others(path: str) -> None:
    assert allowed(f"{DATA}/{path}", PROFILE) == set()


def test_its_unit_says_it_and_waits_for_the_profiles() -> None:
    unit = settings(EXTRA / "usr/lib/systemd/system/screen.service")
    assert unit["AppArmorProfile"] == [PROFILE]
    assert "apparmor.service" in " ".join(unit["After"]).split()
    assert allowed("/dev/tty1", PROFILE) == {"r", "w"}
    assert allowed("/run/credentials/screen.service/disk-recovery", PROFILE) == {"r"}


def test_each_profile_that_the_image_brings_stays_in_it() -> None:
    """What a build takes away of Debian's own profiles leaves ours alone: without its profile no unit that names it starts."""
    (line,) = [each for each in FINISH.read_text().splitlines() if each.startswith("  ! -name appliance ")]
    spared = set(re.findall(r"! -name (\S+)", line))
    assert spared == {each.name for each in (EXTRA / "etc/apparmor.d").iterdir()}
