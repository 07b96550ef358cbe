"""Two people decide, about a list that both have seen; whatever has changed since is left out of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from appliance import audit
from appliance.catalog import Catalog, destructions, people
from appliance.catalog.destructions import DestructionRequest
from appliance.catalog.holds import HoldKind
from appliance.errors import NotAuthorised, Refused, Unknown
from appliance.lifecycle import destruction, holds, retention
from appliance.lifecycle.destruction import Because
from appliance.lifecycle.policy import RecordType, Starts
from appliance.lifecycle.request import ItemState, Method, State
from tests.lifecycle.clinic import NOW, act, arrive, watch


@pytest.fixture
def numbers(catalog: Catalog) -> list[int]:
    """Three studies that are due, of three patients."""
    watch(catalog)
    return [
        arrive(catalog, f"1.2.{each}", patient_id=f"P-{each}", patient_name=f"N{each}") for each in (3, 4, 5)
    ]


def ask(catalog: Catalog, *studies: int, by: str = "marie") -> DestructionRequest:
    with catalog.transaction() as tx:
        return destruction.ask(tx, act(by), studies, method=Method.DESTROY, reason="yearly review")


def approve(catalog: Catalog, request: DestructionRequest, by: str = "paul") -> DestructionRequest:
    with catalog.transaction() as tx:
        return destruction.approve(tx, act(by), request.id, digest=request.digest)[0]


def hold(catalog: Catalog, study: int) -> None:
    with catalog.transaction() as tx:
        holds.place(
            tx, act(), kind=HoldKind.ACCESS, study=study, whole_patient=True, reason="asked to see it"
        )


def test_one_asks_another_approves_and_then_it_may_be_carried_out(
    catalog: Catalog, numbers: list[int]
) -> None:
    request = ask(catalog, *numbers)
    assert (request.state, request.study_ids) == (State.OPEN, tuple(numbers))
    assert request.expires_utc == NOW + timedelta(days=30)
    frozen = request.decisions[0].decision
    assert frozen["keep_until"] == "2020-05-04"
    assert frozen["rules"][0]["source"].startswith("M-9")
    approved = approve(catalog, request)
    with catalog.reading() as conn:
        assert destructions.approved(conn) == (approved,)
        for number in numbers:
            due = destruction.refuse_if_changed(conn, request.id, number, NOW)
            assert due.study_id == number
    assert (approved.asked_by, approved.approved_by, approved.approved_utc) == ("marie", "paul", NOW)


def test_nobody_approves_what_they_asked_for_themselves(catalog: Catalog, numbers: list[int]) -> None:
    request = ask(catalog, *numbers)
    with pytest.raises(NotAuthorised, match="themselves"):
        approve(catalog, request, by="marie")
    with catalog.reading() as conn:
        assert destructions.request(conn, request.id) == request
        with pytest.raises(Refused, match="no approved request"):
            destruction.refuse_if_changed(conn, request.id, numbers[0], NOW)


def test_another_login_is_not_another_person(catalog: Catalog, numbers: list[int]) -> None:
    with catalog.transaction() as tx:
        marie = people.add(
            tx, login="marie", name="Marie", role="owner", password_hash="", language="fr", now=NOW
        )
    request = ask(catalog, *numbers)
    with catalog.transaction() as tx:
        people.change(tx, marie.id, login="marie2", name="Marie", role="owner", language="fr", now=NOW)
    with pytest.raises(NotAuthorised, match="themselves"):
        approve(catalog, request, by="marie2")


def test_who_approves_has_seen_the_list_that_was_asked_for(catalog: Catalog, numbers: list[int]) -> None:
    request = ask(catalog, *numbers)
    with pytest.raises(Refused, match="not the list"), catalog.transaction() as tx:
        destruction.approve(tx, act("paul"), request.id, digest="0" * 64)


def test_only_what_is_due_can_be_asked_for_and_only_once(catalog: Catalog, numbers: list[int]) -> None:
    young = arrive(catalog, "1.2.9", at=NOW - timedelta(days=400), patient_id="P-9", patient_name="N9")
    with pytest.raises(Refused, match=f"study {young} must still be kept"):
        ask(catalog, *numbers, young)
    with pytest.raises(Refused, match="not here"):
        ask(catalog, 4711)
    with pytest.raises(Refused, match="no study was chosen"):
        ask(catalog)
    with pytest.raises(Refused, match="at most 500"):
        ask(catalog, *range(1, 502))
    hold(catalog, numbers[1])
    with pytest.raises(Refused, match=r"held \(access\)"):
        ask(catalog, *numbers)
    ask(catalog, numbers[0])
    with pytest.raises(Refused, match="already"):
        ask(catalog, numbers[0], numbers[2])
    with pytest.raises(Refused, match="reason"), catalog.transaction() as tx:
        destruction.ask(tx, act(), [numbers[2]], method=Method.DESTROY, reason="")
    with catalog.reading() as conn:
        assert len(destructions.standing(conn)) == 1  # of all these, one was asked


def test_while_the_clock_is_in_doubt_nothing_is_asked_approved_or_carried_out(
    catalog: Catalog, numbers: list[int]
) -> None:
    request, other = ask(catalog, numbers[0]), ask(catalog, numbers[1])
    approve(catalog, other)
    with catalog.transaction() as tx:
        retention.watch_clock(tx, NOW + timedelta(days=3650), follows_time_server=False)
    for attempt in (lambda: ask(catalog, numbers[2]), lambda: approve(catalog, request)):
        with pytest.raises(Refused, match="clock"):
            attempt()
    with catalog.reading() as conn:
        with pytest.raises(Refused, match="clock"):
            destruction.refuse_if_changed(conn, other.id, numbers[1], NOW)
        assert destructions.request(conn, request.id).study_ids == (numbers[0],)  # nothing is left out for it


def more_images(catalog: Catalog, study: int) -> None:
    """Another image of the same day, so that every date stays as it was."""
    del study
    arrive(catalog, "1.2.4", patient_id="P-4", patient_name="N4")


def visit(catalog: Catalog, study: int) -> None:
    del study
    arrive(catalog, "1.2.44", at=NOW, patient_id="P-4", patient_name="N4")


def longer_rule(catalog: Catalog, study: int) -> None:
    del study
    with catalog.transaction() as tx:
        retention.choose(tx, act(), RecordType.DENTAL, Starts.LAST_ENTRY, 30, reason="our insurer")


@pytest.mark.parametrize(
    ("change", "because", "all_of_them"),
    [
        (hold, Because.HELD, False),
        (more_images, Because.CHANGED, False),
        (visit, Because.NOT_DUE, False),
        (longer_rule, Because.NOT_DUE, True),
    ],
)
def test_whatever_changes_takes_a_study_out_with_the_reason_before_and_after_the_approval(
    catalog: Catalog,
    numbers: list[int],
    change: Callable[[Catalog, int], None],
    because: Because,
    all_of_them: bool,
) -> None:
    before, after_it = ask(catalog, *numbers[:2]), ask(catalog, numbers[2])
    approve(catalog, after_it)
    change(catalog, numbers[1])
    with catalog.reading() as conn:
        seen = destruction.changed_since(conn, before, NOW)
    assert {each.because for each in seen} == {because}
    request = approve(catalog, before)
    left_out = {each.study_id for each in request.decisions if each.state is ItemState.LEFT_OUT}
    assert left_out == {each.study.study_id for each in seen}
    assert left_out == (set(numbers[:2]) if all_of_them else {numbers[1]})
    assert {each.left_out_because for each in request.decisions if each.study_id in left_out} == {because}
    assert request.state is (State.WITHDRAWN if all_of_them else State.APPROVED)
    with catalog.reading() as conn:
        if all_of_them:
            with pytest.raises(Refused, match=because):
                destruction.refuse_if_changed(conn, after_it.id, numbers[2], NOW)
        else:
            destruction.refuse_if_changed(conn, after_it.id, numbers[2], NOW)
            with pytest.raises(Refused):
                destruction.refuse_if_changed(conn, request.id, numbers[1], NOW)


def test_a_hold_after_the_approval_still_counts(catalog: Catalog, numbers: list[int]) -> None:
    request = approve(catalog, ask(catalog, *numbers))
    hold(catalog, numbers[1])
    with catalog.reading() as conn:
        destruction.refuse_if_changed(conn, request.id, numbers[0], NOW)
        with pytest.raises(Refused, match="held"):
            destruction.refuse_if_changed(conn, request.id, numbers[1], NOW)


def test_what_was_left_out_of_a_request_can_be_asked_for_again(catalog: Catalog, numbers: list[int]) -> None:
    request = ask(catalog, *numbers)
    more_images(catalog, numbers[1])
    approve(catalog, request)
    again = ask(catalog, numbers[1], by="paul")
    assert again.study_ids == (numbers[1],)
    assert again.decisions[0].digest != request.decisions[1].digest


def test_a_request_ends_with_its_last_study(catalog: Catalog, numbers: list[int]) -> None:
    request = approve(catalog, ask(catalog, *numbers[:2]))
    with catalog.transaction() as tx:
        destructions.carried_out(tx, request.id, numbers[0], "c1", NOW)
        destruction.leave_out(tx, act("jobs"), request.id, numbers[1], Because.GONE)
        assert destructions.request(tx, request.id).state is State.CARRIED_OUT
        with pytest.raises(Refused, match="does not stand"):
            destruction.leave_out(tx, act("jobs"), request.id, numbers[1], Because.GONE)


def test_either_may_withdraw_with_a_reason_until_it_is_over(catalog: Catalog, numbers: list[int]) -> None:
    first, second = ask(catalog, numbers[0]), approve(catalog, ask(catalog, numbers[1]))
    for request, by in ((first, "paul"), (second, "marie")):
        with catalog.transaction() as tx:
            ended = destruction.withdraw(tx, act(by), request.id, reason="the patient has called")
        assert (ended.state, ended.ended_by, ended.end_reason) == (
            State.WITHDRAWN,
            by,
            "the patient has called",
        )
        with pytest.raises(Refused, match="withdrawn"), catalog.transaction() as tx:
            destruction.withdraw(tx, act(by), request.id, reason="once more")
    with pytest.raises(Unknown), catalog.transaction() as tx:
        destruction.withdraw(tx, act(), 99, reason="no such thing")
    ask(catalog, *numbers[:2])  # they are free again


def test_a_request_expires_open_or_approved(catalog: Catalog, numbers: list[int]) -> None:
    first, second = ask(catalog, numbers[0]), ask(catalog, numbers[1])
    approve(catalog, second)
    over = NOW + timedelta(days=30)
    with catalog.reading() as conn, pytest.raises(Refused, match="over its time"):
        destruction.refuse_if_changed(conn, second.id, numbers[1], over)
    with pytest.raises(Refused, match="over its time"), catalog.transaction() as tx:
        destruction.approve(tx, act("paul", over), first.id, digest=first.digest)
    with catalog.transaction() as tx:
        assert destruction.expire(tx, act("jobs", over - timedelta(seconds=1))) == []
        assert destruction.expire(tx, act("jobs", over)) == [first.id, second.id]
        assert destructions.standing(tx) == ()
        assert destructions.request(tx, first.id).state is State.EXPIRED


def test_the_audit_has_every_step_and_no_reason(catalog: Catalog, numbers: list[int]) -> None:
    request = ask(catalog, *numbers)
    more_images(catalog, numbers[1])
    approve(catalog, request)
    with catalog.transaction() as tx:
        destruction.withdraw(tx, act(), request.id, reason="Hélène has called")
    with catalog.reading() as conn:
        rows = [row for row in audit.export(conn) if row["action"].startswith("destruction:")]
    assert [(row["action"], row["actor"], row["subject"]) for row in rows] == [
        ("destruction:ask", "marie", "destruction:1"),
        ("destruction:leave-out", "paul", f"study:{numbers[1]}"),
        ("destruction:approve", "paul", "destruction:1"),
        ("destruction:withdraw", "marie", "destruction:1"),
    ]
    assert rows[1]["study"] == "1.2.4"
    assert not any("review" in str(row) or "Hélène" in str(row) for row in rows)
