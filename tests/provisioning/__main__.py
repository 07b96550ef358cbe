"""`python -m tests.provisioning [vm|runbooks|shut] [12|13]`: provision a booted Debian twice, and use it as a clinic would.

    make test-machine                a Debian 13 in a container; ARGS=12 for a Debian 12
    make test-machine ARGS=shut      one like it, by an account with sudo, and SSH shut when all is done; ARGS="shut 12"
    make test-machine ARGS=runbooks  one like it, and what the help's runbooks say to type at it; ARGS="runbooks 12"
    make test-machine ARGS=vm        one in QEMU, with a kernel, disks, a clock and a start of its own; ARGS="vm 12"

Needs root and debootstrap, systemd-nspawn for the container or QEMU for the other (`apt-get install debootstrap systemd-container
qemu-system-x86`), and the network once for the packages. It says each promise as it has seen it kept, and ends at the first that isn't.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from itertools import islice
from pathlib import Path

from pydicom import Dataset

from appliance import __version__
from appliance.store import credential
from tests import synthetic
from tests.image.promises import https, kept, listening, practitioner, writes_no_memory_down
from tests.image.remains import nothing_in_clear
from tests.provisioning import clocks, emulated, machine, shutting
from tests.provisioning.limits import SERVICES, is_walled
from tests.provisioning.machine import THERE, Machine, running
from tests.provisioning.playing import KEPT, ROOT, checkout, hosts, play, played, shuts_nobody_out
from tests.provisioning.runbooks import runbooks
from tests.provisioning.supporting import VENDOR_PORT, Endpoint, ends, looks, opens, runs_out, standing
from tests.provisioning.updating import takes_changed_units, takes_security_updates
from tests.system.dcmtk import storescu_command

UPDATE_UNITS = "apt-daily.timer apt-daily-upgrade.timer apt-daily.service apt-daily-upgrade.service"
"""What Debian's updates come by: turned off before the playbook."""
SUITE_OF = {"12": "bookworm", "13": "trixie"}
PYTHON_OF = {"bookworm": "3.11", "trixie": "3.13"}
PROMISED_PORTS = {443, 11112}
"""What the firewall lets in, and what answers. 2762 (DICOM over TLS) joins them once something listens there."""

SPOILT, REASON = "0.1.1", "this version was spoilt for the test"


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.provisioning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words", nargs="*", metavar="vm|runbooks|shut|12|13", help="which story; which Debian (default: 13)"
    )
    words = parser.parse_args().words
    story, suite = chosen(words) or parser.error(f"not understood: {' '.join(words)}")
    # Ended from outside, it must not leave a machine running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="machine-", dir=KEPT) as scratch:
        STORIES[story](suite, Path(scratch))
    print(f"all promises kept, in {time.monotonic() - began:.0f} seconds")


def chosen(words: Sequence[str]) -> tuple[str, str] | None:
    """Which story (empty: the long one), and of which Debian; `None` if `words` say neither or both ways."""
    kinds, versions = (
        [each for each in words if each in STORIES],
        [each for each in words if each in SUITE_OF],
    )
    if len(kinds) > 1 or len(versions) > 1 or len(kinds) + len(versions) < len(words):
        return None
    return kinds[0] if kinds else "", SUITE_OF[versions[0] if versions else "13"]


def in_container(suite: str, scratch: Path) -> None:
    """The long story, which ends with an update that fails."""
    wheel, wheels = build(suite)
    with machine.booted(machine.stock(KEPT, suite), scratch) as (box, root):
        inventory = scratch / "hosts.json"
        # No disk can be lent to a container: a file system in memory is mounted by the same line of fstab.
        inventory.write_text(json.dumps(hosts(box, "tmpfs", "tmpfs")))
        box.inside(f"systemctl mask --now {UPDATE_UNITS}")
        found = has_of_the_roles(box)
        kept(
            "it has little of what is needed, and programs that a box has no use for",
            found == ({*machine.FOUND_PACKAGES}, {*machine.UNWANTED_PACKAGES}),
            str(found),
        )
        becomes_an_appliance(inventory, wheel, wheels)
        found = has_of_the_roles(box)
        kept(
            "all that is needed was installed, and those programs are gone",
            found == ({*machine.ROLE_PACKAGES}, set()),
            str(found),
        )
        kept("one that only looks finds nothing to change", play(inventory, wheel, wheels, "--check") == 0)
        shuts_nobody_out(box, inventory, wheel, wheels)
        use(box)
        takes_security_updates(box)
        takes_changed_units(box, inventory, wheel, wheels)
        kept("and an image is received at the port that was opened anew", send_one(box))
        nothing_in_clear_in(root, box)
        fails_an_update(box, inventory, wheel, wheels)


