"""A row of the audit as a DICOM audit message (PS3.15 A.5) in a syslog line (RFC 5424). Pure.

What a word is told as follows from its kind; `EVENTS` holds the words that the standard has its own event for:

=====================================  ==================================================  =======================
words                                  EventID, EventTypeCode                              PS3.15
=====================================  ==================================================  =======================
``appliance:start``, ``:stop``         110100 Application Activity, 110120/110121          A.5.3.1
``audit:…``                            110101 Audit Log Used                               A.5.3.2
access and use of one study            110103 DICOM Instances Accessed                     A.5.3.4
received, delivered, manifests         110104 DICOM Instances Transferred                  A.5.3.5
``study:export``                       110106 Export                                       A.5.3.7
``study:import``                       110107 Import                                       A.5.3.8
lists and searches                     110112 Query                                        A.5.3.11
sign-in and sign-out                   110114 User Authentication, 110122/110123           A.5.3.13
emergency access                       110113 Security Alert, 110127                       A.5.3.12
all else                               110113 Security Alert, by what it changes           A.5.3.12
=====================================  ==================================================  =======================

The standard wants the patient beside the study. A name is never given; the patient's number only when the setting
``syslog.identified`` says so, else a pseudonym that is the same for the same patient and means nothing elsewhere.

Rows that follow one another and say the same of one study (hundreds of slices of one CT) are one message, with how many
instances it stands for.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from appliance.audit.vocabulary import VOCABULARY, Concerns, Kind
from appliance.catalog.audit_log import AuditRow

SECURITY_NOTICE: Final = 10 * 8 + 5
"""Facility 10 (security), severity 5 (notice)."""
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"

_MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "110100": "Application Activity",
        "110101": "Audit Log Used",
        "110103": "DICOM Instances Accessed",
        "110104": "DICOM Instances Transferred",
        "110106": "Export",
        "110107": "Import",
        "110112": "Query",
        "110113": "Security Alert",
        "110114": "User Authentication",
        "110120": "Application Start",
        "110121": "Application Stop",
        "110122": "Login",
        "110123": "Logout",
        "110126": "Node Authentication",
        "110127": "Emergency Override Started",
        "110128": "Network Configuration",
        "110129": "Security Configuration",
        "110131": "Software Configuration",
        "110132": "Use of Restricted Function",
        "110135": "Object Security Attributes Changed",
        "110137": "User security Attributes Changed",
        "110150": "Application",
        "110152": "Destination Role ID",
        "110153": "Source Role ID",
        "110154": "Destination Media",
        "110155": "Source Media",
        "110180": "Study Instance UID",
        "110181": "SOP Class UID",
        "110030": "USB Disk Emulation",
    }
)


@dataclass(frozen=True, slots=True)
class Event:
    """What a word is told as: codes of DCM, and what was done: Create, Read, Update, Delete, Execute."""

    id: str
    type: str
    action: str


EVENTS: Mapping[str, Event] = MappingProxyType(
    {
        "appliance:start": Event("110100", "110120", "E"),
        "appliance:stop": Event("110100", "110121", "E"),
        "instance:receive": Event("110104", "", "C"),
        "instance:duplicate": Event("110104", "", "C"),
        "instance:patient_conflict": Event("110104", "", "C"),
        "instance:corrupt": Event("110113", "110135", "E"),
        "delivery:confirm": Event("110104", "", "R"),
        "delivery:fail": Event("110104", "", "R"),
        "manifest:write": Event("110104", "", "R"),
        "study:export": Event("110106", "", "R"),
        "study:import": Event("110107", "", "C"),
        "user:login": Event("110114", "110122", "E"),
        "user:login-fail": Event("110114", "110122", "E"),
        "user:logout": Event("110114", "110123", "E"),
        "door:knock": Event("110113", "110126", "E"),
        "instance:refuse": Event("110113", "110126", "E"),
        "access:refuse": Event("110113", "110132", "E"),
        "access:forge": Event("110113", "110132", "E"),
        "key:show": Event("110113", "110129", "E"),
        "key:check": Event("110113", "110129", "E"),
        "key:rotate": Event("110113", "110129", "E"),
        "key:rotate-root": Event("110113", "110129", "E"),
        "key:rewrap": Event("110113", "110129", "E"),
        "key:reseal": Event("110113", "110129", "E"),
        "disk:show-key": Event("110113", "110129", "E"),
        "disk:hide-key": Event("110113", "110129", "E"),
        "pin:choose": Event("110113", "110129", "E"),
        "pin:remove": Event("110113", "110129", "E"),
        "pin:change": Event("110113", "110129", "E"),
    }
)
_OF_SUBJECT: Mapping[str, str] = MappingProxyType(
    {"user": "110137", "session": "110137", "token": "110137", "device": "110128", "destination": "110128"}
)
_OUTCOMES: Mapping[str, str] = MappingProxyType({"refused": "4", "failed": "8"})


@dataclass(frozen=True, slots=True)
class Told:
    """One message and the rows it stands for: from `first` to `last`, which is where the next begins."""

    first: AuditRow
    last: int
    instances: int


@dataclass(frozen=True, slots=True)
class Origin:
    """This box, as it names itself: AE title or host, and the clinic, if it has a name."""

    name: str
    site: str = ""
    version: str = ""


def event_of(action: str) -> Event:
    """What a word is told as."""
    if action in EVENTS:
        return EVENTS[action]
    subject, _, verb = action.partition(":")
    word = VOCABULARY.get(action)
    if "glass" in verb:
        return Event("110113", "110127", "E")
    if subject == "audit" and verb != "anchor":
        return Event("110101", "", "R")
    if word is not None and word.kind in (Kind.ACCESS, Kind.USE, Kind.COMMUNICATION):
        if word.concerns is Concerns.STUDY:
            return Event("110103", "", "R" if word.kind is Kind.ACCESS else "U")
        if word.kind is Kind.ACCESS:
            return Event("110112", "", "E")
    return Event("110113", _OF_SUBJECT.get(subject, "110131"), "E")


def folded(rows: Iterable[AuditRow]) -> Iterator[Told]:
    """`rows` as messages: those that follow one another and say the same of one study are one."""
    told: Told | None = None
    for row in rows:
        same = (
            told is not None
            and row.study != ""
            and event_of(str(row.action)).id == "110104"
            and all(
                getattr(row, name) == getattr(told.first, name)
                for name in ("action", "actor", "address", "study", "outcome")
            )
        )
        if same and told is not None:
            told = Told(told.first, row.id, told.instances + 1)
            continue
        if told is not None:
            yield told
        told = Told(row, row.id, 1)
    if told is not None:
        yield told


def message(told: Told, origin: Origin, patient: str, to: str) -> bytes:
    """The XML of one message. `patient` is a number or a pseudonym, empty if none; `to` the recipient, if there is one."""
    row = told.first
    event = event_of(str(row.action))
    root = Element("AuditMessage")
    identification = SubElement(
        root,
        "EventIdentification",
        EventActionCode=event.action,
        EventDateTime=str(row.at_utc),
        EventOutcomeIndicator=_OUTCOMES.get(str(row.outcome), "0"),
    )
    _code(identification, "EventID", event.id)
    if event.type:
        _code(identification, "EventTypeCode", event.type)
    SubElement(identification, "EventOutcomeDescription").text = str(row.action)
    for role, user, requestor, address in _participants(row, event, origin, to):
        _participant(root, role, user, requestor=requestor, address=address)
    source = SubElement(root, "AuditSourceIdentification", AuditSourceID=origin.name)
    if origin.site:
        source.set("AuditEnterpriseSiteID", origin.site)
    SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})
    _objects(root, told, event, patient)
    return bytes(tostring(root, encoding="utf-8"))


def line(xml: bytes, at_utc: str, host: str) -> bytes:
    """`xml` as a message of RFC 5424 in a frame of RFC 5425: its length in octets, a space, the message."""
    header = f"<{SECURITY_NOTICE}>1 {at_utc} {_printable(host)} appliance - DICOM+RFC3881 - "
    content = header.encode("ascii") + b"\xef\xbb\xbf" + xml
    return f"{len(content)} ".encode("ascii") + content


def _participants(
    row: AuditRow, event: Event, origin: Origin, to: str
) -> Iterator[tuple[str, str, bool, str]]:
    """Role, name, whether it asked, and address, of everybody who took part."""
    actor, address = str(row.actor), str(row.address)
    arriving = event.id == "110104" and event.action == "C"
    match event.id:
        case "110104":
            yield "110153", actor if arriving else origin.name, True, address
            yield "110152", origin.name if arriving else (to or "unknown"), False, ""
        case "110106":
            yield "110153", actor, True, address
            yield "110154", to or "media", False, ""
        case "110107":
            yield "110152", actor, True, address
            yield "110155", "media", False, ""
        case "110112":
            yield "110153", actor, True, address
            yield "110152", origin.name, False, ""
        case "110100":
            yield "110150", origin.name, False, ""
            yield "", actor, True, ""
        case _:
            yield "", actor, True, address
            yield "110150", origin.name, False, ""


def _participant(root: Element, role: str, user: str, *, requestor: bool, address: str) -> None:
    found = SubElement(
        root, "ActiveParticipant", UserID=user, UserIsRequestor="true" if requestor else "false"
    )
    if address:
        found.set("NetworkAccessPointID", address)
        found.set("NetworkAccessPointTypeCode", "2")
    if role:
        _code(found, "RoleIDCode", role)
    if role in ("110154", "110155"):
        media = SubElement(found, "MediaIdentifier")
        _code(media, "MediaType", "110030")


def _objects(root: Element, told: Told, event: Event, patient: str) -> None:
    row = told.first
    if row.study:
        found = _object(root, str(row.study), "2", "3")
        _code(found, "ParticipantObjectIDTypeCode", "110180")
        SubElement(found, "ParticipantObjectName").text = "Study"
        _detail(found, told)
        description = SubElement(found, "ParticipantObjectDescription")
        SubElement(description, "SOPClass", NumberOfInstances=str(told.instances))
    elif event.id == "110112":
        found = _object(root, STUDY_ROOT_FIND, "2", "3")
        _code(found, "ParticipantObjectIDTypeCode", "110181")
        SubElement(found, "ParticipantObjectQuery").text = ""
        _detail(found, told)
    else:
        name = "Security Audit Log" if event.id == "110101" else str(row.action).partition(":")[0]
        found = _object(root, str(row.subject) or "-", "2", "13")
        _coded(found, "ParticipantObjectIDTypeCode", "12", "RFC-3881", "URI")
        SubElement(found, "ParticipantObjectName").text = name
        _detail(found, told)
    if patient:
        found = _object(root, patient, "1", "1")
        _coded(found, "ParticipantObjectIDTypeCode", "2", "RFC-3881", "Patient Number")
        SubElement(found, "ParticipantObjectName").text = patient


def _object(root: Element, number: str, type_code: str, role: str) -> Element:
    return SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=number,
        ParticipantObjectTypeCode=type_code,
        ParticipantObjectTypeCodeRole=role,
    )


def _detail(found: Element, told: Told) -> None:
    """Which rows these are, so that a collector can tell what it has twice, and find them in an export."""
    rows = str(told.last) if told.first.id == told.last else f"{told.first.id}-{told.last}"
    SubElement(
        found, "ParticipantObjectDetail", type="rows", value=base64.b64encode(rows.encode()).decode("ascii")
    )


def _code(parent: Element, tag: str, code: str) -> None:
    _coded(parent, tag, code, "DCM", _MEANINGS[code])


def _coded(parent: Element, tag: str, code: str, system: str, meaning: str) -> None:
    SubElement(parent, tag, {"csd-code": code, "codeSystemName": system, "originalText": meaning})


def _printable(host: str) -> str:
    """A HOSTNAME of RFC 5424: printable ASCII without spaces, or a hyphen for none."""
    return "".join(each for each in host[:255] if "!" <= each <= "~") or "-"
