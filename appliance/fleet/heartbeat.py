"""What a heartbeat says, and by what it is known to be of this box. Pure.

A heartbeat lets whoever looks after many boxes see that one needs somebody, without anything of a patient in it. `FIELDS` is
the whole of what it can say: a field that is not there cannot be sent, and each holds a word of a fixed vocabulary, a version,
a moment, or how many as a rough range (``100-999``), from which no clinic's day can be read. What has no such shape is refused
here before it is signed, and refused again by whoever receives it.

Chose fields that can only hold words of ours over cutting out what names a patient, as the support file does; because
nothing is left to be found then, and because a patient called *Backup* must not silence a box.

What is sent is the JSON object ``{"document", "key", "signature"}``: the document as text, the box's public key (Ed25519, 32
bytes) and the signature (64 bytes) in hexadecimal, over ``PURPOSE`` and the document's UTF-8. Who reads it must have been
told the key before: what a stranger signs is true, and of a stranger.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.errors import Corrupt, Refused
from appliance.health.facts import Attempt, Disk, Facts
from appliance.health.problem import Problem, Severity
from appliance.notify.kinds import RULES, kind_of

FORM = 1
PURPOSE = b"clinic-edge-appliance heartbeat 1\n"
MOST_BYTES = 16 * 1024
UNKNOWN = "unknown"
NO_IMAGE = "none"

COUNTS = ("0", "1-9", "10-99", "100-999", "1000-9999", "10000-99999", "100000 or more")
FREE = ("under 5 %", "5-10 %", "10-20 %", "20-40 %", "40 % or more")
AGES = ("never", "under 1 day", "1-2 days", "2-7 days", "7-30 days", "over 30 days")
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


def version_of(document: Mapping[str, Any]) -> str:
    """What is updated where a heartbeat comes from: the image where there is one, and there the software's version need not be the
    image's; else the software."""
    return str(document["software" if document["image"] == NO_IMAGE else "image"])


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
        "wanted": {"number": wanted[0], "came": wanted[1]},
    }
    return checked(document)


def checked(document: Any) -> dict[str, Any]:
    """`document` if it says what a heartbeat may and nothing else. Raises `Refused`, without what was wrong in it."""
    if not isinstance(document, dict) or set(document) != set(FIELDS):
        raise Refused("this is no heartbeat: it has other fields", hint="compare the versions of both sides")
    for name, allowed in FIELDS.items():
        if not allowed(document[name]):
            raise Refused(f"a heartbeat may not say that in the field {name}", hint="nothing was sent")
    if document["heartbeat"] != FORM:
        raise Refused("this heartbeat is of another form", hint="compare the versions of both sides")
    return document


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
    """The heartbeat that `data` is. Raises `Corrupt` unless it is signed and whole, `Refused` for what none may say."""
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
    heartbeat = Heartbeat(checked(document), key.lower())
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


# --- what each field may hold ----------------------------------------------------------------------------------------

PROCESSES = ("dicom", "courier", "jobs", "web")


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a field may hold: `holds` judges a value, `words` name in one line all that it can say."""

    words: str
    holds: Callable[[Any], bool]

    def __call__(self, value: Any) -> bool:
        """Whether the field may hold `value`."""
        return self.holds(value)


def _shape(form: re.Pattern[str]) -> Allowed:
    return Allowed(form.pattern, lambda value: isinstance(value, str) and form.fullmatch(value) is not None)


def _one_of(*words: str) -> Allowed:
    return Allowed(" | ".join(words), lambda value: isinstance(value, str) and value in words)


def _is_moment(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).utcoffset() == timedelta(0)
    except ValueError:
        return False


_KIND, _SEVERITY = _one_of(*sorted(RULES)), _one_of(*sorted(map(str, Severity)))
_RUNS = _one_of("running", "stopped", UNKNOWN)
_CAME = _one_of("nothing", "taken", "refused")


def _is_found(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict)
        and set(each) == {"kind", "severity"}
        and _KIND(each["kind"])
        and _SEVERITY(each["severity"])
        for each in value
    )


def _is_running(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == set(PROCESSES) and all(map(_RUNS, value.values()))


def _is_wanted(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"number", "came"}
        and type(value["number"]) is int
        and 0 <= value["number"] < 100_000
        and _CAME(value["came"])
    )


_COUNT = _one_of(*COUNTS, UNKNOWN)

FIELDS: Mapping[str, Allowed] = MappingProxyType(
    {
        "heartbeat": Allowed("number", lambda value: type(value) is int),
        "box": _shape(re.compile(r"[0-9a-f]{16}", re.ASCII)),
        "sent_utc": Allowed("moment", _is_moment),
        "software": _shape(re.compile(r"\d{1,4}(\.\d{1,4}){1,2}([a-z]{1,4}\d{1,4})?", re.ASCII)),
        "system": _shape(re.compile(r"(unknown|[a-z]{2,12} \d{1,3}(\.\d{1,3})?)", re.ASCII)),
        "image": _shape(re.compile(r"(none|\d{1,4}(\.\d{1,4}){0,2})", re.ASCII)),
        "kernel": _shape(re.compile(r"(unknown|\d{1,2}(\.\d{1,4}){1,2}(-\d{1,4})?)", re.ASCII)),
        "state": _one_of("ready", "not-ready"),
        "problems": Allowed(f"{_KIND.words}: {_SEVERITY.words}", _is_found),
        "processes": Allowed(f"{' | '.join(PROCESSES)}: {_RUNS.words}", _is_running),
        "studies": _COUNT,
        "images": _COUNT,
        "destinations": _COUNT,
        "deliveries_waiting": _COUNT,
        "deliveries_failed": _COUNT,
        "disk_free": _one_of(*FREE, UNKNOWN),
        "backup": _one_of(*AGES, UNKNOWN),
        "drill": _one_of(*AGES, UNKNOWN),
        "guard": _one_of("quiet", "holds"),
        "support": _one_of("closed", "open"),
        "wanted": Allowed(f"number: {_CAME.words}", _is_wanted),
    }
)
"""Everything that a heartbeat says, in its order, and what each field may hold."""
