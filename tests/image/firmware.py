"""The firmware's own setup, and somebody at the keyboard before it: *The box goes for good* of the help has her clear the TPM2 there.

The firmware is OVMF, whose setup says on the serial line what it shows. It stands by what is lit, and never by how often a key was
pressed: another OVMF has other lines.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from tests.image.machine import PATIENCE_SECONDS, Machine
from tests.image.promises import kept

FRONT, DEVICES, TCG2 = "Boot Maintenance Manager", "Device Manager", "TCG2 Configuration"
OPERATION = "to change TPM2 state."
"""Said beside *TPM2 Operation* while that is lit, of which the value alone is."""
CLEAR = "TPM2 ClearControl(NO) + Clear"
SAVE = "Save configuration changes?"
DONE = "Rebooting system to make TPM2 settings in effect"
"""What it says once the request was confirmed; the request itself it shows on the screen alone."""

STROKE_SECONDS = 0.3
SETTLED_SECONDS = 1.5
"""Until it has drawn what a key did, which it does line by line."""
STROKES = 60
"""More than any list has lines."""
_LIT = re.compile(r"\x1b\[(?:37m\x1b\[40|46)m\x1b\[(\d\d);\d\dH([^\x1b]*)")
"""White on black in a form, on cyan in a list of values; and where."""
_LAST_LINE = 19
"""Below are the keys that it names, which are always lit."""


def lit(said: str) -> str:
    """The line that Enter would take, the last one that `said` lights; "" if it lights none."""
    lines = [text.strip() for row, text in _LIT.findall(said) if int(row) <= _LAST_LINE and text.strip()]
    return lines[-1] if lines else ""


def clears_tpm(machine: Machine) -> None:
    """From the switch on (`switched_on(setup=True)`): into the setup, the request to clear the TPM2, and its confirmation as it starts again."""
    held(machine, "esc", lambda: FRONT in machine.console())
    kept("a key that is held as it starts brings the firmware's setup", True)
    until(machine, "down", lambda said: lit(said) == DEVICES)
    machine.press("ret")
    until(machine, "down", lambda said: lit(said) == TCG2)
    machine.press("ret")
    until(machine, "up", lambda said: OPERATION in said)
    machine.press("ret")
    until(machine, "down", lambda said: lit(said) == CLEAR)
    machine.press("ret")
    until(machine, "f10", lambda said: SAVE in said)
    machine.press("y")
    until(machine, "esc", lambda said: FRONT in said)
    until(machine, "down", lambda said: lit(said) == "Reset")
    before = len(machine.console())
    machine.press("ret")
    # Said as it starts again, on the screen alone: "Press F12 to clear the TPM". To anything else F12 is no key.
    held(machine, "f12", lambda: DONE in machine.console()[before:])
    kept(
        "which has a request to clear the TPM2, asked once more and confirmed as the machine starts again",
        True,
    )


def held(machine: Machine, key: str, there: Callable[[], bool]) -> None:
    """Press `key` again and again until something is `there`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not there():
        assert machine.is_on, machine.console()[-2000:]
        assert time.monotonic() < deadline, machine.console()[-2000:]
        machine.press(key)
        time.sleep(STROKE_SECONDS)


def until(machine: Machine, key: str, wanted: Callable[[str], bool]) -> None:
    """Press `key` until what it draws is `wanted`."""
    said = ""
    for _ in range(STROKES):
        before = len(machine.console())
        machine.press(key)
        time.sleep(SETTLED_SECONDS)
        if wanted(said := machine.console()[before:]):
            return
    raise AssertionError(f"{key} came to nothing: {said[-2000:]}")
