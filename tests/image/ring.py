"""A version that comes to a box by way of a ring: named by who looks after the fleet, fetched with a heartbeat, seen in the next one.

The fleet is two: first in the register a canary, which lives on this machine (`tests.provisioning.living_box`), behind it the machine. The
playbooks are those of `provisioning/`, the vendor's outpost is HTTPS with a certificate of its own, and nothing ever calls the machine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance import __version__
from tests.fleet.outposts import vendor
from tests.image.machine import PATIENCE_SECONDS, Hardware, Machine, switched_on
from tests.image.offers import sign
from tests.image.promises import BUILT, image, kept, running
from tests.image.serving import shop
from tests.image.updates import (
    ADDRESS,
    OFFERED,
    TAKE,
    kernels,
    offered_version,
    start_what_waits,
    unpacked_version,
    version,
)
from tests.provisioning.fleets import Fleet, Play

CALLED = "10.0.2.100"
"""How the machine calls the vendor: the address from which its cable leads here."""

BEAT_SECONDS = 1200.0
"""A heartbeat comes every quarter of an hour, and later while a machine is emulated."""

LOOK_SECONDS = 2.0
RETRIES = {"fleet_delay_seconds": 20, "fleet_retries": 1080}
"""Six hours: how often a ring looks whether its box is at the version, and how long it waits in between."""

BOOK = "fleet-update.yml"


def ring(hardware: Hardware) -> None:
    """A box from its carton, which its clinic lets be looked after."""
    hardware.assemble(image(".test"))
    assert unpacked_version() == __version__, (
        "the canary is made of this tree, and must begin where the image does"
    )
    with (
        offered_together("good", "corrupted") as both,
        tempfile.TemporaryDirectory() as folder,
        shop() as offers,
    ):
        offers.folder = both
        with vendor(Path(folder) / "board", CALLED, "127.0.0.1") as there:
            fleet = Fleet(Path(folder), there)
            fleet.enrol("canary")
            fleet.make_version(offered_version(OFFERED / "good"))
            with switched_on(hardware, to_here={80: offers.port, there.port: there.port}) as machine:
                running(machine)
                machine.inside(f"echo {ADDRESS} >/var/lib/update/source")
                walk(Ward(machine, fleet), offered_version(OFFERED / "good"))
                machine.power_off()


@contextmanager
def offered_together(*names: str) -> Iterator[Path]:
    """What a server of updates has that keeps a version for rings behind, and a newer one; signed as the build signs."""
    folder = BUILT / "together"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        for name in names:
            for each in (OFFERED / name).glob("appliance_*"):
                (folder / each.name).hardlink_to(each)
        keys = BUILT / "keys" / "gnupg"
        sign(folder, keys)
        subprocess.run(["gpgconf", "--homedir", str(keys), "--kill", "all"], check=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Ward:
    """The machine, as one box of the fleet."""

    machine: Machine
    fleet: Fleet
    name: str = ""

    @property
    def heard(self) -> dict[str, Any]:
        """What it has said of itself last."""
        return self.fleet.heard(self.name)

    def beat(self) -> None:
        """Its heartbeat, now: by itself it would come within a quarter of an hour."""
        self.machine.inside("appliance heartbeat send")

    def is_well_now(self) -> bool:
        self.beat()
        return self.fleet.is_well(self.name)

    def take(self) -> str:
        """What its updater says of the night's look at the address."""
        self.machine.inside(TAKE)
        return self.machine.inside("journalctl -b -u update.service -n 20 -o cat --no-pager")


def walk(ward: Ward, wanted: str) -> None:
    """A ring that everybody is in; one that halts before the machine's; and the machine's own."""
    machine, fleet = ward.machine, ward.fleet
    enrol(ward)
    had, there = version(machine), kernels(machine)
    canary = fleet.members[0].name
    with fleet.alive():
        until("the canary is heard", lambda: fleet.is_well(canary))
        with fleet.playing(BOOK, fleet_software=had, **RETRIES) as play:
            fetched(ward, play)
            over(play, "the version that all have is named to all, and each says so")
    said = ward.take()
    so = kernels(machine) == there and f"{had} is wanted of this box" in said
    kept("newer ones lie at its address, and named is the one it has: it takes none", so, said)

    before = fleet.wanted_of(ward.name)
    with fleet.alive(0):
        until("the canary is well", lambda: fleet.is_well(canary))
        halted = fleet.play(BOOK, fleet_software=wanted, fleet_retries=4, fleet_delay_seconds=5)
        until("the canary has gone on", lambda: fleet.heard(canary).get("software") == wanted)
        so = halted.returncode != 0 and not fleet.is_well(canary)
        kept(
            "the canary goes on to the next version and is not well there: the rings halt", so, halted.stdout
        )
    ward.beat()
    said = ward.take()
    so = fleet.wanted_of(ward.name) == before and kernels(machine) == there
    kept("the box behind it has heard nothing of that version, and takes none", so, said)

    with fleet.alive():
        until("the canary is well again", lambda: fleet.is_well(canary))
        with fleet.playing(BOOK, fleet_software=wanted, **RETRIES) as play:
            until("its ring begins", lambda: play.is_over or fleet.wanted_of(ward.name) != before)
            kept("once the canary is well, the box's own ring begins", not play.is_over, play.said)
            fetched(ward, play)
            goes_on(ward, wanted, there)
            over(play, "and its ring is over")


