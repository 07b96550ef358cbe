"""The middle of signing in: what a right password alone is good for, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest

from appliance import identity
from appliance.box import Box
from appliance.catalog import people
from appliance.errors import NotAuthorised
from appliance.identity import Due, Proof, Stage, half_open, limits
from appliance.identity.roles import Role
from tests.identity.test_second_factors import enrol
from tests.people import choose_password

NOW = datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC)
PASSWORD = "quatre lapins sur une horloge"
HERE = "192.168.1.10"


@pytest.fixture
def person(box: Box) -> people.Person:
    """Somebody with one-time codes."""
    with box.catalog.transaction() as tx:
        found = identity.add_user(
            tx, login="marie", name="Marie", role=Role.PRACTITIONER, password=PASSWORD, language="fr", now=NOW
        )
    enrol(box, found.id)
    return found


def begin(box: Box, login: str = "marie", agent: str = "tests") -> Due:
    with box.catalog.reading() as conn:
        verdict = identity.examine(conn, login, PASSWORD, address=HERE, now=NOW)
    assert isinstance(verdict, identity.Accepted)
    with box.catalog.transaction() as tx:
        due = identity.accept(tx, verdict, address=HERE, agent=agent, now=NOW)
    assert isinstance(due, Due)
    return due


def find(box: Box, cookie: str, at: datetime = NOW, agent: str = "tests"):
    with box.catalog.reading() as conn:
        return half_open.find(conn, cookie, agent=agent, now=at)


def test_a_right_password_of_a_protected_account_is_no_session(box: Box, person: people.Person) -> None:
    due = begin(box)
    assert due.stage is Stage.SECOND_FACTOR_DUE
    with box.catalog.reading() as conn:
        assert identity.find_session(conn, due.cookie, NOW) is None
        assert people.sessions_of(conn, person.id) == []
    found = find(box, due.cookie)
    assert found is not None
    assert found.person == person


def test_it_is_short_lived_and_of_one_browser(box: Box, person: people.Person) -> None:
    cookie = begin(box).cookie
    assert find(box, cookie, NOW + timedelta(minutes=9)) is not None
    assert find(box, cookie, NOW + timedelta(minutes=10)) is None
    assert find(box, cookie, NOW - timedelta(days=1)) is None
    assert find(box, cookie, agent="another browser") is None
    assert find(box, "x" * 43) is None


def test_five_wrong_factors_use_it_up(box: Box, person: people.Person) -> None:
    cookie = begin(box).cookie
    found = find(box, cookie)
    assert found is not None
    for _ in range(half_open.TRIES):
        with box.catalog.transaction() as tx:
            identity.reject_factor(tx, "marie", address="10.0.0.9", now=NOW, half_open_id=found.id)
    assert find(box, cookie) is None


def test_a_new_password_or_a_closed_account_ends_it(box: Box, person: people.Person) -> None:
    first = begin(box).cookie
    with box.catalog.transaction() as tx:
        people.set_active(tx, person.id, False, NOW)
    assert find(box, first) is None
    with box.catalog.transaction() as tx:
        people.set_active(tx, person.id, True, NOW)
    assert find(box, first) is not None
    with box.catalog.transaction() as tx:
        choose_password(tx, "marie", "cinq renards sous un parapluie", NOW)
    assert find(box, first) is None


def test_it_becomes_a_session_once_and_only_with_what_is_due(box: Box, person: people.Person) -> None:
    cookie = begin(box).cookie
    sign_in = find(box, cookie)
    assert sign_in is not None
    with pytest.raises(NotAuthorised), box.catalog.transaction() as tx:
        identity.finish(tx, sign_in, Proof.NEW_FACTOR, address=HERE, agent="tests", now=NOW)
    with box.catalog.transaction() as tx:
        opened = identity.finish(tx, sign_in, Proof.ONE_TIME_CODE, address=HERE, agent="tests", now=NOW)
    assert find(box, cookie) is None
    with box.catalog.reading() as conn:
        session = identity.find_session(conn, opened, NOW)
    assert session is not None
    assert session.proof == Proof.ONE_TIME_CODE
    assert session.confirmed_utc == NOW


def test_a_right_password_forgives_no_wrong_factor(box: Box, person: people.Person) -> None:
    for _ in range(limits.HERE - 1):
        with box.catalog.transaction() as tx:
            identity.reject_factor(tx, "marie", address=HERE, now=NOW)
    begin(box)
    with box.catalog.transaction() as tx:
        identity.reject_factor(tx, "marie", address=HERE, now=NOW)
    with box.catalog.reading() as conn:
        assert isinstance(identity.examine(conn, "marie", PASSWORD, address=HERE, now=NOW), identity.TooMany)


def test_twenty_wrong_factors_in_a_day_end_the_guessing_from_everywhere(
    box: Box, person: people.Person
) -> None:
    for hour in range(limits.FACTORS):
        with box.catalog.transaction() as tx:
            at = NOW - timedelta(minutes=60 * (hour + 1))
            identity.reject_factor(tx, "marie", address=f"10.0.0.{hour}", now=at)
    with box.catalog.reading() as conn:
        until = limits.wait_until(conn, "marie", HERE, NOW)
    assert until == NOW - timedelta(hours=limits.FACTORS) + limits.FACTOR_WINDOW
    with box.catalog.reading() as conn:
        assert limits.wait_until(conn, "somebody else", HERE, NOW) is None


def test_an_owner_without_a_second_factor_is_led_to_have_one(box: Box) -> None:
    with box.catalog.transaction() as tx:
        identity.add_user(
            tx, login="owner", name="O", role=Role.OWNER, password=PASSWORD, language="fr", now=NOW
        )
    assert begin(box, "owner").stage is Stage.ENROLMENT_DUE
