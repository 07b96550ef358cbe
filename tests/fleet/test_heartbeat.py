"""A heartbeat can say what its fields can hold and nothing else, and nobody but its box can have said it."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Corrupt, Refused
from appliance.fleet import heartbeat, roll, vocabulary
from appliance.fleet.heartbeat import Machine
from appliance.fleet.vocabulary import COUNTS, FIELDS
from appliance.health.facts import Attempt, Contents, Disk, Facts, Frozen, Keys, Outcome, Queue, Trouble
from appliance.health.problem import Problem, Severity

NOW = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = PRIVATE.public_key().public_bytes_raw().hex()
MACHINE = Machine("debian 13", "none", "6.12.48-1")
NAMES = (
    "TREMBLAY^MARIE",
    "Clinique du Lac",
    "nuage de Zoé",
    "1.2.840.99.7",
    "TREM 8001 0112",
    "192.168.1.40",
)
"""What a box knows and a heartbeat must not."""


def facts(**others: Any) -> Facts:
    values: dict[str, Any] = {
        "at_utc": NOW,
        "today": NOW.date(),
        "keys": Keys(recovery_confirmed=True, seal="tpm2"),
        "disk": Disk(1000, 300, 10),
        "contents": Contents(studies=412, instances=90_000),
        "processes": {"dicom-0": True, "dicom-1": False, "courier": True, "jobs": True, "web": True},
        "queues": (
            Queue("nuage de Zoé", "open", 12, 400, 0, None, 1, NAMES[0]),
            Queue("b", "open", 0, 1, 3, None),
        ),
        "backup": Attempt(NOW, Outcome.SUCCEEDED, NOW - timedelta(hours=5)),
    }
    return Facts(**(values | others))


def said(found: Facts | None = None, problems: tuple[Problem, ...] = ()) -> dict[str, Any]:
    return heartbeat.say(found or facts(), problems, MACHINE, key=KEY, software="0.1.0", support="closed")


def test_it_says_how_the_box_does_in_rough_ranges() -> None:
    found = said(problems=(Problem("destination-down", NAMES[0], NAMES[1], Severity.SOON, NAMES[2]),))
    assert found["studies"], found["images"] == ("100-999", "10000-99999")
    assert (found["deliveries_waiting"], found["deliveries_failed"], found["destinations"]) == (
        "10-99",
        "1-9",
        "1-9",
    )
    assert (found["disk_free"], found["backup"], found["drill"]) == ("20-40 %", "under 1 day", "never")
    assert found["processes"] == {
        "dicom": "stopped",
        "courier": "running",
        "jobs": "running",
        "web": "running",
    }
    assert found["problems"] == [{"kind": "destination-down", "severity": "soon"}]
    assert list(found) == list(FIELDS)


def test_two_boxes_that_differ_only_within_a_range_say_the_same() -> None:
    assert said(facts(contents=Contents(101, 20_000))) == said(facts(contents=Contents(998, 99_999)))


def test_words_subjects_and_codes_that_nobody_foresaw_do_not_get_into_it() -> None:
    problems = tuple(Problem(name, name, name, Severity.NOW, name) for name in NAMES)
    trouble = facts(failing_jobs=NAMES, catalog=None, frozen=Frozen(NAMES[0], NOW))
    text = heartbeat.text_of(said(trouble, problems))
    for name in NAMES:
        assert name not in text
    assert json.loads(text)["problems"] == [{"kind": "other", "severity": "acts-now"}]
    assert json.loads(text)["guard"] == "holds"


def test_a_catalog_that_does_not_answer_is_told_as_unknown_and_not_as_empty() -> None:
    found = said(facts(catalog=Trouble(NAMES[0]), contents=Contents(), queues=(), processes={}))
    for name in ("studies", "images", "destinations", "deliveries_waiting", "backup", "drill"):
        assert found[name] == "unknown", name
    assert set(found["processes"].values()) == {"unknown"}


@given(st.integers(min_value=0, max_value=10**9))
def test_a_range_holds_its_count(count: int) -> None:
    least = (0, 1, 10, 100, 1_000, 10_000, 100_000)
    place = COUNTS.index(heartbeat.roughly(count))
    assert least[place] <= count < (*least, 10**10)[place + 1]


@given(
    st.sampled_from(sorted(FIELDS)),
    st.text(min_size=1, max_size=40) | st.integers() | st.none() | st.lists(st.text()),
)
def test_no_field_takes_what_is_not_a_word_of_ours(name: str, value: Any) -> None:
    document = said() | {name: value}
    try:
        heartbeat.checked(document)
    except Refused as refusal:
        assert str(value) not in refusal.message or len(str(value)) < 3
    else:
        assert re.fullmatch(r"[\[\]0-9A-Za-z .:+%'-]*", str(value), re.ASCII), value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", sorted(FIELDS))
def test_no_field_takes_a_name(field: str, name: str) -> None:
    for value in (name, [name], {name: "running"}, [{"kind": name, "severity": "soon"}]):
        with pytest.raises(Refused):
            heartbeat.checked(said() | {field: value})


def test_a_field_more_is_refused_and_so_is_one_of_which_nobody_knows_whose_it_is() -> None:
    with pytest.raises(Refused):
        heartbeat.checked(said() | {"clinic": "x"})
    for name in heartbeat.ALWAYS:
        with pytest.raises(Refused):
            heartbeat.checked({key: value for key, value in said().items() if key != name})


def test_what_is_received_is_what_was_signed() -> None:
    found = heartbeat.received(heartbeat.signed(said(), PRIVATE))
    assert (found.document, found.key, found.sent_utc) == (said(), KEY, NOW)
    assert found.box == heartbeat.name_of(KEY)


def envelope(**changes: str) -> bytes:
    return json.dumps(json.loads(heartbeat.signed(said(), PRIVATE)) | changes).encode()


STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 9_000,
        b" " * (heartbeat.MOST_BYTES + 1),
        envelope(document=heartbeat.text_of(said() | {"state": "not-ready"})),
        envelope(signature="00" * 64),
        envelope(signature="x"),
        envelope(key="00"),
        envelope(key=STRANGER.public_key().public_bytes_raw().hex()),
        heartbeat.signed(said(), STRANGER),  # a stranger who says the name of this box
    ],
)  # fmt: skip
def test_what_the_box_has_not_signed_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        heartbeat.received(data)


def signed_by_another_version(document: Any) -> bytes:
    """What a version signs that knows more, or less, or nothing of what a heartbeat may say."""
    text = json.dumps(document)
    signature = PRIVATE.sign(heartbeat.PURPOSE + text.encode()).hex()
    return json.dumps({"document": text, "key": KEY, "signature": signature}).encode()


def test_what_is_signed_and_says_too_much_goes_no_further() -> None:
    heard = heartbeat.received(signed_by_another_version(said() | {"clinic": "Clinique du Lac"}))
    assert heard.document == said()


def test_words_that_only_a_newer_version_knows_are_heard_as_other_or_unknown() -> None:
    newer = said() | {
        "problems": [
            {"kind": "of-tomorrow", "severity": "soon"},
            {"kind": "disk-low", "severity": "at-leisure"},
            {"kind": "disk-low", "severity": "note", "since": "today"},
        ],
        "processes": {"dicom": "running", "courier": "sleeps", "keeper": "stopped"},
        "wanted": {"number": 7, "came": "later"},
        "disk_free": "under 1 %",
        "image": "0.3.0-beta",
        "left": ["0.3.0", NAMES[0]],
        "weather": "fair",
    }
    heard = heartbeat.received(signed_by_another_version(newer)).document
    assert heard["problems"] == [
        {"kind": "disk-low", "severity": "note"},
        {"kind": "disk-low", "severity": "soon"},
        {"kind": "other", "severity": "soon"},
    ]
    assert heard["processes"] == {"dicom": "running", "courier": "unknown"}
    assert heard["wanted"] == {"number": 7, "came": "nothing"}
    assert (heard["disk_free"], heard["image"], heard["left"]) == ("unknown", "0", ["0.3.0"])
    assert list(heard) == list(FIELDS)


@given(
    st.dictionaries(
        st.sampled_from(sorted(FIELDS)) | st.text(max_size=5),
        st.recursive(
            st.none() | st.text(max_size=9) | st.integers(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["kind", "severity", "number", "came", "dicom"]), inner)
            ),
        ),
    )
)
def test_whatever_another_version_signs_only_words_of_ours_are_heard(other: dict[str, Any]) -> None:
    document = other | {name: said()[name] for name in heartbeat.ALWAYS}
    heard = heartbeat.received(signed_by_another_version(document)).document
    assert set(heard) == set(FIELDS)
    for name, allowed in FIELDS.items():
        assert allowed(heard[name]) or heard[name] == allowed.unknown, name


@pytest.mark.parametrize(
    "other", [{"heartbeat": 2}, {"heartbeat": "1"}, {"box": NAMES[0]}, {"sent_utc": "yesterday"}]
)
def test_another_form_or_nobody_is_said_to_be_that_and_not_unsigned(other: dict[str, Any]) -> None:
    data = signed_by_another_version(said() | other)
    with pytest.raises(Refused):
        heartbeat.received(data)
    name = heartbeat.name_of(KEY)
    called = roll.call({name: KEY}, {name: data}, NOW)
    assert called.refused == {name: roll.Why.OTHER_FORM}
    unsigned = roll.call({name: KEY}, {name: b"{}"}, NOW)
    assert unsigned.refused == {name: roll.Why.UNSIGNED}


def without(words: Any, *gone: str) -> list[list[str]]:
    return [[word for word in part if word not in gone] for part in words]


def test_what_was_not_agreed_to_is_said_as_other_or_unknown_or_not_at_all() -> None:
    agreed = {name: [list(part) for part in allowed.words] for name, allowed in FIELDS.items()}
    problems = tuple(
        Problem(code, "", "", how)
        for code, how in (
            ("disk-low", Severity.SOON),
            ("damaged", Severity.NOW),
            ("clock-set", Severity.NOTE),
        )
    )
    told = said(problems=problems)
    assert heartbeat.within(told, agreed) == told
    assert vocabulary.more(agreed) == {}

    less = agreed | {
        "problems": without(agreed["problems"], "damaged", "note"),
        "disk_free": without(agreed["disk_free"], "20-40 %"),
        "processes": without(agreed["processes"], "courier", "stopped"),
        "wanted": without(agreed["wanted"], "nothing"),
        "software": [["[0-9]"]],
        "kernel": [["(never closed"]],
        "state": without(agreed["state"], "ready"),
        "left": [[]],
    }
    del less["guard"]
    found = heartbeat.within(told, less)
    assert found["problems"] == [
        {"kind": "clock", "severity": "soon"},
        {"kind": "disk-low", "severity": "soon"},
        {"kind": "other", "severity": "acts-now"},
    ]
    assert found["disk_free"] == "unknown"
    assert found["processes"] == {"dicom": "unknown", "jobs": "running", "web": "running"}
    assert set(told) - set(found) == {"guard", "software", "kernel", "state", "left", "wanted"}
    assert heartbeat.received(heartbeat.signed(found, PRIVATE)).document["state"] == "unknown"
    assert vocabulary.more(less)["problems"] == ("damaged", "note")
    assert set(vocabulary.more(less)) == set(less) - set(told) | {
        "guard", "problems", "disk_free", "processes", "wanted", "software", "kernel", "state", "left"
    }  # fmt: skip


@given(st.data())
def test_nothing_is_ever_said_beyond_what_was_agreed_to(data: st.DataObject) -> None:
    full = {name: [list(part) for part in allowed.words] for name, allowed in FIELDS.items()}
    agreed = {
        name: [data.draw(st.lists(st.sampled_from(part), unique=True)) for part in words]
        for name, words in full.items()
        if name in heartbeat.ALWAYS or data.draw(st.booleans())
    }
    agreed |= {name: full[name] for name in heartbeat.ALWAYS}
    problems = tuple(
        Problem(code, "", "", how)
        for code, how in data.draw(
            st.lists(st.tuples(st.sampled_from(["damaged", "clock", "new"]), st.sampled_from(Severity)))
        )
    )
    found = heartbeat.checked(heartbeat.within(said(problems=problems), agreed))
    assert set(found) <= set(agreed)
    for each in found.get("problems", []):
        assert each["kind"] in agreed["problems"][0]
        assert each["severity"] in agreed["problems"][1]
    for name, word in found.get("processes", {}).items():
        assert name in agreed["processes"][0]
        assert word in agreed["processes"][1]
    for name in ("state", "studies", "disk_free", "backup", "guard", "support"):
        assert name not in found or found[name] in agreed[name][0]
    assert not agreed.get("wanted") or "wanted" not in found or found["wanted"]["came"] in agreed["wanted"][1]


def test_versions_that_were_tried_and_left_are_told_as_versions_and_as_nothing_else() -> None:
    told = said(facts(left_versions=("0.3.0", NAMES[0], "7")))
    assert told["left"] == ["0.3.0", "7"]


def test_the_age_of_a_backup_from_the_future_is_not_guessed() -> None:
    ahead = replace(facts(), backup=Attempt(NOW, Outcome.SUCCEEDED, NOW + timedelta(days=1)))
    assert said(ahead)["backup"] == "unknown"
