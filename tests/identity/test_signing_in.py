"""Passwords, limits and sessions."""

from datetime import UTC, datetime, timedelta

import pytest

from appliance import identity
from appliance.box import Box
from appliance.catalog import people
from appliance.errors import Refused
from appliance.identity import Accepted, Rejected, Role, TooMany
from appliance.identity.sessions import digest
from tests.people import choose_password

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSWORD = "quatre lapins sur une horloge"
HERE = "192.168.1.10"
HOUR_BEFORE, HOUR_AFTER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)


@pytest.fixture
def person(box: Box) -> people.Person:
    with box.catalog.transaction() as tx:
        return identity.add_user(
            tx,
            login="Marie@Clinique.ca",
            name="Marie",
            role=Role.PRACTITIONER,
            password=PASSWORD,
            language="fr",
            now=NOW,
        )


def examine(box: Box, login: str, password: str, address: str = HERE, at: datetime = NOW):
    with box.catalog.reading() as conn:
        return identity.examine(conn, login, password, address=address, now=at)


def fail(box: Box, login: str, address: str = HERE, times: int = 1, at: datetime = NOW) -> None:
    with box.catalog.transaction() as tx:
        for _ in range(times):
            identity.reject(tx, login, address=address, now=at)


def accept(box: Box, verdict, at: datetime = NOW):
    assert isinstance(verdict, Accepted)
    with box.catalog.transaction() as tx:
        return identity.accept(tx, verdict, address=HERE, agent="tests", now=at)


def open_session(box: Box, person: people.Person) -> str:
    cookie = accept(box, examine(box, person.login, PASSWORD))
    assert isinstance(cookie, str)
    return cookie


def find(box: Box, cookie: str, at: datetime):
    with box.catalog.reading() as conn:
        return identity.find_session(conn, cookie, at)


def test_the_right_password_opens_whatever_the_case_of_the_login(box: Box, person: people.Person) -> None:
    assert examine(box, " MARIE@clinique.ca ", PASSWORD) == Accepted(person)


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("marie@clinique.ca", "wrong"),
        ("nobody", PASSWORD),
        ("", ""),
        ("x' OR 1=1", "x"),
        ("marie@clinique.ca", ""),
    ],
)
def test_anything_else_is_rejected_alike(box: Box, person: people.Person, login: str, password: str) -> None:
    assert isinstance(examine(box, login, password), Rejected)


def test_a_disabled_account_is_rejected_like_a_wrong_password(box: Box, person: people.Person) -> None:
    cookie = open_session(box, person)
    with box.catalog.transaction() as tx:
        people.set_active(tx, person.id, False, NOW)
    assert isinstance(examine(box, person.login, PASSWORD), Rejected)
    assert find(box, cookie, NOW) is None


def test_the_sixth_try_here_is_not_even_examined_but_a_colleague_elsewhere_enters(
    box: Box, person: people.Person
) -> None:
    fail(box, person.login, times=5)
    assert examine(box, person.login, PASSWORD) == TooMany(person.login, NOW)
    assert examine(box, person.login, PASSWORD, "192.168.1.11") == Accepted(person)
    assert examine(box, person.login, PASSWORD, at=NOW + timedelta(minutes=16)) == Accepted(person)


def test_one_login_tried_from_everywhere_is_stopped(box: Box, person: people.Person) -> None:
    for host in range(20):
        fail(box, person.login, f"10.0.0.{host}")
    assert isinstance(examine(box, person.login, PASSWORD), TooMany)


def test_one_address_trying_everybody_is_stopped(box: Box, person: people.Person) -> None:
    for number in range(40):
        fail(box, f"user{number}")
    assert isinstance(examine(box, person.login, PASSWORD), TooMany)


def test_signing_in_forgets_the_failures_here_only(box: Box, person: people.Person) -> None:
    fail(box, person.login, times=4)
    fail(box, person.login, "10.0.0.1", times=4)
    open_session(box, person)
    fail(box, person.login, times=4)
    assert isinstance(examine(box, person.login, PASSWORD), Accepted)
    fail(box, person.login, "10.0.0.1")
    assert isinstance(examine(box, person.login, PASSWORD, "10.0.0.1"), TooMany)


def test_failures_kept_are_bounded(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "MOST_FAILURES", 10)
    fail(box, "somebody", times=30)
    with box.catalog.reading() as conn:
        assert people.failures(conn, "somebody", HERE, after=HOUR_BEFORE, before=HOUR_AFTER).here == 10


def test_a_session_ends_after_half_an_hour_without_use(box: Box, person: people.Person) -> None:
    cookie = open_session(box, person)
    assert find(box, cookie, NOW + timedelta(minutes=29)) is not None
    assert find(box, cookie, NOW + timedelta(minutes=30)) is None


