"""`python -m tests.image`: boot the image that `make image` built, and use it as a clinic, a thief and a power cut would.

    make test-image                 the promises of a box that was just unpacked, through three starts
    make test-image ARGS=theft      the disk in another machine, and the production image's refusal of credentials
    make test-image ARGS=cleared    the TPM2 cleared in the firmware's setup, as of a box that goes for good: nothing opens its disk
    make test-image ARGS=esp        what lies beside the kernel image on the ESP, where no signature covers it
    make test-image ARGS=pin        a PIN at each start: chosen, changed, typed, taken away
    make test-image ARGS="power --cuts 1000"    power cuts under load, one after the other
    make test-image ARGS="unflushed --cuts 1000"    what a disk may hold after a cut at any write of a run, each opened again
    make test-image ARGS=sticks     disks that are plugged in: one for backups, one with an update
    make test-image ARGS=install    the stick that installs, from the loader's menu on, on a machine with an empty disk; needs `image-build/build installer`
    make test-image ARGS=runbooks   a box installed, set up, its disk replaced and restored; needs `image-build/build test-installer`
    make test-image ARGS=support    a session of remote support, within the image's walls
    make test-image ARGS=afar       every port of a running box, asked from the clinic's network
    make test-image ARGS=scan       OpenSCAP's and lynis's figures of a running box; needs `image-build/build scanners`
    make test-image ARGS=starts     the loader's menu, what isn't signed, two disks, what hangs, a power cut at a first start; ARGS="starts signed" for some
    make test-container             the container for evaluation: built, claimed, sent a study, and made anew over its volume
    python -m tests.image offers    what sysupdate takes and refuses, without a machine; the first part of the next
    make test-update                updates that are cut, refused, good, damaged and failing; ARGS="good failing" for some
    make test-update ARGS=ring      a version that a fleet's ring names; ARGS=night: the hours in which one starts by itself
    make test-update ARGS=asked     a version that somebody starts in the console, outside of its hours

Needs root, QEMU, OVMF and swtpm (installed by apt where they are missing). Everything is emulated, so that it runs where
no hardware can be lent: a start takes two to four minutes. It says each promise as it has seen it kept, with the hour, and
ends at the first that isn't.

What it cannot show: a disk that loses what it had promised to keep (of a machine that is killed, it loses nothing at all; `unflushed`
makes it lose what it had not promised), real network cards, and a firmware that is not OVMF.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from pydicom.dataset import Dataset

from appliance.store import credential
from tests import synthetic
from tests.image.afar import afar
from tests.image.asking import asked
from tests.image.confinement import memory, no_error, walls
from tests.image.container import container
from tests.image.load import CALLING, HERE, admit, cut_under_load, nothing_is_lost, power
from tests.image.machine import Hardware, Machine, install_programs, switched_on
from tests.image.network import clock, firewall
from tests.image.night import night
from tests.image.offers import offers
from tests.image.person import becomes_owner, prints_a_paper, sees_pictures
from tests.image.plugged import installation, sticks
from tests.image.promises import (
    BUILT,
    PROMISED_PORTS,
    answers,
    https,
    image,
    kept,
    listening,
    practitioner,
    running,
)
from tests.image.remains import nothing_in_clear
from tests.image.ring import ring
from tests.image.runbooks import runbooks
from tests.image.scanning import scan
from tests.image.screen import screen
from tests.image.shut import cleared, esp, pin, theft
from tests.image.starts import PARTS as STARTS
from tests.image.starts import starts
from tests.image.steps import every_step
from tests.image.supported import support
from tests.image.unflushed import unflushed
from tests.image.updates import PARTS, updates
from tests.system.dcmtk import storescu_command

PARTS_OF_A_BOX = (
    "box",
    "theft",
    "cleared",
    "esp",
    "pin",
    "power",
    "unflushed",
    "sticks",
    "install",
    "runbooks",
    "support",
    "afar",
    "scan",
)
ON_A_BOX_OF_ITS_OWN: dict[str, Callable[[Hardware], None]] = {"ring": ring, "night": night, "asked": asked}
"""Of updates: what begins with a box from its carton, after those that share one."""

UPDATES = ("cut", *PARTS, *ON_A_BOX_OF_ITS_OWN)
SEVERAL = {"starts": tuple(STARTS), "updates": UPDATES}
"""What several things are tried of, each by its name."""

SERVICES = ("dicom", "courier", "jobs", "web")


def taken_and_cut() -> None:
    """What sysupdate takes and refuses, and an update that is cut before each of its steps."""
    offers()
    every_step()


WITHOUT_A_MACHINE: dict[str, Callable[[], None]] = {
    "offers": taken_and_cut,
    "container": lambda: container(morning()),
}

COUNT = 'import json, sys; print(*(each["instances"] for each in json.load(sys.stdin) if each["study_instance_uid"] == sys.argv[1]))'
"""Prints how many images the study of its argument has, of what `appliance studies --json` says."""


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.image", description=__doc__)
    parser.add_argument(
        "part", nargs="?", choices=[*PARTS_OF_A_BOX, *WITHOUT_A_MACHINE, *SEVERAL], default="box"
    )
    several = "; ".join(f"of `{name}` these alone: {' '.join(every)}" for name, every in SEVERAL.items())
    parser.add_argument("chosen", nargs="*", help=several)
    parser.add_argument(
        "--cuts", type=int, default=3, help="of `power` and `unflushed`: how often (default 3)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of `unflushed`: of what is drawn (default 1)")
    arguments = parser.parse_args()
    part, there = arguments.part, SEVERAL.get(arguments.part, ())
    chosen = frozenset(arguments.chosen or there)
    if not chosen <= set(there):
        parser.error(f"there is no {' '.join(chosen - set(there))}")
    if part in WITHOUT_A_MACHINE:
        WITHOUT_A_MACHINE[part]()
        return
    install_programs()
    # Ended from outside, it must not leave a machine running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="machine-", dir=BUILT) as scratch:
        hardware = Hardware(Path(scratch))
        if part == "updates":
            if chosen - set(ON_A_BOX_OF_ITS_OWN):
                updates(hardware, chosen)
            for name in (each for each in ON_A_BOX_OF_ITS_OWN if each in chosen):
                ON_A_BOX_OF_ITS_OWN[name](hardware)
        elif part == "starts":
            starts(hardware, chosen)
        elif part == "power":
            power(hardware, arguments.cuts)
        elif part == "unflushed":
            unflushed(hardware, arguments.cuts, arguments.seed)
        else:
            OF_A_BOX[part](hardware)
    print(f"all promises kept, in {(time.monotonic() - began) / 60:.0f} minutes")


# --- a box from its carton -------------------------------------------------------------------------------------------


def box(hardware: Hardware) -> None:
    """First start, a study, load, a cut of the power, second start, and what is left on the disk."""
    hardware.assemble(image(".test"))
    ledger: set[str] = set()
    with switched_on(hardware, ports=(*PROMISED_PORTS, 22, 8080)) as machine:
        running(machine)
        is_as_promised(machine)
        stays_awake(machine)
        use(machine)
        walls(machine)  # once more: what has been used is what could have been refused
        no_error(machine)
        memory(machine)
        cut_under_load(machine, ledger)
    with switched_on(hardware, ports=tuple(PROMISED_PORTS)) as machine:
        running(machine, "it starts again after the cut, and nothing has failed")
        nothing_is_lost(machine, ledger)
        kept("the same /var was opened by the TPM2", machine.inside("cat /var/lib/disk-recovery/key") != "")
        machine.power_off()
    nothing_in_clear(hardware.disk, image(".test"), morning())


def is_as_promised(machine: Machine) -> None:
    """What the system itself says of its walls."""
    mounts = {line.split()[1]: line.split() for line in machine.inside("cat /proc/mounts").splitlines()}
    kept("the root is erofs, read-only", mounts["/"][2] == "erofs" and "ro" in mounts["/"][3].split(","))
    kept(
        "and verified",
        "verity" in machine.inside("cat /sys/class/block/dm-*/dm/uuid | grep -i verity").lower(),
    )
    kept("/var is on LUKS", "CRYPT-LUKS2" in machine.inside("cat /sys/class/block/dm-*/dm/uuid"))
    wanted = {"nodev", "nosuid", "noexec"}
    kept("nothing on /var is a device or a program", wanted <= set(mounts["/var"][3].split(",")))
    slots = machine.inside("systemd-cryptenroll /dev/disk/by-partlabel/data")
    kinds = set(re.findall(r"\b(tpm2|recovery|password)\b", slots))
    kept("it opens by the TPM2 and by a recovery key, and nothing else", kinds == {"tpm2", "recovery"}, slots)
    metadata = machine.inside("cryptsetup luksDump --dump-json-metadata /dev/disk/by-partlabel/data")
    bound = [token["tpm2-pcrs"] for token in json.loads(metadata)["tokens"].values() if "tpm2-pcrs" in token]
    kept("to the keys of Secure Boot, and to no word beside those we signed", bound == [[7, 12]], str(bound))
    state = machine.inside(
        "od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    )
    kept("Secure Boot is on", state.split() == ["1"], state)
    call = f'import socket; socket.create_connection(("{HERE}", 9), 60)'
    told = machine.inside(f"setpriv --reuid=nobody --clear-groups python3 -I -c '{call}' 2>&1; true")
    kept("who is not the appliance calls nobody, and is told at once", "No route to host" in told, told)
    labels = machine.inside("ls /dev/disk/by-partlabel")
    kept("there are two slots, one empty", "_empty" in labels, labels)
    for name in SERVICES:
        unit = f"appliance-{name}.service"
        kept(f"{name} runs", machine.inside(f"systemctl is-active {unit}").strip() == "active")
        kept(
            f"{name} was never restarted",
            machine.inside(f"systemctl show -P NRestarts {unit}").strip() == "0",
        )
    walls(machine)
    no_error(machine)
    sealed = machine.inside("cat /var/lib/machine-seal/machine-seal.cred")
    kept("the seal of its keys is the TPM2's", credential.is_by_tpm2(sealed.encode()), sealed[:24])
    no_file = machine.inside("test -e /var/lib/appliance/keys/machine.key || echo none").strip()
    kept("and not a file", no_file == "none")
    problems = machine.inside("appliance status --json", check=False)
    kept(
        "and its processes know it",
        "machine-seal" not in {each["code"] for each in json.loads(problems)["problems"]},
    )
    heard = listening(machine)
    kept(
        "what listens beyond itself is what is promised",
        heard == {("tcp", p) for p in PROMISED_PORTS},
        str(heard),
    )
    for port in (22, 8080):
        kept(f"port {port} is shut from outside", not answers(machine.ports[port]))
    firewall(machine)
    clock(machine)
    screen(machine)
    doors = machine.inside(
        "command -v telnetd dropbear scp ssh-keygen; ls -d /etc/ssh/ssh_host_* /run/ssh-unix-local; "
        "systemctl list-units --all --plain --no-legend 'ssh*.service' 'ssh*.socket'; true"
    ).strip()
    kept("nothing waits by which somebody could log in from afar", doors == "", doors)
    line = machine.inside(
        "systemctl is-active support-line.path; systemctl is-active support-line.service; true"
    )
    kept("the line of support waits for the clinic", line.split() == ["active", "inactive"], line)


KEY_HEARD = "journalctl -b -u systemd-logind.service -o cat --no-pager | grep -q 'Suspend key pressed'"


def stays_awake(machine: Machine) -> None:
    """Somebody leans on the keyboard; all that comes after asks the same machine."""
    machine.press_sleep_key()
    machine.wait_until(KEY_HEARD)
    asleep = machine.inside("systemctl is-active sleep.target suspend.target; true").split()
    kept("its key for sleep was heard, and it stays awake", asleep == ["inactive"] * 2, str(asleep))


def morning() -> list[Dataset]:
    """What is sent: a panoramic and the first two films of a full mouth, one study of one patient."""
    return list(islice(synthetic.dental_set(1, scale=0.2), 3))


def use(machine: Machine) -> None:
    """A clinic's morning: a person, a machine, a study, and the study in the browser's interface."""
    owner = becomes_owner(machine)  # before anybody is invited: then a box has its people, and shows no code
    bearer = practitioner(machine)
    admit(machine)
    films = morning()
    (study,) = {str(each.StudyInstanceUID) for each in films}
    with tempfile.TemporaryDirectory() as folder:
        sent = subprocess.run(
            storescu_command(
                machine.ports[11112],
                calling=CALLING,
                called="CLINICBOX",
                files=synthetic.write(iter(films), Path(folder)),
            ),
            capture_output=True,
            check=False,
        )
    kept("storescu's images are acknowledged", sent.returncode == 0, sent.stderr.decode(errors="replace"))
    machine.wait_until(f"appliance studies --json | python3 -I -c '{COUNT}' {study} | grep -qx {len(films)}")
    rows = json.loads(https(machine, "/api/v1/studies", bearer))["items"]
    (row,) = [each for each in rows if each["study_instance_uid"] == study] or [{}]
    kept(
        f"the study that was sent is seen through HTTPS, with its {len(films)} images",
        row.get("instances") == len(films),
        str(rows)[:1000],
    )
    seen = json.loads(https(machine, f"/api/v1/studies/{row['id']}/instances", bearer))["items"]
    kept(
        "and they are those that were sent",
        sorted(each["sop_instance_uid"] for each in seen)
        == sorted(str(each.SOPInstanceUID) for each in films),
        str(seen)[:1000],
    )
    sees_pictures(machine, owner, [each["id"] for each in seen])
    prints_a_paper(owner)


OF_A_BOX: dict[str, Callable[[Hardware], None]] = {
    "box": box,
    "theft": theft,
    "cleared": cleared,
    "esp": esp,
    "pin": pin,
    "sticks": sticks,
    "install": installation,
    "runbooks": lambda hardware: runbooks(hardware, morning()),
    "support": support,
    "afar": afar,
    "scan": scan,
}


if __name__ == "__main__":
    main()
