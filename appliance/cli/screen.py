"""``appliance screen``: what stands on the box's own screen, for whoever carries it into the clinic.

Where the console is, as an address and as a picture for a telephone; the claim code while nobody owns the box; how to know
that the browser speaks to this box and no other. On the image `screen.service` shows it on the first terminal.

The recovery key of the disk (a credential of that service) is shown under the same condition as the claim code: while the
box has no owner it holds nothing of a patient, and whoever could read the screen could as well take the box over. Later it is shown
for some minutes when somebody who may manage keys asks for it in the console (`appliance.disk_key`).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance import supervision
from appliance.cli.arguments import Arguments, Verbs
from appliance.cli.listing import safe
from appliance.cli.session import now, opened_box
from appliance.errors import SealedElsewhere, Transient

if TYPE_CHECKING:
    from appliance.box import Box

FRONT_PORT: Final = 443
LOOK_SECONDS: Final = 5.0
"""Between two looks whether something has changed: an address, the claim, the certificate."""

_CREDENTIAL: Final = "disk-recovery"
_RECOVERY_KEY: Final = re.compile(r"[bcdefghijklnrtuv]{8}(-[bcdefghijklnrtuv]{8}){7}")
"""As systemd-cryptenroll writes it (modhex)."""
_NO_ADDRESS: Final = (
    "no address yet: is the network cable in, and does the",
    "router give addresses (DHCP)? / pas encore d'adresse : le câble",
    "est-il branché, et le routeur en donne-t-il (DHCP)?",
)
_NO_SECURE_BOOT: Final = "   ! Secure Boot is OFF / est désactivé : see the console"
"""Beside the name, because a new box needs all of the 25 lines."""
_CLEAR: Final = "\x1b[H\x1b[2J"


@dataclass(frozen=True, slots=True)
class Screen:
    """What there is to show. `claim_code` is None once the box has an owner; `disk_recovery` may be empty, and is for the eyes of
    whoever has asked for it where `is_key_asked`. `certificate` is the fingerprint of what browsers meet before the clinic has its own,
    and `certificate_words` the same in words; both empty where there is none."""

    addresses: tuple[str, ...]
    ae_title: str
    dicom_port: int
    claim_code: str | None
    authority_words: str
    certificate_words: str
    certificate: str
    disk_recovery: str
    is_key_asked: bool = False
    lacks_secure_boot: bool = False

    def lines(self) -> list[str]:
        """The text of it, at most 80 columns wide."""
        hosts = [f"[{each}]" if ":" in each else each for each in self.addresses]
        shown = [
            "Clinic edge appliance" + (_NO_SECURE_BOOT if self.lacks_secure_boot else ""),
            "",
            *(f"  Console      https://{host}" for host in hosts[:2]),
            *([] if hosts else [f"  Console      {_NO_ADDRESS[0]}", *_indented(_NO_ADDRESS[1:])]),
            f"  DICOM        AE title {self.ae_title}, port {self.dicom_port}",
        ]
        if self.claim_code:
            shown.append(f"  Claim code   {self.claim_code}  (type it in the console to own this box)")
        if self.authority_words:
            shown.append(f"  Authority    {self.authority_words}")
        elif self.certificate:
            # The words to be said aloud, the digits because no browser shows words; together on three lines, or 25 are too few.
            first, second = self.certificate[:48], self.certificate[48:]
            shown += [f"  Certificate  {self.certificate_words}; SHA-256 fingerprint:"]
            shown += [f"               {first}", f"               {second}"]
        shows_key = bool(self.disk_recovery) and (bool(self.claim_code) or self.is_key_asked)
        if shows_key:
            shown.append("  Disk key     write it down now, it opens the disk in another machine:")
            half = len(self.disk_recovery) // 2
            cut = self.disk_recovery.find("-", half) + 1 or half
            shown += [
                f"               {self.disk_recovery[:cut]}",
                f"               {self.disk_recovery[cut:]}",
            ]
        if hosts and (self.claim_code or not shows_key):  # else the key would not fit on a small screen
            shown += ["", *_picture(f"https://{hosts[0]}")]
        return shown


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add(
        "screen",
        "show how to reach this box: address, claim code, fingerprint",
        act=show,
        about="What the appliance's own screen shows. With --follow it is drawn anew when something has changed.",
        examples=["appliance screen"],
    )
    parser.add_argument("--follow", action="store_true", help="go on until Ctrl-C, clearing the screen")


def show(arguments: Arguments) -> int:
    """Print it once, or for as long as the machine is on."""
    before: list[str] = []
    shows_key = False
    if arguments.follow:
        supervision.ready("the box's own screen")
    while True:
        if arguments.follow:
            supervision.alive()
        try:
            with opened_box() as box:
                seen = look(box)
            found, shows_key = seen.lines(), seen.is_key_asked
        except Transient:
            if not arguments.follow:
                raise
            found = [] if shows_key else before
            found = found or ["Clinic edge appliance", "", "  Starting"]
        except SealedElsewhere:
            if not arguments.follow:
                raise
            found = locked_lines()
        if found != before:
            print((_CLEAR if arguments.follow else "") + "\n".join(found), flush=True)
            before = found
        if not arguments.follow:
            return 0
        time.sleep(LOOK_SECONDS)


def locked_lines() -> list[str]:
    """What to do when this machine can't open the box any more; its console asks for the recovery key then."""
    from appliance import certificates

    hosts = [f"[{each}]" if ":" in each else each for each in certificates.console_addresses()]
    return [
        "Clinic edge appliance",
        "",
        "  This machine has changed, and the box needs its recovery key.",
        "  Open the console in a browser, and type what is printed on the paper:",
        *(f"               https://{host}" for host in hosts[:2]),
        *([] if hosts else _indented(_NO_ADDRESS)),
        "  No image is lost.",
        *(["", *_picture(f"https://{hosts[0]}")] if hosts else []),
    ]


