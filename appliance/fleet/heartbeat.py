"""What a heartbeat says, and by what it is known to be of this box. Pure.

A heartbeat lets whoever looks after many boxes see that one needs somebody, without anything of a patient in it.
`appliance.fleet.vocabulary` is the whole of what it can say: a field that is not there cannot be sent, and each holds a word of a
fixed vocabulary, a version, a moment, or how many as a rough range (``100-999``), from which no clinic's day can be read. What has
no such shape is refused here before it is signed, and goes no further than `received` on the other side.

Vocabularies grow with versions, and the two sides are seldom of the same one. So a box says no more than was agreed to, in the
words that were agreed to (`within`), and whoever receives it bears words and fields of another version: what it does not know is
left out, or told as the field's own word for that.

Chose fields that can only hold words of ours over cutting out what names a patient, as the support file does; because
nothing is left to be found then, and because a patient called *Backup* must not silence a box.

What is sent is the JSON object ``{"document", "key", "signature"}``: the document as text, the box's public key (Ed25519, 32
bytes) and the signature (64 bytes) in hexadecimal, over ``PURPOSE`` and the document's UTF-8. Who reads it must have been
told the key before: what a stranger signs is true, and of a stranger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.errors import Corrupt, Refused
from appliance.fleet import vocabulary
from appliance.fleet.vocabulary import AGES, COUNTS, FREE, PROCESSES, UNKNOWN, Words
from appliance.health.facts import Attempt, Disk, Facts
from appliance.health.problem import Problem
from appliance.notify.kinds import kind_of

FORM = 1
PURPOSE = b"clinic-edge-appliance heartbeat 1\n"
MOST_BYTES = 16 * 1024
ALWAYS = ("heartbeat", "box", "sent_utc")
"""Without these nobody knows whose it is, or of when. What they can say changes with `FORM` alone."""

_FREE_PERCENT = (5, 10, 20, 40)
_AGE_DAYS = (1, 2, 7, 30)


@dataclass(frozen=True, slots=True)
class Machine:
    """The versions of what is under the software: system as ``debian 13``, the image's version where it is one."""

    system: str
    image: str
    kernel: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A heartbeat whose signature is right, of the box with that public key; whether that box is ours is not said."""

    document: Mapping[str, Any]
    key: str

    @property
    def box(self) -> str:
        """The name of the box, which is made of its key."""
        return str(self.document["box"])

    @property
    def sent_utc(self) -> datetime:
        """When it was sent, by the clock of the box."""
        return datetime.fromisoformat(self.document["sent_utc"])


def say(
    facts: Facts,
    problems: Sequence[Problem],
    machine: Machine,
    *,
    key: str,
    software: str,
    support: str,
    wanted: tuple[int, str] = (0, "nothing"),
) -> dict[str, Any]:
    """The document of a heartbeat. `support` is ``open`` while a session of remote support is, `wanted` the number of what was
    taken last and what came of the last attempt. Raises `Refused` for what none may hold."""
    found = {(kind_of(each.code), str(each.severity)) for each in problems}
    kept = facts.contents if facts.catalog is None else None
    owed = facts.queues if facts.catalog is None else None
    document: dict[str, Any] = {
        "heartbeat": FORM,
        "box": name_of(key),
        "sent_utc": facts.at_utc.astimezone(UTC).isoformat(timespec="seconds"),
        "software": software,
        "system": machine.system,
        "image": machine.image,
        "kernel": machine.kernel,
        "state": "not-ready" if any(each.blocks for each in problems) else "ready",
        "problems": [{"kind": kind, "severity": severity} for kind, severity in sorted(found)],
        "processes": _processes(facts),
        "studies": roughly(kept.studies) if kept else UNKNOWN,
        "images": roughly(kept.instances) if kept else UNKNOWN,
        "destinations": roughly(len(owed)) if owed is not None else UNKNOWN,
        "deliveries_waiting": roughly(sum(each.waiting for each in owed)) if owed is not None else UNKNOWN,
        "deliveries_failed": roughly(sum(each.failed for each in owed)) if owed is not None else UNKNOWN,
        "disk_free": _free(facts.disk),
        "backup": _age(facts.backup, facts.at_utc) if kept else UNKNOWN,
        "drill": _age(facts.drill, facts.at_utc) if kept else UNKNOWN,
        "guard": "quiet" if facts.frozen is None else "holds",
        "support": support,
        "left": [each for each in facts.left_versions if vocabulary.FIELDS["left"]([each])],
        "wanted": {"number": wanted[0], "came": wanted[1]},
    }
    return checked(document)


def checked(document: Any) -> dict[str, Any]:
    """`document` if it says what a heartbeat may and nothing else. Raises `Refused`, without what was wrong in it."""
    if not isinstance(document, dict) or not set(ALWAYS) <= set(document) <= set(vocabulary.FIELDS):
        raise Refused("this is no heartbeat: it has other fields", hint="compare the versions of both sides")
    for name, value in document.items():
        if not vocabulary.FIELDS[name](value):
            raise Refused(f"a heartbeat may not say that in the field {name}", hint="nothing was sent")
    if document["heartbeat"] != FORM:
        raise Refused("this heartbeat is of another form", hint="compare the versions of both sides")
    return document


def within(document: Mapping[str, Any], agreed: Mapping[str, Words]) -> dict[str, Any]:
    """`document` with no more in it than the words that were `agreed` to, by field. A field that nobody agreed to is left out, and so
    is one whose value those words can't say, not even as a rougher one."""
    said = {
        name: vocabulary.FIELDS[name].within(value, agreed.get(name, ())) for name, value in document.items()
    }
    return {name: value for name, value in said.items() if value is not None}


