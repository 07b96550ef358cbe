"""The claim: one winner, five tries, nothing left behind."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from appliance import identity
from appliance.box import Box
from appliance.catalog import people
from appliance.errors import Refused
from appliance.identity import ClaimClosed, Owner, WrongCode

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSWORD = "quatre lapins sur une horloge"


def claim(box: Box, code: str, login: str = "owner", password: str = PASSWORD):
    with box.catalog.transaction() as tx:
        return identity.redeem(
            tx, box.root, code, login=login, name="Owner", password=password, language="en", now=NOW
        )


def users(box: Box) -> list[str]:
    with box.catalog.reading() as conn:
        return [person.login for person in people.people(conn)]


def test_the_right_code_makes_one_owner(box: Box) -> None:
    code = identity.claim_code(box)
    assert code is not None
    outcome = claim(box, code)
    assert isinstance(outcome, Owner)
    assert outcome.person.role == "owner"
    assert users(box) == ["owner"]


def test_the_code_is_shown_again_until_it_is_used_and_never_after(box: Box) -> None:
    code = identity.claim_code(box)
    assert code is not None
    assert identity.claim_code(box) == code
    claim(box, code)
    assert identity.claim_code(box) is None
    assert claim(box, code, "second") == ClaimClosed(owned=True)
    assert users(box) == ["owner"]


def test_case_dashes_and_lookalikes_do_not_matter(box: Box) -> None:
    code = identity.claim_code(box)
    assert code is not None
    typed = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert isinstance(claim(box, typed), Owner)


def test_the_fifth_wrong_try_uses_the_code_up_and_the_next_is_another(box: Box) -> None:
    code = identity.claim_code(box)
    assert code is not None
    wrong = "ZZZZ-ZZZZ" if code != "ZZZZ-ZZZZ" else "YYYY-YYYY"
    assert [claim(box, wrong) for _ in range(5)] == [WrongCode(left) for left in (4, 3, 2, 1, 0)]
    assert claim(box, code) == ClaimClosed(owned=False)
    assert users(box) == []
    fresh = identity.claim_code(box)
    assert fresh not in (None, code)
    assert isinstance(claim(box, str(fresh)), Owner)


def test_a_password_that_will_not_do_leaves_the_code_good(box: Box) -> None:
    code = identity.claim_code(box)
    assert code is not None
    with pytest.raises(Refused):
        claim(box, code, password="short")
    assert users(box) == []
    assert isinstance(claim(box, code), Owner)


def test_without_a_code_nothing_can_be_claimed(box: Box) -> None:
    assert claim(box, "") == ClaimClosed(owned=False)
    identity.claim_code(box)
    assert isinstance(claim(box, ""), WrongCode)


def test_a_thousand_claims_at_once_make_one_owner(box: Box) -> None:
    code = identity.claim_code(box)
    assert code is not None
    with ThreadPoolExecutor(32) as threads:
        outcomes = list(threads.map(lambda number: claim(box, code, f"owner{number}"), range(1000)))
    winners = [outcome for outcome in outcomes if isinstance(outcome, Owner)]
    assert len(winners) == 1
    assert outcomes.count(ClaimClosed(owned=True)) == 999
    assert users(box) == [winners[0].person.login]


def test_a_thousand_wrong_claims_at_once_get_five_tries(box: Box) -> None:
    code = identity.claim_code(box)
    assert code is not None
    wrong = "ZZZZ-ZZZZ" if code != "ZZZZ-ZZZZ" else "YYYY-YYYY"
    with ThreadPoolExecutor(32) as threads:
        outcomes = list(threads.map(lambda _: claim(box, wrong), range(1000)))
    assert sum(isinstance(outcome, WrongCode) for outcome in outcomes) == 5
    assert users(box) == []


def test_the_code_is_not_in_the_catalog_in_clear(box: Box) -> None:
    from appliance.catalog import settings

    code = identity.claim_code(box)
    assert code is not None
    with box.catalog.reading() as conn:
        assert code.replace("-", "") not in str(settings.get(conn, "claim", None))
