"""Tokens for machines: no more than their maker, until a day, gone with whoever made them."""

from datetime import UTC, datetime, timedelta

import pytest

from appliance import identity
from appliance.box import Box
from appliance.catalog import api_tokens, people
from appliance.errors import NotAuthorised, Refused, Unknown
from appliance.identity import tokens
from appliance.identity.permissions import Permission
from appliance.identity.roles import Role

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
VIEW = ("deliveries:view", "health:view")


@pytest.fixture
def person(box: Box) -> people.Person:
    with box.catalog.transaction() as tx:
        return identity.add_user(
            tx,
            login="tech",
            name="T",
            role=Role.TECHNICIAN,
            password="quatre lapins sur une horloge",
            language="en",
            now=NOW,
        )


def make(
    box: Box, person: people.Person, scopes=VIEW, days: int = 30, name: str = "report"
) -> tuple[str, int]:
    with box.catalog.transaction() as tx:
        text, made = tokens.make(tx, person, name=name, scopes=scopes, days=days, now=NOW)
    return text, made.id


def find(box: Box, text: str, at: datetime = NOW) -> tokens.Bearer | None:
    with box.catalog.reading() as conn:
        return tokens.find(conn, text, at)


def test_a_token_may_what_it_was_given(box: Box, person: people.Person) -> None:
    text, _ = make(box, person)
    bearer = find(box, text)
    assert bearer is not None
    assert bearer.person == person
    assert bearer.permissions == {Permission.VIEW_DELIVERIES, Permission.VIEW_HEALTH}
    assert find(box, text + "x") is None
    assert find(box, "") is None


def test_nothing_in_the_catalog_opens_anything(box: Box, person: people.Person) -> None:
    text, number = make(box, person)
    with box.catalog.reading() as conn:
        kept = api_tokens.token(conn, number)
    assert text not in repr(kept)
    assert find(box, tokens.digest(text)) is None


@pytest.mark.parametrize("scopes", [(), ("users:manage",), ("deliveries:view", "keys:manage"), ("nonsense",)])
def test_nobody_makes_a_token_that_may_more_than_they(box: Box, person: people.Person, scopes) -> None:
    with pytest.raises(Refused):
        make(box, person, scopes)


def test_a_smaller_role_makes_its_tokens_smaller_at_once(box: Box, person: people.Person) -> None:
    text, _ = make(box, person)
    with box.catalog.transaction() as tx:
        identity.change_account(
            tx, person.id, login="tech", name="T", role=Role.REFERRER, language="en", now=NOW
        )
    bearer = find(box, text)
    assert bearer is not None
    assert bearer.permissions == frozenset()


def test_a_token_ends_with_its_day_its_removal_and_its_maker(box: Box, person: people.Person) -> None:
    text, number = make(box, person, days=1)
    assert find(box, text, NOW + timedelta(hours=23)) is not None
    assert find(box, text, NOW + timedelta(days=1)) is None
    assert find(box, text, NOW - timedelta(days=1)) is None, "a clock set back makes no token longer"
    with box.catalog.transaction() as tx:
        people.set_active(tx, person.id, False, NOW)
    assert find(box, text) is None
    with box.catalog.transaction() as tx:
        people.set_active(tx, person.id, True, NOW)
        assert [each.name for each in tokens.revoke(tx, number, by="owner", now=NOW)] == ["report"]
    assert find(box, text) is None
    with pytest.raises(Unknown), box.catalog.transaction() as tx:
        tokens.revoke(tx, number, by="owner", now=NOW)


def test_tokens_have_a_name_an_end_and_a_number(box: Box, person: people.Person) -> None:
    for days in (0, 367):
        with pytest.raises(Refused):
            make(box, person, days=days)
    for name in ("", " ", "x" * 61, "a\x07b"):
        with pytest.raises(Refused):
            make(box, person, name=name)
    for _ in range(tokens.MOST_TOKENS):
        make(box, person)
    with pytest.raises(Refused, match="as many"):
        make(box, person)


def test_a_token_that_is_taken_back_takes_along_all_that_were_made_with_it(
    box: Box, person: people.Person
) -> None:
    stolen, number = make(box, person)
    _, kept = make(box, person, name="another")

    def made_with(text: str) -> str:
        bearer = find(box, text)
        assert bearer is not None
        with box.catalog.transaction() as tx:
            child, _ = tokens.make(tx, person, name="child", scopes=VIEW, days=1, now=NOW, within=bearer)
        return child

    child = made_with(stolen)
    grandchild = made_with(child)
    with box.catalog.transaction() as tx:
        gone = tokens.revoke(tx, number, by="owner", now=NOW)
    assert [each.name for each in gone] == ["report", "child", "child"]
    assert [find(box, text) for text in (stolen, child, grandchild)] == [None] * 3
    with box.catalog.reading() as conn:
        left = api_tokens.token(conn, kept)
    assert left is not None and tokens.is_good(left, NOW)


@pytest.mark.parametrize("ending", ["taken back", "over", "its maker gone"])
def test_a_token_that_has_ended_since_the_request_began_makes_no_other(
    box: Box, person: people.Person, ending: str
) -> None:
    text, number = make(box, person, days=1)
    bearer = find(box, text)
    assert bearer is not None
    with box.catalog.transaction() as tx:
        if ending == "taken back":
            tokens.revoke(tx, number, by="owner", now=NOW)
        elif ending == "its maker gone":
            people.set_active(tx, person.id, False, NOW)
    later = NOW + timedelta(days=1 if ending == "over" else 0)
    with pytest.raises(NotAuthorised), box.catalog.transaction() as tx:
        tokens.make(tx, person, name="child", scopes=VIEW, days=1, now=later, within=bearer)
    with box.catalog.reading() as conn:
        assert [each.id for each in api_tokens.tokens(conn, person.id)] == [number]
