"""What is known of the box: read from where it really is, and believed only as far as it can be."""

import ctypes
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import certificates, health
from appliance.audit.vouching import vouched
from appliance.box import Box, open_box
from appliance.catalog import Transaction, destinations, people, processes, settings
from appliance.health import kernel_clock
from appliance.health.facts import Discipline, Outcome
from appliance.health.problem import Verb
from appliance.lifecycle import retention
from appliance.lifecycle.acting import Act
from appliance.model import DestinationSettings
from tests.boxes import config_in, take_in
from tests.instances import Instance

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    opened = open_box(config_in(data_dir))
    yield opened
    opened.close()


def put(box: Box, key: str, value: object) -> None:
    with box.catalog.transaction() as tx:
        settings.put(tx, key, value, NOW)


def add(box: Box, name: str) -> None:
    with box.catalog.transaction() as tx:
        destinations.add(tx, DestinationSettings(name, "vault", "ciphertext", {"path": f"/nowhere/{name}"}))


def test_a_backup_is_known_by_its_record(box: Box) -> None:
    assert health.gather(box, NOW).backup is None
    made = {"at_utc": NOW.isoformat(), "outcome": "succeeded", "reason": ""}
    add(box, "usb")
    put(box, f"{health.BACKUP}.usb", made)
    found = health.gather(box, NOW).backup
    assert found is not None
    assert (found.outcome, found.succeeded_utc) == (Outcome.SUCCEEDED, NOW)


def test_of_drills_the_worst_archive_that_is_on_stands_for_all(box: Box) -> None:
    """Whichever was tried last; one that is paused or removed is forgotten at once."""
    made = {"at_utc": NOW.isoformat(), "outcome": "succeeded", "reason": ""}

    def drilled(name: str, days: int, outcome: str = "succeeded", reason: str = "") -> None:
        at = (NOW - timedelta(days=days)).isoformat()
        record = {"at_utc": at, "outcome": outcome, "succeeded_utc": at, "reason": reason}
        key = f"{health.DRILL}.{name}"
        put(box, key, vouched(box.audit_key, key, record))

    def told() -> tuple[Outcome, int | None, str] | None:
        found = health.gather(box, NOW).drill
        if found is None:
            return None
        done = found.succeeded_utc
        return found.outcome, None if done is None else (NOW - done).days, found.reason

    for name in ("cloud", "nas", "usb"):
        add(box, name)
        put(box, f"{health.BACKUP}.{name}", made)
    assert told() is None
    drilled("usb", 20, "failed", "usb: torn")
    assert told() == (Outcome.FAILED, None, "usb: torn")
    drilled("nas", 12)
    drilled("cloud", 1)
    assert told() == (Outcome.FAILED, 20, "usb: torn"), "whichever was tried last"
    with box.catalog.transaction() as tx:
        destinations.pause(tx, "usb")
    assert told() == (Outcome.SUCCEEDED, 12, "")
    with box.catalog.transaction() as tx:
        destinations.remove(tx, "nas", NOW)
    assert told() == (Outcome.SUCCEEDED, 1, "")
    with box.catalog.transaction() as tx:
        destinations.remove(tx, "cloud", NOW)
    assert told() == (Outcome.FAILED, 20, "usb: torn"), "the one that is left is shown, though it is paused"
    assert not {"drill-failed", "drill-late"} & {each.code for each in health.status(box, NOW).problems}
    with box.catalog.transaction() as tx:
        destinations.remove(tx, "usb", NOW)
    assert told() is None


def test_an_archive_that_is_paused_or_removed_has_no_part_in_how_backups_stand(box: Box) -> None:
    """At once, whichever attempt came last; while it is paused alone, it still speaks."""
    yesterday = NOW - timedelta(days=1)
    failed = {"at_utc": NOW.isoformat(), "outcome": "failed", "succeeded_utc": None}
    for name in ("cloud", "usb"):
        add(box, name)
    made = {"at_utc": yesterday.isoformat(), "outcome": "succeeded", "succeeded_utc": yesterday.isoformat()}
    put(box, f"{health.BACKUP}.cloud", failed | {"reason": "cloud: no route"})
    put(box, f"{health.BACKUP}.usb", made)

    def told() -> tuple[Outcome, datetime | None, str] | None:
        found = health.gather(box, NOW).backup
        return None if found is None else (found.outcome, found.succeeded_utc, found.reason)

    def change(act: Callable[[Transaction], object]) -> None:
        with box.catalog.transaction() as tx:
            act(tx)

    broken, well = (Outcome.FAILED, yesterday, "cloud: no route"), (Outcome.SUCCEEDED, yesterday, "")
    assert told() == broken
    change(lambda tx: destinations.pause(tx, "cloud"))
    assert told() == well
    change(lambda tx: destinations.resume(tx, "cloud"))
    assert told() == broken
    put(box, f"{health.BACKUP}.usb", failed | {"reason": "usb: is not there"})
    change(lambda tx: destinations.pause(tx, "cloud"))
    assert told() == (Outcome.FAILED, None, "usb: is not there"), "the one that is paused hides no other"
    put(box, f"{health.BACKUP}.usb", made)
    change(lambda tx: destinations.pause(tx, "usb"))
    assert told() == broken, "all are paused"
    change(lambda tx: destinations.remove(tx, "cloud", NOW))
    assert told() == well
    change(lambda tx: destinations.remove(tx, "usb", NOW))
    assert told() is None


