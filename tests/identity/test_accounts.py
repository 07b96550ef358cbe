"""Accounts change, close and open again; an owner who can sign in is always left."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from appliance import identity
from appliance.box import Box
from appliance.catalog import people
from appliance.catalog.people import Person
from appliance.errors import NotAuthorised, Refused, Unknown
from appliance.identity import Role
from appliance.identity.permissions import TABLE

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def add(box: Box, login: str, role: Role = Role.OWNER, *, password_set: bool = True) -> Person:
    with box.catalog.transaction() as tx:
        return people.add(
            tx,
            login=login,
            name=login.title(),
            role=role,
            password_hash="none" if password_set else "",
            language="en",
            now=NOW,
        )


def change(box: Box, person: Person, **wanted: object) -> dict[str, list[str]]:
    kept = {
        "login": person.login,
        "name": person.name,
        "role": Role(person.role),
        "language": person.language,
    }
    with box.catalog.transaction() as tx:
        return identity.change_account(tx, person.id, **(kept | wanted), now=NOW)  # type: ignore[arg-type]


def deactivate(box: Box, person: Person) -> None:
    with box.catalog.transaction() as tx:
        identity.deactivate(tx, person.id, NOW)


def session(box: Box, person: Person) -> str:
    with box.catalog.transaction() as tx:
        return identity.open_session(tx, person.id, address="10.0.0.9", agent="tests", now=NOW)


def find(box: Box, cookie: str):
    with box.catalog.reading() as conn:
        return identity.find_session(conn, cookie, NOW)


def reread(box: Box, person: Person) -> Person:
    with box.catalog.reading() as conn:
        return identity.known_person(conn, person.id)


# --- changing --------------------------------------------------------------------------------------------------------


def test_a_change_says_what_differs_and_no_more(box: Box) -> None:
    add(box, "owner")
    luc = add(box, "luc", Role.ASSISTANT)
    differs = change(box, luc, login=" Luc.Roy@Clinique.ca ", role=Role.TECHNICIAN)
    assert differs == {"login": ["luc", "luc.roy@clinique.ca"], "role": ["assistant", "technician"]}
    after = reread(box, luc)
    assert (after.login, after.role, after.name) == ("luc.roy@clinique.ca", "technician", "Luc")
    assert change(box, after) == {}


def test_a_change_of_role_reaches_the_sessions_that_are_open(box: Box) -> None:
    add(box, "owner")
    luc = add(box, "luc", Role.PRACTITIONER)
    cookie = session(box, luc)
    change(box, luc, role=Role.VENDOR_SUPPORT)
    assert find(box, cookie).person.role == "vendor_support"


@pytest.mark.parametrize("login", ["", "a", "with space", "é" * 5, "x" * 81])
def test_a_login_that_will_not_do_changes_nothing(box: Box, login: str) -> None:
    luc = add(box, "luc")
    with pytest.raises(Refused):
        change(box, luc, login=login)
    assert reread(box, luc) == luc


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "Luc\x1b[31m"])
def test_a_name_that_will_not_do_changes_nothing(box: Box, name: str) -> None:
    luc = add(box, "luc")
    with pytest.raises(Refused):
        change(box, luc, name=name)
    assert reread(box, luc) == luc


def test_a_login_that_was_somebodys_is_nobody_elses(box: Box) -> None:
    """The audit names people by login: what Luc did must never read as what somebody else did."""
    luc, eve = add(box, "luc"), add(box, "eve")
    change(box, luc, login="luc.roy")
    for login in ("luc", "luc.roy"):
        with pytest.raises(Refused, match="there is, or was"):
            change(box, eve, login=login)
        with pytest.raises(Refused, match="there is, or was"):
            add(box, login)
    change(box, reread(box, luc), login="luc")
    assert reread(box, luc).login == "luc"
    with pytest.raises(Refused):
        add(box, "luc.roy")


def test_what_is_not_there_is_unknown(box: Box) -> None:
    luc = add(box, "luc")
    with box.catalog.transaction() as tx, pytest.raises(Unknown):
        identity.deactivate(tx, luc.id + 1, NOW)
    with box.catalog.transaction() as tx, pytest.raises(Unknown):
        identity.reactivate(tx, luc.id + 1, NOW)


# --- deactivating ----------------------------------------------------------------------------------------------------


def test_who_is_deactivated_is_out_at_once_and_is_never_deleted(box: Box) -> None:
    add(box, "owner")
    luc = add(box, "luc", Role.ASSISTANT)
    cookie = session(box, luc)
    with box.catalog.transaction() as tx:
        link = identity.make_link(tx, luc.id, by="owner", now=NOW)
    deactivate(box, luc)
    assert find(box, cookie) is None
    assert reread(box, luc).state == "deactivated"
    with box.catalog.reading() as conn, pytest.raises(Refused):
        identity.link_holder(conn, link.token, NOW)
    with box.catalog.transaction() as tx, pytest.raises(Refused):
        identity.make_link(tx, luc.id, by="owner", now=NOW)
    with box.catalog.transaction() as tx:
        identity.reactivate(tx, luc.id, NOW)
    assert reread(box, luc).state == "active"
    assert find(box, cookie) is None, "an old session must not come back to life"
    with box.catalog.reading() as conn, pytest.raises(Refused):
        identity.link_holder(conn, link.token, NOW)


# --- the last owner --------------------------------------------------------------------------------------------------


def test_the_last_owner_stays(box: Box) -> None:
    marie = add(box, "marie")
    add(box, "luc", Role.PRACTITIONER)
    with pytest.raises(Refused, match="last owner"):
        deactivate(box, marie)
    for role in set(Role) - {Role.OWNER}:
        with pytest.raises(Refused, match="last owner"):
            change(box, marie, role=role)
    assert change(box, marie, name="Marie T.") == {"name": ["Marie", "Marie T."]}


def test_an_owner_who_cannot_sign_in_does_not_count(box: Box) -> None:
    marie, invited, closed = add(box, "marie"), add(box, "invited", password_set=False), add(box, "closed")
    deactivate(box, closed)
    with pytest.raises(Refused, match="last owner"):
        deactivate(box, marie)
    deactivate(box, invited)
    assert reread(box, marie).state == "active"


ACTS: dict[str, Callable[[Box, Person], object]] = {
    "demote": lambda box, person: change(box, person, role=Role.PRACTITIONER),
    "deactivate": deactivate,
}


@pytest.mark.parametrize("first", ACTS)
@pytest.mark.parametrize("second", ACTS)
def test_two_owners_who_remove_each_other_at_once_leave_one(box: Box, first: str, second: str) -> None:
    for turn in range(4):
        pair = add(box, f"a{turn}"), add(box, f"b{turn}")
        with box.catalog.reading() as conn:
            others = people.able(conn, Role.OWNER) - {each.id for each in pair}
        for other in others:
            with box.catalog.transaction() as tx:
                people.set_active(tx, other, False, NOW)
        ready = threading.Barrier(2)
        refused: list[Person] = []

        def act(name: str, person: Person, ready=ready, refused=refused) -> None:
            ready.wait()
            try:
                ACTS[name](box, person)
            except Refused:
                refused.append(person)

        threads = [
            threading.Thread(target=act, args=(name, person))
            for name, person in zip((first, second), pair, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1
        with box.catalog.reading() as conn:
            assert people.able(conn, Role.OWNER) == {refused[0].id}


def test_a_crowd_of_owners_that_leaves_at_once_leaves_one(box: Box) -> None:
    crowd = [add(box, f"owner{number}") for number in range(8)]
    ready = threading.Barrier(len(crowd))

    def leave(person: Person) -> None:
        ready.wait()
        try:
            deactivate(box, person)
        except Refused:
            return

    threads = [threading.Thread(target=leave, args=(person,)) for person in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with box.catalog.reading() as conn:
        assert len(people.able(conn, Role.OWNER)) == 1


# --- who may reset whom ----------------------------------------------------------------------------------------------


def test_only_an_owner_resets_an_owner(box: Box) -> None:
    for actor in Role:
        for target in Role:
            allowed = actor is Role.OWNER or (actor is Role.PRIVACY_OFFICER and target is not Role.OWNER)
            if allowed:
                identity.check_may_reset(TABLE[actor], target)
            else:
                with pytest.raises(NotAuthorised):
                    identity.check_may_reset(TABLE[actor], target)


def test_links_that_are_over_are_forgotten_by_the_upkeep(box: Box) -> None:
    luc = add(box, "luc")
    with box.catalog.transaction() as tx:
        identity.make_link(tx, luc.id, by="owner", now=NOW)
    for later, kept in ((timedelta(hours=23), 1), (timedelta(hours=24), 0)):
        with box.catalog.transaction() as tx:
            identity.end_expired(tx, NOW + later)
        with box.catalog.reading() as conn:
            assert conn.exec_driver_sql("SELECT count(*) FROM account_links").scalar() == kept
