"""What a provisioned Debian has that was changed on its disk is what runs: after security updates, and after a later playbook.

Whether it takes such an update by itself is asked with one: two packages of the test's own, each with a newer version in an archive on its disk, of which one calls itself
Debian's archive of security updates, and the other Debian's release.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from appliance import __version__
from tests.image.promises import kept
from tests.provisioning.machine import Machine
from tests.provisioning.playing import checkout, play

PLACE = "/srv/tried"
NAMES = {"of-security": "Debian-Security", "of-release": "Debian"}
"""The packages, by the label of their archive."""

_OFFERS = f"""\
set -eu
exec 9>/var/lib/apt/daily_lock
flock -w 600 9  # Debian's own timer may be at it
. /etc/os-release
made() {{
  tree={PLACE}/tree
  rm -rf "$tree"
  mkdir -p "$tree/DEBIAN" "$tree/etc" "{PLACE}/$1"
  printf 'Package: %s\\nVersion: %s\\nArchitecture: all\\nMaintainer: tests <tests@example.com>\\nDescription: tried\\n' "$1" "$2" >"$tree/DEBIAN/control"
  echo "/etc/$1.conf" >"$tree/DEBIAN/conffiles"
  echo "as version $2 brings it" >"$tree/etc/$1.conf"
  dpkg-deb --root-owner-group --build "$tree" "$3" >/dev/null
}}
offered() {{
  made "$1" 1 {PLACE}/first.deb
  dpkg --install {PLACE}/first.deb >/dev/null
  echo "as somebody has altered it" >"/etc/$1.conf"
  cd "{PLACE}/$1"
  made "$1" 2 "$PWD/second.deb"
  {{
    dpkg-deb --field second.deb
    printf 'Filename: ./second.deb\\nSize: %s\\nSHA256: %s\\n' "$(stat -c %s second.deb)" "$(sha256sum second.deb | cut -d' ' -f1)"
  }} >Packages
  printf 'Origin: Debian\\nLabel: %s\\nCodename: %s\\nDate: %s\\nSHA256:\\n %s %s Packages\\n' "$2" "$3" "$(date -Ru)" \\
    "$(sha256sum Packages | cut -d' ' -f1)" "$(stat -c %s Packages)" >Release
  echo "deb [trusted=yes] file:$PWD ./" >>/etc/apt/sources.list.d/tried.list
}}
offered of-security {NAMES["of-security"]} "$VERSION_CODENAME-security"
offered of-release {NAMES["of-release"]} "$VERSION_CODENAME"
apt-get -qq -o Dir::Etc::SourceList=/etc/apt/sources.list.d/tried.list -o Dir::Etc::SourceParts=/dev/null -o APT::Get::List-Cleanup=0 update
"""

_FORGETS = f"""\
dpkg --purge {" ".join(NAMES)} >/dev/null
rm -rf {PLACE} /etc/apt/sources.list.d/tried.list /var/lib/apt/lists/*tried*
"""

_VERSIONS = "dpkg-query -W -f '${Package}=${Version} ' " + " ".join(NAMES)


def takes_security_updates(box: Machine) -> None:
    """What Debian's own timer starts each day takes the one, and leaves the other."""
    box.inside(_OFFERS)
    there = box.inside("apt-cache policy " + " ".join(NAMES))
    kept("of two packages there is a newer version", there.count("Candidate: 2") == len(NAMES), there)
    told = box.inside("flock -w 600 /var/lib/apt/daily_lock unattended-upgrade --verbose 2>&1", check=False)
    versions = box.inside(_VERSIONS).split()
    kept(
        "it takes that of the security archive by itself, and not that of the release",
        sorted(versions) == ["of-release=1", "of-security=2"],
        told,
    )
    conf = box.inside("cat /etc/of-security.conf")
    kept("although a file of it was altered, which stays", "somebody has altered" in conf, conf)
    box.inside(_FORGETS)


def starts_anew_what_was_mended(box: Machine) -> None:
    """After security updates: a library that the front has open is replaced by its like, as dpkg does it."""
    follows = box.inside("systemctl show apt-daily-upgrade.service -p ExecStartPost --value")
    found = re.search(r"argv\[\]=(/usr/local/sbin/restart-replaced [^;]+) ;", follows)
    kept(
        "something looks after security updates who runs with what they replaced", found is not None, follows
    )
    assert found is not None
    before = main_process(box, "nginx")
    library = box.inside(
        "grep -om1 '/[^ ]*libssl.so.3' /proc/$(systemctl show nginx -p MainPID --value)/maps"
    ).strip()
    box.inside(f"cp -a {library} {library}.new && mv {library}.new {library}")
    said = box.inside(found[1])
    kept(
        "the front is started anew where a library of it was replaced, and who has no such one is not",
        main_process(box, "nginx") != before and "nginx.service" in said and "chrony" not in said,
        said,
    )
    kept("and nobody is twice", box.inside(found[1]) == "")


def main_process(box: Machine, unit: str) -> str:
    return box.inside(f"systemctl show {unit} -p MainPID --value").strip()


CHANGES = {
    "appliance-dicom.socket": ("Backlog=128", "Backlog=64"),
    "clock-state.timer": ("OnUnitActiveSec=2min", "OnUnitActiveSec=3min"),
    "support-line.path": ("[Path]\n", "[Path]\nPathExists=/run/appliance-desk/another\n"),
}
"""Of a later version: in each unit, what was there, and what is instead."""
UNTOUCHED = ("appliance-web", "appliance-courier", "appliance-jobs", "nginx")


def takes_changed_units(box: Machine, inventory: Path, wheel: Path, wheels: Path) -> None:
    """A playbook whose socket, timer and path are others: these are what runs then, and nothing else was interrupted for it."""
    tree = checkout(__version__, box.key.parent / "changed")
    for name, (before, after) in CHANGES.items():
        unit = tree / "systemd/system" / name
        text = unit.read_text()
        assert text.count(before) == 1, name
        unit.write_text(text.replace(before, after))
    begun, running = _since(box, CHANGES), [main_process(box, unit) for unit in UNTOUCHED]
    kept(
        "a playbook with another socket, timer and path is played",
        play(inventory, wheel, wheels, tree=tree) > 0,
    )
    shown = box.inside(
        f"systemctl show -p Backlog,TimersMonotonic,Paths,NeedDaemonReload {' '.join(CHANGES)}"
    )
    known = all(
        each in shown for each in ("Backlog=64", "OnUnitActiveUSec=3min", "/run/appliance-desk/another")
    )
    kept("systemd knows all three", known and "NeedDaemonReload=yes" not in shown, shown)
    since = _since(box, CHANGES)
    again = [name for name in CHANGES if since[name] != begun[name]]
    kept("and each was started anew", again == list(CHANGES), f"{begun} {since}")
    listening = box.inside("ss -Hltn 'sport = :11112'")
    kept("the port is the new socket's, by the kernel's word", listening.split()[2:3] == ["64"], listening)
    kept("DICOM runs", box.inside("systemctl is-active appliance-dicom.service").strip() == "active")
    still = [main_process(box, unit) for unit in UNTOUCHED]
    kept(
        "and the console, the courier, the upkeep and the front were let be",
        still == running,
        f"{running} {still}",
    )
    kept("the run after it changes nothing", play(inventory, wheel, wheels, tree=tree) == 0)


def _since(box: Machine, units: Iterable[str]) -> dict[str, str]:
    """When each was started last."""
    asks = "systemctl show -P ActiveEnterTimestampMonotonic "
    return {unit: box.inside(asks + unit).strip() for unit in units}
