"""The courier: everything owed is delivered once, proven, audited, and given back when it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.catalog import deliveries, destinations, processes
from appliance.errors import NotAuthorised, OperatorNeeded, Refused, Resting, Transient
from appliance.model import DeliveryId, DestinationSettings, InstanceId, KeyId, ObjectId, Uid
from appliance.replication.batch import Surroundings, by_study
from appliance.replication.delivery import CLOSED, State
from appliance.replication.destinations import Parcel
from appliance.replication.lane import Lane
from tests.boxes import box_in, recorded
from tests.instances import Instance
from tests.replication.depot import (
    NOW,
    Clock,
    Depot,
    audited,
    delivering,
    lane_by_hand,
    owe_everything_to,
    rows,
    states,
)
from tests.replication.parcels import take_in
from tests.rot import last_byte_changed

Eventually = Callable[..., object]
TEN = [Instance(number) for number in range(1, 11)]


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    with box_in(data_dir) as box:
        yield box


def all_confirmed(box: Box, count: int) -> bool:
    return states(box) == {State.CONFIRMED: count}


# --- Delivering ------------------------------------------------------------------------------------------------------


def test_everything_received_is_delivered_once_with_a_receipt_and_audited(
    box: Box, eventually: Eventually
) -> None:
    depot = Depot()
    owe_everything_to(box)
    with delivering(box, depot):
        take_in(box, TEN)
        eventually(lambda: all_confirmed(box, 10))
    assert sorted(depot.arrived.values()) == [1] * 10
    assert all(row.receipt and row.receipt["status"] == "0000" for row in rows(box))
    assert audited(box)["delivery:confirm"] == 10


def test_what_was_owed_before_the_courier_started_is_delivered(box: Box, eventually: Eventually) -> None:
    owe_everything_to(box)
    take_in(box, TEN)
    with delivering(box, Depot()):
        eventually(lambda: all_confirmed(box, 10))


def test_an_urgent_instance_overtakes(box: Box) -> None:
    depot, clock = Depot(), Clock()
    number = owe_everything_to(box)
    take_in(box, TEN[:9])
    with box.catalog.transaction() as tx:
        (last,) = [row for row in recorded(box) if row.instance_number == "9"]
        deliveries.cancel(
            tx, next(row.id for row in rows(box) if row.sop_instance_uid == last.sop_instance_uid), NOW
        )
    take_in(box, [Instance(1, study=7)])
    urgent = next(
        row for row in recorded(box) if row.study_instance_uid == Instance(1, study=7).study_instance_uid
    )
    with box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE deliveries SET priority = 5 WHERE instance = ?", (urgent.id,))
    assert number
    lane_by_hand(box, depot, clock).one_batch()
    assert depot.order[0].object_id == urgent.object_id


def test_instances_of_a_study_leave_together() -> None:
    def claimed(number: int, study: int, priority: int = 0) -> deliveries.Claimed:
        return deliveries.Claimed(
            id=DeliveryId(number),
            attempts=1,
            priority=priority,
            instance=InstanceId(number),
            study=study,
            study_instance_uid=Uid("1"),
            series_instance_uid=Uid("2"),
            sop_instance_uid=Uid("3"),
            sop_class_uid=Uid("4"),
            transfer_syntax_uid=Uid("5"),
            object_id=ObjectId("o"),
            key_id=KeyId("k"),
            size_bytes=1,
            sealed_bytes=1,
        )

    batch = [claimed(1, 8), claimed(2, 9), claimed(3, 8), claimed(4, 7, priority=1), claimed(5, 9)]
    assert [each.id for each in by_study(batch)] == [4, 1, 3, 2, 5]


def test_the_courier_says_that_it_lives(box: Box, eventually: Eventually) -> None:
    def beat() -> bool:
        with box.catalog.reading() as conn:
            return [row.name for row in processes.processes(conn)] == ["courier"]

    with delivering(box, Depot()):
        eventually(beat)


def test_two_couriers_do_not_share_a_box(box: Box, eventually: Eventually) -> None:
    with delivering(box, Depot()):
        eventually((box.config.data / "courier.lock").exists)
        time.sleep(0.05)
        with pytest.raises(OperatorNeeded, match="already"), delivering(box, Depot()):
            pass


# --- Objects that cannot be delivered --------------------------------------------------------------------------------


def bad(number: int, error: Exception) -> Callable[[Parcel], None]:
    def trouble(parcel: Parcel) -> None:
        if parcel.sop_instance_uid == Instance(number).sop_instance_uid:
            raise error

    return trouble


@pytest.mark.parametrize("error", [Refused("not this one"), NotAuthorised("not from you")])
def test_a_refused_object_fails_visibly_and_holds_up_nobody(
    box: Box, eventually: Eventually, error: Refused
) -> None:
    owe_everything_to(box)
    take_in(box, TEN)
    with delivering(box, Depot(trouble=bad(3, error))):
        eventually(lambda: states(box) == {State.CONFIRMED: 9, State.FAILED: 1})
    (failed,) = [row for row in rows(box) if row.state is State.FAILED]
    assert failed.reason == error.message
    assert audited(box)["delivery:fail"] == 1


def test_a_corrupt_object_fails_and_raises_an_alarm(box: Box, eventually: Eventually) -> None:
    owe_everything_to(box)
    take_in(box, TEN)
    path = box.objects.path(recorded(box)[4].object_id)
    path.write_bytes(last_byte_changed(path.read_bytes()))
    with delivering(box, Depot()):
        eventually(lambda: states(box) == {State.CONFIRMED: 9, State.FAILED: 1})
    assert audited(box)["instance:corrupt"] == 1


def test_a_defect_met_with_one_object_holds_up_nobody_and_tells_nothing(
    box: Box, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    owe_everything_to(box)
    take_in(box, TEN)
    with delivering(box, Depot(trouble=bad(3, RuntimeError("Marqueur^Éloïse")))):
        eventually(lambda: states(box)[State.CONFIRMED] == 9)
        eventually(lambda: any(row.reason == "unexpected RuntimeError" for row in rows(box)))
    assert "Marqueur" not in caplog.text


def test_a_failed_delivery_can_be_sent_on_its_way_again(box: Box, eventually: Eventually) -> None:
    depot = Depot(trouble=bad(1, Refused("not yet")))
    owe_everything_to(box)
    take_in(box, TEN[:1])
    with delivering(box, depot):
        eventually(lambda: states(box) == {State.FAILED: 1})
        depot.trouble = lambda _: None
        with box.catalog.transaction() as tx:
            deliveries.retry(tx, rows(box)[0].id, NOW)
        eventually(lambda: all_confirmed(box, 1))


# --- A destination that is down --------------------------------------------------------------------------------------


def breaker(box: Box) -> object:
    with box.catalog.reading() as conn:
        return destinations.health(conn)[0].breaker


def test_while_a_destination_is_down_one_object_is_tried_and_the_rest_is_left_alone(box: Box) -> None:
    depot, clock = Depot(down=True), Clock()
    owe_everything_to(box)
    take_in(box, TEN)
    lane = lane_by_hand(box, depot, clock)
    lane.one_batch()
    assert len(depot.asked) == 1
    assert states(box) == {State.WAITING: 1, State.PENDING: 9}
    (waiting,) = [row for row in rows(box) if row.state is State.WAITING]
    assert waiting.reason == "the depot is closed"
    assert waiting.attempts == 1
    assert waiting.next_attempt_utc is not None
    assert all(row.attempts == 0 for row in rows(box) if row.state is State.PENDING)


def test_a_destination_that_comes_back_gets_everything_soon(box: Box) -> None:
    depot, clock = Depot(down=True), Clock()
    owe_everything_to(box)
    take_in(box, TEN)
    lane = lane_by_hand(box, depot, clock)
    for _ in range(5):
        lane.one_batch()
        clock.forward(700)
    depot.down = False
    for _ in range(10):
        lane.one_batch()
        clock.forward(3)
    assert all_confirmed(box, 10)
    assert breaker(box) == CLOSED
    assert sorted(depot.arrived.values()) == [1] * 10


def test_one_object_goes_first_after_an_outage(box: Box) -> None:
    depot, clock = Depot(down=True), Clock()
    owe_everything_to(box)
    take_in(box, TEN)
    lane = lane_by_hand(box, depot, clock)
    lane.one_batch()
    clock.forward(5)
    depot.down = False
    assert lane.one_batch()  # the connection test
    assert len(depot.checks) == 1
    assert not depot.arrived
    lane.one_batch()
    assert depot.arrived.total() == 1
    lane.one_batch()
    assert depot.arrived.total() == 10 - 1 or depot.arrived.total() == 10


@pytest.mark.slow
def test_seven_days_without_the_destination(box: Box) -> None:
    """R5: at most one request per object in ten minutes while it is down, and none lost or doubled afterwards."""
    depot, clock = Depot(down=True), Clock()
    depot.now = clock.now
    owe_everything_to(box)
    take_in(box, TEN)
    lane = lane_by_hand(box, depot, clock)
    began = clock.at
    while clock.at < began + timedelta(days=7):
        while lane.one_batch():
            pass
        with box.catalog.reading() as conn:
            until = destinations.health(conn)[0].breaker.open_until_utc
        assert until is not None
        assert until - clock.at <= timedelta(seconds=600)
        clock.at = max(clock.at, until)
    per_object: dict[str, list[float]] = {}
    for at, object_id in depot.asked:
        per_object.setdefault(object_id, []).append((at - began).total_seconds())
    for times in per_object.values():
        assert all(second - first >= 600 for first, second in pairwise(times))
    assert len(depot.checks) < 7 * 24 * 6 + 20
    depot.down = False
    for _ in range(20):
        while lane.one_batch():
            pass
        clock.forward(60)
    assert all_confirmed(box, 10)
    assert sorted(depot.arrived.values()) == [1] * 10


def test_a_loss_now_and_then_does_not_stop_the_rest(box: Box, eventually: Eventually) -> None:
    tries = iter(range(10_000))

    def one_in_three(_: Parcel) -> None:
        if next(tries) % 3 == 0:
            raise Transient("the connection was cut")

    depot, clock = Depot(trouble=one_in_three), Clock()
    owe_everything_to(box)
    take_in(box, TEN)
    lane = lane_by_hand(box, depot, clock)
    for _ in range(200):
        lane.one_batch()
        clock.forward(5)
    assert all_confirmed(box, 10)
    assert sorted(depot.arrived.values()) == [1] * 10


def test_an_object_that_lies_deep_there_waits_alone(box: Box) -> None:
    depot, clock = Depot(trouble=bad(1, Resting("it lies in deep archive", wait_hours=12))), Clock()
    owe_everything_to(box)
    take_in(box, TEN)
    lane_by_hand(box, depot, clock).one_batch()
    assert states(box) == {State.CONFIRMED: 9, State.WAITING: 1}
    assert breaker(box) == CLOSED
    (waiting,) = [row for row in rows(box) if row.state is State.WAITING]
    assert "deep archive" in str(waiting.reason)
    depot.trouble = lambda _: None
    clock.forward(24 * 3600)
    lane_by_hand(box, depot, clock).one_batch()
    assert all_confirmed(box, 10)


def test_a_person_who_is_needed_is_told_and_nothing_is_given_up(box: Box, eventually: Eventually) -> None:
    depot = Depot(trouble=bad(1, OperatorNeeded("the key is wrong", hint="correct it")))
    owe_everything_to(box)
    take_in(box, TEN[:1])
    with delivering(box, depot):
        eventually(lambda: states(box) == {State.WAITING: 1})
        depot.trouble = lambda _: None
        eventually(lambda: all_confirmed(box, 1))
    assert any("correct it" in each.note for each in _timeline(box))


def _timeline(box: Box) -> list[deliveries.DeliveryEvent]:
    with box.catalog.reading() as conn:
        return deliveries.events(conn, rows(box)[0].id)


def test_a_destination_that_is_down_does_not_hold_up_another(
    box: Box, tmp_path: Path, eventually: Eventually
) -> None:
    folder = tmp_path / "hand-over"
    folder.mkdir()
    owe_everything_to(box, DestinationSettings("gone", "folder", "dicom", {"path": str(tmp_path / "gone")}))
    owe_everything_to(box, DestinationSettings("here", "folder", "dicom", {"path": str(folder)}))
    with delivering(box):
        take_in(box, TEN)
        eventually(lambda: states(box)[State.CONFIRMED] == 10)
    assert {row.destination for row in rows(box) if row.state is State.CONFIRMED} == {"here"}


def test_settings_that_cannot_be_used_wait_for_a_person(box: Box, eventually: Eventually) -> None:
    owe_everything_to(
        box, DestinationSettings("abroad", "s3", "ciphertext", {"bucket": "b", "region": "us-east-1"})
    )
    take_in(box, TEN)
    with delivering(box):
        eventually(lambda: "not in Canada" in str(breaker(box)))
    assert states(box)[State.CONFIRMED] == states(box)[State.FAILED] == 0


# --- Pausing, changing, stopping -------------------------------------------------------------------------------------


def test_a_paused_destination_gets_nothing_until_it_is_resumed(box: Box, eventually: Eventually) -> None:
    depot = Depot()
    owe_everything_to(box)
    with box.catalog.transaction() as tx:
        destinations.pause(tx, "depot")
    take_in(box, TEN)
    with delivering(box, depot):
        time.sleep(0.5)
        assert not depot.asked
        with box.catalog.transaction() as tx:
            destinations.resume(tx, "depot")
        eventually(lambda: all_confirmed(box, 10))


def test_a_destination_that_is_removed_gets_nothing_more(box: Box, eventually: Eventually) -> None:
    depot = Depot()
    owe_everything_to(box)
    with delivering(box, depot):
        take_in(box, TEN[:1])
        eventually(lambda: all_confirmed(box, 1))
        with box.catalog.transaction() as tx:
            destinations.remove(tx, "depot", NOW)
        take_in(box, TEN[1:])
        time.sleep(0.3)
    assert depot.arrived.total() == 1


def test_a_destination_that_is_added_while_running_is_served(box: Box, eventually: Eventually) -> None:
    with delivering(box, Depot()):
        time.sleep(0.1)
        owe_everything_to(box)
        take_in(box, TEN)
        eventually(lambda: all_confirmed(box, 10))


def test_stopping_finishes_what_is_being_sent_and_gives_the_rest_back(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, go_on = threading.Event(), threading.Event()

    def slow(_: Parcel) -> None:
        under_way.set()
        go_on.wait(30)

    box = replace(
        box, config=replace(box.config, courier=replace(box.config.courier, workers_per_destination=1))
    )
    depot = Depot(trouble=slow)
    owe_everything_to(box)
    take_in(box, TEN)
    stop = Lane.stop

    def stopped(lane: Lane, *, at_last: bool = False) -> None:
        stop(lane, at_last=at_last)
        go_on.set()

    monkeypatch.setattr(Lane, "stop", stopped)
    with suppress(AssertionError), delivering(box, depot):
        assert under_way.wait(30)
    assert states(box) == {State.CONFIRMED: 1, State.PENDING: 9}
    assert all(row.attempts == 0 for row in rows(box) if row.state is State.PENDING)


def test_an_upload_that_was_interrupted_counts_as_tried(box: Box) -> None:
    depot, clock = Depot(), Clock()
    owe_everything_to(box)
    take_in(box, TEN[:1])
    lane = lane_by_hand(box, depot, clock)

    def interrupted(_: Parcel) -> None:
        lane.errand.stopping.set()
        raise Transient("interrupted")

    depot.trouble = interrupted
    lane.one_batch()
    (row,) = rows(box)
    assert (row.state, row.attempts) == (State.WAITING, 1)
    assert breaker(box) == CLOSED


def test_a_long_send_keeps_its_lease(box: Box, eventually: Eventually) -> None:
    box = replace(box, config=replace(box.config, courier=replace(box.config.courier, lease_seconds=2)))
    depot = Depot(trouble=lambda _: time.sleep(5))
    owe_everything_to(box)
    take_in(box, TEN[:1])
    with delivering(box, depot):
        eventually(lambda: all_confirmed(box, 1))
    assert rows(box)[0].attempts == 1
    assert depot.arrived.total() == 1


def test_a_receipt_that_comes_after_a_cancellation_still_counts(box: Box) -> None:
    depot, clock = Depot(), Clock()
    owe_everything_to(box)
    take_in(box, TEN[:1])

    def cancelled_meanwhile(_: Parcel) -> None:
        with box.catalog.transaction() as tx:
            deliveries.cancel(tx, rows(box)[0].id, NOW)

    depot.trouble = cancelled_meanwhile
    lane_by_hand(box, depot, clock).one_batch()
    assert all_confirmed(box, 1)


def test_what_another_courier_already_proved_is_audited_once(box: Box) -> None:
    depot, clock = Depot(), Clock()
    owe_everything_to(box)
    take_in(box, TEN[:1])

    def proved_meanwhile(_: Parcel) -> None:
        with box.catalog.transaction() as tx:
            deliveries.confirm(tx, rows(box)[0].id, {"status": "0000"}, NOW)

    depot.trouble = proved_meanwhile
    lane_by_hand(box, depot, clock).one_batch()
    assert all_confirmed(box, 1)
    assert audited(box)["delivery:confirm"] == 0


def test_an_instance_of_no_rule_is_owed_to_nobody(box: Box) -> None:
    take_in(box, TEN)
    assert rows(box) == []


def test_surroundings_are_the_real_ones_by_default() -> None:
    around = Surroundings()
    assert around.now().tzinfo is not None
    assert 0 <= around.jitter() < 1
