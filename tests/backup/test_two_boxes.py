"""Two boxes and one disk: whoever came first keeps the only way back to its images, whatever the other is told to do there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.backup import making, snapshot
from appliance.catalog import destinations
from appliance.errors import OperatorNeeded
from appliance.lifecycle import retention
from tests.backup.conftest import IMAGES, Clinic, clinic_in
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.backup.test_restoring import archive_of, restore

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk

NOW = datetime.now(UTC)
LONG_AGO = [NOW - timedelta(days=days) for days in (90, 80, 70, 60, 50)]


def names(one: Clinic) -> set[str]:
    return set(snapshot.names_in([each.key for each in archive_of(one.place).documents(snapshot.PREFIX)]))


def back_up(one: Clinic, now: datetime) -> None:
    """By a clock that nobody doubts: only then is anything removed."""
    with one.box.catalog.transaction() as tx:
        retention.watch_clock(tx, now, follows_time_server=True)
    one.back_up(now)


@pytest.fixture
def other(clinic: Clinic, tmp_path: Path) -> Iterator[Clinic]:
    """A new box that somebody sets up with the disk of the first."""
    with clinic_in(tmp_path / "new box", clinic.place) as made:
        yield made


def test_no_backup_goes_where_another_box_has_its_images(
    clinic: Clinic, other: Clinic, tmp_path: Path
) -> None:
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    for moment in LONG_AGO:
        clinic.back_up(moment)
    before = names(clinic)
    with pytest.raises(OperatorNeeded, match="another box"):
        other.back_up(NOW)
    assert names(clinic) == before
    with other.box.catalog.reading() as conn:
        assert "another box" in str(making.last(conn, other.place.name)["reason"])
    assert restore(tmp_path / "after", clinic.place, clinic.paper).instances == 2


def test_nothing_goes_where_another_box_has_its_backups_alone(
    clinic: Clinic, other: Clinic, tmp_path: Path
) -> None:
    clinic.receive(*IMAGES[:2])
    for moment in LONG_AGO:
        clinic.back_up(moment)
    before = {each.key for each in archive_of(clinic.place).documents(snapshot.PREFIX)}
    with pytest.raises(OperatorNeeded, match="holds the backups of another box"):
        other.back_up(NOW)
    other.receive(IMAGES[3])
    other.deliver_until(lambda: "another box" in trouble(other))
    assert {each.key for each in archive_of(clinic.place).documents(snapshot.PREFIX)} == before
    assert not [*archive_of(clinic.place).documents("keys/")], "no recovery slot of the other lies there"
    clinic.deliver()
    assert restore(tmp_path / "after", clinic.place, clinic.paper).instances == 2


def trouble(one: Clinic) -> str:
    with one.box.catalog.reading() as conn:
        return destinations.breaker(conn, one.place.id).reason


def test_a_box_removes_no_backup_but_its_own(
    clinic: Clinic, other: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier software let both lay theirs on one disk, where it held backups alone."""
    monkeypatch.setattr(making, "refuse_another_box", lambda *_: None)
    clinic.receive(*IMAGES[:2])
    for moment in LONG_AGO:
        clinic.back_up(moment)
    first = names(clinic)
    for days in (3, 2, 1, 0):
        back_up(other, NOW - timedelta(days=days))
    assert first <= names(clinic), "another box's backups are gone"
    newest = max(first)
    back_up(clinic, datetime.now(UTC))
    assert newest in names(clinic), "the newest few of ours stay, however many another box lays beside them"
    assert len(first & names(clinic)) < len(first), "ours have had their time"
    assert restore(tmp_path / "after", clinic.place, clinic.paper).snapshot is not None


def test_one_of_ours_whose_key_is_damaged_stays_and_the_log_says_so(
    clinic: Clinic, caplog: pytest.LogCaptureFixture
) -> None:
    clinic.receive(IMAGES[0])
    for moment in LONG_AGO:
        clinic.back_up(moment)
    oldest, second, *_ = sorted(names(clinic))
    archive_of(clinic.place).put_document(snapshot.key_key(oldest), b"rotten")
    back_up(clinic, datetime.now(UTC))
    assert oldest in names(clinic) and second not in names(clinic)
    assert "usb: 1 backups have had their time and stay" in caplog.text
