"""The alarm over a real box: from its health and its door to notices, and never in the way of anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import alarm, duties
from appliance.box import Box
from appliance.catalog import devices, notices, people, processes
from appliance.catalog.notices import Wanted
from appliance.model import Device, ae_title
from tests.boxes import box_in

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    with box_in(data_dir) as opened:
        with opened.catalog.transaction() as tx:
            people.add(
                tx, login="marie", name="Marie", role="owner", password_hash="-", language="fr", now=NOW
            )
        yield opened


def told(box: Box) -> set[tuple[str, str, str]]:
    with box.catalog.reading() as conn:
        rows = notices.history(conn, 0, Wanted(), everything=True, limit=100)
    return {(row.kind, row.subject, row.state) for row in rows}


def beat(box: Box, now: datetime) -> None:
    with box.catalog.transaction() as tx:
        for name in ("courier", *(f"dicom-{number}" for number in range(8)), "jobs", "web"):
            processes.beat(tx, name, os.getpid(), now, now)


def test_a_process_that_stops_is_told_after_its_delay_and_those_who_send_are_woken(box: Box) -> None:
    woken: list[bool] = []
    judge = alarm.Alarm(lambda: woken.append(True))
    beat(box, NOW)
    judge(box, NOW)
    judge(box, NOW + timedelta(seconds=40))
    woken.clear()  # what a box that nobody has set up yet has to say
    assert ("process-stopped", "courier-stopped", "STANDING") not in told(box)
    judge(box, NOW + timedelta(seconds=75))
    assert ("process-stopped", "courier-stopped", "STANDING") in told(box)
    assert woken == [True]
    beat(box, NOW + timedelta(seconds=80))
    judge(box, NOW + timedelta(seconds=80))
    judge(box, NOW + timedelta(seconds=100))
    assert ("process-stopped", "courier-stopped", "STANDING") in told(box)
    beat(box, NOW + timedelta(seconds=115))
    judge(box, NOW + timedelta(seconds=115))
    assert ("process-stopped", "courier-stopped", "OVER") in told(box)


def test_a_caller_at_the_door_is_told_until_it_is_admitted(box: Box) -> None:
    judge = alarm.Alarm()
    with box.catalog.transaction() as tx:
        devices.seen_at_door(tx, ae_title("ROMEXIS"), "192.168.1.77", NOW)
    judge(box, NOW)
    assert ("unknown-device", "ROMEXIS@192.168.1.77", "STANDING") in told(box)
    with box.catalog.transaction() as tx:
        devices.add_device(tx, Device(ae_title("ROMEXIS"), "192.168.1.77"), NOW)
    judge(box, NOW + timedelta(seconds=5))
    assert ("unknown-device", "ROMEXIS@192.168.1.77", "OVER") in told(box)


def test_a_scanner_on_the_network_is_not_a_thousand_notices(box: Box) -> None:
    with box.catalog.transaction() as tx:
        for number in range(200):
            devices.seen_at_door(tx, ae_title(f"SCAN{number}"), "192.168.1.66", NOW)
    alarm.Alarm()(box, NOW)
    assert sum(kind == "unknown-device" for kind, _, _ in told(box)) == alarm.MOST_VISITORS


def test_the_alarm_waits_for_no_sweep(box: Box) -> None:
    (own,) = [job for job in duties.duties(box) if job.name == "alarm"]
    assert own.lane == "alarm"
    assert all(job.lane != "alarm" for job in duties.duties(box) if job.name != "alarm")
    assert own.every_seconds <= 5


def test_old_notices_are_forgotten_and_what_stands_is_not(box: Box) -> None:
    with box.catalog.transaction() as tx:
        devices.seen_at_door(tx, ae_title("ROMEXIS"), "192.168.1.77", NOW)
    alarm.Alarm()(box, NOW)
    alarm.forget_old(box, NOW + timedelta(days=500))
    assert ("unknown-device", "ROMEXIS@192.168.1.77", "STANDING") in told(box)
    with box.catalog.transaction() as tx:
        devices.add_device(tx, Device(ae_title("ROMEXIS"), "192.168.1.77"), NOW)
    alarm.Alarm()(box, NOW + timedelta(seconds=5))
    alarm.forget_old(box, NOW + timedelta(days=500))
    assert not any(kind == "unknown-device" for kind, _, _ in told(box))