def enrol(ward: Ward) -> None:
    """What a clinic does with what its vendor has sent: enters it, and agrees. Then the box is in the register, behind the canary."""
    machine, fleet = ward.machine, ward.fleet
    chosen = fleet.vendor.settings() | {"heartbeat.authority": fleet.public}
    machine.inside(f"cat >/run/vendor.pem <<'END'\n{chosen['heartbeat.ca']}\nEND")
    machine.inside("appliance setting set heartbeat.ca --file /run/vendor.pem")
    machine.inside("appliance setting set heartbeat.on_lan yes")
    machine.inside(f"appliance setting set heartbeat.authority '{fleet.public}'")
    machine.inside(f"appliance setting set heartbeat.address {chosen['heartbeat.address']}")
    told = json.loads(machine.inside("appliance heartbeat status --json"))
    ward.name = told["box"]
    kept("before its clinic agrees, it says nothing to anybody", not told["sends"] and not fleet.vendor.came)
    machine.inside("appliance heartbeat agree")
    until("the box is heard", lambda: bool(ward.heard), BEAT_SECONDS)
    kept(
        "then it says by itself how it does, by HTTPS, to where it was told",
        ward.heard["image"] == version(machine),
    )
    if not fleet.is_well(ward.name):  # the first one may be of a box whose processes have just begun
        until("it is well", ward.is_well_now)
    canary = fleet.members[0]
    fleet.register((canary.name, canary.key), (ward.name, told["key"]))


def fetched(ward: Ward, play: Play) -> None:
    """What is wanted comes with the answer to a heartbeat, and with the one after it the box says that it has taken it."""
    until("something is wanted of the box", lambda: play.is_over or bool(ward.fleet.wanted_of(ward.name)))
    wanted = ward.fleet.wanted_of(ward.name)
    kept("something is wanted of the box", bool(wanted), play.said)
    number = json.loads(json.loads(wanted)["document"])["number"]
    for _ in range(2):
        ward.beat()
    kept("it takes with a heartbeat what is wanted of it, and the next one says so", ward.heard["wanted"] == {"number": number, "came": "taken"})  # fmt: skip


def goes_on(ward: Ward, wanted: str, had: list[str]) -> None:
    """The night after: the version that was named, and no other, is taken, starts, is good; and a heartbeat says so by itself."""
    machine, boot = ward.machine, ward.machine.boot()
    said = ward.take()
    new = [each for each in kernels(machine) if each not in had]
    so = new == [f"appliance_{wanted}+3-0.efi"]
    kept("of two newer versions at its address it takes the one that was named", so, f"{new} {said}")
    start_what_waits(machine)
    machine.wait_for_restart(boot)
    running(machine, "the version of its ring starts, and nothing has failed")
    kept("it is that one", version(machine) == wanted, version(machine))
    machine.wait_until("systemctl is-active systemd-bless-boot.service")
    until(
        "a heartbeat says so",
        lambda: ward.heard["image"] == wanted and ward.fleet.is_well(ward.name),
        BEAT_SECONDS,
    )
    kept("the next heartbeat, which it sends by itself, says that it runs there and is well", True)


# --- what is waited for ----------------------------------------------------------------------------------------------


def until(what: str, is_so: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Return once it is; `SystemExit` with `what` has not come."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {seconds:.0f} s")
        time.sleep(LOOK_SECONDS)


def over(play: Play, promise: str) -> None:
    """The playbook comes to its end, and no ring was halted."""
    until("the last ring is over", lambda: play.is_over)
    kept(promise, play.process.returncode == 0, play.said)
