"""A look at the address of updates that came to nothing is told, whatever has ended it."""

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
