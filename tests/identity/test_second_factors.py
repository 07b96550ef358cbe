"""One-time codes and recovery codes: in time, once, by one, under the write lock; passkeys' pure parts."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import identity
from appliance.box import Box
from appliance.catalog import half_open, people, second_factors
from appliance.errors import Corrupt, Refused
from appliance.identity import one_time_codes, passkeys, policy, recovery_codes
from appliance.identity.roles import Role

NOW = datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC)
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
STEP = timedelta(seconds=30)


def code(secret: str, at: datetime) -> str:
    return pyotp.TOTP(secret).at(at)


@pytest.fixture
def person(box: Box) -> people.Person:
    with box.catalog.transaction() as tx:
        return identity.add_user(
            tx,
            login="marie",
            name="Marie",
            role=Role.PRACTITIONER,
            password="quatre lapins sur une horloge",
            language="fr",
            now=NOW,
        )


def enrol(box: Box, person_id: int, at: datetime = NOW - timedelta(hours=1)) -> str:
    """Set one-time codes up; returns the secret."""
    with box.catalog.transaction() as tx:
        one_time_codes.begin(tx, box.root, person_id, at)
        shown = one_time_codes.set_up(tx, box.root, person_id, login="marie", issuer="Box")
        assert shown is not None
        assert one_time_codes.confirm(tx, box.root, person_id, code(shown.secret, at), at)
    return shown.secret


def accept(box: Box, person_id: int, typed: str, at: datetime = NOW) -> bool:
    with box.catalog.transaction() as tx:
        return one_time_codes.accept(tx, box.root, person_id, typed, at)


# --- one-time codes --------------------------------------------------------------------------------------------------


@given(st.integers(min_value=-200, max_value=200))
def test_a_code_is_good_for_its_own_step_and_the_neighbours(seconds: int) -> None:
    at = NOW + timedelta(seconds=seconds)
    apart = abs(one_time_codes.step_of(at) - one_time_codes.step_of(NOW))
    found = one_time_codes.matching_step(SECRET, code(SECRET, at), NOW)
    assert (found == one_time_codes.step_of(at)) is (apart <= 1)


@given(st.text(max_size=12))
def test_what_is_not_six_digits_is_no_code(typed: str) -> None:
    digits = "".join(typed.split())
    if not (len(digits) == 6 and digits.isascii() and digits.isdecimal()):
        assert one_time_codes.matching_step(SECRET, typed, NOW) is None


def test_the_vectors_of_rfc_6238_hold() -> None:
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # its 20 ASCII bytes in base 32
    for seconds, digits in ((59, "287082"), (1111111109, "081804"), (20000000000, "353130")):
        at = datetime.fromtimestamp(seconds, UTC)
        assert one_time_codes.matching_step(secret, digits, at) == seconds // 30


def test_a_code_counts_once(box: Box, person: people.Person) -> None:
    secret = enrol(box, person.id)
    typed = code(secret, NOW)
    assert accept(box, person.id, typed)
    assert not accept(box, person.id, typed)
    assert not accept(box, person.id, typed, NOW + STEP)


def test_an_older_code_is_void_once_a_newer_one_was_taken(box: Box, person: people.Person) -> None:
    secret = enrol(box, person.id)
    assert accept(box, person.id, code(secret, NOW + STEP))
    assert not accept(box, person.id, code(secret, NOW))
    assert not accept(box, person.id, code(secret, NOW - STEP))
    assert accept(box, person.id, code(secret, NOW + 2 * STEP), NOW + 2 * STEP)


def test_of_many_that_show_the_same_code_at_once_one_is_accepted(box: Box, person: people.Person) -> None:
    secret = enrol(box, person.id)
    typed = code(secret, NOW)
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: accept(box, person.id, typed), range(8)))
    assert outcomes.count(True) == 1


def test_the_code_that_confirmed_the_set_up_opens_nothing(box: Box, person: people.Person) -> None:
    secret = enrol(box, person.id, NOW)
    assert not accept(box, person.id, code(secret, NOW))


def test_a_secret_that_was_never_confirmed_opens_nothing(box: Box, person: people.Person) -> None:
    with box.catalog.transaction() as tx:
        one_time_codes.begin(tx, box.root, person.id, NOW)
        shown = one_time_codes.set_up(tx, box.root, person.id, login="marie", issuer="Box")
        assert shown is not None
        assert not policy.has_second_factor(tx, person.id)
    assert not accept(box, person.id, code(shown.secret, NOW))


def test_a_secret_is_shown_only_until_it_counts_and_not_replaced_unasked(
    box: Box, person: people.Person
) -> None:
    enrol(box, person.id)
    with box.catalog.reading() as conn:
        assert one_time_codes.set_up(conn, box.root, person.id, login="marie", issuer="Box") is None
    with pytest.raises(Refused), box.catalog.transaction() as tx:
        one_time_codes.begin(tx, box.root, person.id, NOW)


def test_the_secret_lies_sealed_and_bound_to_its_person(box: Box, person: people.Person) -> None:
    secret = enrol(box, person.id)
    with box.catalog.transaction() as tx:
        kept = second_factors.one_time_secret(tx, person.id)
        assert kept is not None
        assert secret.encode() not in kept.sealed
        other = identity.add_user(
            tx,
            login="other",
            name="O",
            role=Role.ASSISTANT,
            password="quatre lapins sur une horloge",
            language="en",
            now=NOW,
        )
        second_factors.put_one_time_secret(tx, other.id, kept.sealed, NOW)
        second_factors.confirm_one_time_secret(tx, other.id, NOW)
    with pytest.raises(Corrupt):
        accept(box, other.id, code(secret, NOW))


# --- recovery codes --------------------------------------------------------------------------------------------------


def draw(box: Box, person_id: int) -> tuple[str, ...]:
    with box.catalog.transaction() as tx:
        return recovery_codes.draw(tx, box.root, person_id, NOW)


def use(box: Box, person_id: int, typed: str) -> bool:
    with box.catalog.transaction() as tx:
        return recovery_codes.use(tx, box.root, person_id, typed, NOW)


def test_each_recovery_code_counts_once_however_it_is_typed(box: Box, person: people.Person) -> None:
    codes = draw(box, person.id)
    assert len(set(codes)) == recovery_codes.COUNT
    for each in codes:
        assert use(box, person.id, f"  {each.lower().replace('0', 'o').replace('1', 'l')} ")
        assert not use(box, person.id, each)
    with box.catalog.reading() as conn:
        assert second_factors.recovery_codes_left(conn, person.id) == 0


def test_of_many_that_use_the_same_code_at_once_one_enters(box: Box, person: people.Person) -> None:
    first, *_ = draw(box, person.id)
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: use(box, person.id, first), range(8)))
    assert outcomes.count(True) == 1


def test_new_codes_void_the_old_sheet(box: Box, person: people.Person) -> None:
    old = draw(box, person.id)
    new = draw(box, person.id)
    assert not any(use(box, person.id, each) for each in old)
    assert use(box, person.id, new[0])


def test_codes_open_only_the_account_they_were_drawn_for(box: Box, person: people.Person) -> None:
    codes = draw(box, person.id)
    assert not use(box, person.id + 1, codes[0])
    assert use(box, person.id, codes[0])


def test_no_recovery_code_lies_in_the_catalog(box: Box, person: people.Person) -> None:
    codes = draw(box, person.id)
    digests = {recovery_codes.digest(box.root, person.id, each.replace("-", "")) for each in codes}
    assert all(len(each) == 64 for each in digests)
    assert not digests & {each.replace("-", "").lower() for each in codes}


@given(st.text(max_size=20))
def test_what_was_never_drawn_is_never_a_code(typed: str) -> None:
    assert recovery_codes.normal_code(typed) == recovery_codes.normal_code(f" {typed} ")


# --- passkeys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("netloc", "secure", "site"),
    [
        ("localhost:8080", False, passkeys.Site("localhost", "http://localhost:8080")),
        ("box.local", True, passkeys.Site("box.local", "https://box.local")),
        ("Box.Clinic.ca:8443", True, passkeys.Site("box.clinic.ca", "https://box.clinic.ca:8443")),
        ("box.local", False, None),
        ("127.0.0.1:8080", False, None),
        ("192.168.1.5", True, None),
        ("[::1]:8080", True, None),
        ("[::1]", True, None),
        ("", True, None),
    ],
)
def test_a_passkey_works_under_a_name_and_never_under_an_address(
    netloc: str, secure: bool, site: passkeys.Site | None
) -> None:
    assert passkeys.site_of(netloc, secure=secure) == site


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_counter_that_does_not_grow_is_a_copy_unless_the_device_counts_nothing(
    kept: int, shown: int
) -> None:
    assert passkeys.is_copied(kept, shown) is (shown <= kept and (kept, shown) != (0, 0))


def test_a_challenge_is_answered_once_by_its_holder_for_its_purpose_in_time(box: Box) -> None:
    with box.catalog.transaction() as tx:
        half_open.put_challenge(tx, "a", "sign-in", b"question", NOW + timedelta(minutes=5))
        assert half_open.take_challenge(tx, "b", "sign-in", NOW) is None
        assert half_open.take_challenge(tx, "a", "register", NOW) is None
        assert half_open.take_challenge(tx, "a", "sign-in", NOW) == b"question"
        assert half_open.take_challenge(tx, "a", "sign-in", NOW) is None
        half_open.put_challenge(tx, "a", "sign-in", b"late", NOW)
        assert half_open.take_challenge(tx, "a", "sign-in", NOW) is None


def test_challenges_kept_are_bounded(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_open, "MOST_CHALLENGES", 5)
    with box.catalog.transaction() as tx:
        for number in range(20):
            half_open.put_challenge(tx, f"v{number}", "sign-in", b"q", NOW + timedelta(seconds=number + 1))
        kept = [half_open.take_challenge(tx, f"v{number}", "sign-in", NOW) for number in range(20)]
    assert kept.count(b"q") == 5


@given(st.text(max_size=200))
def test_an_answer_that_is_no_credential_is_none(answer: str) -> None:
    read = passkeys._credential(answer)
    assert read is None or isinstance(read["id"], str)
