"""What whoever looks after many boxes may want of one, and how the box knows that it is theirs. Pure.

A box takes what is wanted with the answer to its heartbeat, so nothing ever comes in. It is the JSON object ``{"document",
"signature"}``: the document as text, and the signature (Ed25519, 64 bytes, hexadecimal) of the vendor's key over ``PURPOSE``
and the document's UTF-8::

    {
        "wanted": 1,
        "box": NAME,
        "number": 7,
        "until_utc": MOMENT,
        "software": "0.2.0",
        "settings": {"health.disk_days": 45},
    }

It is for one box, holds for a month at most, and its number is higher than that of any before, so what was signed once cannot
be sent again, or to another. It can choose the limits from which on something is said, and name the version that the box's own
updater should bring; it cannot let anybody in, send anything anywhere, or keep or destroy anything.

Chose a document that the box fetches over Ansible through the tunnel of remote support; because that tunnel is the clinic's to
open, each time, to people with a few words and no shell, and because a hundred boxes must not need a hundred open doors.
Rejected: a queue of commands, whose effect depends on what came before; this says a state, and may be read twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.errors import Refused

FORM = 1
PURPOSE = b"clinic-edge-appliance wanted 1\n"
MOST_BYTES = 16 * 1024
LONGEST = timedelta(days=31)
CONFIGURABLE = "health."
"""How the names of the settings begin that may be wanted."""
_FIELDS = {"wanted", "box", "number", "until_utc", "software", "settings"}
_VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){1,2}", re.ASCII)


class NotSigned(Refused):
    """What came was not signed by the vendor, so it says nothing of what the vendor wants."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of `box` until `until_utc`; `software` is empty where no version is."""

    box: str
    number: int
    until_utc: datetime
    software: str
    settings: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """As it is signed."""
        return {
            "wanted": FORM,
            "box": self.box,
            "number": self.number,
            "until_utc": self.until_utc.astimezone(UTC).isoformat(timespec="seconds"),
            "software": self.software,
            "settings": dict(self.settings),
        }


def checked(wanted: Wanted) -> Wanted:
    """`wanted` if that may be wanted of a box. Raises `Refused`."""
    if not re.fullmatch(r"[0-9a-f]{16}", wanted.box) or not 1 <= wanted.number < 100_000:
        raise Refused("what is wanted is for no box", hint="name the box, and a number from 1 on")
    if wanted.software and not _VERSION.fullmatch(wanted.software):
        raise Refused("what is wanted is no version", hint="write it as 0.2.0")
    if not all(key.startswith(CONFIGURABLE) for key in wanted.settings):
        raise Refused(
            "what is wanted is not for the vendor to choose",
            hint=f"only settings {CONFIGURABLE}* may be wanted",
        )
    return wanted


def signed(wanted: Wanted, private: Ed25519PrivateKey) -> bytes:
    """What the box fetches. Raises `Refused`."""
    text = json.dumps(checked(wanted).document())
    return json.dumps({"document": text, "signature": private.sign(PURPOSE + text.encode()).hex()}).encode()


def opened(data: bytes, authority: Ed25519PublicKey) -> Wanted:
    """What `data` wants. Raises `NotSigned` unless the vendor has signed it, `Refused` unless it may be wanted of some box."""
    if len(data) > MOST_BYTES:
        raise _unsigned()
    try:
        envelope = json.loads(data)
        text, signature = envelope["document"], bytes.fromhex(envelope["signature"])
        authority.verify(signature, PURPOSE + text.encode())
        found = json.loads(text)
        if not set(found) >= _FIELDS or found["wanted"] != FORM or not isinstance(found["settings"], dict):
            raise _unsigned()
        until = datetime.fromisoformat(found["until_utc"])
        number, box, software = int(found["number"]), str(found["box"]), str(found["software"])
        if until.tzinfo is None:
            raise _unsigned()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidSignature) as error:
        raise _unsigned() from error
    # Whoever has signed more is newer, and what a field may change of the others nobody here can know.
    if set(found) != _FIELDS:
        raise Refused("what is wanted says more than this version knows", hint="name it a version first")
    return checked(Wanted(box, number, until, software, found["settings"]))


def admit(wanted: Wanted, *, box: str, after: int, running: str, now: datetime) -> None:
    """Raises `Refused` unless the box named `box` may do it `now`; `after` is the highest number that it has taken."""
    if wanted.box != box:
        raise Refused("what is wanted is for another box", hint="sign it for this one")
    if wanted.number <= after:
        raise Refused("what is wanted is older than what was taken", hint="sign it with a higher number")
    if not now < wanted.until_utc <= now + LONGEST:
        raise Refused("what is wanted does not hold now", hint="sign it for a month at most")
    if wanted.software and is_older(wanted.software, running):
        raise Refused(
            "the version that is wanted is older than the one that runs", hint="a box never goes back"
        )


def is_older(version: str, than: str) -> bool:
    """Whether `version` comes before `than`; what follows the numbers does not count."""
    return _numbers(version) < _numbers(than)


def later(version: str, running: str) -> str:
    """`version`, or the one that is `running` where that is newer: nothing older may be named to a box, which would refuse it whole."""
    if not is_older(version, running):
        return version
    return running if _VERSION.fullmatch(running) else ".".join(map(str, _numbers(running)))


def _numbers(version: str) -> tuple[int, ...]:
    found = tuple(int(each) for each in re.findall(r"\d+", version)[:3])
    return found + (0,) * (3 - len(found))


def _unsigned() -> NotSigned:
    return NotSigned(
        "what is wanted was not signed by the vendor", hint="compare the vendor's key in the settings"
    )
