"""A link makes one person choose one password, once, in time."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from appliance import identity
from appliance.box import Box
from appliance.catalog import people
from appliance.errors import Refused, Unknown
from appliance.identity import Accepted, Rejected, Role
from appliance.identity.links import INVITATION, RESET

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSWORD, OTHER = "quatre lapins sur une horloge", "cinq renards sous la lampe"


def invite(box: Box, login: str = "luc", role: Role = Role.ASSISTANT) -> identity.MadeLink:
    with box.catalog.transaction() as tx:
        return identity.invite(tx, login=login, name="Luc Roy", role=role, language="fr", by="marie", now=NOW)


def relink(box: Box, link: identity.MadeLink, at: datetime = NOW) -> identity.MadeLink:
    with box.catalog.transaction() as tx:
        return identity.make_link(tx, link.person.id, by="marie", now=at)


def redeem(box: Box, token: str, password: str = PASSWORD, at: datetime = NOW) -> None:
    hashed = identity.hash_password(password)
    with box.catalog.transaction() as tx:
        identity.redeem_link(tx, token, hashed, at)


def sign_in(box: Box, password: str, at: datetime = NOW):
    with box.catalog.reading() as conn:
        return identity.examine(conn, "luc", password, address="10.0.0.9", now=at)


def test_the_invited_person_chooses_a_password_and_signs_in(box: Box) -> None:
    link = invite(box)
    assert link.person.state == "invited"
    assert isinstance(sign_in(box, ""), Rejected)
    assert isinstance(sign_in(box, PASSWORD), Rejected)
    redeem(box, link.token)
    assert isinstance(sign_in(box, PASSWORD), Accepted)


def test_nothing_of_a_link_can_be_read_from_the_catalog(box: Box) -> None:
    link = invite(box)
    with box.catalog.reading() as conn:
        rows = [conn.exec_driver_sql(f"SELECT * FROM {name}").all() for name in ("account_links", "users")]
    assert link.token not in str(rows)
    assert link.token not in repr(link)
    assert link.address("http://box:8080/").startswith("http://box:8080/welcome#")


def test_a_link_works_once(box: Box) -> None:
    link = invite(box)
    redeem(box, link.token)
    with pytest.raises(Refused, match="no longer good"):
        redeem(box, link.token, OTHER)
    assert isinstance(sign_in(box, PASSWORD), Accepted)


def test_of_many_who_use_a_link_at_once_one_succeeds(box: Box) -> None:
    link = invite(box)
    hashes = [identity.hash_password(f"{PASSWORD} {number}") for number in range(6)]
    ready, done = threading.Barrier(len(hashes)), []

    def use(number: int) -> None:
        ready.wait()
        try:
            with box.catalog.transaction() as tx:
                identity.redeem_link(tx, link.token, hashes[number], NOW)
            done.append(number)
        except Refused:
            return

    threads = [threading.Thread(target=use, args=(number,)) for number in range(len(hashes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = done
    assert isinstance(sign_in(box, f"{PASSWORD} {winner}"), Accepted)


def test_a_link_ends_at_its_hour(box: Box) -> None:
    link = invite(box)
    with pytest.raises(Refused):
        redeem(box, link.token, at=NOW + INVITATION)
    redeem(box, link.token, at=NOW + INVITATION - timedelta(seconds=1))
    reset = relink(box, link)
    assert reset.expires_utc == NOW + RESET
    with pytest.raises(Refused):
        redeem(box, reset.token, OTHER, at=NOW + RESET)


def test_a_link_that_a_fast_clock_made_is_not_good_for_longer(box: Box) -> None:
    link = invite(box)
    with pytest.raises(Refused):
        redeem(box, link.token, at=NOW - timedelta(days=30))


def test_a_new_link_replaces_the_one_before(box: Box) -> None:
    first = invite(box)
    second = relink(box, first)
    with pytest.raises(Refused):
        redeem(box, first.token)
    redeem(box, second.token)


def test_a_tampered_link_opens_nothing(box: Box) -> None:
    link = invite(box)
    for place in range(len(link.token)):
        for sign in "A_é" if link.token[place] != "A" else "B":
            wrong = link.token[:place] + sign + link.token[place + 1 :]
            if wrong != link.token:
                with box.catalog.reading() as conn, pytest.raises(Refused, match="no longer good"):
                    identity.link_holder(conn, wrong, NOW)
    for wrong in (link.token[:-1], link.token + "A", link.token.swapcase()):
        with pytest.raises(Refused, match="no longer good"):
            redeem(box, wrong)
    redeem(box, link.token)


@pytest.mark.parametrize("token", ["", " ", "x", "k" * 43, "é" * 43])
def test_what_was_never_a_link_opens_nothing(box: Box, token: str) -> None:
    invite(box)
    with box.catalog.reading() as conn, pytest.raises(Refused, match="no longer good"):
        identity.link_holder(conn, token, NOW)


def test_a_reset_leaves_the_old_password_until_it_is_used_and_then_ends_sessions(box: Box) -> None:
    link = invite(box)
    redeem(box, link.token)
    with box.catalog.transaction() as tx:
        cookie = identity.open_session(tx, link.person.id, address="10.0.0.9", agent="tests", now=NOW)
    reset = relink(box, link)
    assert isinstance(sign_in(box, PASSWORD), Accepted)
    with box.catalog.reading() as conn:
        assert identity.find_session(conn, cookie, NOW) is not None
    redeem(box, reset.token, OTHER)
    assert isinstance(sign_in(box, PASSWORD), Rejected)
    assert isinstance(sign_in(box, OTHER), Accepted)
    with box.catalog.reading() as conn:
        assert identity.find_session(conn, cookie, NOW) is None


def test_a_link_for_nobody_is_not_made(box: Box) -> None:
    with box.catalog.transaction() as tx, pytest.raises(Unknown):
        identity.make_link(tx, 99, by="marie", now=NOW)


def test_an_invited_login_takes_as_long_to_refuse_as_any(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same hashing is done: an empty text would be refused at once, and tell who has been invited."""
    from appliance.identity import passwords, signing_in

    invite(box)
    tried: list[str] = []

    def verify(kept: str, password: str) -> bool:
        tried.append(kept)
        return False

    monkeypatch.setattr(signing_in, "verify_password", verify)
    sign_in(box, PASSWORD)
    assert tried == [passwords.nobodys_password()]


def test_who_was_invited_and_deactivated_cannot_accept(box: Box) -> None:
    link = invite(box)
    with box.catalog.transaction() as tx:
        people.set_active(tx, link.person.id, False, NOW)
    with pytest.raises(Refused):
        redeem(box, link.token)
