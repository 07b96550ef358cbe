"""The loader's menu, and somebody at the keyboard before it, as the help tells her.

systemd-boot enrols the keys of Secure Boot by itself in a virtual machine, and asks a person on hardware: *Install a box* of the help says how
she answers. It knows one from the other by a bit of the processor and a bit of the firmware's table, and here neither is set
(`tests.image.machine`: `bare`). *The box starts again and again* and *No newer version starts* have her choose among versions (`menus`).
"""

from __future__ import annotations

import re
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

from appliance import __version__
from tests.image.machine import PATIENCE_SECONDS, Hardware, Machine, switched_on
from tests.image.promises import kept

ENROL = "Enroll Secure Boot keys: auto"
"""The line that the help names (`runbooks.html`)."""
HELD_SECONDS = 0.4
"""Between two strokes of a key that is held down."""
ENROLLED_SECONDS = 300.0
_DRAWN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(machine: Machine) -> str:
    """What the firmware, the loader and the kernel have written to the serial line, without colours and places."""
    return _DRAWN.sub("", machine.console())


def menu(machine: Machine, line: str) -> str:
    """Hold the space bar down until a menu with `line` stands there; what was written until then."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while line not in (said := shown(machine)):
        assert machine.is_on, said[-2000:]
        assert time.monotonic() < deadline, said[-2000:]
        machine.type_keys(" ")
        time.sleep(HELD_SECONDS)
    return said


def holds_keys(hardware: Hardware, certificate: Path) -> bool:
    """Whether the firmware's variables hold `certificate` (PEM)."""
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text("ascii"))
    return der in (hardware.folder / "vars.fd").read_bytes()


def enrols(machine: Machine, certificate: Path) -> None:
    """As the help says: the space bar, the line, Enter, and no key until it has started again."""
    kept("before, its firmware has no keys of ours", not holds_keys(machine.hardware, certificate))
    said = menu(machine, ENROL)
    kept("the space bar, held down as it starts, brings a menu with the line of the help", True)
    machine.press("down")
    machine.press("ret")
    deadline = time.monotonic() + ENROLLED_SECONDS
    while not holds_keys(machine.hardware, certificate) and time.monotonic() < deadline:
        time.sleep(1)
    kept("which gives the firmware our keys", holds_keys(machine.hardware, certificate), said[-2000:])


# --- which version --------------------------------------------------------------------------------------------------

NEWER, OLDER = f"appliance_{__version__}.efi", "appliance_0.0.1.efi"
"""Kernel images on the disk, one of them twice: which of both starts is the loader's to choose."""
SELECTED, CLEARED = "Default boot entry selected.", "Default boot entry cleared."
STARTED = "Linux version"
_HIGHLIGHTED = re.compile(r"\x1b\[30m\x1b\[47m +(\S.*?) *\x1b")


def menus(hardware: Hardware) -> None:
    """Two versions lie there: one is tried once, one is kept for every start, and the keeping is undone."""
    with tempfile.TemporaryDirectory() as folder:
        esp, copy = f"{hardware.disk}@@1M", Path(folder) / OLDER
        subprocess.run(["mcopy", "-n", "-i", esp, f"::/EFI/Linux/{NEWER}", str(copy)], check=True)
        subprocess.run(["mcopy", "-i", esp, str(copy), f"::/EFI/Linux/{OLDER}"], check=True)
    at_each(hardware, "the newer version starts by itself; the other is tried, once", NEWER, "down")
    at_each(
        hardware,
        "the next start is the newer one's again; the other is chosen for every start",
        NEWER,
        "down",
        "d",
    )
    at_each(hardware, "which the loader keeps, until the same key is pressed at that line", OLDER, "d", "up")
    at_each(hardware, "from then on it is the newer one", NEWER)


def at_each(hardware: Hardware, promise: str, chosen: str, *keys: str) -> None:
    """A start at which the menu is to have chosen `chosen`; `keys` are pressed there, then Enter, and a kernel starts."""
    with switched_on(hardware, door=False) as machine:
        menu(machine, OLDER)
        time.sleep(2)
        at = highlighted(machine)
        for key in keys:
            machine.press(key)
            time.sleep(2)
        said = shown(machine)
        words = {SELECTED: SELECTED in said, CLEARED: CLEARED in said}
        wanted = {SELECTED: "d" in keys and chosen != OLDER, CLEARED: "d" in keys and chosen == OLDER}
        machine.press("ret")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while STARTED not in (said := shown(machine)):
            assert time.monotonic() < deadline, said[-2000:]
            time.sleep(1)
        kept(promise, chosen in at and words == wanted, f"{at}: {words}")


def highlighted(machine: Machine) -> str:
    """The line of the menu that Enter would start."""
    return str(_HIGHLIGHTED.findall(machine.console())[-1])
