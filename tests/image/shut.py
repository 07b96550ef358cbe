"""A disk that stays shut: in another machine, with a TPM2 that was cleared, before a kernel that was told more than we signed, and until a PIN is typed."""

from __future__ import annotations

import json
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from appliance import __version__, disk_pin
from tests.image.firmware import clears_tpm
from tests.image.machine import PATIENCE_SECONDS, RESTART_SECONDS, Hardware, Machine, switched_on
from tests.image.promises import BUILT, answers, https, image, kept, running
from tests.image.starts import ESP

TOOLS = BUILT / "tools"
"""What the image was built in."""

TOLD_BESIDE = "systemd.import_credentials=yes"
"""What a thief would have the hardware add to the kernel's command line."""

FIRST_PIN, SECOND_PIN = "482709", "715392"
QUESTIONS = (
    "Please enter LUKS2 token PIN:",
    "Please enter TPM2 PIN:",
    "Please enter recovery key for disk data on /var:",
)
"""What systemd 257 asks at the box's own screen for a disk that wants a PIN, one after the other."""

BESIDE = f"::/EFI/Linux/appliance_{__version__}.efi.extra.d"
RAN, LAID = "/run/laid-beside-has-run", "laid.beside=1"
"""What an extension of what starts first would leave there, and what the kernel would be told."""

TOKENS = "cryptsetup luksDump --dump-json-metadata /dev/disk/by-partlabel/data"


def theft(hardware: Hardware) -> None:
    """The production image refuses credentials from outside; a disk in another machine stays shut."""
    hardware.assemble(image())
    with switched_on(hardware, ports=(443,)) as machine:
        deadline = time.monotonic() + 1500
        while not answers(machine.ports[443]) and time.monotonic() < deadline:
            time.sleep(3)
        kept("the production image starts and answers", answers(machine.ports[443]))
        kept("a unit that is handed over by the hardware is not run", not machine.is_open(60))
    hardware.assemble(image(".test"))
    with switched_on(hardware, ports=()) as machine:
        running(machine)
        key = machine.inside("cat /var/lib/disk-recovery/key").strip()
        paper = machine.inside("appliance key show-recovery").strip()
        machine.power_off()
    with switched_on(hardware, said=TOLD_BESIDE, waits="6min") as machine:
        stays_shut(machine, "told anything beside what we signed, it has no key of the disk")
        words = machine.inside("cat /proc/cmdline")
        kept("though the words had reached the kernel", TOLD_BESIDE in words, words)
        machine.wait_for_restart(machine.boot())
        kept("nobody comes: it starts again by itself, as the next start may mend it", True)
        machine.cut_power()
    hardware.new_tpm()
    with switched_on(hardware, ports=(443,)) as machine:
        stays_shut(machine, "with another TPM2 the disk stays shut")
        reply(machine, paper)
        stays_shut(
            machine,
            "nor does the box's recovery key open it: with a cleared TPM2 and without the disk's nothing does",
        )
        machine.inside(
            f"printf %s '{key}' | /usr/lib/systemd/systemd-reply-password 1 "
            "$(sed -n s/^Socket=//p /run/systemd/ask-password/ask.*)"
        )
        machine.wait_until("grep -q ' /var ' /proc/mounts")
        kept("and the disk's recovery key, typed at its screen, opens it", True)
        unlock(machine, paper)
    with switched_on(hardware) as machine:
        running(machine, "at the next start the new TPM2 opens everything, and nobody is asked for anything")
        machine.power_off()


def cleared(hardware: Hardware) -> None:
    """*The box goes for good* of the help, step 4: its TPM2 is cleared in the firmware's setup, and its disk opens no more."""
    hardware.assemble(image(".test"))
    with switched_on(hardware) as machine:
        running(machine)
        key = machine.inside("cat /var/lib/disk-recovery/key").strip()
        paper = machine.inside("appliance key show-recovery").strip()
        machine.press_power_button()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while machine.is_on and time.monotonic() < deadline:
            time.sleep(1)
        kept("the power button switches it off", not machine.is_on)
    with switched_on(hardware, door=False, setup=True) as machine:
        clears_tpm(machine)
        machine.cut_power()
    with switched_on(hardware) as machine:
        stays_shut(machine, "from then on the disk stays shut")
        reply(machine, paper)
        stays_shut(machine, "nor does the box's recovery key open it")
        reply(machine, key)
        machine.wait_until("grep -q ' /var ' /proc/mounts")
        kept("the note of the disk key alone would have, which the runbook has destroyed", True)
        machine.cut_power()


