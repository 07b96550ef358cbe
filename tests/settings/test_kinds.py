"""Each kind accepts what it says, in one normal form, and refuses everything else with a remedy."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Refused
from appliance.settings import (
    Choice,
    Choices,
    Decimal,
    Flag,
    HoursOfDay,
    Kind,
    Networks,
    OneNumber,
    Secret,
    Span,
    Text,
    Texts,
    WholeNumber,
)
from appliance.settings.kinds import certificates, email, host, ssh_key

KINDS: tuple[Kind, ...] = (
    Text(20),
    Text(20, lines=True),
    WholeNumber(-5, 5),
    Span(1, 60, unit="minutes"),
    OneNumber((22, 443)),
    Decimal(0, 1),
    Choice(("a", "b")),
    Choices(("a", "b")),
    Flag(),
    Texts(),
    Networks(),
    HoursOfDay(),
    Secret(),
)
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\nAA==\n-----END CERTIFICATE-----"

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("kind", "value", "normal"),
    [
        (Text(), "  Émard  ", "Émard"),
        (Text(lines=True), "a\r\nb", "a\nb"),
        (WholeNumber(1, 9), 9, 9),
        (Decimal(0, 9), 3, 3.0),
        (Choice(("a", "b")), "b", "b"),
        (Choices(("a", "b", "c")), ["c", "a", "c"], ["a", "c"]),
        (Flag(), True, True),
        (Texts(), [" a", "", "b", "a"], ["a", "b"]),
        (Networks(), ["192.168.1.7/24", "10.0.0.1", "FE80::1"], ["192.168.1.0/24", "10.0.0.1", "fe80::1"]),
        (HoursOfDay(), "22:00 – 7:30", "22:00-07:30"),
        (HoursOfDay(), " ", ""),
        (Text(shape=host), "Mail.Clinic.CA", "mail.clinic.ca"),
        (Text(shape=host), "::1", "::1"),
        (Text(shape=email), "a.b+c@clinic.ca", "a.b+c@clinic.ca"),
        (Text(1000, lines=True, shape=certificates), PEM, PEM),
        (Text(shape=email), "", ""),
    ],
)
def test_a_value_has_one_normal_form(kind: Kind, value: Any, normal: Any) -> None:
    assert kind.check(value) == normal
    assert kind.check(normal) == normal


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Text(3), "abcd"),
        (Text(), "a\nb"),
        (Text(), "a\0"),
        (Text(), "\x1b[31m"),
        (Text(), 3),
        (WholeNumber(1, 9), 10),
        (WholeNumber(0, 9), True),
        (OneNumber((22, 443)), 80),
        (OneNumber((0, 1)), True),
        (OneNumber((22, 443)), "22"),
        (WholeNumber(0, 9), 1.0),
        (Decimal(0, 1), float("nan")),
        (Decimal(0, 1), 1.1),
        (Choice(("a",)), "A"),
        (Flag(), 1),
        (Texts(), "a"),
        (Texts(), ["a,b"]),
        (Texts(), ["a"] * 201),
        (Networks(), ["192.168.1"]),
        (HoursOfDay(), "24:00-07:00"),
        (HoursOfDay(), "07:00-07:00"),
        (Secret(), "a\nb"),
        (Text(shape=email), "a@b@c"),
        (Text(shape=email), "a@b\u00a0c"),
        (Text(shape=host), "http://mail"),
        (Text(1000, shape=ssh_key), f"sk-ssh-ed25519@openssh.com {'A' * 68}"),
        (Text(shape=host), "-a.ca"),
        (Text(shape=host), "mail.clinic.ca:25"),
        (
            Text(1000, lines=True, shape=certificates),
            "-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----",
        ),
    ],
)
def test_anything_else_is_refused_with_a_remedy(kind: Kind, value: Any) -> None:
    with pytest.raises(Refused) as refusal:
        kind.check(value)
    assert refusal.value.hint


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@given(value=ANYTHING)
def test_no_value_breaks_a_kind_and_what_it_accepts_is_stable(kind: Kind, value: Any) -> None:
    try:
        normal = kind.check(value)
    except Refused:
        return
    assert kind.check(normal) == normal
    if not isinstance(kind, Secret):
        assert kind.read(kind.write(normal)) == normal


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@given(typed=st.text(max_size=40))
def test_no_typing_breaks_a_kind(kind: Kind, typed: str) -> None:
    try:
        value = kind.read(typed)
    except Refused as refusal:
        assert refusal.hint
        assert not typed.strip() or len(typed) < 8 or typed not in str(refusal)
    else:
        assert kind.check(value) == value


def test_typed_numbers_and_flags_are_read_as_people_write_them() -> None:
    assert Decimal(0, 9).read(" 1,5 ") == 1.5
    assert WholeNumber(0, 99).read(" 42 ") == 42
    assert Flag().read("Oui") is True
    assert Texts().read("a, b\nc") == ["a", "b", "c"]
    with pytest.raises(Refused):
        WholeNumber(0, 99).read("4²")
