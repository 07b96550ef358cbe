"""Every word becomes a message that the standard's schema takes; the schema is said once more here, independently."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from xml.etree.ElementTree import Element, fromstring

import pytest

from appliance import audit
from appliance.audit import Entry
from appliance.audit.dicom_message import Origin, Told, event_of, folded, line, message
from appliance.catalog.audit_log import AuditRow

AT = "2026-03-01T12:00:00.000000Z"
BOX = Origin("CLINICBOX", "Clinique Bélanger & fils")


@dataclass(frozen=True)
class Shape:
    """An element: attributes with their patterns (a ``?`` ends the name of an optional one), children with how many."""

    attributes: Mapping[str, str]
    children: tuple[tuple[str, str], ...] = ()  # name, one of "1", "?", "*", "+", in this order


CODE = {"csd-code": r"\S+", "codeSystemName": r"DCM|RFC-3881", "originalText": r"\S.*", "displayName?": r".+"}
DIGITS_1_TO_26 = r"[1-9]|1[0-9]|2[0-6]"
# PS3.15 A.5.1.1, as read by a person.
SCHEMA: Mapping[str, Shape] = {
    "AuditMessage": Shape(
        {},
        (
            ("EventIdentification", "1"),
            ("ActiveParticipant", "+"),
            ("AuditSourceIdentification", "1"),
            ("ParticipantObjectIdentification", "*"),
        ),
    ),
    "EventIdentification": Shape(
        {
            "EventActionCode?": "[CRUDE]",
            "EventDateTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
            "EventOutcomeIndicator": "0|4|8|12",
        },
        (("EventID", "1"), ("EventTypeCode", "*"), ("EventOutcomeDescription", "?")),
    ),
    "EventID": Shape(CODE),
    "EventTypeCode": Shape(CODE),
    "EventOutcomeDescription": Shape({}),
    "ActiveParticipant": Shape(
        {
            "UserID": ".+",
            "AlternativeUserID?": ".+",
            "UserName?": ".+",
            "UserIsRequestor": "true|false",
            "NetworkAccessPointID?": r"\S+",
            "NetworkAccessPointTypeCode?": "[1-5]",
        },
        (("RoleIDCode", "*"), ("MediaIdentifier", "?")),
    ),
    "RoleIDCode": Shape(CODE),
    "MediaIdentifier": Shape({}, (("MediaType", "1"),)),
    "MediaType": Shape(CODE),
    "AuditSourceIdentification": Shape(
        {"AuditEnterpriseSiteID?": ".+", "AuditSourceID": ".+"}, (("AuditSourceTypeCode", "*"),)
    ),
    "AuditSourceTypeCode": Shape({"csd-code": "[1-9]"}),
    "ParticipantObjectIdentification": Shape(
        {
            "ParticipantObjectID": ".+",
            "ParticipantObjectTypeCode?": "[1-4]",
            "ParticipantObjectTypeCodeRole?": DIGITS_1_TO_26,
            "ParticipantObjectDataLifeCycle?": r"[1-9]|1[0-5]",
            "ParticipantObjectSensitivity?": ".+",
        },
        (
            ("ParticipantObjectIDTypeCode", "1"),
            ("ParticipantObjectName", "?"),
            ("ParticipantObjectQuery", "?"),
            ("ParticipantObjectDetail", "*"),
            ("ParticipantObjectDescription", "*"),
        ),
    ),
    "ParticipantObjectIDTypeCode": Shape(CODE),
    "ParticipantObjectName": Shape({}),
    "ParticipantObjectQuery": Shape({}),
    "ParticipantObjectDetail": Shape({"type": r"\S+", "value": r"[A-Za-z0-9+/]+=*"}),
    "ParticipantObjectDescription": Shape(
        {},
        (
            ("MPPS", "*"),
            ("Accession", "*"),
            ("SOPClass", "*"),
            ("ParticipantObjectContainsStudy", "?"),
            ("Encrypted", "?"),
            ("Anonymized", "?"),
        ),
    ),
    "SOPClass": Shape({"UID?": r"[0-9.]+", "NumberOfInstances": r"\d+"}, (("Instance", "*"),)),
}
EVENTS = {f"1101{number:02d}" for number in range(15)}  # CID 400
TYPES = {str(number) for number in range(110120, 110143)}  # CID 401
ROLES = {str(number) for number in range(110150, 110156)}  # CID 402


def flaws(element: Element, schema: Mapping[str, Shape] = SCHEMA) -> list[str]:
    """What the schema has against `element` and what is in it."""
    shape = schema.get(element.tag)
    if shape is None:
        return [f"{element.tag} is unknown"]
    found = []
    for name, pattern in shape.attributes.items():
        value = element.get(name.rstrip("?"))
        if value is None and not name.endswith("?"):
            found.append(f"{element.tag} lacks {name}")
        if value is not None and not re.fullmatch(pattern, value):
            found.append(f"{element.tag} {name} is {value!r}")
    found += [
        f"{element.tag} has {name}"
        for name in set(element.keys()) - {each.rstrip("?") for each in shape.attributes}
    ]
    order = [name for name, _ in shape.children]
    tags = [child.tag for child in element]
    if any(tag not in order for tag in tags) or [order.index(tag) for tag in tags] != sorted(
        order.index(tag) for tag in tags
    ):
        found.append(f"{element.tag} holds {tags}")
    for name, many in shape.children:
        count = tags.count(name)
        if (many in "1+" and not count) or (many in "1?" and count > 1):
            found.append(f"{element.tag} holds {count} of {name}")
    if (
        element.tag == "ParticipantObjectIdentification"
        and len({"ParticipantObjectName", "ParticipantObjectQuery"} & set(tags)) != 1
    ):
        found.append("neither a name nor a query, or both")
    for child in element:
        found += flaws(child, schema)
    return found


def _row(word: str, **changes: object) -> AuditRow:
    concerns = audit.VOCABULARY[word].concerns
    study = "1.2.3" if concerns is audit.Concerns.STUDY else ""
    row = Entry(word, "subject:7", "dicom:CT1", study=study, address="10.0.0.7").row(7, AT)
    return replace(row, **changes)  # type: ignore[arg-type]


def _message(row: AuditRow, patient: str = "P1") -> Element:
    return fromstring(message(Told(row, row.id, 1), BOX, patient if row.study else "", "cloud"))


@pytest.mark.parametrize("word", audit.VOCABULARY)
@pytest.mark.parametrize("outcome", audit.Outcome)
def test_every_word_is_a_message_that_the_schema_takes(word: str, outcome: audit.Outcome) -> None:
    found = _message(_row(word, outcome=str(outcome)))
    assert flaws(found) == []
    event = found.find("EventIdentification")
    assert event is not None
    assert event.get("EventOutcomeIndicator") == {"done": "0", "refused": "4", "failed": "8"}[outcome]
    assert datetime.fromisoformat(event.get("EventDateTime", "")).tzinfo is not None
    assert {each.get("csd-code") for each in event.iter("EventID")} <= EVENTS
    assert {each.get("csd-code") for each in event.iter("EventTypeCode")} <= TYPES
    assert {each.get("csd-code") for each in found.iter("RoleIDCode")} <= ROLES
    requestors = [each for each in found.iter("ActiveParticipant") if each.get("UserIsRequestor") == "true"]
    assert len(requestors) == 1


def test_the_schema_here_finds_what_is_wrong() -> None:
    good = _message(_row("study:view"))
    for spoil in (
        lambda each: each.remove(each[0]),
        lambda each: each.append(Element("Extra")),
        lambda each: each[0].set("EventOutcomeIndicator", "5"),
        lambda each: each[1].set("Colour", "red"),
        lambda each: each.insert(0, each[1]),
    ):
        bad = fromstring(message(Told(_row("study:view"), 7, 1), BOX, "P1", ""))
        spoil(bad)
        assert flaws(bad)
    assert flaws(good) == []


@pytest.mark.parametrize(
    ("word", "event", "kind", "action"),
    [
        ("appliance:start", "110100", "110120", "E"),
        ("audit:export", "110101", "", "R"),
        ("audit:view", "110101", "", "R"),
        ("study:view", "110103", "", "R"),
        ("instance:receive", "110104", "", "C"),
        ("delivery:confirm", "110104", "", "R"),
        ("study:export", "110106", "", "R"),
        ("study:import", "110107", "", "C"),
        ("study:search", "110112", "", "E"),
        ("user:login-fail", "110114", "110122", "E"),
        ("user:logout", "110114", "110123", "E"),
        ("setting:change", "110113", "110131", "E"),
        ("device:add", "110113", "110128", "E"),
        ("user:add", "110113", "110137", "E"),
        ("access:refuse", "110113", "110132", "E"),
    ],
)
def test_words_are_told_as_the_standard_names_them(word: str, event: str, kind: str, action: str) -> None:
    found = event_of(word)
    assert (found.id, found.type, found.action) == (event, kind, action)


def test_a_study_and_its_patient_are_objects_of_the_event() -> None:
    found = _message(_row("delivery:confirm"), patient="P0123")
    study, patient = found.iter("ParticipantObjectIdentification")
    assert (study.get("ParticipantObjectID"), study.get("ParticipantObjectTypeCodeRole")) == ("1.2.3", "3")
    assert (patient.get("ParticipantObjectID"), patient.findtext("ParticipantObjectName")) == (
        "P0123",
        "P0123",
    )
    assert [each.get("UserID") for each in found.iter("ActiveParticipant")] == ["CLINICBOX", "cloud"]


def test_a_series_of_slices_is_one_message_with_their_number() -> None:
    rows = [
        _row("instance:receive", id=number, study="1.2.3" if number < 100 else "1.2.4")
        for number in range(1, 151)
    ]
    told = list(folded([*rows, _row("study:view", id=151)]))
    assert [(each.first.id, each.last, each.instances) for each in told] == [
        (1, 99, 99),
        (100, 150, 51),
        (151, 151, 1),
    ]
    found = fromstring(message(told[0], BOX, "P1", ""))
    assert found.find(".//SOPClass").get("NumberOfInstances") == "99"  # type: ignore[union-attr]
    detail = found.find(".//ParticipantObjectDetail")
    assert detail is not None
    assert base64.b64decode(detail.get("value", "")) == b"1-99"
    assert flaws(found) == []


def test_people_are_not_folded() -> None:
    told = list(folded([_row("study:view", id=1), _row("study:view", id=2)]))
    assert [each.instances for each in told] == [1, 1]


def test_a_line_is_counted_in_octets_and_begins_as_rfc_5424_says() -> None:
    framed = line("<é/>".encode(), AT, "my box")
    length, _, content = framed.partition(b" ")
    assert int(length) == len(content)
    assert content.startswith(
        b"<85>1 2026-03-01T12:00:00.000000Z mybox appliance - DICOM+RFC3881 - \xef\xbb\xbf<"
    )
