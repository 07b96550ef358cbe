"""What the roles install and write, without a machine: the packages that they name, and which updates come by themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.config import DicomConfig
from tests.provisioning import machine
from tests.provisioning.test_playbooks import defaults, rendered, tasks

NEEDED_FOR = {  # what the units, the scripts and the roles start or load, by the package that brings it and no stock Debian has
    "chrony": "the time",
    "nftables": "/usr/sbin/nft",
    "nginx-light": "/usr/sbin/nginx",
    "openssh-server": "sshd; ssh and ssh-keygen come with it",
    "openssl": "tls-front",
    "python3-venv": "the environment",
    "tpm2-tools": "the seal in the TPM2",
    "unattended-upgrades": "updates by themselves",
    "libpango-1.0-0": "papers",
    "libpangoft2-1.0-0": "papers",
    "libharfbuzz-subset0": "papers",
    "fonts-dejavu-core": "papers",
    "fonts-droid-fallback": "papers in Chinese",
}

DEBIANS_OWN = """\
Unattended-Upgrade::Origins-Pattern {
        "origin=Debian,codename=${distro_codename},label=Debian";
        "origin=Debian,codename=${distro_codename},label=Debian-Security";
        "origin=Debian,codename=${distro_codename}-security,label=Debian-Security";
};
"""
"""What the package itself brings as 50unattended-upgrades, in Debian 12 and 13."""


def installed() -> set[str]:
    """The packages that the role brings."""
    return set(tasks("base")["Packages"]["ansible.builtin.apt"]["name"])


# --- packages --------------------------------------------------------------------------------------------------------


def test_the_machine_of_the_tests_gets_by_the_role_what_a_stock_debian_has_not() -> None:
    """It has no network, so what the role installs is in its cache before; a package that the role forgets must not be hidden by that."""
    assert set(machine.ROLE_PACKAGES) == installed(), "nothing can be fetched there"
    assert not set(machine.STOCK_PACKAGES) & installed()


def test_every_package_that_is_needed_is_installed_by_the_role() -> None:
    missing = set(NEEDED_FOR) - installed()
    assert not missing, {name: NEEDED_FOR[name] for name in missing}


def test_no_program_with_rules_of_its_own_for_the_network_stays() -> None:
    """At the next start it would load them beside ours, and nothing would come in: what site.yml flushes is only what is loaded."""
    gone = tasks("base")["Programs that a box in a clinic has no use for"]["ansible.builtin.apt"]
    assert (gone["state"], gone["purge"]) == ("absent", True)
    assert {"ufw", "firewalld", "iptables-persistent", "netfilter-persistent"} <= set(gone["name"])
    assert not set(gone["name"]) & installed()
    assert set(machine.UNWANTED_PACKAGES) <= set(gone["name"])


def test_without_ipv6_debians_own_site_of_the_front_is_not_started() -> None:
    base = tasks("base")
    assert (
        base["Packages"]["ansible.builtin.apt"]["policy_rc_d"]
        == "{{ omit if base_ipv6.stat.exists else 101 }}"
    )
    assert list(base).index("Whether the kernel knows IPv6") < list(base).index("Packages")


# --- updates by themselves -------------------------------------------------------------------------------------------


def dumped(folder: Path, **more: Any) -> dict[str, list[str]]:
    """What apt takes of Debian's own file and ours, read in the order of their names."""
    if shutil.which("apt-config") is None:
        pytest.skip("this machine has no apt")
    (folder / "50unattended-upgrades").write_text(DEBIANS_OWN)
    (folder / "52appliance").write_text(rendered("base", "unattended-upgrades.j2", **more))
    (folder / "apt.conf").write_text(f'Dir::Etc::parts "{folder}/parts";\n')
    parts = folder / "parts"
    parts.mkdir()
    for name in ("50unattended-upgrades", "52appliance"):
        (folder / name).rename(parts / name)
    told = subprocess.run(
        ["apt-config", "dump"],
        env={"PATH": "/usr/bin:/bin", "APT_CONFIG": str(folder / "apt.conf")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stderr == ""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r'^(\S+) "(.*)";$', told.stdout, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_only_security_updates_come_by_themselves(tmp_path: Path) -> None:
    """apt adds to a list that an earlier file has begun: without its emptying, everything of a point release would come too."""
    said = dumped(tmp_path)
    assert said["Unattended-Upgrade::Origins-Pattern::"] == [
        "origin=Debian,codename=${distro_codename},label=Debian-Security",
        "origin=Debian,codename=${distro_codename}-security,label=Debian-Security",
    ]
    assert said["APT::Periodic::Enable"] == ["1"], "or its timers start nothing"
    assert said["APT::Periodic::Update-Package-Lists"] == ["1"], "each day"
    assert said["APT::Periodic::Unattended-Upgrade"] == ["1"]


def test_a_file_that_provisioning_altered_holds_back_no_update(tmp_path: Path) -> None:
    """unattended-upgrades passes over a package that would ask about one, unless dpkg is told what to answer."""
    assert dumped(tmp_path)["DPkg::Options::"] == ["--force-confold"]


@pytest.mark.parametrize("codename", ["bookworm", "trixie"])
def test_the_origins_are_those_of_debians_security_archive(codename: str, tmp_path: Path) -> None:
    """As its Release file says: Origin, Label, and Codename `bookworm-security` (Debian 12), `trixie-security` (13)."""
    archive = {"origin": "Debian", "label": "Debian-Security", "codename": f"{codename}-security"}
    release = {"origin": "Debian", "label": "Debian", "codename": codename}
    origins = [
        dict(word.split("=", 1) for word in each.replace("${distro_codename}", codename).split(","))
        for each in dumped(tmp_path)["Unattended-Upgrade::Origins-Pattern::"]
    ]
    assert archive in origins
    assert release not in origins
    assert {each["codename"] for each in origins} == {codename, f"{codename}-security"}, (
        "of this Debian alone"
    )


def test_a_restart_for_updates_is_at_the_clinics_hour_or_never(tmp_path: Path) -> None:
    said = dumped(tmp_path)
    assert said["Unattended-Upgrade::Automatic-Reboot"] == ["true"]
    assert said["Unattended-Upgrade::Automatic-Reboot-Time"] == [defaults("base")["base_reboot_at"]]
    (tmp_path / "never").mkdir()
    assert dumped(tmp_path / "never", base_reboot_at="")["Unattended-Upgrade::Automatic-Reboot"] == ["false"]


# --- what runs with a library that was replaced ----------------------------------------------------------------------

REPLACED = Path(__file__).parents[2] / "provisioning/roles/base/files/restart-replaced"

HOLDS_A_LIBRARY = """
import ctypes, sys
ctypes.CDLL(sys.argv[1])
print("loaded", flush=True)
sys.stdin.read()
"""

SS = """#!/bin/sh
[ "$*" = "-Htn state established sport = :11112" ] && cat "$(dirname "$0")/connected"
"""

RUN_LATER = """#!/bin/sh
echo "$@" >>"$(dirname "$0")/later"
"""

SYSTEMCTL = """#!/bin/sh
case $1 in
show) [ "$4" = away.service ] || echo "/$4" ;;
try-restart) echo "$2" >>"$(dirname "$0")/restarted"; [ "$2" != stuck.service ] ;;
esac
"""
"""As the script calls it: `show --property=… --value UNIT`, and `try-restart UNIT`."""


def a_library(folder: Path) -> Path:
    """A copy of one that this process has loaded."""
    loaded = re.findall(
        r"(/\S+/libz\.so[.0-9]*|/\S+/libcrypto\.so[.0-9]*|/\S+/libc\.so\.6)$",
        Path("/proc/self/maps").read_text(),
        re.M,
    )
    return Path(shutil.copy(loaded[0], folder / "libtried.so.1"))


def restarts(
    tmp_path: Path, processes: dict[str, str], *units: str, connected: str = ""
) -> tuple[list[str], int]:
    """Which units the script starts anew, and its exit status, where each unit has one process with such a map of its memory.

    What it has done later is in ``bin/later``; `connected` is what `ss` tells of the port 11112.
    """
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("ss", SS), ("systemd-run", RUN_LATER)):
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    (bin_ / "connected").write_text(connected)
    for number, (unit, maps) in enumerate(processes.items(), 100):
        process = tmp_path / "proc" / str(number)
        process.mkdir(parents=True)
        (process / "maps").write_text(maps)
        (process / "cgroup").write_text(f"12:pids:/others\n0::/{unit}\n")
    done = subprocess.run(
        [REPLACED, *units],
        env={"PATH": f"{bin_}:/usr/bin:/bin", "PROC": str(tmp_path / "proc")},
        check=False,
        stdout=subprocess.DEVNULL,
    )
    told = bin_ / "restarted"
    return (told.read_text().split() if told.exists() else [], done.returncode)


def test_reception_is_not_cut_for_it_while_somebody_sends(tmp_path: Path) -> None:
    """A box that was off at night takes its updates by day."""
    maps = "7f0 r-xp 0 08:01 42   /usr/lib/libtried.so.1 (deleted)\n"
    units = {"appliance-dicom.service": maps, "nginx.service": maps}
    asked = ("nginx.service", "appliance-dicom.service:11112")
    (tmp_path / "day").mkdir()
    (tmp_path / "quiet").mkdir()
    sends = "0 0 192.168.1.5:11112 192.168.1.40:50112\n"
    assert restarts(tmp_path / "day", units, *asked, connected=sends) == (["nginx.service"], 0)
    later = (tmp_path / "day/bin/later").read_text().split()
    assert later == [
        "--quiet",
        "--collect",
        "--on-active=10min",
        str(REPLACED),
        "appliance-dicom.service:11112",
    ]
    assert restarts(tmp_path / "quiet", units, *asked) == (["nginx.service", "appliance-dicom.service"], 0)
    assert not (tmp_path / "quiet/bin/later").exists()


def test_who_runs_with_a_replaced_library_is_started_anew_and_nobody_else(tmp_path: Path) -> None:
    library = a_library(tmp_path)
    holds = subprocess.Popen(
        [sys.executable, "-c", HOLDS_A_LIBRARY, library], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holds:
        assert holds.stdout is not None
        assert holds.stdout.readline() == b"loaded\n"
        maps = Path(f"/proc/{holds.pid}/maps")
        before = maps.read_text()
        shutil.copy(library, tmp_path / "new")
        (tmp_path / "new").replace(library)  # as dpkg lays it down
        after = maps.read_text()
    units = {"stuck.service": after, "front.service": after, "other.service": before}
    asked = ("away.service", "stuck.service", "front.service", "other.service", "nt.service")
    assert restarts(tmp_path, units, *asked) == (["stuck.service", "front.service"], 1)


def test_what_is_started_anew_is_of_the_appliance_or_installed_by_the_role() -> None:
    packages = {"nginx": "nginx-light", "ssh": "openssh-server", "chrony": "chrony"}
    units = {path.stem for path in (REPLACED.parents[4] / "systemd/system").glob("appliance-*.service")}
    asked = dict(each.partition(":")[::2] for each in defaults("base")["base_restarted"])
    assert {each.removesuffix(".service") for each in asked} == units | packages.keys()
    waits = {unit: port for unit, port in asked.items() if port}
    assert waits == {"appliance-dicom.service": str(DicomConfig().port)}
    assert set(packages.values()) <= installed()
