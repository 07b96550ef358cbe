"""A request to destroy is frozen when it is asked, and every study in it ends once."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from appliance.catalog import Catalog, Transaction, destructions
from appliance.catalog.destructions import DueStudy
from appliance.errors import Refused, Unknown
from appliance.lifecycle.request import Event, ItemState, Method, State
from appliance.model import Uid
from tests.catalog.arrivals import NOW

LATER = NOW + timedelta(days=30)


def due(number: int) -> DueStudy:
    return DueStudy(
        study_id=number,
        study_instance_uid=Uid(f"1.2.{number}"),
        keep_until=date(2025, 3, number),
        decision={"rules": [{"rule": "qc-medical", "until": f"2025-03-{number:02d}"}]},
        digest=f"{number:064x}",
    )


def asked(tx: Transaction, *numbers: int) -> int:
    return destructions.add(
        tx,
        [due(each) for each in numbers],
        method=Method.DESTROY,
        reason="yearly review",
        asked_by="marie",
        digest="ab",
        now=NOW,
        expires_utc=LATER,
    )


def test_only_what_was_approved_may_be_carried_out_and_it_comes_back_as_it_was_asked(
    catalog: Catalog,
) -> None:
    with catalog.transaction() as tx:
        number = asked(tx, 1, 2)
        assert destructions.approved(tx) == ()
        with pytest.raises(Refused, match="open"):
            destructions.carried_out(tx, number, 1, "certificate", NOW)
        destructions.approve(tx, number, by="paul", now=LATER, expires_utc=LATER)
    with catalog.reading() as conn:
        (found,) = destructions.approved(conn)
    assert (found.id, found.study_ids, found.asked_by, found.approved_by) == (number, (1, 2), "marie", "paul")
    assert (found.approved_utc, found.method, found.decisions) == (LATER, Method.DESTROY, (due(1), due(2)))


def test_the_last_study_ends_the_request(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        number = asked(tx, 1, 2, 3)
        destructions.approve(tx, number, by="paul", now=NOW, expires_utc=LATER)
        assert destructions.leave_out(tx, number, 3, because="a new image", now=NOW)
        assert destructions.carried_out(tx, number, 1, "c1", NOW) is State.APPROVED
        assert destructions.request(tx, number).study_ids == (2,)
        assert destructions.carried_out(tx, number, 2, "c2", LATER) is State.CARRIED_OUT
        assert destructions.approved(tx) == ()
        found = destructions.request(tx, number)
    assert [each.state for each in found.decisions] == [
        ItemState.CARRIED_OUT,
        ItemState.CARRIED_OUT,
        ItemState.LEFT_OUT,
    ]
    assert [each.certificate for each in found.decisions] == ["c1", "c2", ""]
    assert (found.state, found.ended_utc) == (State.CARRIED_OUT, LATER)


def test_a_study_ends_once_and_only_where_it_stands(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        number = asked(tx, 1, 2)
        destructions.approve(tx, number, by="paul", now=NOW, expires_utc=LATER)
        destructions.carried_out(tx, number, 1, "c1", NOW)
        for study in (1, 3):
            with pytest.raises(Refused, match="does not stand"):
                destructions.carried_out(tx, number, study, "again", NOW)
            assert not destructions.leave_out(tx, number, study, because="too late", now=NOW)
        with pytest.raises(Unknown):
            destructions.carried_out(tx, number + 1, 2, "nowhere", NOW)


def test_what_is_over_does_not_stand_any_more(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        first, second = asked(tx, 1), asked(tx, 2)
        assert [each.id for each in destructions.standing(tx)] == [first, second]
        assert set(tx.execute(destructions.asked_for()).scalars()) == {1, 2}
        destructions.end(tx, first, Event.WITHDRAW, by="marie", reason="not yet", now=LATER)
        assert [each.id for each in destructions.standing(tx)] == [second]
        assert set(tx.execute(destructions.asked_for()).scalars()) == {2}
        assert [each.id for each in destructions.latest(tx)] == [second, first]
        assert [each.id for each in destructions.latest(tx, before=second)] == [first]
        with pytest.raises(Refused, match="withdrawn"):
            destructions.approve(tx, first, by="paul", now=LATER, expires_utc=LATER)