def by_the_runbooks(suite: str, scratch: Path) -> None:
    """What the help says to type, from the claim code to the end of a box's life."""
    wheel, wheels = build(suite)
    with machine.booted(machine.base(KEPT, suite), scratch) as (box, _):
        inventory = scratch / "hosts.json"
        inventory.write_text(json.dumps(hosts(box, "tmpfs", "tmpfs")))
        becomes_an_appliance(inventory, wheel, wheels)
        runbooks(box, lambda number: send_one(box, number))


def in_emulation(suite: str, scratch: Path) -> None:
    """What only a machine with a kernel, disks and a clock of its own shows, and what a start leaves of it."""
    wheel, wheels = build(suite)
    with emulated.booted(KEPT, suite, scratch) as box:
        kept("a Debian starts in QEMU", "x86_64" in box.inside("uname -m"), emulated.console(scratch))
        inventory = scratch / "hosts.json"
        named = hosts(box, f"LABEL={emulated.BACKUP}", base_ntp_servers=[clocks.HERE])
        inventory.write_text(json.dumps(named))
        clocks.begins_slow(box)
        swaps = box.inside("cat /proc/swaps").splitlines()[1:]
        kept("it has swap, as an installer gives it", len(swaps) == 1, str(swaps))
        becomes_an_appliance(inventory, wheel, wheels)
        emulated.copy_disk(box, before := scratch / "before.raw", scratch)
        runs(box)
        is_walled(box)
        hears_what_is_promised(box)
        calls_out_by_account(box)
        clocks.keeps_time(box)
        writes_no_memory_down(box)
        bearer = takes_a_study(box)
        kept("the backup disk becomes an archive, and a backup lies there", backs_up(box))
        emulated.restart(box)
        is_as_it_was(box, bearer)
        kept("another image is received and acknowledged", send_one(box, 1))
        emulated.power_off(box)
        kept("it goes off when it is told to", box.process.poll() == 0)
    for name in (emulated.SYSTEM, emulated.BACKUP, emulated.SWAP):
        disk = scratch / f"{name}.raw"
        nothing_in_clear(disk, before, [film(), film(1)], disk.stat().st_size - emulated.TAIL_BYTES)


def with_its_door_shut(suite: str, scratch: Path) -> None:
    """Provisioned by an account that is not root, of a box that nobody is to reach: the first run, and the next one at the machine."""
    wheel, wheels = build(suite)
    brought = shutting.ansible_for(PYTHON_OF[suite])
    with machine.booted(machine.base(KEPT, suite, "sudo"), scratch, machine.Entered, shutting.let_in) as (
        box,
        root,
    ):
        inventory = scratch / "hosts.json"
        inventory.write_text(json.dumps(shutting.hosts_of(box)))
        shutting.shuts_the_door(box, inventory, wheel, wheels)
        runs(box)
        takes_a_study(box)
        shutting.runs_at_the_machine(box, root, inventory, wheel, brought)
        kept("and nobody comes in by SSH after it", not shutting.answers(box, 22))
        kept("another image is received and acknowledged", send_one(box, 1))


STORIES: Mapping[str, Callable[[str, Path], None]] = {
    "": in_container,
    "vm": in_emulation,
    "runbooks": by_the_runbooks,
    "shut": with_its_door_shut,
}


def is_as_it_was(box: Machine, bearer: str) -> None:
    """After a start of its own: all runs, and what it was given is there, on both disks."""
    runs(box)
    hears_what_is_promised(box)
    clocks.keeps_time(box)
    writes_no_memory_down(box)
    kept("after a start of its own the study is still there", *seen(box, bearer))
    whole = box.inside("appliance verify --all", check=False)
    kept("and whole, byte for byte", "all are whole" in whole, whole)
    kept("the backup disk is there by itself", box.inside("mountpoint /mnt/backup") != "")
    kept("and the backup on it", "DISK" in box.inside("appliance backup list"))


