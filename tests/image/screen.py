"""What stands on the box's own screen, held against the certificate that it serves: as somebody with a telephone reads it.

The kernel gives a terminal's letters as the numbers of its font, which is that of the first PCs (vcs(4), code page 437).
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Sequence

from appliance.certificates import in_words
from tests.cli import qr
from tests.image.machine import PATIENCE_SECONDS, Machine
from tests.image.promises import kept

READ = "base64 -w 0 /dev/vcs1; echo; head -c 2 /dev/vcsa1 | od -An -tu1"
WHOLE = "grep -aq 'SHA-256 fingerprint' /dev/vcs1"


def screen(machine: Machine) -> None:
    """It says where the console is, by letters and by a picture, who owns it, by which certificate it is known, and the disk's key."""
    lines = on_screen(machine)
    shown = "\n".join(lines)
    kept("the screen shows the claim code", "Claim code" in shown, shown)
    kept("and the recovery key of the disk, until somebody owns the box", "Disk key" in shown, shown)
    address = re.search(r"Console +(https://\S+)", shown)
    kept("and where the console is", address is not None, shown)
    assert address is not None
    read = photographed(lines)
    kept("a telephone reads the same address off the picture", read == address[1], f"{read}\n{shown}")
    served = ssl.get_server_certificate(("127.0.0.1", machine.ports[443]), timeout=120)
    own = fingerprint(served)
    kept(
        "the fingerprint is that of the certificate which the console serves",
        shown_fingerprint(lines) == own,
        f"{own}\n{shown}",
    )
    words = in_words(hashlib.sha256(ssl.PEM_cert_to_DER_cert(served)).digest())
    kept("and so are the words before it", shown_words(lines) == words, f"{words}\n{shown}")


def on_screen(machine: Machine) -> list[str]:
    """What stands on the first terminal once all does; if it never does, what is there and what its service has said."""
    try:
        machine.wait_until(WHOLE, seconds=PATIENCE_SECONDS / 2)
    except AssertionError:
        said = machine.inside("systemctl status --no-pager --full screen.service", check=False)
        return [*_read(machine), *said.splitlines()]
    return _read(machine)


def _read(machine: Machine) -> list[str]:
    letters, size = machine.inside(READ).split("\n", 1)
    _, columns = (int(each) for each in size.split())
    return lines_of(base64.b64decode(letters), columns)


def lines_of(letters: bytes, columns: int) -> list[str]:
    """The lines of a terminal that is `columns` wide, without what is empty at their ends."""
    text = letters.decode("cp437")
    lines = [text[at : at + columns].rstrip() for at in range(0, len(text), columns)]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def photographed(lines: Sequence[str]) -> str:
    """What a telephone reads off it; empty if there is no picture."""
    picture = [each for each in lines if set(each) & set("▀▄█")]
    try:
        return qr.text_of(qr.on_screen(picture))
    except (AssertionError, IndexError, KeyError, ValueError):
        return ""


def shown_fingerprint(lines: Sequence[str]) -> str:
    """The two lines after the one that announces it."""
    for at, line in enumerate(lines):
        if "SHA-256 fingerprint" in line:
            return "".join(each.strip() for each in lines[at + 1 : at + 3])
    return ""


def shown_words(lines: Sequence[str]) -> str:
    """The words of the fingerprint, which are said aloud; empty where there are none."""
    found = re.search(r"Certificate +([a-z ]+); SHA-256 fingerprint", "\n".join(lines))
    return found[1] if found else ""


def fingerprint(certificate: str) -> str:
    """Of a certificate in PEM, as the screen writes it."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).digest().hex(":").upper()
