"""The runbooks of the help at a booted Debian that was provisioned: what they say to type there is typed there, in its order.

`tests.cli.test_runbooks` walks the same lines within a process; here the program runs under its own account and within its walls, its units
stop and start, disks are mounted, and somebody becomes the owner at the console. A disk is a file system in memory. The machine that takes
another's place is the same one without all that the first start makes. *An update has failed* is `tests.provisioning`'s own.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.cli.conftest import Outcome
from tests.cli.walking import STOP, paper, walk
from tests.image.person import LOGIN, PASSWORD
from tests.image.promises import kept
from tests.image.runbooks import CONFIRMED
from tests.provisioning.machine import Machine
from tests.system.browser import Browser

DISK, LARGER, DATA = "/media/DISK", "/mnt/larger", "/var/lib/appliance"
SEAL = "/var/lib/machine-seal"
IN_A_BUCKET = "restore s3"
"""Another way to the same: `tests.cli.test_restore_from_a_bucket` goes it."""
CLAIM = re.compile(r"Claim code +([0-9A-Z]{4}-[0-9A-Z]{4})")


@dataclass(frozen=True)
class Administrator:
    """Somebody at the machine, as root."""

    box: Machine

    def __call__(self, *words: object, typed: str = "") -> Outcome:
        """Type a line of the appliance's."""
        done = self.box.done(shlex.join(["appliance", *map(str, words)]), typed=typed)
        return Outcome(done.returncode, done.stdout, done.stderr)

    def placed(self, line: str) -> str:
        """As it stands: the disk is mounted where the help says."""
        return line

    def type(self, line: str, *more: object) -> str:
        return self.box.inside(" ".join([line, *map(str, more)]))

    def keep(self, into: str, text: str) -> None:
        self.box.inside(f"cat >{shlex.quote(into)}", typed=text)

    def walk(
        self,
        section: str,
        *,
        typed: Mapping[str, str | Callable[[], str]] | None = None,
        after: Mapping[str, Callable[[Outcome], None]] | None = None,
        instead: Mapping[str, Sequence[object]] | None = None,
        without: Sequence[str] = (),
    ) -> list[Outcome]:
        """Every line of `section`; what the appliance's came to."""
        began = time.monotonic()
        told = walk(self, section, self, typed=typed, after=after, instead=instead, without=without)
        print(f"  {section}: {len(told)} lines in {time.monotonic() - began:.0f} s", flush=True)
        return told

    def images(self) -> int:
        return sum(int(each["instances"]) for each in self("studies", "--json").rows)


def runbooks(box: Machine, send: Callable[[int], bool]) -> None:
    """One after the other, on a box that nobody owns yet. `send` sends the film of that number, and says whether it was acknowledged."""
    at = Administrator(box)
    plugs_in(box)
    key = is_installed(at, send)
    key = loses_its_key(at, key)
    gets_a_larger_disk(at)
    is_found_whole_after_an_attack(at, key)
    is_replaced(at, key, send)
    is_restored_as_before_an_attack(at, key, send)
    goes_for_good(at, key)


def plugs_in(box: Machine) -> None:
    """A disk that the appliance may write to."""
    box.inside(f"mkdir -p {DISK} && mount -t tmpfs -o mode=0700,uid=appliance,gid=appliance disk {DISK}")


def running_units(box: Machine) -> str:
    """What of the box runs, or is still being stopped; empty if nothing."""
    return box.inside(
        "systemctl list-units --no-legend --state=active,deactivating,activating 'appliance-*'"
    ).strip()


def is_well(at: Administrator, words: str) -> None:
    at.box.wait_until("systemctl is-active appliance-dicom appliance-courier appliance-jobs appliance-web")
    told = at.box.inside("systemctl is-system-running", check=False).strip()
    kept(words, told == "running", told + at.box.inside("systemctl --failed --no-legend", check=False))


