"""What came of a look at the address of updates is told, whatever has ended it."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.health import gathering, looks
from appliance.updates import noting
from tests.image.test_configuration import EXTRA, ROOT, script, settings
from tests.image.update_script import update_in


@pytest.mark.parametrize("address", ["updates.example", "https://updates.example/$(id)"])
def test_a_look_at_what_is_no_address_is_told(address: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_text(f"{address}\n")
    text = (EXTRA / "usr/lib/appliance/libexec/update").read_text()
    for place in ("/var/lib/update/source", f"{gathering.UPDATES}/{looks.FILE}"):
        assert place in text
        text = text.replace(place, str(tmp_path / place.rsplit("/", 1)[1]))
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 64, done.stderr
    told = looks.told((tmp_path / "looked").read_text())
    assert told is not None
    assert told[1] is looks.Came.UNFINISHED


def test_a_look_that_takes_too_long_is_told(tmp_path: Path) -> None:
    """systemd ends it and what it has started after two hours, here while it waits for one that somebody has brought."""
    (tmp_path / "source").write_text("https://updates.example\n")
    (tmp_path / "fetching").write_text("1000\n")
    text = (EXTRA / "usr/lib/appliance/libexec/update").read_text()
    for place in (
        "/var/lib/update/source",
        "/run/update.lock",
        f"{gathering.UPDATES}/{noting.FETCHING}",
        f"{gathering.UPDATES}/{looks.FILE}",
    ):
        assert place in text
        text = text.replace(place, str(tmp_path / place.rsplit("/", 1)[1]))
    with (tmp_path / "update.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(["sh", "-c", text], start_new_session=True) as looking:
            deadline = time.monotonic() + 60
            children = Path(f"/proc/{looking.pid}/task/{looking.pid}/children")
            while not any(
                Path(f"/proc/{each}/comm").read_text() == "flock\n" for each in children.read_text().split()
            ):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            os.killpg(looking.pid, signal.SIGTERM)
            assert looking.wait(60) == 143
    told = looks.told((tmp_path / "looked").read_text())
    assert told is not None
    assert told[1] is looks.Came.UNFINISHED
    assert (tmp_path / "fetching").exists(), "what the other one says of itself is not this one's to remove"


@pytest.mark.parametrize("brought", [False, True])
@pytest.mark.parametrize(
    ("ends", "refusal", "waits", "came"),
    [
        (0, "exit 1", "0.2.0", looks.Came.TAKEN),
        (0, "exit 1", "kept", looks.Came.TAKEN),
        (0, "exit 1", "", looks.Came.NONE),
        (1, "echo refused", "", looks.Came.REFUSED),
        (1, "echo unreachable", "", looks.Came.UNREACHABLE),
        (1, "exit 1", "", looks.Came.UNFINISHED),
    ],
)
def test_the_box_is_told_what_came_of_a_look(
    ends: int, refusal: str, waits: str, came: looks.Came, brought: bool, tmp_path: Path
) -> None:
    """sysupdate ends with `ends`, and `waits` is what waits afterwards: nothing where the firmware keeps a version and another was taken.
    What was `brought` on a stick is told in a file of its own, which nobody counts."""
    kernels, sent = tmp_path / "EFI/Linux", tmp_path / "EFI/Linux/appliance_0.2.0+3.efi"
    kernels.mkdir(parents=True)
    (kernels / "appliance_0.1.0.efi").touch()
    (tmp_path / "waiting").touch()
    bootctl = tmp_path / "bootctl"
    bootctl.write_text(f"#!/bin/sh\necho {tmp_path}\n")
    bootctl.chmod(0o755)
    programs = {
        "/usr/bin/appliance": ":",
        "/usr/lib/appliance/venv/bin/python": f'case "$2" in */update_refusal.py) {refusal} ;; */update_bridge.py) echo http://127.0.0.1:1 ;; *) exit {ends} ;; esac',
        "/usr/lib/appliance/libexec/update-outcome": f": >{sent}"
        if waits == "kept"
        else f"printf %s '{waits}' >{tmp_path}/waiting",
    }
    text = update_in(tmp_path, programs)
    (tmp_path / "source").write_text("https://updates.example\n")
    done = subprocess.run(
        ["sh", "-c", text, "update", *(["http://127.0.0.1:1"] if brought else [])],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ends, done.stderr
    place, other = looks.FILE, looks.FILE_OF_STICK
    if brought:
        place, other = other, place
    told = looks.told((tmp_path / place).read_text())
    assert told is not None
    assert told[1] is came
    assert came in looks.OF_STICK
    assert (tmp_path / place).stat().st_mode & 0o777 == 0o644
    assert not (tmp_path / other).exists()


def test_a_stick_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    text = (EXTRA / "usr/lib/appliance/update_from_stick.py").read_text()
    told_in = f"{gathering.UPDATES}/{looks.FILE_OF_STICK}"
    for place in (told_in, "/run/update-stick"):
        assert place in text
        text = text.replace(place, str(tmp_path / place.rsplit("/", 1)[1]))
    (tmp_path / "mount").write_text("#!/bin/sh\nexit 32\n")
    (tmp_path / "mount").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", text, "/dev/stick"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 32, done.stderr
    told = looks.told((tmp_path / looks.FILE_OF_STICK).read_text())
    assert told is not None
    assert told[1] is looks.Came.UNFINISHED
    assert (tmp_path / looks.FILE_OF_STICK).stat().st_mode & 0o777 == 0o644


def test_the_appliance_may_read_all_that_it_is_told_of_updates() -> None:
    profile = (EXTRA / "etc/apparmor.d/appliance").read_text()
    (named,) = re.findall(rf"^  {gathering.UPDATES}/{{(.+)}} r,$", profile, re.MULTILINE)
    read = {gathering.LEFT, gathering.WAITING, gathering.CHOSEN, noting.FETCHING}
    assert set(named.split(",")) == read | {looks.FILE, looks.FILE_OF_STICK}


def test_the_hours_of_the_look_are_said_in_the_zone_of_the_machine(tmp_path: Path) -> None:
    """A timer goes by the machine's clock, and `date` does; the clinic's zone is known to the appliance alone."""
    script("assemble").assemble(tmp_path, None, "")
    assert str((tmp_path / "etc/localtime").readlink()).endswith("/America/Toronto")
    (when,) = settings(EXTRA / "usr/lib/systemd/system/update.timer")["OnCalendar"]
    assert when == "*-*-* 02:00", "a zone could stand behind it"
    for code, zone in {
        "en": "Eastern time",
        "fr": "heure de l’Est",
        "es": "hora del Este",
        "zh": "北美东部时间",
    }.items():
        words = json.loads((ROOT / f"web-ui/languages/{code}.json").read_text())
        assert zone in words["updates.state.newest.about"]
        if code in ("en", "fr"):
            section = (ROOT / f"web-ui/help/{code}/health.html").read_text().split('<h2 id="updates">')[1]
            assert section.split("<h2")[0].count(zone) == 2, "the look, and hours that nobody can say"


@pytest.mark.parametrize("code", ["en", "fr"])
def test_the_help_says_how_a_version_is_brought(code: str) -> None:
    """The label by which the box knows the stick, each file that it wants, and where what came of it is said."""
    text = (ROOT / f"web-ui/help/{code}/health.html").read_text()
    section = text.split('<h2 id="updates-stick">')[1].split("<h2")[0]
    rule = (EXTRA / "usr/lib/udev/rules.d/90-update-from-stick.rules").read_text()
    (label,) = re.findall(r'ENV\{ID_FS_LABEL\}=="(\w+)"', rule)
    transfers = "".join(
        each.read_text() for each in (EXTRA / "usr/share/appliance/update").glob("*.transfer")
    )
    endings = re.findall(r"^MatchPattern=appliance_@v(?:_@u)?(\.\S+)$", transfers, re.MULTILINE)
    assert len(set(endings)) == 3
    words = json.loads((ROOT / f"web-ui/languages/{code}.json").read_text())
    for word in (label, "SHA256SUMS", "SHA256SUMS.gpg", *endings):
        assert f"<code>{word}</code>" in section
    assert f"<em>{words['updates.stick']}</em>" in section
    assert "#updates-stick" in (ROOT / f"web-ui/help/{code}/problems.html").read_text()
