"""What came of a look at the address of updates is told, whatever has ended it."""

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from appliance.health import gathering, looks
from appliance.updates import noting
from tests.image.test_configuration import EXTRA
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
    ends: int, refusal: str, waits: str, came: looks.Came, tmp_path: Path
) -> None:
    """sysupdate ends with `ends`, and `waits` is what waits afterwards: nothing where the firmware keeps a version and another was taken."""
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
        ["sh", "-c", text],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ends, done.stderr
    told = looks.told((tmp_path / "looked").read_text())
    assert told is not None
    assert told[1] is came
    assert (tmp_path / "looked").stat().st_mode & 0o777 == 0o644