def test_a_session_in_use_ends_after_twelve_hours(box: Box, person: people.Person) -> None:
    cookie = open_session(box, person)
    with box.catalog.transaction() as tx:
        people.see_session(tx, digest(cookie), NOW + timedelta(hours=11, minutes=50))
    assert find(box, cookie, NOW + timedelta(hours=11, minutes=59)) is not None
    assert find(box, cookie, NOW + timedelta(hours=12)) is None


def test_a_clock_set_back_makes_no_session_longer(box: Box, person: people.Person) -> None:
    assert find(box, open_session(box, person), NOW - timedelta(days=1)) is None


def test_the_cookie_is_not_in_the_catalog(box: Box, person: people.Person) -> None:
    cookie = open_session(box, person)
    session = find(box, cookie, NOW)
    assert session is not None
    assert cookie not in repr(session)
    assert find(box, session.id, NOW) is None


def test_expired_sessions_are_swept_and_live_ones_stay(box: Box, person: people.Person) -> None:
    cookie = open_session(box, person)
    with box.catalog.transaction() as tx:
        assert identity.end_expired(tx, NOW + timedelta(minutes=10)) == 0
        assert identity.end_expired(tx, NOW + timedelta(minutes=31)) == 1
    assert find(box, cookie, NOW) is None


def test_a_new_password_ends_every_session(box: Box, person: people.Person) -> None:
    cookie = open_session(box, person)
    with box.catalog.transaction() as tx:
        choose_password(tx, person.login, "cinq renards sous un parapluie", NOW)
    assert find(box, cookie, NOW) is None
    assert isinstance(examine(box, person.login, PASSWORD), Rejected)
    assert isinstance(examine(box, person.login, "cinq renards sous un parapluie"), Accepted)


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "passwordpassword",
        "123456123456",
        "aaaaaaaaaaaaaaaa",
        "clinique-2026",
        "x" * 201,
        "mtremblaymtremblay",
    ],
)
def test_passwords_that_fall_first_are_refused(password: str) -> None:
    with pytest.raises(Refused):
        identity.check_password(password, login="mtremblay")


def test_a_phrase_is_accepted_and_accents_may_be_typed_either_way(box: Box) -> None:
    identity.check_password("hélène aime les pommes", login="mtremblay")
    with box.catalog.transaction() as tx:
        identity.add_user(
            tx,
            login="helene",
            name="H",
            role=Role.OWNER,
            password="he\u0301lène aime 9",
            language="fr",
            now=NOW,
        )
    assert isinstance(examine(box, "helene", "h\u00e9lène aime 9"), Accepted)


@pytest.mark.parametrize("login", ["", "a", "é", "two words", "x" * 81, "-dash", "a\nb"])
def test_what_is_no_login_is_refused(login: str) -> None:
    with pytest.raises(Refused):
        identity.normal_login(login)


def test_a_login_is_taken_once(box: Box, person: people.Person) -> None:
    with pytest.raises(Refused), box.catalog.transaction() as tx:
        identity.add_user(
            tx, login=person.login, name="Other", role=Role.OWNER, password=PASSWORD, language="en", now=NOW
        )


def test_guesses_side_by_side_count_like_guesses_in_a_row(box: Box, person: people.Person) -> None:
    verdict = examine(
        box, person.login, PASSWORD
    )  # the right guess, examined before the wrong ones were counted
    fail(box, person.login, times=5)
    assert accept(box, verdict) == TooMany(person.login, NOW)


def test_a_password_that_nobody_changed_opens_after_twenty_years(box: Box, person: people.Person) -> None:
    """None ends by itself, and none must be changed for its age."""
    later = NOW + timedelta(days=20 * 365)
    with box.catalog.reading() as conn:
        verdict = identity.examine(conn, person.login, PASSWORD, address="192.168.1.7", now=later)
    assert verdict == Accepted(person)
    assert isinstance(accept(box, verdict), str)


def test_a_password_changed_while_it_was_examined_no_longer_opens(box: Box, person: people.Person) -> None:
    verdict = examine(box, person.login, PASSWORD)
    with box.catalog.transaction() as tx:
        choose_password(tx, person.login, "un tout autre cheval bleu", NOW)
    assert accept(box, verdict) == Rejected(person.login)


def test_failures_that_a_wrong_clock_put_into_the_future_lock_nobody_out(
    box: Box, person: people.Person
) -> None:
    fail(box, person.login, times=5, at=NOW + timedelta(days=3650))
    assert examine(box, person.login, PASSWORD) == Accepted(person)


def test_a_new_password_ends_the_wait_for_too_many_failures(box: Box, person: people.Person) -> None:
    fail(box, person.login, times=5)
    with box.catalog.transaction() as tx:
        choose_password(tx, person.login, "un tout autre cheval bleu", NOW)
    assert isinstance(examine(box, person.login, "un tout autre cheval bleu"), Accepted)
