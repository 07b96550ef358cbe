"""The hours in which a version starts by itself, as a box is delivered with them: the machine's clock stands shortly before they begin.

Nobody sets them, and nobody starts what their timer starts once they have begun. The machine keeps its own time, which no server
corrects, and the clinic's is that of another zone than its own: by the machine's, those hours would have been.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from appliance.cli.updates import Answer
from appliance.updates.night import EVERY_MINUTES, NIGHT
from tests.image.machine import RESTART_SECONDS, Hardware, Machine, switched_on
from tests.image.promises import image, kept, running
from tests.image.serving import shop
from tests.image.updates import (
    ADDRESS,
    OFFERED,
    START_WHAT_WAITS,
    TAKE,
    kernels,
    offered_version,
    version,
)

ZONE = ZoneInfo("America/Regina")
"""Whose clocks never change: what a machine has to know of another may be newer than what is known here, as in 2026 of British Columbia."""
LEAD = timedelta(minutes=45)
"""How long before those hours the machine is switched on: it has to have started and taken the version when they begin."""

TICK = timedelta(minutes=2 * EVERY_MINUTES)
"""After so long the timer has looked, which is put off by up to as much as its own interval."""

RESTART = timedelta(minutes=50)
"""Emulated, and beside other work."""


def switched_on_at(now: datetime) -> datetime:
    """The first moment after `now` that is `LEAD` before the hours begin, in the clinic's zone."""
    here = now.astimezone(ZONE)
    begins = here.replace(hour=NIGHT.begins // 60, minute=NIGHT.begins % 60, second=0, microsecond=0) - LEAD
    return (begins if begins > here else begins + timedelta(days=1)).astimezone(UTC)


def night(hardware: Hardware) -> None:
    """A box from its carton, late in the night."""
    hardware.assemble(image(".test"))
    with shop() as offers:
        offers.folder = OFFERED / "good"
        at = switched_on_at(datetime.now(UTC))
        with switched_on(hardware, to_here={80: offers.port}, clock=at) as machine:
            running(machine)
            machine.inside(f"echo {ADDRESS} >/var/lib/update/source")
            wait_for_its_hours(machine, offered_version(offers.folder))
            machine.power_off()


def wait_for_its_hours(machine: Machine, wanted: str) -> None:
    """A version waits until they begin, though it is asked to start before; then it starts, with no hand on it."""
    machine.inside(f"appliance setting set clinic.time_zone {ZONE.key}")
    machine.inside(TAKE)
    told = json.loads(machine.inside("appliance update status --json"))
    kept(f"version {wanted} waits", told["waiting"] == wanted, str(told))
    kept(f"for the hours that a box is delivered with, {NIGHT.hours}", (told["window"], len(told["days"])) == (NIGHT.hours, 7), str(told))  # fmt: skip
    boot, there = machine.boot(), kernels(machine)
    answer = machine.inside("appliance update may-restart; echo $?", check=False).split()[-1]
    machine.inside(START_WHAT_WAITS.replace("--no-block ", ""), check=False)
    said = machine.inside("journalctl -b -u update-restart.service -n 20 -o cat --no-pager")
    hour = clock_of(machine)
    if NIGHT.is_open(hour):
        raise SystemExit(
            f"it is {hour:%H:%M} in the box already: start this again beside less other work, or with a longer LEAD"
        )
    so = answer == str(int(Answer.OUTSIDE)) and "waits for the hours in which it may start" in said
    kept(f"at {hour:%H:%M}, what the timer starts does not start it", so, f"{answer} {said}")
    kept("and nothing has started again", machine.boot() == boot and kernels(machine) == there)
    begins = hour.replace(hour=NIGHT.begins // 60, minute=NIGHT.begins % 60)
    patience = (begins - hour + TICK + RESTART).total_seconds()
    machine.wait_until(f"! grep -q {boot} /proc/sys/kernel/random/boot_id", patience, RESTART_SECONDS)
    running(machine, "it has started again by itself, and nothing has failed")
    kept("in the version that waited", version(machine) == wanted, version(machine))
    began = since(machine.inside("sed -n 's/^btime //p' /proc/stat"))
    kept(f"at {began:%H:%M} in the clinic's time, within those hours", NIGHT.is_open(began), str(began))
    machine.wait_until("systemctl is-active systemd-bless-boot.service")
    kept("and it calls itself good", f"appliance_{wanted}.efi" in kernels(machine), str(kernels(machine)))


def clock_of(machine: Machine) -> datetime:
    """What the machine's clock says, in the clinic's zone."""
    return since(machine.inside("date +%s"))


def since(seconds: str) -> datetime:
    """Seconds since 1970, in the clinic's zone."""
    return datetime.fromtimestamp(int(seconds), ZONE)
