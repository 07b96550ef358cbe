"""A session of remote support on a box that runs: the line goes out, somebody comes in by it, looks, and is gone with its end.

What a session may and may not, `make test` and `make test-machine` hold; here the image's own walls are around it: its profile of AppArmor,
its firewall, a root that nobody writes to.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from tests.image.confinement import walls
from tests.image.machine import Hardware, Machine, free_port, switched_on
from tests.image.promises import image, kept, running
from tests.provisioning.supporting import Endpoint, caller, ends, looks, opens, runs_out, standing

CALLED = ("10.0.2.100", 22)
"""How the box calls the vendor: where its cable leads here, at the port that its firewall lets a session call."""


UNITS = (
    "systemctl start unit-states.service; "
    "systemd-run --quiet --wait --pipe --uid=appliance --gid=appliance --property=AppArmorProfile=appliance"
    " /usr/lib/appliance/venv/bin/python -I -c"
    " 'import json; from appliance.fleet import units; print(json.dumps(units.unit_states()))'"
)
"""What is in the support file as units.json, asked within the profile that holds the console and the jobs."""


def said(units: str) -> bool:
    """Whether those are named that run, and one that updates, and that this is a moment old."""
    told = json.loads(units)
    found = {each["Id"]: each["ActiveState"] for each in told["units"]}
    if told["seconds_ago"] is None or told["seconds_ago"] > 60:
        return False
    return found.get("appliance-web.service") == "active" and "update-outcome.service" in found


def hung(machine: Machine) -> None:
    """The clinic ends a session whose line has stopped in its tracks: it hears nothing of that, and nothing in it can end it."""
    machine.inside("appliance support open --reason test --hours 1")
    machine.wait_until("pgrep -u appliance-support -x ssh")
    machine.inside("systemctl kill --kill-whom=main --signal=STOP support-line.service")
    machine.inside("appliance support close")
    machine.wait_until("! pgrep -u appliance-support")
    told = machine.inside("journalctl -b -u support-line.service -o cat --no-pager")
    kept(
        "of a line that hangs the watchdog makes an end, and of its tunnel", "Watchdog timeout" in told, told
    )


def support(hardware: Hardware) -> None:
    """A box from its carton, whose clinic asks for help."""
    hardware.assemble(image(".test"))
    with tempfile.TemporaryDirectory() as folder:
        vendor = Endpoint(Path(folder) / "vendor", ("127.0.0.1", free_port()), CALLED, free_port())
        with standing(vendor), switched_on(hardware, to_here={CALLED[1]: vendor.listens[1]}) as machine:
            running(machine)
            line = machine.inside("systemctl is-active support-line.service; true").strip()
            kept("without a session of support no line runs", line == "inactive", line)
            opens(machine, vendor)
            units = machine.inside(UNITS)
            kept("the support file says how the units are, from within the walls", said(units), units)
            told = machine.inside("journalctl -b -u support-line.service -o cat --no-pager")
            kept("a session opens the line, and who comes in through it looks", looks(machine, vendor), told)
            with subprocess.Popen(caller(vendor), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as somebody:
                assert somebody.stdin is not None and somebody.stdout is not None
                somebody.stdin.write(b"status\n")
                somebody.stdin.flush()
                kept("somebody comes in once more, and stays", somebody.stdout.readline() != b"")
                walls(machine)
                kept("the session's end ends the line, and who was in", ends(machine, vendor))
                try:
                    somebody.wait(60)
                except subprocess.TimeoutExpired:
                    somebody.kill()
                    kept("who stayed is gone", False)
                kept("who stayed is gone", True)
            hung(machine)
            left = runs_out(machine, vendor)
            kept(f"a session that runs out by itself is gone {left}", left.is_kept(), str(left))
            told = machine.inside("systemctl is-system-running; appliance audit verify", check=False)
            kept("nothing has failed, and the audit is whole", told.startswith("running"), told)
            machine.power_off()
