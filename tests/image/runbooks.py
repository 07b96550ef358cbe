"""Two runbooks of the help, walked on one machine: *Install a box*, and *Replace a disk that fails*.

The stick is one that carries the test's disk (`image-build/build test-installer`), so that the machine can be looked into afterwards;
`tests.image.plugged.installation` has the one that a clinic gets. What a person does is done as she does it: keys at the keyboard, the claim code off
the screen, forms in the console, the power button.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydicom.dataset import Dataset

from tests import synthetic
from tests.image.confinement import no_error, walls
from tests.image.load import CALLING, admit
from tests.image.machine import Hardware, Machine, switched_on
from tests.image.person import (
    adds_a_disk,
    backs_up,
    becomes_owner,
    claim_code,
    disk_key,
    drills,
    reads_claim_code,
    restores,
    sees_disk_key_again,
)
from tests.image.plugged import MOUNTED, installed, stick
from tests.image.promises import PROMISED_PORTS, https, image, kept, practitioner, running
from tests.image.screen import on_screen
from tests.system.browser import Browser
from tests.system.dcmtk import storescu

MOUNT = "/media/backup"
CONFIRMED = (
    'import json, sys; found = [each["state"] for each in json.load(sys.stdin)]; '
    'sys.exit(len(found) < int(sys.argv[1]) or set(found) != {"CONFIRMED"})'
)
"""Succeeds if as many deliveries as its argument says, and all there are, have a receipt, of what `appliance deliveries --json` says."""

ASK_READY = 'import urllib.request; urllib.request.urlopen("http://127.0.0.1:8080/health/ready", timeout=60)'

HOME = "^[1-9][0-9]* objects read in full: all are whole[.]$"
"""What `appliance verify --all` says where none is in an archive alone."""

SHOWN_SECONDS = 300.0
BUTTON_SECONDS = 600.0
"""How long the machine may take to switch off; on a box the runbook says five minutes."""


def runbooks(hardware: Hardware, films: Sequence[Dataset]) -> None:
    """One after the other: the second begins with the box of the first, whose disk fails. The last of `films` is sent after that."""
    *before, last = films
    hardware.assemble_blank()
    disk = stick(hardware.folder / "backups.raw", "BOXBACKUP")
    installed(hardware, image(".test"))
    with switched_on(hardware, ports=PROMISED_PORTS) as machine:
        running(
            machine, "switched on again without the stick, it starts from its disk, and nothing has failed"
        )
        browser, paper = is_set_up(machine)
        has_archive(machine, disk, browser)
        admit(machine)
        bearer = practitioner(machine)
        sends(machine, before)
        kept("under Studies is the study, with its images", shows(machine, bearer, last, len(before)))
        has_copies(machine, len(before), browser)
        presses_button(machine)
    hardware.new_disk()
    installed(hardware, image(".test"))
    with switched_on(hardware, ports=PROMISED_PORTS) as machine:
        running(machine, "it starts from the new disk, and nothing has failed")
        is_restored(machine, disk, paper)
        comes_home(machine, bearer, len(before), last)
        walls(machine)
        no_error(machine)
        machine.power_off()


def is_set_up(machine: Machine) -> tuple[Browser, str]:
    """Up to the end of what is done at its screen: its owner at the console, and the recovery key that is on paper then."""
    lines = on_screen(machine)
    written_down = machine.inside("cat /var/lib/disk-recovery/key").strip()
    is_it = disk_key(lines) == written_down != ""
    kept("the screen shows the key of its disk, to be written down", is_it, "\n".join(lines))
    browser = becomes_owner(machine)
    machine.wait_until("! grep -aq 'Claim code' /dev/vcs1")
    lines = on_screen(machine)
    kept(
        "and neither it nor a claim code any more",
        claim_code(lines) + disk_key(lines) == "",
        "\n".join(lines),
    )
    sees_disk_key_again(machine, browser, written_down)
    return browser, machine.inside("appliance key show-recovery").strip()


def has_archive(machine: Machine, disk: Path, browser: Browser) -> None:
    """A disk for backups, which becomes an archive for images too."""
    machine.plug(disk, "backups")
    machine.wait_until(MOUNTED)
    machine.wait_until("systemctl is-active backup-disk.service")
    adds_a_disk(browser, "usb", MOUNT)


def has_copies(machine: Machine, count: int, browser: Browser) -> None:
    """What is owed to the archive is confirmed; a backup is laid there, and the drill opens it."""
    machine.wait_until(f"appliance deliveries --json | python3 -I -c '{CONFIRMED}' {count}")
    kept("all that is owed to the disk is confirmed", True)
    backs_up(browser)
    drills(browser)


def presses_button(machine: Machine) -> None:
    """Once, briefly."""
    machine.press_power_button()
    with suppress(subprocess.TimeoutExpired):
        machine.process.wait(BUTTON_SECONDS)
    kept("its power button, pressed once, switches it off", not machine.is_on, machine.console()[-2000:])


def is_restored(machine: Machine, disk: Path, paper: str) -> None:
    """Up to the claim code, which nobody uses to claim: it is typed to restore."""
    machine.plug(disk, "backups")
    machine.wait_until(MOUNTED)
    code, boot = reads_claim_code(machine), machine.boot()
    restores(Browser(machine.ports[443], tls=True), code, MOUNT, paper)
    machine.wait_until("appliance studies --json | grep -q study_instance_uid")
    kept("the processes have started anew, and not the machine", machine.boot() == boot)
    running(machine, "and nothing has failed")


def comes_home(machine: Machine, bearer: str, count: int, film: Dataset) -> None:
    """The box that was: its people, their tokens, its machines, its images, which are whole; and it receives."""
    machine.wait_until(f"python3 -I -c '{ASK_READY}'")
    kept("who was let in before is let in, and sees the study", shows(machine, bearer, film, count))
    machine.wait_until(f"appliance verify --all | grep -qE '{HOME}'")
    kept("its images come home, each whole, byte for byte", True)
    sends(machine, [film])
    kept("and it takes another from a machine that it knew", shows(machine, bearer, film, count + 1))


def sends(machine: Machine, films: Sequence[Dataset]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = synthetic.write(iter(films), Path(folder))
        sent = storescu(machine.ports[11112], calling=CALLING, files=files)
    kept("storescu's images are acknowledged", sent.returncode == 0, sent.stderr)


def shows(machine: Machine, bearer: str, film: Dataset, count: int) -> bool:
    """Whether the console's interface shows its study with so many images, be it a little later: what has arrived is recorded in turn."""
    study, deadline = str(film.StudyInstanceUID), time.monotonic() + SHOWN_SECONDS
    while True:
        rows = json.loads(https(machine, "/api/v1/studies", bearer))["items"]
        found = sum(row["instances"] for row in rows if row["study_instance_uid"] == study)
        if found == count or time.monotonic() > deadline:
            return bool(found == count)
        time.sleep(2)
