"""What a provisioned machine itself says of its limits, and of those of what runs on it."""

from __future__ import annotations

import json

from tests.image.promises import kept
from tests.provisioning.machine import Machine
from tests.provisioning.updating import starts_anew_what_was_mended

SERVICES = ("dicom", "courier", "jobs", "web")
FACING = {"nginx.service", *(f"appliance-{name}.service" for name in SERVICES)}


def is_walled(box: Machine) -> None:
    """What the machine itself says of its limits."""
    swaps = box.inside(
        "systemctl list-units --no-legend --plain --type=swap; systemctl is-enabled swap.target", check=False
    )
    kept("there is no swap, and systemd takes none that it finds", swaps.split() == ["masked"], swaps)
    sockets = box.inside("systemctl list-units --no-legend --plain --all 'sshd-*.socket'")
    kept("SSH is there by its port alone", sockets.strip() == "", sockets)
    sshd = box.inside("sshd -T").splitlines()
    wanted = {
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "permitrootlogin without-password",
    }
    kept("and by a key alone", wanted <= set(sshd), str(wanted - set(sshd)))
    owners = set(box.inside("ps -o user= -C nginx").split())
    kept("the front is not root", owners == {"www-data"}, str(owners))
    for name in SERVICES:
        shown = box.inside(
            f"systemctl show appliance-{name} -p Slice,LimitCORE,MemoryMax,MemorySwapMax,TasksMax,Type,WatchdogUSec"
        )
        told = dict(line.split("=", 1) for line in shown.splitlines())
        limits = {told["MemoryMax"], told["TasksMax"], told["WatchdogUSec"]}
        kept(
            f"{name} has its limits: {told['MemoryMax']} bytes, {told['TasksMax']} tasks",
            (told["Slice"], told["Type"], told["LimitCORE"], told["MemorySwapMax"])
            == ("appliance.slice", "notify", "0", "0")
            and not limits & {"infinity", "0"},
            shown,
        )
    judged = json.loads(box.inside("systemd-analyze security --json=short --no-pager"))
    exposed = {each["unit"]: float(each["exposure"]) for each in judged if each["unit"] in FACING}
    kept(
        "and as this systemd judges it, who faces the network is exposed by less than 1.5",
        len(exposed) == len(FACING) and max(exposed.values()) < 1.5,
        str(exposed),
    )
    updates = box.inside("apt-config dump").splitlines()
    origins = [each for each in updates if each.startswith("Unattended-Upgrade::Origins-Pattern::")]
    periodic = {
        'APT::Periodic::Enable "1";',
        'APT::Periodic::Update-Package-Lists "1";',
        'APT::Periodic::Unattended-Upgrade "1";',
    }
    kept(
        "each day it takes Debian's security updates, and no others",
        periodic <= set(updates) and len(origins) == 2 and all("Debian-Security" in each for each in origins),
        "\n".join([*origins, *(each for each in updates if each.startswith("APT::Periodic"))]),
    )
    timers = box.inside("systemctl is-active apt-daily.timer apt-daily-upgrade.timer", check=False).split()
    kept("and Debian's timers ask for them", timers == ["active", "active"], str(timers))
    starts_anew_what_was_mended(box)
    bounds = box.inside("systemd-analyze cat-config systemd/journald.conf")
    kept("the journal is bounded", "SystemMaxUse=512M" in bounds, bounds)
