"""`tests.image.ring` with a box in processes instead of a machine: real heartbeats, real playbooks, and an updater that obeys or doesn't."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from appliance import __version__
from tests.boxes import box_in
from tests.fleet.outposts import vendor
from tests.image import ring
from tests.image.machine import Machine
from tests.image.updates import START_WHAT_WAITS, STARTED, TAKE
from tests.provisioning.fleets import Fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NEXT, AFTER = "0.1.1", "0.1.2"
PROGRAM = """#!{python} -P
import os, sys
sys.path.insert(0, {root!r})
from datetime import UTC, datetime
from pathlib import Path
from appliance.box import open_box
from appliance.cli import main
from appliance.config import Config
from appliance.fleet import heartbeat, pulse
from tests.provisioning.living_box import beat
image = Path({image!r}).read_text()
pulse.machine = lambda: heartbeat.Machine("debian 13", image, "6.12.0")
os.environ["APPLIANCE_DATA"] = {data!r}
if "send" in sys.argv:
    box = open_box(Config(data=Path({data!r})))
    beat(box, datetime.now(UTC), datetime.now(UTC))
    box.close()
sys.exit(main(sys.argv[1:]))
"""


class Pretended:
    """What `ring` asks of a machine, of a box in a folder. Its updater takes what the box is held to, or the newest if it is `deaf`."""

    def __init__(self, folder: Path, *, deaf: bool) -> None:
        self.folder, self.deaf, self.waits, self.starts, self.said = folder, deaf, "", 1, ""
        (folder / "bin").mkdir(parents=True)
        self.image = folder / "image"
        self.image.write_text(__version__)
        with box_in(folder / "data"):
            pass
        program = PROGRAM.format(
            python=sys.executable,
            root=str(Path(__file__).parents[2]),
            image=str(self.image),
            data=str(folder / "data"),
        )
        (folder / "bin" / "appliance").write_text(program)
        (folder / "bin" / "appliance").chmod(0o755)

    def inside(self, command: str, *, check: bool = True) -> str:
        running = self.image.read_text()
        if command == STARTED:
            return running
        if "EFI/Linux" in command:
            return f"appliance_{running}.efi " + (f"appliance_{self.waits}+3-0.efi" if self.waits else "")
        if command == TAKE:
            wanted = "" if self.deaf else self._run("appliance heartbeat wanted").strip()
            self.waits = {running: "", "": AFTER}.get(wanted, wanted)
            self.said = f"{wanted} is wanted of this box" if wanted == running else ""
            return ""
        if command == START_WHAT_WAITS:
            self.starts, self.waits = self.starts + 1, ""
            self.image.write_text(NEXT)
            return self._run("appliance heartbeat send")
        if command.startswith("journalctl"):
            return self.said
        if command.startswith("systemctl"):
            return "running"
        told = self._run(command.replace("/run/vendor.pem", str(self.folder / "vendor.pem")))
        return told + (self._run("appliance heartbeat send") if command.endswith("heartbeat agree") else "")

    def _run(self, command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command],
            env={"PATH": f"{self.folder}/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def wait_until(self, command: str) -> None:
        """It is so at once."""

    def boot(self) -> str:
        return str(self.starts)

    def wait_for_restart(self, boot: str) -> None:
        assert str(self.starts) != boot


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setattr(ring, "RETRIES", {"fleet_delay_seconds": 3, "fleet_retries": 80})
    monkeypatch.setattr(ring, "LOOK_SECONDS", 1.0)
    folder = tmp_path / "fleet"
    folder.mkdir()
    with vendor(folder / "board") as there:
        made = Fleet(folder, there)
        made.enrol("canary")
        made.make_version(NEXT)
        yield made


def walk(fleet: Fleet, machine: Pretended) -> None:
    ring.walk(ring.Ward(cast(Machine, machine), fleet), NEXT)


@pytest.mark.campaign
def test_a_box_that_waits_for_its_ring_keeps_every_promise(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walk(fleet, Pretended(tmp_path / "box", deaf=False))
    told = capsys.readouterr().out
    assert "BROKEN" not in told
    assert "the rings halt" in told
    assert told.rstrip().endswith("kept: and its ring is over")


def test_one_that_takes_the_newest_past_its_ring_is_found_out(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        walk(fleet, Pretended(tmp_path / "box", deaf=True))
    last = capsys.readouterr().out.splitlines()[-1]
    assert "BROKEN: newer ones lie at its address" in last