def understood(document: Any) -> dict[str, Any]:
    """What this version understands of a `document` that may be of another one: all of its own fields, and no others. Raises `Refused`
    for another form, and where it isn't said whose it is, or of when."""
    if not isinstance(document, dict) or document.get("heartbeat") != FORM:
        raise Refused("this heartbeat is of another form", hint="compare the versions of both sides")
    if not all(name in document and vocabulary.FIELDS[name](document[name]) for name in ALWAYS):
        raise Refused("this heartbeat does not say whose it is", hint="compare the versions of both sides")
    return {name: allowed.understood(document.get(name)) for name, allowed in vocabulary.FIELDS.items()}


def text_of(document: Mapping[str, Any]) -> str:
    """A document as it is sent and shown: one field a line."""
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in document.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def signed(document: Mapping[str, Any], private: Ed25519PrivateKey) -> bytes:
    """What leaves the box."""
    text = text_of(checked(document))
    envelope = {
        "document": text,
        "key": private.public_key().public_bytes_raw().hex(),
        "signature": private.sign(PURPOSE + text.encode()).hex(),
    }
    return json.dumps(envelope).encode()


def received(data: bytes) -> Heartbeat:
    """The heartbeat that `data` is, as far as it is understood here. Raises `Corrupt` unless it is signed and whole, `Refused` for one
    of another form."""
    wrong = Corrupt("this is no heartbeat that a box has signed")
    if len(data) > MOST_BYTES:
        raise wrong
    try:
        envelope = json.loads(data)
        text, key, signature = envelope["document"], envelope["key"], envelope["signature"]
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(
            bytes.fromhex(signature), PURPOSE + text.encode()
        )
        document = json.loads(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidSignature) as error:
        raise wrong from error
    heartbeat = Heartbeat(understood(document), key.lower())
    if heartbeat.box != name_of(heartbeat.key):
        raise wrong
    return heartbeat


def name_of(key: str) -> str:
    """How a box is called: sixteen digits of the SHA-256 of its public key, given in hexadecimal."""
    return hashlib.sha256(bytes.fromhex(key)).hexdigest()[:16]


def roughly(count: int) -> str:
    """The range that `count` lies in."""
    return COUNTS[min(len(str(count)), len(COUNTS) - 1)] if count > 0 else COUNTS[0]


def _free(disk: Disk | None) -> str:
    if disk is None or disk.total_bytes <= 0:
        return UNKNOWN
    percent = 100 * disk.free_bytes / disk.total_bytes
    return FREE[sum(percent >= bound for bound in _FREE_PERCENT)]


def _age(attempt: Attempt | None, now: datetime) -> str:
    if attempt is None or attempt.succeeded_utc is None:
        return AGES[0]
    age = now - attempt.succeeded_utc
    if age < timedelta(0):
        return UNKNOWN
    return AGES[1 + sum(age >= timedelta(days=days) for days in _AGE_DAYS)]


def _processes(facts: Facts) -> dict[str, str]:
    """Reception is one of several processes: it runs when all of them do."""
    running = dict.fromkeys(PROCESSES, UNKNOWN if facts.catalog else "running")
    for name, beats in facts.processes.items():
        process = name.partition("-")[0]
        if process in running and not beats and not facts.catalog:
            running[process] = "stopped"
    return running