def look(box: Box) -> Screen:
    """What is to be shown now."""
    from appliance import certificates, disk_key, firmware, identity
    from appliance.model import SecureBoot

    with box.catalog.reading() as conn:
        installed = certificates.installed(conn)
        asked = disk_key.shown_until(conn, now())
    front = b"" if installed else _front_certificate()
    return Screen(
        addresses=certificates.console_addresses(),
        ae_title=safe(box.config.ae_title),
        dicom_port=box.config.dicom.port,
        claim_code=identity.claim_code(box),
        authority_words=certificates.in_words(installed.fingerprint) if installed else "",
        certificate_words=certificates.in_words(front) if front else "",
        certificate=certificates.hexadecimal(front) if front else "",
        disk_recovery=_disk_recovery(),
        is_key_asked=asked is not None,
        lacks_secure_boot=firmware.secure_boot() in (SecureBoot.OFF, SecureBoot.WITHOUT_KEYS),
    )


def _front_certificate() -> bytes:
    """The fingerprint of the certificate that browsers meet before the clinic has its own; empty without a front."""
    try:
        pem = ssl.get_server_certificate(("127.0.0.1", FRONT_PORT), timeout=5)
    except (OSError, ValueError):
        return b""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()


def _disk_recovery() -> str:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    try:
        text = (Path(folder) / _CREDENTIAL).read_text("ascii").strip() if folder else ""
    except (OSError, UnicodeDecodeError):
        return ""
    return text if _RECOVERY_KEY.fullmatch(text) else ""


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"               {each}" for each in lines]


def _picture(address: str) -> list[str]:
    """A QR code in half blocks, two rows of it to a line."""
    import segno

    out = io.StringIO()
    segno.make(address, error="l", micro=False).terminal(out, border=2, compact=True)
    return out.getvalue().rstrip("\n").split("\n")