def esp(hardware: Hardware) -> None:
    """What somebody who had the disk in hand laid beside the kernel image, for systemd-stub(7) to take along: none of it is signed."""
    hardware.assemble(image(".test"))
    with switched_on(hardware) as machine:
        running(machine)
        machine.power_off()
    with tempfile.TemporaryDirectory() as folder:
        lay_beside(hardware, {"more.sysext.raw": extension(Path(folder)), "more.addon.efi": unsigned_addon()})
    with switched_on(hardware) as machine:
        running(
            machine,
            "with an extension and words for the kernel beside it, its disk opens and it starts as ever",
        )
        kept("what the extension would have run has not run", machine.inside(f"ls {RAN}", check=False) == "")
        words = machine.inside("cat /proc/cmdline")
        kept("and the kernel was told none of the words", LAID not in words, words)
        machine.power_off()
    lay_beside(hardware, {"more.cred": b"anything"})
    with switched_on(hardware, waits="6min") as machine:
        stays_shut(machine, "with a credential beside it, the TPM2 gives out no key of the disk")
        machine.cut_power()


def lay_beside(hardware: Hardware, files: Mapping[str, bytes]) -> None:
    """Onto the ESP, which no signature covers."""
    there = f"{hardware.disk}{ESP}"
    subprocess.run(["mmd", "-D", "s", "-i", there, BESIDE], check=False, capture_output=True)
    for name, content in files.items():
        subprocess.run(["mcopy", "-o", "-i", there, "-", f"{BESIDE}/{name}"], input=content, check=True)


def extension(folder: Path) -> bytes:
    """An image that would extend what starts first by a unit of its own (systemd-sysext(8)), and that nobody has signed."""
    units = folder / "more/usr/lib/systemd/system"
    (units / "sysinit.target.wants").mkdir(parents=True)
    program = f"/usr/bin/bash -c '>{RAN}'"
    (units / "laid.service").write_text(
        f"[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart={program}\n"
    )
    (units / "sysinit.target.wants/laid.service").symlink_to("../laid.service")
    release = folder / "more/usr/lib/extension-release.d/extension-release.more"
    release.parent.mkdir()
    release.write_text("ID=_any\n")
    subprocess.run(["mkfs.erofs", "--quiet", str(folder / "more.raw"), str(folder / "more")], check=True)
    return (folder / "more.raw").read_bytes()


def unsigned_addon() -> bytes:
    """Words for the kernel's command line, in the form that systemd-stub takes along."""
    made = TOOLS / "tmp/more.addon.efi"
    asked = ["ukify", "build", f"--cmdline={LAID}", "--output=/tmp/more.addon.efi"]
    subprocess.run(["chroot", str(TOOLS), *asked], check=True, capture_output=True)
    try:
        return made.read_bytes()
    finally:
        made.unlink()


def stays_shut(machine: Machine, promise: str) -> None:
    """Until its own time is over it waits for the recovery key; nothing of /var is there."""
    machine.wait_until("systemctl list-jobs | grep -q cryptsetup")
    machine.wait_until(
        "systemctl is-active systemd-ask-password-console.path && ls /run/systemd/ask-password/ask.*"
    )
    mounted = machine.inside("grep -c ' /var ' /proc/mounts", check=False).strip()
    kept(promise, mounted == "0", mounted)


def unlock(machine: Machine, paper: str) -> None:
    """The box opens to its recovery key in the console of the machine that it has come to."""
    address = f"https://127.0.0.1:{machine.ports[443]}/"
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    deadline, shown = time.monotonic() + PATIENCE_SECONDS, ""
    while "needs its recovery key" not in shown and time.monotonic() < deadline:
        time.sleep(5)
        try:
            with urllib.request.urlopen(address, timeout=60, context=trusting) as answer:
                shown = answer.read().decode()
        except urllib.error.HTTPError as error:
            shown = error.read().decode()
        except OSError as error:
            shown = str(error)
    kept("the console asks for the box's recovery key", "needs its recovery key" in shown, shown)
    typed = urllib.parse.urlencode({"key": paper}).encode()
    with urllib.request.urlopen(address, data=typed, timeout=600, context=trusting) as answer:
        kept("which opens the box", answer.status == 200)
    machine.wait_until("appliance status --json")
    running(machine, "and everything starts by itself")
    machine.wait_until("! systemctl is-active --quiet disk-enrolment.service")
    machine.power_off()