@pytest.mark.parametrize("moved", [timedelta(days=3650), timedelta(days=-3650)])
def test_a_clock_that_was_found_set_is_in_doubt_until_a_person_has_looked(box: Box, moved: timedelta) -> None:
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, NOW, follows_time_server=False)
        retention.watch_clock(tx, NOW + moved, follows_time_server=False)
    assert "clock-doubted" in {each.code for each in health.status(box, NOW + moved).problems}
    take_in(box, Instance(1), NOW + timedelta(days=3650))
    with box.catalog.transaction() as tx:
        retention.watch_clock(tx, NOW, follows_time_server=False)
    said = [
        each for each in health.status(box, NOW).problems if each.code in {"clock-doubted", "clock-behind"}
    ]
    assert [act.verb for each in said for act in each.acts] == [Verb.SEE_RETENTION], (
        "where a person may say so"
    )
    with box.catalog.transaction() as tx:
        retention.trust_clock(tx, Act("marie", NOW, box.audit_key))
    assert not {"clock-doubted", "clock-behind"} & {each.code for each in health.status(box, NOW).problems}


@pytest.mark.parametrize(
    "kept",
    [
        "yesterday",
        [],
        {},
        {"at_utc": "yesterday", "outcome": "succeeded"},
        {"at_utc": "2026-03-01T12:00:00", "outcome": "succeeded"},
        {"at_utc": NOW.isoformat(), "outcome": "perhaps"},
    ],
)
def test_a_record_that_cannot_be_read_is_no_backup(box: Box, kept: object) -> None:
    add(box, "usb")
    put(box, f"{health.BACKUP}.usb", kept)
    assert "no-backup" in {each.code for each in health.status(box, NOW).problems}


def test_the_certificates_that_were_issued_are_watched(box: Box) -> None:
    assert health.gather(box, NOW).certificates == ()
    with box.catalog.transaction() as tx:
        made = certificates.install(tx, box, host_name="clinicbox", clinic="Clinique", addresses=(), now=NOW)
    found = {each.name: each.expires_utc for each in health.gather(box, NOW).certificates}
    assert found == {"clinicbox": made.server_ends_utc, "clinic CA": made.authority_ends_utc}
    week_before = made.server_ends_utc - timedelta(days=7)
    (problem,) = [
        each for each in health.status(box, week_before).problems if each.code == "certificate-expiring"
    ]
    assert (problem.subject, problem.severity) == ("clinicbox", health.Severity.NOW)


def test_failed_sign_ins_of_the_last_hour_are_counted_whoever_tried(box: Box) -> None:
    with box.catalog.transaction() as tx:
        for minutes in (-1, 0, 59, 60, 61):
            people.add_failure(tx, f"user{minutes}", "10.0.0.9", NOW - timedelta(minutes=minutes))
    assert health.gather(box, NOW).sign_in_failures == 2


def test_a_clock_that_was_set_is_known_from_the_heartbeat(box: Box) -> None:
    detail = {"clock_set": {"seconds": -7200, "at_utc": NOW.isoformat()}}
    with box.catalog.transaction() as tx:
        processes.beat(tx, "jobs", os.getpid(), NOW, NOW, detail)
    clock = health.gather(box, NOW).clock
    assert (clock.set_seconds, clock.set_utc) == (-7200.0, NOW)
    assert "clock-set" in {each.code for each in health.status(box, NOW).problems}


class Timex(ctypes.Structure):
    """``struct timex`` as adjtimex(2) has it, its head."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 400),
    )


@pytest.mark.parametrize("said", list(Discipline))
def test_health_goes_by_what_is_known_of_the_clock(
    box: Box, monkeypatch: pytest.MonkeyPatch, said: Discipline
) -> None:
    monkeypatch.setattr(kernel_clock, "discipline", lambda: said)
    assert health.gather(box, NOW).clock.discipline is said


def test_the_kernel_is_asked_as_its_manual_says() -> None:
    told = Timex()
    answer = ctypes.CDLL(None).adjtimex(ctypes.byref(told))
    expected = Discipline.FREE if told.status & 0x40 else Discipline.FOLLOWS
    assert kernel_clock.discipline() is (expected if answer >= 0 else Discipline.UNKNOWN)
