"""A person hears of what happened to the own account, whoever did it and whatever the person has chosen; nobody else."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit
from appliance.box import Box, open_box
from appliance.catalog import notice_preferences, notices, outbox, people
from appliance.catalog.notices import Wanted
from appliance.config import Config
from appliance.notify import judging, personal

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MARIE, LUC = "marie@example.ca", "luc"


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    opened = open_box(Config(data=data_dir))
    with opened.catalog.transaction() as tx:
        for login, role in ((MARIE, "assistant"), (LUC, "owner")):
            people.add(tx, login=login, name=login, role=role, password_hash="x", language="fr", now=NOW)
    yield opened
    opened.close()


def happened(
    box: Box, action: str, *, subject: str = MARIE, actor: str = MARIE, address: str = "192.168.1.7",
    at: datetime = NOW, details: dict[str, object] | None = None,
) -> None:  # fmt: skip
    with box.catalog.transaction() as tx:
        audit.append(
            tx, box.audit_key, [audit.Entry(action, subject, actor, details or {}, address=address)], at
        )


def told(box: Box, login: str = MARIE) -> list[tuple[str, str]]:
    with box.catalog.reading() as conn:
        person = people.person(conn, login)
        assert person is not None
        rows = notices.history(conn, person.id, Wanted(), everything=False, limit=50)
    return [(row.kind, row.words) for row in reversed(rows)]


def letters(box: Box) -> list[str]:
    with box.catalog.reading() as conn:
        return [each.address for each in outbox.messages(conn, limit=50)]


def test_whatever_opens_the_account_is_told_to_its_person_alone(box: Box) -> None:
    actions = [word for word in personal._TOLD if word not in ("user:change", "token:add")]
    for number, action in enumerate(actions):
        moment = NOW + timedelta(minutes=number)
        subject = MARIE if number % 2 else f"user:{MARIE}"  # as pages and the command line name it
        happened(box, action, subject=subject, actor=LUC, at=moment)
        assert judging.apply(box.catalog, [], moment).raised == 1, action
        assert not judging.apply(box.catalog, [], moment).said_anything  # once
    assert told(box) == [personal._TOLD[action] for action in actions]
    assert told(box, LUC) == []
    assert letters(box) == [MARIE] * len(actions)


def test_nobody_can_choose_not_to_hear_of_it_and_quiet_hours_hold_the_letter_only(box: Box) -> None:
    with box.catalog.transaction() as tx:
        person = people.person(tx, MARIE)
        assert person is not None
        notice_preferences.choose(tx, person.id, {"channels": {"access": []}, "mail_address": ""}, NOW)
    happened(box, "user:reset")
    judging.apply(box.catalog, [], NOW)
    assert [kind for kind, _ in told(box)] == ["account-changed"]
    assert letters(box) == []  # no address was left to write to


def test_a_new_login_or_role_is_told_to_the_new_login_and_a_new_name_to_nobody(box: Box) -> None:
    happened(
        box, "user:change", subject=f"user:{MARIE}", details={"name": ["a", "b"], "language": ["en", "fr"]}
    )
    assert judging.apply(box.catalog, [], NOW).raised == 0
    happened(box, "user:change", subject=f"user:{MARIE}", details={"role": ["assistant", "technician"]})
    happened(box, "user:change", subject="user:lucien", details={"login": ["lucien", LUC]})
    assert judging.apply(box.catalog, [], NOW).raised == 2
    assert len(told(box)) == len(told(box, LUC)) == 1


def test_a_token_is_told_to_whom_it_was_made_for(box: Box) -> None:
    happened(box, "token:add", subject="token:5", actor="root", details={"of": MARIE, "scopes": []})
    assert judging.apply(box.catalog, [], NOW).raised == 1
    assert told(box) == [personal._TOLD["token:add"]]
    assert told(box, LUC) == []


def test_a_sign_in_is_told_when_it_is_from_a_new_place_or_after_long(box: Box) -> None:
    happened(box, "user:login", at=NOW - timedelta(days=20))
    for day in range(19, 0, -1):
        happened(box, "user:login", at=NOW - timedelta(days=day))
    judging.apply(box.catalog, [], NOW - timedelta(days=1))
    assert told(box) == []  # the first one, and those like it
    happened(box, "user:login", address="10.0.0.66")
    judging.apply(box.catalog, [], NOW)
    happened(box, "user:login", address="10.0.0.66")
    judging.apply(box.catalog, [], NOW)
    assert told(box) == [("account-opened", personal.NEW_PLACE)]
    for days in (100, 400):
        later = NOW + timedelta(days=days)
        happened(box, "user:login", at=later)
        judging.apply(box.catalog, [], later)
    assert told(box)[1:] == [("account-opened", personal.LONG_AWAY)] * 2


def test_a_burst_is_one_notice_and_what_is_old_is_none(box: Box) -> None:
    happened(box, "user:reset", at=NOW - timedelta(days=2))
    for _ in range(40):
        happened(box, "user:second-factor-fail", actor="visitor")
    assert judging.apply(box.catalog, [], NOW).raised == 1
    assert told(box) == [personal._TOLD["user:second-factor-fail"]]


def test_whoever_guesses_cannot_bury_a_person_in_letters(box: Box) -> None:
    moment = NOW
    for quarter in range(48):  # twelve hours, shut out and back again every time
        moment = NOW + timedelta(minutes=15 * quarter)
        happened(box, "user:lock", actor="visitor", at=moment)
        judging.apply(box.catalog, [], moment)
    assert len(told(box)) == len(letters(box)) == 2
    happened(box, "user:reset", at=moment)  # what has changed is always said
    happened(box, "user:second-factor-fail", actor="visitor", at=moment)  # and so is another thing
    judging.apply(box.catalog, [], moment)
    assert len(told(box)) == 4


def test_who_may_not_sign_in_or_is_not_known_is_told_nothing(box: Box) -> None:
    with box.catalog.transaction() as tx:
        person = people.person(tx, MARIE)
        assert person is not None
        people.set_active(tx, person.id, False, NOW)
    happened(box, "user:reset")
    happened(box, "user:reset", subject="user:nobody")
    assert judging.apply(box.catalog, [], NOW).raised == 0