def pin(hardware: Hardware) -> None:
    """A clinic has its box ask for a PIN, changes it, types it at the screen, and takes it away again."""
    hardware.assemble(image(".test"))
    with switched_on(hardware, ports=(443,)) as machine:
        running(machine)
        machine.wait_until("appliance status --json")
        kept("no PIN is wanted of a new box", said_of_pin(machine)[0] == "none", str(said_of_pin(machine)))
        key = machine.inside("cat /var/lib/disk-recovery/key").strip()
        machine.inside("appliance user invite olga --name Olga --role owner")
        token = machine.inside("appliance token add olga --name test --json --scope keys:manage")
        bearer = str(json.loads(token)["token"])
        for number, chosen in enumerate((FIRST_PIN, SECOND_PIN)):
            before = said_of_pin(machine)
            https(machine, "/api/v1/disk-pin", bearer, {"pin": chosen, "disk_recovery_key": key})
            told = settled(machine, before)
            words = "is chosen in the console" if number == 0 else "is changed"
            kept(f"a PIN {words}", told[0] == "wanted" and told[1].endswith(" done"), str(told))
            entries = json.loads(machine.inside(TOKENS))["tokens"].values()
            with_pin = [each.get("tpm2-pin") for each in entries if each["type"] == "systemd-tpm2"]
            kept("the disk has one entry of the TPM2, which wants it", with_pin == [True], str(with_pin))
        left = machine.inside("ls -A /run/appliance-pin").split()
        kept("what brought it to the system is gone", left == [disk_pin.LOCK], str(left))
        heard = machine.inside(
            f"journalctl -b --no-pager | grep -cE '{FIRST_PIN}|{SECOND_PIN}|{key}'", check=False
        )
        kept("neither PIN nor key stands in the journal", heard.strip() == "0", heard)
        machine.power_off()
    with switched_on(hardware, ports=(443,), waits="1min") as machine:
        stays_shut(machine, "the box that is switched on asks, and its disk stays shut")
        boot = machine.boot()
        machine.wait_until(
            "test $(systemctl show -P ExecMainExitTimestampMonotonic disk-unopened.service) -gt 0"
        )
        time.sleep(RESTART_SECONDS)
        kept("nobody comes: it goes on waiting, and does not start again", machine.boot() == boot)
        asked = [reply(machine, typed) for typed in (FIRST_PIN, FIRST_PIN, key)]
        kept(
            "the PIN from before opens nothing, and it asks as the runbook says",
            tuple(asked) == QUESTIONS,
            str(asked),
        )
        shown = [each for each in QUESTIONS if each in machine.console()]
        kept("each question stands on its screen", tuple(shown) == QUESTIONS, machine.console()[-3000:])
        machine.wait_until("grep -q ' /var ' /proc/mounts")
        running(machine, "the disk's recovery key opens it, and everything starts")
        kept("and the disk still wants a PIN", said_of_pin(machine)[0] == "wanted", str(said_of_pin(machine)))
        machine.power_off()
    with switched_on(hardware, ports=(443,)) as machine:
        stays_shut(machine, "the next start asks anew")
        kept("for the PIN", reply(machine, SECOND_PIN) == QUESTIONS[0])
        machine.wait_until("grep -q ' /var ' /proc/mounts")
        running(machine, "the one that was chosen last opens it, and everything starts")
        machine.wait_until("appliance status --json")
        before = said_of_pin(machine)
        https(machine, "/api/v1/disk-pin/remove", bearer, {})
        told = settled(machine, before)
        kept("it is taken away", told[0] == "none" and told[1].endswith(" done"), str(told))
        machine.power_off()
    with switched_on(hardware) as machine:
        running(machine, "and the next start asks for nothing")
        machine.power_off()


def said_of_pin(machine: Machine) -> list[str]:
    """What the system says of the PIN: whether the disk wants one; the latest change and what became of it."""
    return machine.inside("cat /run/appliance-disk/pin").splitlines()


def settled(machine: Machine, before: list[str]) -> list[str]:
    """What it says once a change that was asked for after `before` has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (told := said_of_pin(machine)) == before or told[1].endswith(" running"):
        assert time.monotonic() < deadline, f"nothing became of it: {told}"
        time.sleep(2)
    return told


def reply(machine: Machine, text: str) -> str:
    """Type `text` where the screen asks; what it asked for. Returns once that question is gone."""
    machine.wait_until("ls /run/systemd/ask-password/ask.*")
    asked = machine.inside("grep -h -E '^(Message|Socket)=' /run/systemd/ask-password/ask.* | sort")
    words = dict(line.split("=", 1) for line in asked.splitlines())
    machine.inside(f"printf %s '{text}' | /usr/lib/systemd/systemd-reply-password 1 {words['Socket']}")
    machine.wait_until(f"! test -S {words['Socket']}")
    return words["Message"]