def is_installed(at: Administrator, send: Callable[[int], bool]) -> str:
    """*Install a box*, with the disk of *No Internet for a month* for its archive; the recovery key."""
    shown = at("screen").out
    code = CLAIM.search(shown)
    kept("at a machine that was provisioned the claim code is shown", code is not None, shown)
    assert code is not None
    browser = Browser(at.box.ports[443], tls=True, host=at.box.address)
    browser.claim(code[1], login=LOGIN, name="Odile Roy", password=PASSWORD)
    kept("somebody types it in the console, and is the box's owner", True)
    key = paper(at("key", "show-recovery"))
    kept("the paper is proven", at("key", "check-recovery", typed=key).code == 0)
    at.box.inside(f"appliance device add --ae-title PANO --address {at.box.here}")
    at.walk("offline")
    kept(
        "a disk is plugged in as for a month without Internet, and has a backup",
        "DISK" in at("backup", "list").out,
    )
    kept("images come from then on", all(send(each) for each in range(3)))
    at.box.wait_until(f"appliance deliveries --json | python3 -I -c '{CONFIRMED}' 3")
    _, made, drill = at.walk("install")
    kept(
        "a backup is made, and the drill passes",
        "DISK" in made.out and "Passed." in drill.out,
        made.out + drill.out,
    )
    is_well(at, "the box is installed, and nothing has failed")
    return key


def loses_its_key(at: Administrator, old: str) -> str:
    """*The recovery key is lost*; the new one."""
    fresh = ""

    def keep(outcome: Outcome) -> None:
        nonlocal fresh
        fresh = paper(outcome)

    answers = {"key check-recovery": lambda: fresh, "key rotate-root": lambda: fresh}
    at.walk("lost-key", typed=answers, after={"key rotate": keep})
    told = at("status").out
    kept(
        "a lost paper has been replaced, and the box says nothing of it any more",
        "recovery" not in told,
        told,
    )
    kept("the old paper is refused", at("key", "check-recovery", typed=old).code != 0)
    is_well(at, "with a new root key nothing has failed")
    return fresh


def gets_a_larger_disk(at: Administrator) -> None:
    """*The disk is full*: what was copied whole to the larger one takes its place."""
    at.box.inside(f"mkdir -p {LARGER} && mount -t tmpfs larger {LARGER}")

    def stopped(_: Outcome) -> None:
        kept("the moment it says that it is stopped, nothing of it runs", not running_units(at.box))

    def mount(_: Outcome) -> None:
        at.box.inside(f"mount --bind {LARGER} {DATA}")

    instead = {"cp -a": [f"{DATA}/.", LARGER]}
    room, whole = at.walk("full-disk", instead=instead, after={STOP: stopped, "cp -a": mount})
    kept("what takes the room is said", "images" in room.out, room.out)
    kept(
        "and on the larger disk everything is whole",
        "3 objects" in whole.out and "whole" in whole.out,
        whole.out,
    )
    kept(
        "of which the box says so itself",
        "larger" in at.box.inside(f"findmnt -no SOURCE {DATA} || df {DATA}"),
    )
    is_well(at, "it goes on from there, and nothing has failed")


def is_found_whole_after_an_attack(at: Administrator, key: str) -> None:
    """*Somebody has encrypted or stolen*, where all is whole."""
    for login, role in (("olivia", "owner"), ("pierre", "technician")):
        kept(f"{login} is invited", at("user", "invite", login, "--name", login, "--role", role).code == 0)
    chain, exported, whole, _, link, _, _ = at.walk(
        "ransomware",
        typed={"key rotate-root": key},
        instead={"user end-sessions": [LOGIN], "user reset": [LOGIN], "user deactivate": ["pierre"]},
        without=["restore"],
    )
    kept("after an attack the log is whole", "rows are whole" in chain.out, chain.out)
    kept("it is taken out", "user:invite" in exported.out)
    kept("every image is whole", "all are whole" in whole.out, whole.out)
    kept("whoever works there gets a link for a new password", "/welcome#" in link.out, link.out)
    is_well(at, "with new keys nothing has failed")