def becomes_an_appliance(inventory: Path, wheel: Path, wheels: Path) -> None:
    """The playbook, twice."""
    kept("the first run makes an appliance of it", play(inventory, wheel, wheels) > 0)
    kept("the second run changes nothing", play(inventory, wheel, wheels) == 0)


def build(suite: str) -> tuple[Path, Path]:
    """The wheel of this tree, and a folder with every wheel that a box of `suite` needs."""
    version = PYTHON_OF[suite]
    built, wheels = KEPT / "dist", KEPT / f"wheels-{version}"
    run = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*run, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(built), str(ROOT)], check=True
    )
    subprocess.run(
        [
            *(*run, "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
            *("--python-version", version, "--dest", str(wheels)),
            *("--requirement", str(ROOT / f"requirements-{version}-box.lock")),
        ],
        check=True,
    )
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        if not any(name.endswith("static/build/manifest.json") for name in packed.namelist()):
            raise SystemExit("the wheel has no web assets: run make setup")
    return wheel, wheels


def has_of_the_roles(box: Machine) -> tuple[set[str], set[str]]:
    """Of the packages that the role installs, and of those that it takes away, the ones that are there."""
    return machine.installed(box, machine.ROLE_PACKAGES), machine.installed(box, machine.UNWANTED_PACKAGES)


def use(box: Machine) -> None:
    """What a clinic, a stranger and an attacker find."""
    runs(box)
    is_walled(box)
    found = open_ports()
    kept("open ports are those promised", found == PROMISED_PORTS, str(found))
    calls_out_by_account(box)
    certificate = box.inside(
        "openssl s_client -connect 127.0.0.1:443 </dev/null 2>/dev/null | openssl x509 -noout -subject"
    )
    kept("the console answers through TLS", "clinicbox" in certificate, certificate)
    box.inside(f"appliance device add --ae-title PANO --address {box.here}")
    kept("an image is received and acknowledged", send_one(box))
    kept(
        "and seen by the administrator",
        "DX" in box.inside("appliance studies") or "PX" in box.inside("appliance studies"),
    )
    kept("the backup disk becomes an archive, and a backup lies there", backs_up(box))
    kept("without a session of support no line runs", not running(box, "support-line.service"))
    vendor = Endpoint(box.key.parent / "vendor", (box.here, VENDOR_PORT), (box.here, VENDOR_PORT))
    with standing(vendor):
        opens(box, vendor)
        kept("a session opens the line, and who comes in through it looks", looks(box, vendor))
        kept("its end ends the line, and who was in", ends(box, vendor))
        left = runs_out(box, vendor)
        kept(f"a session that runs out by itself is gone {left}", left.is_kept(), str(left))
    kept("a service that hangs is ended and comes back", comes_back(box))


def runs(box: Machine) -> None:
    """All that it is made of has started, and is well."""
    box.wait_until("systemctl is-system-running")
    kept("nothing has failed", box.inside("systemctl is-system-running").strip() == "running")
    for name in SERVICES:
        unit = f"appliance-{name}.service"
        kept(f"{name} runs, and says so", box.inside(f"systemctl is-active {unit}").strip() == "active")
        restarts = box.inside(f"systemctl show -P NRestarts {unit}").strip()
        kept(f"{name} was never restarted", restarts == "0")
    told = box.inside("journalctl --no-pager -o cat -u 'appliance-*'")
    kept("no process has met an error inside its walls", '"level": "ERROR"' not in told, told[-2000:])
    status = json.loads(box.inside("appliance status --json"))
    kept("the administrator's command opens the box", bool(status))
    no_file = box.inside("test -e /var/lib/appliance/keys/machine.key || echo none").strip()
    kept("its seal is the machine's, not a file", no_file == "none")
    sealed = box.inside("cat /var/lib/machine-seal/machine-seal.cred")
    kept("as on a machine without a TPM2", not credential.is_by_tpm2(sealed.encode()), sealed[:24])
    kept("which is told", "machine-seal" in {each["code"] for each in status["problems"]})


def hears_what_is_promised(box: Machine) -> None:
    """What listens beyond the machine itself, by its kernel's own word: who would be let in is `tests.provisioning.walls`'s to see."""
    heard, promised = listening(box), {("tcp", port) for port in (22, *PROMISED_PORTS)}
    kept("what listens is SSH and what is promised, and nothing else", heard == promised, str(heard))


def takes_a_study(box: Machine) -> str:
    """A modality is admitted and sends a film; the token of a person's program, to which the console shows its study."""
    box.inside(f"appliance device add --ae-title PANO --address {box.here}")
    bearer = practitioner(box)
    kept("a study is received and acknowledged", send_one(box))
    box.wait_until(f"appliance studies --json | grep -qF {film().StudyInstanceUID}")
    kept("its StudyInstanceUID is seen through HTTPS", *seen(box, bearer))
    return bearer


def seen(box: Machine, bearer: str) -> tuple[bool, str]:
    """Whether the console shows the study that `send_one` sends; what it shows."""
    shown = https(box, "/api/v1/studies", bearer, host=box.address)
    uids = [each["study_instance_uid"] for each in json.loads(shown)["items"]]
    return str(film().StudyInstanceUID) in uids, shown[:500]


def calls_out_by_account(box: Machine) -> None:
    """Of all accounts, those that the product needs reach this machine; the others are told at once that they don't."""
    with socket.create_server(box.clinic_here):
        call = f"import socket; socket.create_connection({box.clinic}, 60)"
        for account, reaches in (("appliance", True), ("nobody", False), ("appliance-support", False)):
            told = box.inside(
                f'setpriv --reuid={account} --clear-groups python3 -I -c "{call}" 2>&1 && echo reached',
                check=False,
            )
            so = "reached" in told if reaches else "No route to host" in told
            kept(f"{account} {'reaches' if reaches else 'does not reach'} a system of the clinic", so, told)


# --- the runbook of an update that failed ----------------------------------------------------------------------------


def fails_an_update(box: Machine, inventory: Path, wheel: Path, wheels: Path) -> None:
    """Install a version whose console does not start, and do what the help says then, step by step."""
    before, studies = __version__, box.inside("appliance studies")
    first = environments(box)
    kept("the program has one environment", len(first) == 1, str(first))
    later = spoilt(wheel, box.key.parent)
    refused = played(inventory, later, wheels)
    kept(
        "a version is not installed by another one's playbook",
        refused.returncode != 0 and "run the site.yml that came with it" in " ".join(refused.stdout.split()),
        refused.stdout[-2000:],
    )
    failed = played(inventory, later, wheels, tree=checkout(SPOILT, box.key.parent / "later"))
    kept("an update whose console does not start is told by the playbook", failed.returncode != 0)
    told = [(line, box.inside(line, check=False)) for line in runbook("update-failed")]
    for line, out in told:
        print(f"--- {line}\n{out.strip()[:1500]}", flush=True)
    version, status, units, journal = (out for _, out in told)
    kept("as which version it runs is said", SPOILT in version, version)
    kept("and that reception runs", "Kept:" in status and "dicom process" not in status, status)
    kept(
        "and that nobody can look at images",
        status.startswith("Not ready.") and "the web process does not run" in status,
        status,
    )
    (row,) = [line for line in units.splitlines() if "appliance-web.service" in line]
    kept("the unit that does not run is seen", "activating" in row, units)
    kept("and why is in its journal", REASON in journal, journal)
    kept("and an image is received meanwhile", send_one(box))
    kept("the version before is installed again", play(inventory, wheel, wheels) > 0)
    kept("and changes nothing a second time", play(inventory, wheel, wheels) == 0)
    last = environments(box)
    kept("of three environments one is left", len(last) == 1 and last != first, str(last))
    box.wait_until("systemctl is-active appliance-web.service")
    kept("it runs as it did before", before in box.inside("appliance --version"))
    kept("with all that it had", box.inside("appliance studies") == studies)


def runbook(section: str) -> list[str]:
    """What the help says to type at the machine; the playbook is run from here."""
    help_text = (ROOT / "web-ui/help/en/runbooks.html").read_text("utf-8")
    (text,) = re.findall(rf'<h2 id="{section}">.*?(?=<h2|\Z)', help_text, re.DOTALL)
    lines = [unescape(each) for each in re.findall(r"<code>(.*?)</code>", text)]
    return [each for each in lines if not each.startswith("ansible-playbook")]


def environments(box: Machine) -> list[str]:
    return box.inside("ls /usr/lib/appliance/venvs").split()


def spoilt(wheel: Path, folder: Path) -> Path:
    """The same software as `wheel` under a later number, whose console does not start."""
    made = folder / wheel.name.replace(__version__, SPOILT)
    with zipfile.ZipFile(wheel) as good, zipfile.ZipFile(made, "w") as bad:
        for each in good.infolist():
            data = good.read(each)
            if each.filename == "appliance/web/server.py":
                data = f'raise RuntimeError("{REASON}")\n'.encode()
            elif each.filename == "appliance/__init__.py" or ".dist-info/" in each.filename:
                data = data.replace(__version__.encode(), SPOILT.encode())
            bad.writestr(each.filename.replace(f"-{__version__}.dist-info", f"-{SPOILT}.dist-info"), data)
    return made


def film(number: int = 0) -> Dataset:
    """Of a patient's films the one that is sent."""
    return next(islice(synthetic.dental_set(1, scale=0.1), number, None))


def send_one(box: Machine, number: int = 0) -> bool:
    """Send a film, as the modality that this machine was admitted as."""
    path = KEPT / "film.dcm"
    film(number).save_as(path, enforce_file_format=True)
    command = storescu_command(box.ports[11112], calling="PANO", called="PROVISIONED", files=[path])
    command[command.index("127.0.0.1")] = box.address
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def backs_up(box: Machine) -> bool:
    """Make an archive of the disk that provisioning mounted, and lay a backup there."""
    mounted = box.inside("findmnt --noheadings --output OPTIONS /mnt/backup; stat -c %U:%a /mnt/backup")
    box.inside("appliance destination add vault DISK --path /mnt/backup")
    box.inside("appliance backup now --to DISK")
    return (
        {"nodev", "nosuid", "noexec"} <= set(re.split(r"[,\s]", mounted))
        and "appliance:700" in mounted
        and "DISK" in box.inside("appliance backup list")
    )


def comes_back(box: Machine) -> bool:
    """Stop the upkeep in its tracks; the watchdog must notice."""
    before = box.inside("systemctl show -P MainPID appliance-jobs").strip()
    box.inside("mkdir -p /run/systemd/system/appliance-jobs.service.d")
    box.inside(
        "printf '[Service]\\nWatchdogSec=10\\n' >/run/systemd/system/appliance-jobs.service.d/quick.conf"
    )
    box.inside("systemctl daemon-reload && systemctl restart appliance-jobs")
    pid = box.inside("systemctl show -P MainPID appliance-jobs").strip()
    box.inside(f"kill -STOP {pid}")
    box.wait_until(
        f'test "$(systemctl show -P MainPID appliance-jobs)" != {pid} && systemctl is-active appliance-jobs'
    )
    return before != pid


CHARSETS = ("latin-1", "utf-8")
"""A film has its patient's name in the first, and what is made of it in the second."""


def nothing_in_clear_in(root: Path, box: Machine) -> None:
    """No name of the synthetic patient stands in clear in the machine's file system; those that it is made to write there are found."""
    for charset in CHARSETS:
        write = f"open('/var/lib/planted.{charset}', 'wb').write({family_name()!a}.encode('{charset}'))"
        box.inside(f'python3 -I -c "{write}"')
    found = clear_words_in(root)
    planted = {str(root / f"var/lib/planted.{charset}") for charset in CHARSETS}
    kept("a name that is written to its disk in clear is found there", planted <= set(found), str(found))
    box.inside("rm /var/lib/planted.*")
    found = clear_words_in(root)
    kept("no clear word is on its disk", not found, str(found))


def family_name() -> str:
    return str(film().PatientName).split("^")[0]


def clear_words_in(root: Path) -> list[str]:
    """The files in which a name of the synthetic patient stands in clear."""
    names = [word for charset in CHARSETS for word in (b"-e", family_name().encode(charset))]
    searched = [root / each for each in ("var", "etc", "run", "tmp", "root")]
    # Byte by byte: in a locale of UTF-8 no line with a byte of another charset would match.
    words: list[bytes | str | Path] = ["grep", "-rlaF", *names, *searched]
    found = subprocess.run(words, env=os.environ | {"LC_ALL": "C"}, capture_output=True, check=False)
    return found.stdout.decode().splitlines()


def open_ports() -> set[int]:
    """TCP ports that answer from outside, of all there are but SSH's, which is open to this machine alone."""

    def answers(port: int) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex((THERE, port)) == 0

    ports = [port for port in range(1, 65536) if port != 22]
    with ThreadPoolExecutor(512) as threads:
        return {port for port, does in zip(ports, threads.map(answers, ports), strict=True) if does}


if __name__ == "__main__":
    main()
