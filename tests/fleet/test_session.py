"""Who is let in, for how long, and what may be typed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cli.command import parser
from appliance.errors import ApplianceError, NotAuthorised, Refused
from appliance.fleet.session import (
    WORDS,
    Certificate,
    Ending,
    Scope,
    Session,
    admit,
    command,
    expiry,
    help_text,
    principals,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def session(scope: Scope = Scope.DIAGNOSE, **changed: object) -> Session:
    values: dict[str, object] = {
        "id": 1, "reason": "r", "scope": scope, "opened_by": "m", "opened_utc": NOW, "expires_utc": NOW + HOUR,
    }  # fmt: skip
    return Session(**(values | changed))  # type: ignore[arg-type]


def certificate(*granted: str, **changed: object) -> Certificate:
    values: dict[str, object] = {
        "person": "Ana Roy", "serial": 7, "principals": frozenset(granted),
        "after_utc": NOW - HOUR, "before_utc": NOW + HOUR,
    }  # fmt: skip
    return Certificate(**(values | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scope", "granted", "given_scope"),
    [
        (Scope.DIAGNOSE, ["appliance-diagnose"], Scope.DIAGNOSE),
        (Scope.DIAGNOSE, ["appliance-diagnose", "appliance-operate"], Scope.DIAGNOSE),
        (Scope.OPERATE, ["appliance-operate"], Scope.OPERATE),
        (Scope.OPERATE, ["appliance-diagnose"], Scope.DIAGNOSE),
    ],
)
def test_nobody_goes_further_than_both_session_and_certificate_allow(
    scope: Scope, granted: list[str], given_scope: Scope
) -> None:
    assert admit(session(scope), certificate(*granted), NOW) is given_scope


@pytest.mark.parametrize(
    ("standing", "shown"),
    [
        (session(), certificate("appliance-operate")),
        (session(), certificate("root")),
        (session(), certificate()),
        (session(expires_utc=NOW), certificate("appliance-diagnose")),
        (session(opened_utc=NOW + HOUR, expires_utc=NOW + 2 * HOUR), certificate("appliance-diagnose")),
        (session(ended_utc=NOW, ending=Ending.CLINIC), certificate("appliance-diagnose")),
        (session(), certificate("appliance-diagnose", before_utc=NOW)),
        (session(), certificate("appliance-diagnose", after_utc=NOW + HOUR, before_utc=NOW + 2 * HOUR)),
        (session(), certificate("appliance-diagnose", before_utc=NOW + 13 * HOUR)),
        (session(), certificate("appliance-diagnose", person="")),
    ],
)
def test_everything_else_is_refused(standing: Session, shown: Certificate) -> None:
    with pytest.raises(NotAuthorised):
        admit(standing, shown, NOW)


def test_a_session_is_for_a_reason_and_four_hours_at_most() -> None:
    assert expiry("deliveries wait", 4, NOW) == NOW + 4 * HOUR
    for reason, hours in (("", 1), (" ", 1), ("a\nb", 1), ("x" * 301, 1), ("r", 0), ("r", 5)):
        with pytest.raises(Refused):
            expiry(reason, hours, NOW)


def test_every_word_is_a_verb_of_the_appliance() -> None:
    for name, word in WORDS.items():
        words = command(f"{name} cloud" if word.takes else name, Scope.OPERATE)
        assert parser().parse_args(list(words)).act is not None


def test_looking_cannot_act() -> None:
    for name, word in WORDS.items():
        if word.scope is Scope.OPERATE:
            assert name not in help_text(Scope.DIAGNOSE).split("logs")[0].split()
            with pytest.raises(NotAuthorised):
                command(f"{name} cloud" if word.takes else name, Scope.DIAGNOSE)
    assert principals(Scope.DIAGNOSE) == ("appliance-diagnose",)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "sh",
        "status; sh",
        "status --json",
        "test --help",
        "test ../x",
        "test",
        "echo a\tb",
        "studies",
        "test $(id)",
        "/bin/sh",
    ],
)
def test_nothing_else_can_be_typed(line: str) -> None:
    with pytest.raises(Refused):
        command(line, Scope.OPERATE)


@given(st.text(max_size=80))
def test_whatever_is_typed_is_one_of_the_verbs_and_a_name_or_refused(line: str) -> None:
    verbs = {word.verb: bool(word.takes) for word in WORDS.values()}
    try:
        words = tuple(command(line, Scope.OPERATE))
    except ApplianceError:
        return
    takes_none = words in verbs and not verbs[words]
    takes_name = words[:-1] in verbs and verbs[words[:-1]] and not words[-1].startswith("-")
    assert takes_none or takes_name