def is_new(at: Administrator) -> None:
    """Another machine, up to the claim code: what a first start makes is gone, and the disk with the copies is plugged in."""
    at.box.inside("systemctl stop appliance.target 'appliance-*' machine-seal.service")
    at.box.inside(
        f"mountpoint -q {DATA} && umount {DATA}; mkdir -p {SEAL} && find {DATA} {SEAL} -mindepth 1 -delete"
    )
    at.box.inside("systemctl start appliance.target")
    at.box.wait_until("appliance screen | grep -q 'Claim code'")


def is_replaced(at: Administrator, key: str, send: Callable[[int], bool]) -> None:
    """*Replace a disk that fails*, and *Replace the box*."""
    before = at("user", "list").out
    made, owed = at.walk("replace-disk")
    kept("before the disk is taken out a backup has all", "3 images" in made.out, made.out)
    states = {line.split()[2] for line in owed.out.splitlines()[1:] if line.split()[1:2] == ["DISK"]}
    kept("and nothing is here alone", states == {"CONFIRMED"}, owed.out)
    left = running_units(at.box)
    kept("the box is stopped", left == "", left)
    is_new(at)
    answers = {"restore": key, "key check-recovery": key}
    _, status, _ = at.walk("replace-box", typed=answers, without=[IN_A_BUCKET, "key reseal"])
    kept(
        "a new machine is the box that was, and its paper is proven", "recovery" not in status.out, status.out
    )
    kept("with its people", at("user", "list").out == before, at("user", "list").out)
    at.box.wait_until("appliance verify --all | grep -qE '^3 objects read in full: all are whole[.]$'")
    kept("and its images, each whole", at.images() == 3)
    kept("it takes another image from a machine that it knew", send(3))
    is_well(at, "and nothing has failed")


def is_restored_as_before_an_attack(at: Administrator, key: str, send: Callable[[int], bool]) -> None:
    """*Somebody has encrypted or stolen*, where not all is whole."""
    at.box.wait_until(f"appliance deliveries --json | python3 -I -c '{CONFIRMED}' 4")
    kept("a backup is made in time", at("backup", "now").code == 0)
    before = max(each["name"] for each in at("backup", "list", "--json").rows)
    kept(
        "then a thief lets somebody in",
        at("user", "invite", "mallory", "--name", "M", "--role", "owner").code == 0,
    )
    kept("an image comes after it", send(4))
    at.box.wait_until(f"appliance deliveries --json | python3 -I -c '{CONFIRMED}' 5")
    kept("and a backup", at("backup", "now").code == 0)
    is_new(at)
    chosen = f"restore folder --path {DISK} --backup BACKUP"
    listed, restored = at.walk(
        "ransomware",
        typed={"restore": key},
        instead={chosen: ["--backup", before]},
        without=["audit", "verify", "user", "key", IN_A_BUCKET],
    )
    kept("the backups are listed", before in listed.out, listed.out)
    kept("the one from before is taken", f"Restored by the backup {before}" in restored.out, restored.out)
    at.box.wait_until("appliance verify --all | grep -qE '^5 objects read in full: all are whole[.]$'")
    kept("what came later is there too", at.images() == 5)
    kept("and whom the thief let in is not", "mallory" not in at("user", "list").out)
    is_well(at, "and nothing has failed")


def goes_for_good(at: Administrator, key: str) -> None:
    """*The box goes for good*."""
    at.walk("end-of-life")
    kept("its log is kept", "backup:make" in at.box.inside(f"cat {DISK}/audit.txt"))
    closed = at("studies")
    kept("nothing on its disk opens any more", closed.code != 0 and "keys are gone" in closed.err, closed.err)
    refused = at("key", "check-recovery", typed=key)
    kept("with the paper neither", refused.code != 0, refused.out)
    is_new(at)
    kept(
        "what lies in the archive opens with it", at("restore", "folder", "--path", DISK, typed=key).code == 0
    )
    at.box.wait_until("appliance verify --all | grep -qE '^5 objects read in full: all are whole[.]$'")
    kept("and is all there", at.images() == 5)
