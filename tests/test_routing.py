"""Rules to obligations: each destination once, nothing that no rule says, whatever the order of the rules."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model import AETitle, DestinationId, Header, Intake, Origin, Owed, Rule, Takes, Uid
from appliance.routing import deliveries_for, matches

DEVICES = ["PANO1", "CBCT", "CEPH"]
MODALITIES = ["PX", "IO", "CT", "px ", " io"]
TAKES: dict[int, Takes] = {1: "ciphertext", 2: "dicom", 3: "dicom", 4: "ciphertext"}


def header(modality: str) -> Header:
    uid = Uid("1.2.3")
    return Header(uid, uid, uid, uid, uid, modality=modality)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    number = draw(st.sampled_from(sorted(TAKES)))
    device = draw(st.none() | st.sampled_from(DEVICES))
    return Rule(
        DestinationId(number),
        f"place-{number}",
        TAKES[number],
        device=None if device is None else AETitle(device),
        modality=draw(st.none() | st.sampled_from(MODALITIES)),
        priority=draw(st.integers(-5, 5)),
    )


HEADERS = st.sampled_from(["PX", "IO", "CT", "px", "", "OT"]).map(header)
ORIGINS = st.sampled_from([*DEVICES, "STRANGER"]).map(lambda name: Origin(Intake.DICOM, name, "192.168.1.40"))


def says(rule: Rule, instance: Header, origin: Origin) -> bool:
    """What a rule says, written down a second time."""
    for_device = rule.device is None or rule.device == origin.name
    for_modality = (
        rule.modality is None or rule.modality.strip().casefold() == instance.modality.strip().casefold()
    )
    return for_device and for_modality


@given(st.lists(rules(), max_size=12), HEADERS, ORIGINS, st.booleans())
def test_what_is_owed_is_what_the_rules_say_and_once_to_each(
    standing: list[Rule], instance: Header, origin: Origin, duplicate: bool
) -> None:
    owed = deliveries_for(instance, origin, standing, duplicate=duplicate)
    expected: dict[int, int] = {}
    for rule in standing:
        if says(rule, instance, origin) and not (duplicate and rule.takes == "dicom"):
            expected[rule.destination_id] = max(rule.priority, expected.get(rule.destination_id, -99))
    assert {each.destination_id: each.priority for each in owed} == expected
    assert len(owed) == len(expected)


@given(st.lists(rules(), max_size=12), HEADERS, ORIGINS, st.integers(0, 1000))
def test_the_order_of_the_rules_changes_nothing(
    standing: list[Rule], instance: Header, origin: Origin, seed: int
) -> None:
    shuffled = random.Random(seed).sample(standing, len(standing))
    assert set(deliveries_for(instance, origin, shuffled)) == set(deliveries_for(instance, origin, standing))


@given(st.lists(rules(), max_size=12), rules(), HEADERS, ORIGINS)
def test_a_rule_more_never_takes_an_obligation_away(
    standing: list[Rule], more: Rule, instance: Header, origin: Origin
) -> None:
    before = {each.destination_id for each in deliveries_for(instance, origin, standing)}
    assert before <= {each.destination_id for each in deliveries_for(instance, origin, [*standing, more])}


@pytest.mark.parametrize(
    ("device", "modality", "matched"),
    [(None, None, True), ("PANO1", None, True), ("CBCT", None, False), (None, "px", True), (None, "IO", False),
     ("PANO1", "IO", False), ("PANO1", " PX ", True)],
)  # fmt: skip
def test_a_rule_speaks_of_its_device_and_its_modality(
    device: str | None, modality: str | None, matched: bool
) -> None:
    rule = Rule(DestinationId(1), "cloud", "ciphertext", AETitle(device) if device else None, modality)
    assert matches(rule, header("PX"), Origin(Intake.DICOM, "PANO1", "192.168.1.40")) is matched


def test_everything_to_one_place_is_owed_there_and_nothing_without_a_rule() -> None:
    instance, origin = header("PX"), Origin(Intake.DICOM, "PANO1", "192.168.1.40")
    assert deliveries_for(instance, origin, []) == ()
    everything = Rule(DestinationId(1), "cloud", "ciphertext", priority=2)
    assert deliveries_for(instance, origin, [everything]) == (Owed(DestinationId(1), 2),)
