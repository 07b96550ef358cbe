"""Two boxes and one disk: whoever came first keeps the only way back to its images, whatever the other is told to do there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import health
from appliance.backup import drill, making, snapshot, standing
from appliance.catalog import destinations, tombstones
from appliance.errors import Corrupt, OperatorNeeded, Transient, Unknown, Unreadable
from appliance.health.checks import backup_age
from appliance.health.facts import Attempt, Outcome
from appliance.lifecycle import certificate, retention
from appliance.model import DestinationSettings
from appliance.replication.destinations.archive import MANIFESTS, RECOVERY_SLOT
from appliance.replication.destinations.vault import VaultDestination
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.backup.conftest import IMAGES, KEEP, Clinic, clinic_in
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.backup.test_restoring import archive_of, restore
from tests.health.test_checks import CALM
from tests.lifecycle.purge import GONE, LATER, approve, carry_out, study_of
from tests.lifecycle.test_bad_sectors import unreadable
from tests.replication.cloud import Cloud, cloud, settings
from tests.rot import last_byte_changed

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk

NOW = datetime.now(UTC)
LONG_AGO = [NOW - timedelta(days=days) for days in (90, 80, 70, 60, 50)]


def names(one: Clinic) -> set[str]:
    return set(standing.look(archive_of(one.place)).names)


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


def drilled(one: Clinic) -> drill.Certificate:
    return drill.drill(one.box, one.place, NOW, actor="tests", dice=random.Random(1))


def test_each_box_tries_out_the_newest_backup_of_its_own(
    clinic: Clinic, other: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "refuse_another_box", lambda *_: None)
    clinic.receive(IMAGES[0])
    clinic.deliver()
    with pytest.raises(Unknown, match="no backup to try out"):
        drilled(clinic)
    clinic.back_up(NOW - timedelta(hours=4))
    ours = clinic.back_up(NOW - timedelta(hours=3))
    with pytest.raises(Unknown, match="no backup to try out"):
        drilled(other)
    theirs = [other.back_up(NOW - timedelta(hours=hours)) for hours in (2, 1)]
    found = drilled(clinic)
    assert (found.snapshot, found.passed, found.sampled) == (ours.name, True, 1)
    assert (drilled(other).snapshot, drilled(other).passed) == (theirs[-1].name, True)


@pytest.mark.parametrize(
    "ends", [("index",), ("index", "key"), ("index", "key", "root.recovery")], ids="+".join
)
def test_a_damaged_newest_of_ours_is_not_passed_over_for_an_older_one(
    clinic: Clinic, other: Clinic, monkeypatch: pytest.MonkeyPatch, ends: tuple[str, ...]
) -> None:
    monkeypatch.setattr(making, "refuse_another_box", lambda *_: None)
    clinic.receive(IMAGES[0])
    clinic.deliver()
    _, newest = (clinic.back_up(NOW - timedelta(hours=hours)) for hours in (4, 3))
    other.back_up(NOW - timedelta(hours=1))
    archive = archive_of(clinic.place)
    for end in ends:
        key = f"{snapshot.PREFIX}{newest.name}/{end}"
        archive.put_document(key, last_byte_changed(archive.document(key)))
    with pytest.raises(Corrupt):
        drilled(clinic)


def test_one_of_ours_whose_key_is_damaged_goes_when_its_time_is_over(clinic: Clinic) -> None:
    clinic.receive(IMAGES[0])
    for moment in LONG_AGO:
        clinic.back_up(moment)
    oldest, *_, newest = sorted(names(clinic))
    for each in (oldest, newest):
        archive_of(clinic.place).put_document(snapshot.key_key(each), b"rotten")
    back_up(clinic, datetime.now(UTC))
    assert oldest not in names(clinic) and newest not in names(clinic)
    assert len(names(clinic)) == 3, "the newest few that stay are of those that open"


def test_what_nothing_tells_from_another_box_s_stays_and_the_log_says_so(
    clinic: Clinic, caplog: pytest.LogCaptureFixture
) -> None:
    clinic.receive(IMAGES[0])
    for moment in LONG_AGO:
        clinic.back_up(moment)
    oldest, second, *_ = sorted(names(clinic))
    forget(clinic, oldest)
    back_up(clinic, datetime.now(UTC))
    assert oldest in names(clinic) and second not in names(clinic)
    assert "usb: 1 backups have had their time and stay" in caplog.text


def lies_at(tmp_path: Path, key: str) -> Path:
    """Where the document `key` lies on the disk."""
    return tmp_path / "usb" / key


def test_bad_spots_under_old_backups_make_no_new_one_count_as_failed(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(IMAGES[0])
    for moment in LONG_AGO:
        clinic.back_up(moment)
    oldest, second, *_ = sorted(names(clinic))
    unreadable(lies_at(tmp_path, snapshot.key_key(oldest)))
    forget(clinic, second)
    for key in (snapshot.index_key(second), snapshot.key_key(second)):
        unreadable(lies_at(tmp_path, key))
    back_up(clinic, datetime.now(UTC))
    with clinic.box.catalog.reading() as conn:
        told = making.last(conn, clinic.place.name)
    assert (told["outcome"], told["reason"]) == ("succeeded", "")
    assert oldest not in names(clinic), "by its record it is ours, and its time is over"
    assert second in names(clinic), "nobody can tell whose it is"
    assert len(names(clinic)) == 4, "that one, and the newest few that open"


def test_a_backup_is_made_even_when_the_older_ones_cannot_be_removed_and_a_person_is_told(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment in LONG_AGO:
        clinic.back_up(moment)

    def fails(_archive: object, _key: str) -> None:
        raise Transient("the disk says no")

    monkeypatch.setattr(VaultDestination, "remove", fails)
    now = datetime.now(UTC)
    back_up(clinic, now)
    with clinic.box.catalog.reading() as conn:
        told = making.last(conn, clinic.place.name)
        assert not making.is_due(conn, clinic.place.name, now + timedelta(minutes=15), timedelta(days=1))
    assert (told["outcome"], told["succeeded_utc"]) == ("succeeded", now.isoformat())
    assert told["reason"] == "usb: the disk says no"
    assert "backups-stay" in problems(clinic, now)
    with clinic.box.catalog.transaction() as tx:
        elsewhere = DestinationSettings("z", "vault", "ciphertext", clinic.place.options)
        destinations.add(tx, elsewhere)
        making._keep(tx, elsewhere.name, now, "", 0)
    assert "backups-stay" in problems(clinic, now), "another that went well does not hide it"
    monkeypatch.undo()
    later = now + timedelta(days=1)
    back_up(clinic, later)
    assert "backups-stay" not in problems(clinic, later)


def problems(one: Clinic, now: datetime) -> set[str]:
    return {each.code for each in health.status(one.box, now).problems}


@pytest.mark.parametrize("code", ["fr", "es", "zh"])
def test_that_older_ones_stay_is_said_in_the_readers_words(code: str) -> None:
    (found,) = backup_age.check(
        replace(CALM, backup=Attempt(CALM.at_utc, Outcome.SUCCEEDED, CALM.at_utc, "usb: no right"))
    )
    causes = Languages(web_ui() / "languages").words(code).sentences["causes"]
    assert {found.words, found.fix} <= set(causes)


def test_a_bad_spot_under_a_manifest_makes_no_other_box_of_this_one(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    clinic.back_up(NOW)
    archive = archive_of(clinic.place)
    lies_at(tmp_path, RECOVERY_SLOT).unlink()
    first, *others = (lies_at(tmp_path, each.key) for each in archive.documents(MANIFESTS))
    assert others
    unreadable(first)
    clinic.back_up(NOW + timedelta(minutes=1))
    assert len(names(clinic)) == 2, "what can be read says that it is ours"
    for each in others:
        unreadable(each)
    with pytest.raises(Unreadable):
        clinic.back_up(NOW + timedelta(minutes=2))


def forget(clinic: Clinic, name: str) -> None:
    """Let a backup be as one of a life that this box has no record of, whose every document is damaged but as long as it was."""
    with clinic.box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE audit SET action = 'backup:drill' WHERE details LIKE ?", (f"%{name}%",))
    archive = archive_of(clinic.place)
    for key in (snapshot.index_key(name), snapshot.key_key(name), snapshot.slot_key(name)):
        archive.put_document(key, last_byte_changed(archive.document(key)))


# --- a purge ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture(params=["share", "bucket"])
def shared(request: pytest.FixtureRequest, the_cloud: Cloud) -> DestinationSettings:
    if request.param == "bucket":
        return settings(the_cloud.url, the_cloud.new_bucket(versioned=True))
    found: DestinationSettings = request.getfixturevalue("disk")
    return found


@pytest.fixture
def two(shared: DestinationSettings, tmp_path: Path) -> Iterator[tuple[Clinic, Clinic]]:
    """Two boxes that made their first backup in one archive in the same hour: each found it empty, and its own there ever since."""
    with clinic_in(tmp_path / "one", shared) as one, clinic_in(tmp_path / "other", shared) as other:
        one.receive(*IMAGES[:2])
        other.receive(IMAGES[3], *GONE)
        at_once = iter([other.back_up])

        def meanwhile() -> bool:
            for back_up in at_once:
                back_up()
            return True

        making.back_up(one.box, one.place, datetime.now(UTC), actor="tests", keep=KEEP, keep_going=meanwhile)
        one.back_up()
        other.back_up()
        assert len(names(one)) == 4
        yield one, other


def everything(one: Clinic, of: set[str]) -> dict[str, bytes]:
    archive = archive_of(one.place)
    return {
        each.key: archive.document(each.key)
        for name in of
        for each in archive.documents(f"{snapshot.PREFIX}{name}/")
    }


def test_a_purge_destroys_no_backup_but_its_own_box_s(two: tuple[Clinic, Clinic], tmp_path: Path) -> None:
    one, other = two
    theirs = {
        name for name in names(one) if making.whose(one.box, archive_of(one.place), [name])[name] == "ours"
    }
    ours = names(other) - theirs
    assert (len(theirs), len(ours)) == (2, 2)
    kept = everything(one, theirs)
    other.deliver()
    approve(other.box, study_of(other.box, GONE[0]).id)
    carry_out(other)
    assert everything(one, theirs) == kept
    assert not ours & names(other)
    assert restore(tmp_path / "after", one.place, one.paper).snapshot is not None
    with other.box.catalog.reading() as conn:
        (found,) = tombstones.certificates(conn)
        (place,) = certificate.document(conn, found, LATER)["archives"]
    assert (place["state"], place["older_backups"], place["backups_not_ours"]) == ("DONE", 2, 2)


def test_a_backup_that_another_box_is_at_is_none_of_a_purge_s(two: tuple[Clinic, Clinic]) -> None:
    one, other = two
    begun = snapshot.new_name(LATER, "0123abcd")
    archive = archive_of(one.place)
    archive.put_document(snapshot.begun_key(begun), snapshot.BEGUN)
    archive.put_document(snapshot.piece_key(begun, 0), b"pages")
    other.deliver()
    approve(other.box, study_of(other.box, GONE[0]).id)
    carry_out(other)
    assert set(everything(one, {begun})) == {snapshot.begun_key(begun), snapshot.piece_key(begun, 0)}


@pytest.mark.parametrize(
    "ends", [("key",), ("key", "index"), ("key", "index", "root.recovery")], ids="+".join
)
def test_a_purge_takes_ours_whatever_of_it_is_damaged(
    two: tuple[Clinic, Clinic], ends: tuple[str, ...]
) -> None:
    """A key that is damaged may be mended by whoever has the root key: the box knows that it has made this backup."""
    _, other = two
    other.deliver()
    archive = archive_of(other.place)
    ours = {name for name, of in making.whose(other.box, archive, names(other)).items() if of == "ours"}
    for name in ours:
        for end in ends:
            key = f"{snapshot.PREFIX}{name}/{end}"
            archive.put_document(key, last_byte_changed(archive.document(key)))
    approve(other.box, study_of(other.box, GONE[0]).id)
    carry_out(other)
    assert not ours & names(other)
    left = everything(other, ours)
    assert {data for key, data in left.items() if key.endswith("/key")} <= {snapshot.DESTROYED}


def test_a_certificate_tells_of_what_nothing_told_whose_it_is(two: tuple[Clinic, Clinic]) -> None:
    _, other = two
    archive = archive_of(other.place)
    first, second = (
        name for name, of in sorted(making.whose(other.box, archive, names(other)).items()) if of == "ours"
    )
    forget(other, first)
    with other.box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE audit SET action = 'backup:drill' WHERE details LIKE ?", (f"%{second}%",))
    archive.put_document(snapshot.slot_key(second), b"")
    for key in (snapshot.index_key(second), snapshot.key_key(second)):
        sealed = archive.document(key)
        archive.put_document(key, sealed[:2] + (9).to_bytes(4, "big") + sealed[6:])
    other.deliver()
    approve(other.box, study_of(other.box, GONE[0]).id)
    carry_out(other)
    assert {first, second} <= names(other)
    with other.box.catalog.reading() as conn:
        (found,) = tombstones.certificates(conn)
        (place,) = certificate.document(conn, found, LATER)["archives"]
    told = [place[each] for each in ("older_backups", "backups_not_ours", "backups_under_later_key")]
    assert told == [0, 3, 1]
