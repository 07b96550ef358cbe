"""A person who starts the version that waits, in the console and not in its hours: the machine starts again within a minute, and in it."""

from __future__ import annotations

import http
import urllib.error

from tests.image.machine import Hardware, Machine, switched_on
from tests.image.person import becomes_owner
from tests.image.promises import image, kept, running
from tests.image.serving import shop
from tests.image.updates import ADDRESS, OFFERED, TAKE, kernels, offered_version, version


def asked(hardware: Hardware) -> None:
    """A box from its carton, whose owner does not want to wait for the night."""
    hardware.assemble(image(".test"))
    with shop() as offers:
        offers.folder = OFFERED / "good"
        with switched_on(hardware, ports=(443,), to_here={80: offers.port}) as machine:
            running(machine)
            machine.inside(f"echo {ADDRESS} >/var/lib/update/source")
            starts_at_once(machine, offered_version(offers.folder))
            machine.power_off()


def starts_at_once(machine: Machine, wanted: str) -> None:
    """Outside of its hours, by a button in the console; before there is anything to start, nothing is left behind."""
    hour = int(machine.inside("date +%H"))
    window = f"{(hour + 12) % 24:02d}:00-{(hour + 13) % 24:02d}:00"
    machine.inside(f"appliance setting set updates.window {window}")
    told = machine.inside("appliance update restart 2>&1 && echo restarts", check=False)
    kept(
        "without a version that waits it is refused",
        "no version waits" in told and "restarts" not in told,
        told,
    )
    machine.inside(TAKE)
    boot, there = machine.boot(), kernels(machine)
    kept("a version waits", f"appliance_{wanted}+3-0.efi" in there, str(there))
    machine.inside("systemctl start update-restart.service", check=False)
    kept(f"its hours are {window}: what the timer starts does not start it", machine.boot() == boot)
    browser = becomes_owner(machine)
    try:
        browser.post("/updates/restart", on="/updates")
    except urllib.error.HTTPError as error:
        if error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
    except OSError:
        pass  # the machine goes down already, and the page that follows with it
    machine.wait_for_restart(boot)
    running(machine, "the machine has started again at once, and nothing has failed")
    kept("in the version that waited", version(machine) == wanted, version(machine))
    left = machine.inside("ls /var/lib/appliance/restart-asked 2>&1; true")
    kept("what asked for it is gone, so it does so once", "No such file" in left, left)
    said = machine.inside("appliance audit export | grep -c update:restart", check=False).strip()
    kept("and the audit says who asked", said not in ("", "0"), said)
