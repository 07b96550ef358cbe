"""That the kernel holds each process which has a profile, and that no process's memory comes to lie on a disk.

A unit says its profile, and the front has one by its program. A process is held where the kernel says so of it, be it a unit's first
one or one that it has started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from appliance.catalog.errors import PASSES
from tests.image.machine import Machine
from tests.image.promises import kept, writes_no_memory_down

BY_PROGRAM = {"nginx.service": "nginx-front"}
"""Of these no unit says the profile: it is the program's."""

HELD = {
    **{f"appliance-{name}.service": "appliance" for name in ("dicom", "courier", "jobs", "web")},
    "screen.service": "screen",
    **BY_PROGRAM,
}
"""What runs and must be held, whatever units say of themselves."""

PROFILES = frozenset({"appliance", "nginx-front", "screen", "support-line", "update-way"})

LABELS = """\
for unit in $(systemctl list-units --type=service --state=running --plain --no-legend | cut -d" " -f1); do
  profile=$(systemctl cat "$unit" | sed -n 's/^AppArmorProfile=//p' | tail -n 1)
  group=$(systemctl show -P ControlGroup "$unit")
  for process in $(find "/sys/fs/cgroup$group" -name cgroup.procs -exec cat {} +); do
    echo "$unit ${profile:-none} $(cat "/proc/$process/attr/current" 2>/dev/null)"
  done
done
"""
"""A line for each process of each unit that runs: unit, the profile that it says, and what the kernel holds the process by."""

ERRORS = "journalctl -b --no-pager -o cat -u 'appliance-*' | grep -F '\"level\": \"ERROR\"'; true"
"""Prints what the appliance's processes have told as errors."""

LATE = (
    f"the catalog is busy — {PASSES}",
    "the jobs process does not judge the box: it is done here",
)
"""What an emulated machine says that has waited for more than half a minute, and no wall is the cause of."""

SPARED = "appliance-courier.service"
"""What is crashed: it loses nothing, and is started again."""

PLANTED = "/run/planted"
PLANT = f"printf '\\177ELF\\2\\1\\1\\0\\0\\0\\0\\0\\0\\0\\0\\0\\4\\0' >'{PLANTED}'"
"""Makes a file there that is no core, and begins as one."""

CORES = """\
import os, stat

def is_core(path):
    # Nothing but a file is opened: of /dev, one would start the watchdog.
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return False
    with open(path, "rb") as file:
        head = file.read(18)
    return head[:4] == bytes.fromhex("7f454c46") and head[16:] == bytes((4, 0))

def look(folder, device):
    try:
        there = list(os.scandir(folder))
    except OSError:
        return
    for each in there:
        try:
            if each.is_dir(follow_symlinks=False):
                if each.stat(follow_symlinks=False).st_dev == device:
                    look(each.path, device)
            elif folder.endswith("/systemd/coredump") or is_core(each.path):
                print(each.path)
        except OSError:
            continue

with open("/proc/mounts") as mounts:
    for _, place, kind, options, *_ in map(str.split, mounts):
        if kind in ("ext4", "vfat", "tmpfs", "ramfs", "devtmpfs") and "rw" in options.split(","):
            look(place, os.lstat(place).st_dev)
"""
"""Prints every file that begins as a core does (ELF, type ET_CORE) wherever the box can write, and whatever systemd would have kept."""


# --- AppArmor --------------------------------------------------------------------------------------------------------


def walls(machine: Machine) -> None:
    """Every profile is enforced, and holds every process of the units that it is for."""
    loaded = dict(
        line.rsplit(" ", 1)
        for line in machine.inside("cat /sys/kernel/security/apparmor/profiles").splitlines()
    )
    kept(
        f"AppArmor enforces {', '.join(sorted(PROFILES))}",
        {name for name, mode in loaded.items() if mode == "(enforce)"} == PROFILES == set(loaded),
        str(loaded),
    )
    told = machine.inside(LABELS)
    units, loose = held(told)
    kept(f"it holds every process of {', '.join(sorted(units))}", set(HELD) <= set(units) and not loose, told)
    refused = machine.inside("journalctl -b -k --no-pager -o cat | grep 'apparmor=\"DENIED\"' || true")
    kept("AppArmor had to refuse nothing", refused == "", refused[-3000:])


def no_error(machine: Machine) -> None:
    """None of the appliance's processes has said that anything went wrong since the machine started."""
    told = in_walls(machine.inside(ERRORS))
    kept("no process has met an error inside its walls", told == [], "\n".join(told)[-3000:])


def in_walls(told: str) -> list[str]:
    """The lines of `ERRORS` that are not `LATE`."""
    return [line for line in told.splitlines() if not any(f'{late}"' in line for late in LATE)]


def held(told: str) -> tuple[Mapping[str, str], list[str]]:
    """Of `LABELS`: the units that have a profile, with it; and the lines of their processes that it doesn't hold."""
    units: dict[str, str] = {}
    loose = []
    for line in told.splitlines():
        unit, profile, *label = line.split(" ")
        wanted = HELD.get(unit, profile)
        if profile not in ("none", wanted):
            loose.append(line)
        if wanted == "none" or label == [""]:  # without a label: it has ended while it was asked for
            continue
        units[unit] = wanted
        if label != [wanted, "(enforce)"]:
            loose.append(line)
    return units, loose


# --- cores and swap --------------------------------------------------------------------------------------------------


def memory(machine: Machine) -> None:
    """There is no swap, and a process that crashes leaves nothing of its memory behind."""
    writes_no_memory_down(machine)
    machine.inside(PLANT)
    found = cores(machine.inside)
    kept("what begins as a core is found", found == [PLANTED], str(found))
    machine.inside(f"rm {PLANTED}")
    pid = machine.inside(f"systemctl show -P MainPID {SPARED}").strip()
    machine.inside(f"kill -SEGV {pid}")
    machine.wait_until(
        f"systemctl is-active --quiet {SPARED} && test $(systemctl show -P NRestarts {SPARED}) -gt 0"
    )
    told = machine.inside(f"journalctl -b --no-pager -o cat -u {SPARED} | grep status=; true")
    kept("a process that crashes is started again", "status=11/SEGV" in told, told)
    found = cores(machine.inside)
    kept("and has left no core anywhere", not found, str(found))


def cores(inside: Callable[[str], str]) -> list[str]:
    """The files that are cores, where the box can write."""
    return inside(f"python3 -I -c '{CORES}'").splitlines()
