"""Quiet hours of the wall clock, choices that are checked, and an escalation that always goes on."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Refused
from appliance.notify import escalation
from appliance.notify.escalation import AGAIN_SECONDS, CHAIN, Step, step_for, steps_due
from appliance.notify.kinds import Channel, Severity, Topic
from appliance.notify.preferences import (
    Preferences,
    QuietHours,
    as_value,
    defaults,
    digest_is_due,
    is_mail_address,
    parse,
    quiet_until,
)

TORONTO = ZoneInfo("America/Toronto")
NIGHT = QuietHours(time(22), time(7))


def here(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=TORONTO)


@pytest.mark.parametrize(
    ("at", "until"),
    [
        ("2026-02-03T21:59", None),
        ("2026-02-03T22:00", "2026-02-04T07:00"),
        ("2026-02-04T06:59", "2026-02-04T07:00"),
        ("2026-02-04T07:00", None),
        ("2026-03-07T23:00", "2026-03-08T07:00"),  # the night that loses an hour
        ("2026-10-31T23:00", "2026-11-01T07:00"),  # the night that has one twice
    ],
)
def test_quiet_hours_end_at_the_hour_on_the_wall(at: str, until: str | None) -> None:
    found = quiet_until(NIGHT, TORONTO, here(at).astimezone(UTC))
    assert found == (here(until).astimezone(UTC) if until else None)


MOMENTS = st.integers(0, 366 * 86_400).map(
    lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
ZONES = st.sampled_from(["America/Toronto", "America/St_Johns", "UTC"])


@given(st.times(), st.times(), MOMENTS, ZONES)
def test_quiet_hours_always_end_and_within_a_day(start: time, end: time, moment: datetime, zone: str) -> None:
    if start == end:
        return
    quiet = QuietHours(start, end)
    until = quiet_until(quiet, ZoneInfo(zone), moment)
    if until is not None:
        assert moment <= until <= moment + timedelta(hours=26)


@pytest.mark.parametrize("text", ["22-07", "22:00", "25:00-07:00", "07:00-07:00", "22:00+01:00-07:00", "x-y"])
def test_what_is_no_hours_is_refused(text: str) -> None:
    if text == "22-07":
        assert QuietHours.parse(text) == NIGHT
        return
    with pytest.raises(Refused):
        QuietHours.parse(text)


def test_critical_rings_the_bell_whatever_was_chosen() -> None:
    deaf = parse({"channels": {str(topic): [] for topic in Topic}}, Preferences())
    assert deaf.by(Topic.STORAGE, Severity.WARNING) == ()
    assert deaf.by(Topic.STORAGE, Severity.CRITICAL) == (Channel.BELL,)


def test_choices_are_read_as_they_were_written() -> None:
    chosen = parse(
        {
            "channels": {"delivery": ["mail"]},
            "quiet": "22:00–07:00",
            "time_zone": "America/Toronto",
            "mail_address": "marie@example.ca",
            "sound": True,
        },
        defaults("owner", "marie"),
    )
    assert parse(as_value(chosen), Preferences()) == chosen
    assert chosen.by(Topic.DELIVERY, Severity.WARNING) == (Channel.MAIL,)
    assert str(chosen.quiet) == "22:00-07:00"


@pytest.mark.parametrize(
    "value",
    [
        {"mail_address": "marie"},
        {"mail_address": "a@b.ca\nBcc: c@d.ca"},
        {"time_zone": "Mars/Olympus"},
        {"time_zone": "../../etc/passwd"},
        {"channels": {"delivery": ["webhook"]}},
        {"channels": {"weather": ["bell"]}},
        {"channels": []},
    ],
)
def test_choices_that_there_are_not_are_refused(value: dict[str, object]) -> None:
    with pytest.raises(Refused):
        parse(value, Preferences())


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("marie.tremblay+box@clinique.example.ca", True),
        ("marie", False),
        ("marie@localhost", False),
        ("@example.ca", False),
        ("a@b@example.ca", False),
        ("marie@example..ca", False),
        ("<marie@example.ca>", False),
        ("marie@example.ca\r\nRCPT TO:<x@y.ca>", False),
        ("hélène@example.ca", False),
    ],
)
def test_an_address_is_one_plain_address(text: str, is_one: bool) -> None:
    assert is_mail_address(text) is is_one


def test_those_who_look_after_the_box_get_letters_at_an_address_that_is_their_login() -> None:
    assert defaults("owner", "marie@example.ca").mail_address == "marie@example.ca"
    assert Channel.MAIL in defaults("owner", "marie").by(Topic.STORAGE, Severity.WARNING)
    assert defaults("assistant", "ana").by(Topic.STORAGE, Severity.WARNING) == (Channel.BELL,)


def test_the_letter_of_the_day_is_written_once_a_day_of_its_reader() -> None:
    morning = here("2026-02-04T08:05").astimezone(UTC)
    assert not digest_is_due(TORONTO, None, here("2026-02-04T07:55").astimezone(UTC))
    assert digest_is_due(TORONTO, None, morning)
    assert not digest_is_due(TORONTO, morning, morning + timedelta(hours=12))
    assert digest_is_due(TORONTO, morning, morning + timedelta(days=1))


# --- escalation ------------------------------------------------------------------------------------------------------

START = datetime(2026, 3, 1, 3, tzinfo=UTC)


def test_the_chain_goes_on_step_by_step_and_its_last_step_again() -> None:
    done, last, said = 0, START, []
    for minutes in range(4 * 60):
        now = START + timedelta(minutes=minutes)
        due = steps_due(CHAIN, START, done, last, now)
        if due > done:
            done, last = due, now
            said.append(minutes)
    assert said == [15, 45, 105, 165, 225]
    assert AGAIN_SECONDS == 3600
    assert step_for(CHAIN, 7) == CHAIN[-1]


def test_steps_missed_while_the_box_was_off_are_made_up_at_once_by_the_loudest() -> None:
    assert steps_due(CHAIN, START, 0, START, START + timedelta(hours=2)) == len(CHAIN)


@given(st.integers(0, 10), st.integers(0, 10**6), st.integers(0, 10**6))
def test_an_escalation_never_goes_back(done: int, stood: int, since: int) -> None:
    now = START + timedelta(seconds=stood)
    assert steps_due(CHAIN, START, done, now - timedelta(seconds=since), now) >= done


def test_a_chain_is_read_as_it_was_written() -> None:
    roles = ("owner", "privacy_officer", "practitioner", "technician")
    assert escalation.parse(escalation.as_value(CHAIN), roles=roles) == CHAIN
    assert escalation.parse([], roles=roles) == ()


@pytest.mark.parametrize(
    "steps",
    [
        [Step(30, ("owner",))],
        [Step(600, ("pirate",))],
        [Step(600, ())],
        [Step(600, ("owner",)), Step(600, ("owner",))],
        [Step(600, ("owner",), channels=())],
    ],
)
def test_a_chain_that_cannot_work_is_refused(steps: list[Step]) -> None:
    with pytest.raises(Refused):
        escalation.parse(escalation.as_value(steps), roles=("owner",))
