"""What is owed: claims, leases, outcomes and what a person decides, as rows that survive everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog import deliveries, destinations
from appliance.catalog.deliveries import Claimed, DeliveryRow
from appliance.errors import Refused, Unknown
from appliance.model import DeliveryId, DestinationId, DestinationSettings, InstanceId, Owed, Uid
from appliance.replication.delivery import TRANSITIONS, Event, State
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.replication.parcels import take_in

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
LEASE = 300.0


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@dataclass
class Owing:
    """A box with five instances of two studies, and two destinations that nothing is owed to yet."""

    box: Box
    to: DestinationId
    other: DestinationId
    instances: list[InstanceId]

    def owe(self, *numbers: int, priority: int = 0, to: DestinationId | None = None) -> None:
        with self.box.catalog.transaction() as tx:
            for number in numbers:
                deliveries.owe(tx, self.instances[number], [Owed(to or self.to, priority)], NOW)

    def claim(self, limit: int = 10, at: float = 0, to: DestinationId | None = None) -> list[Claimed]:
        with self.box.catalog.transaction() as tx:
            return deliveries.claim(tx, to or self.to, now=later(at), lease_seconds=LEASE, limit=limit)

    def rows(self) -> dict[DeliveryId, DeliveryRow]:
        with self.box.catalog.reading() as conn:
            return {row.id: row for row in deliveries.list_deliveries(conn)}

    def states(self) -> list[State]:
        return [row.state for _, row in sorted(self.rows().items())]

    def put(self, delivery_id: DeliveryId, state: State) -> None:
        """Bring a pending delivery into `state` by legal steps only."""
        with self.box.catalog.transaction() as tx:
            if state is State.PENDING:
                return
            if state is State.PAUSED:
                deliveries.pause(tx, delivery_id, NOW)
            elif state is State.CANCELLED:
                deliveries.cancel(tx, delivery_id, NOW)
            else:
                (claimed,) = deliveries.claim(tx, self.to, now=NOW, lease_seconds=LEASE, limit=1)
                assert claimed.id == delivery_id
                if state is State.WAITING:
                    deliveries.postpone(tx, delivery_id, 1, reason="r", next_attempt_utc=later(600), now=NOW)
                elif state is State.FAILED:
                    deliveries.fail(tx, delivery_id, 1, reason="r", now=NOW)
                elif state is State.CONFIRMED:
                    deliveries.confirm(tx, delivery_id, {"sha256": "x"}, NOW)


@pytest.fixture
def owing(data_dir: Path) -> Iterator[Owing]:
    with box_in(data_dir) as box:
        take_in(box, [Instance(1), Instance(2), Instance(3), Instance(1, study=2), Instance(2, study=2)])
        with box.catalog.transaction() as tx:
            to = destinations.add(tx, DestinationSettings("one", "folder", "dicom", {"path": "/x"}))
            other = destinations.add(tx, DestinationSettings("two", "folder", "dicom", {"path": "/y"}))
        yield Owing(box, to, other, sorted(row.id for row in recorded(box)))


# --- Owing and claiming ----------------------------------------------------------------------------------------------


def test_what_is_owed_twice_is_one_obligation(owing: Owing) -> None:
    owing.owe(0)
    (claimed,) = owing.claim()
    owing.owe(0, priority=9)
    assert [row.state for row in owing.rows().values()] == [State.SENDING]
    assert owing.claim() == []
    assert claimed.priority == 0


def test_the_most_urgent_leaves_first_then_the_oldest(owing: Owing) -> None:
    owing.owe(0, 1)
    owing.owe(2, priority=5)
    owing.owe(3, 4)
    assert [each.instance for each in owing.claim()] == [owing.instances[n] for n in (2, 0, 1, 3, 4)]


def test_a_claim_takes_no_more_than_its_limit_and_nothing_twice(owing: Owing) -> None:
    owing.owe(0, 1, 2, 3, 4)
    first, second, third = owing.claim(2), owing.claim(2), owing.claim(2)
    ids = [each.id for batch in (first, second, third) for each in batch]
    assert [len(first), len(second), len(third)] == [2, 2, 1]
    assert len(set(ids)) == 5


def test_destinations_do_not_take_each_others_deliveries(owing: Owing) -> None:
    owing.owe(0)
    owing.owe(1, to=owing.other)
    assert [each.instance for each in owing.claim(to=owing.other)] == [owing.instances[1]]


def test_a_claim_carries_what_is_needed_to_send(owing: Owing) -> None:
    owing.owe(0)
    (claimed,) = owing.claim()
    (row,) = [each for each in recorded(owing.box) if each.id == owing.instances[0]]
    for name in (
        "object_id",
        "key_id",
        "sop_instance_uid",
        "sop_class_uid",
        "transfer_syntax_uid",
        "sealed_bytes",
        "size_bytes",
    ):
        assert getattr(claimed, name) == getattr(row, name)
    assert claimed.study_instance_uid == row.study_instance_uid
    assert claimed.attempts == 1


def test_what_waits_is_not_claimed_before_its_time(owing: Owing) -> None:
    owing.owe(0)
    (claimed,) = owing.claim()
    with owing.box.catalog.transaction() as tx:
        deliveries.postpone(tx, claimed.id, 1, reason="no answer", next_attempt_utc=later(60), now=NOW)
    assert owing.claim(at=59) == []
    (again,) = owing.claim(at=60)
    assert again.attempts == 2


@pytest.mark.parametrize("years", [-10, 10])
def test_a_clock_that_is_set_never_holds_a_delivery_back(owing: Owing, years: int) -> None:
    owing.owe(0, 1)
    first, second = owing.claim()
    with owing.box.catalog.transaction() as tx:
        deliveries.postpone(tx, first.id, 1, reason="no answer", next_attempt_utc=later(600), now=NOW)
    then = NOW.replace(year=NOW.year + years)
    with owing.box.catalog.transaction() as tx:
        assert deliveries.with_work(tx, then) == {owing.to}
        assert deliveries.release_expired(tx, then) == 1
        claimed = deliveries.claim(tx, owing.to, now=then, lease_seconds=LEASE, limit=10)
    assert [each.id for each in claimed] == [first.id, second.id]


def test_with_work_names_only_places_that_something_can_be_sent_to(owing: Owing) -> None:
    owing.owe(0)
    owing.owe(1, to=owing.other)

    def with_work(at: float = 0) -> set[DestinationId]:
        with owing.box.catalog.reading() as conn:
            return set(deliveries.with_work(conn, later(at)))

    assert with_work() == {owing.to, owing.other}
    with owing.box.catalog.transaction() as tx:
        destinations.pause(tx, "two")
    assert with_work() == {owing.to}
    (claimed,) = owing.claim()
    assert with_work() == set()
    with owing.box.catalog.transaction() as tx:
        deliveries.postpone(tx, claimed.id, 1, reason="r", next_attempt_utc=later(60), now=NOW)
    assert with_work() == set()
    assert with_work(60) == {owing.to}


# --- Leases and outcomes ----------------------------------------------------------------------------------------------


def test_an_expired_lease_returns_to_pending_and_a_renewed_one_does_not(owing: Owing) -> None:
    owing.owe(0, 1)
    lost, held = owing.claim()
    with owing.box.catalog.transaction() as tx:
        deliveries.renew(tx, [held.id], now=later(200), lease_seconds=LEASE)
        assert deliveries.release_expired(tx, later(LEASE)) == 0
        assert deliveries.release_expired(tx, later(LEASE + 1)) == 1
    assert owing.rows()[lost.id].state is State.PENDING
    assert owing.rows()[held.id].state is State.SENDING
    (again,) = owing.claim(at=LEASE + 2)
    assert again.attempts == 2


def test_an_outcome_of_a_lost_lease_is_dropped(owing: Owing) -> None:
    owing.owe(0)
    (lost,) = owing.claim()
    with owing.box.catalog.transaction() as tx:
        deliveries.release_expired(tx, later(LEASE + 1))
    owing.claim(at=LEASE + 2)
    with owing.box.catalog.transaction() as tx:
        assert not deliveries.fail(tx, lost.id, lost.attempts, reason="late", now=later(400))
        assert not deliveries.postpone(
            tx, lost.id, lost.attempts, reason="late", next_attempt_utc=later(999), now=later(400)
        )
    assert owing.rows()[lost.id].state is State.SENDING


@pytest.mark.parametrize("state", [each for each in State if each is not State.CONFIRMED])
def test_a_receipt_is_proof_in_every_state(owing: Owing, state: State) -> None:
    owing.owe(0)
    (delivery_id,) = owing.rows()
    owing.put(delivery_id, state)
    with owing.box.catalog.transaction() as tx:
        assert deliveries.confirm(tx, delivery_id, {"sha256": "proof"}, later(5))
    row = owing.rows()[delivery_id]
    assert (row.state, row.receipt, row.reason) == (State.CONFIRMED, {"sha256": "proof"}, "")


def test_the_first_receipt_stays(owing: Owing) -> None:
    owing.owe(0)
    (claimed,) = owing.claim()
    with owing.box.catalog.transaction() as tx:
        assert deliveries.confirm(tx, claimed.id, {"n": 1}, NOW)
        assert not deliveries.confirm(tx, claimed.id, {"n": 2}, NOW)
    assert owing.rows()[claimed.id].receipt == {"n": 1}


def test_a_claim_given_back_untouched_does_not_count_as_an_attempt(owing: Owing) -> None:
    owing.owe(0)
    (claimed,) = owing.claim()
    with owing.box.catalog.transaction() as tx:
        deliveries.release(tx, [(claimed.id, claimed.attempts)], now=NOW)
    assert owing.rows()[claimed.id].state is State.PENDING
    assert owing.rows()[claimed.id].attempts == 0


def test_a_courier_that_starts_takes_every_lease_back(owing: Owing) -> None:
    owing.owe(0, 1, 2)
    owing.claim(2)
    with owing.box.catalog.transaction() as tx:
        assert deliveries.release_abandoned(tx, later(1)) == 2
    assert owing.states() == [State.PENDING] * 3


def test_waking_brings_forward_and_never_puts_off(owing: Owing) -> None:
    owing.owe(0, 1)
    first, second = owing.claim()
    with owing.box.catalog.transaction() as tx:
        deliveries.postpone(tx, first.id, 1, reason="r", next_attempt_utc=later(600), now=NOW)
        deliveries.postpone(tx, second.id, 1, reason="r", next_attempt_utc=later(1.5), now=NOW)
        assert deliveries.wake(tx, owing.to, now=later(1), jitter=lambda: 0.0) == 1
    assert owing.rows()[first.id].next_attempt_utc == later(2)
    assert owing.rows()[second.id].next_attempt_utc == later(1.5)


# --- Decisions -------------------------------------------------------------------------------------------------------

DECISIONS = {
    Event.PAUSE: deliveries.pause,
    Event.RESUME: deliveries.resume,
    Event.RETRY: deliveries.retry,
    Event.CANCEL: deliveries.cancel,
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", DECISIONS)
def test_a_person_can_decide_what_the_table_allows(owing: Owing, state: State, event: Event) -> None:
    owing.owe(0)
    (delivery_id,) = owing.rows()
    owing.put(delivery_id, state)
    with owing.box.catalog.transaction() as tx:
        if event in TRANSITIONS[state]:
            assert DECISIONS[event](tx, delivery_id, NOW) is TRANSITIONS[state][event]
        else:
            with pytest.raises(Refused):
                DECISIONS[event](tx, delivery_id, NOW)
    assert owing.rows()[delivery_id].state is TRANSITIONS[state].get(event, state)


@pytest.mark.parametrize("event", DECISIONS)
def test_a_decision_about_nothing_says_so(owing: Owing, event: Event) -> None:
    with owing.box.catalog.transaction() as tx, pytest.raises(Unknown):
        DECISIONS[event](tx, DeliveryId(4711), NOW)


def test_what_is_paused_or_cancelled_is_not_claimed(owing: Owing) -> None:
    owing.owe(0, 1, 2)
    with owing.box.catalog.transaction() as tx:
        first, second, _ = sorted(owing.rows())
        deliveries.pause(tx, first, NOW)
        deliveries.cancel(tx, second, NOW)
    assert [each.instance for each in owing.claim()] == [owing.instances[2]]


def test_a_failed_destination_can_be_tried_again_as_a_whole(owing: Owing) -> None:
    owing.owe(0, 1, 2)
    for each in owing.claim(2):
        with owing.box.catalog.transaction() as tx:
            deliveries.fail(tx, each.id, each.attempts, reason="refused", now=NOW)
    with owing.box.catalog.transaction() as tx:
        assert deliveries.retry_failed(tx, owing.to, NOW) == 2
    assert owing.states() == [State.PENDING] * 3


def test_a_destination_that_is_removed_cancels_what_it_was_owed(owing: Owing) -> None:
    owing.owe(0, 1)
    owing.owe(0, to=owing.other)
    (claimed,) = owing.claim(1)
    with owing.box.catalog.transaction() as tx:
        deliveries.confirm(tx, claimed.id, {}, NOW)
        assert destinations.remove(tx, "one", NOW) == 1
    assert sorted(owing.states()) == [State.CANCELLED, State.CONFIRMED, State.PENDING]
    assert owing.claim() == []


# --- Lists -----------------------------------------------------------------------------------------------------------


def test_the_timeline_tells_every_step_in_order(owing: Owing) -> None:
    owing.owe(0)
    (claimed,) = owing.claim(at=1)
    with owing.box.catalog.transaction() as tx:
        deliveries.postpone(tx, claimed.id, 1, reason="no answer", next_attempt_utc=later(5), now=later(2))
    (again,) = owing.claim(at=6)
    with owing.box.catalog.transaction() as tx:
        deliveries.confirm(tx, again.id, {}, later(7))
        events = deliveries.events(tx, claimed.id)
    assert [(each.event, each.state, each.note) for each in events] == [
        ("owe", State.PENDING, ""),
        ("claim", State.SENDING, ""),
        ("postpone", State.WAITING, "no answer"),
        ("claim", State.SENDING, ""),
        ("confirm", State.CONFIRMED, ""),
    ]
    assert all(first.at_utc < second.at_utc for first, second in pairwise(events))


def test_the_timeline_of_nothing_says_so(owing: Owing) -> None:
    with owing.box.catalog.reading() as conn, pytest.raises(Unknown):
        deliveries.events(conn, DeliveryId(4711))


def test_a_list_can_be_narrowed(owing: Owing) -> None:
    owing.owe(0, 1, 2, 3, 4)
    owing.owe(0, to=owing.other)
    (claimed,) = owing.claim(1)
    with owing.box.catalog.transaction() as tx:
        deliveries.confirm(tx, claimed.id, {}, NOW)
    with owing.box.catalog.reading() as conn:

        def count(**which: object) -> int:
            return len(deliveries.list_deliveries(conn, **which))  # type: ignore[arg-type]

        assert count() == 6
        assert count(limit=2) == 2
        assert count(state=State.CONFIRMED) == 1
        assert count(state=State.PENDING) == 5
        assert count(destination="two") == 1
        assert count(study=Uid(claimed.study_instance_uid)) == 4
        assert count(study=Uid("1.2.3")) == 0
        assert deliveries.delivery(conn, claimed.id).state is State.CONFIRMED
        with pytest.raises(Unknown):
            deliveries.delivery(conn, DeliveryId(4711))


def test_the_summary_counts_what_is_not_delivered_and_since_when(owing: Owing) -> None:
    owing.owe(0, 1, 2)
    first, second = owing.claim(2)
    with owing.box.catalog.transaction() as tx:
        deliveries.confirm(tx, first.id, {}, NOW)
        deliveries.fail(tx, second.id, 1, reason="refused", now=NOW)
    with owing.box.catalog.reading() as conn:
        one, two = deliveries.waiting_summary(conn)
    assert (one.destination, dict(one.counts), one.oldest_utc) == (
        "one",
        {State.FAILED: 1, State.PENDING: 1},
        NOW,
    )
    assert (two.destination, dict(two.counts), two.oldest_utc) == ("two", {}, None)


def test_an_object_is_owed_until_it_is_delivered(owing: Owing) -> None:
    owing.owe(0)
    (claimed,) = owing.claim()
    with owing.box.catalog.transaction() as tx:
        assert deliveries.is_owed(tx, owing.to, claimed.object_id)
        assert not deliveries.is_owed(tx, owing.other, claimed.object_id)
        deliveries.confirm(tx, claimed.id, {}, NOW)
        assert not deliveries.is_owed(tx, owing.to, claimed.object_id)


def test_claims_use_their_indexes(owing: Owing) -> None:
    with owing.box.catalog.reading() as conn:
        plan = "\n".join(
            str(row)
            for query in (
                "SELECT id, priority FROM deliveries WHERE destination = 1 AND state = 'PENDING' ORDER BY priority DESC, id LIMIT 5",
                "SELECT id FROM deliveries WHERE destination = 1 AND state = 'WAITING' AND next_attempt_utc <= 'x'",
            )
            for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")
        )
    assert "ix_deliveries_pending" in plan
    assert "ix_deliveries_waiting" in plan
    assert "TEMP B-TREE" not in plan
