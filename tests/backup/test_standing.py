"""A marker that calls a backup destroyed is what anybody may write who can write in the archive: the backup's key decides."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.backup import choice, drill, inventory, making, snapshot, standing
from appliance.backup.inventory import Proof
from appliance.backup.snapshot import Index
from appliance.catalog import tombstones
from appliance.catalog.tombstones import PlaceState
from appliance.errors import Transient
from appliance.lifecycle import purging, retention
from appliance.model import DestinationSettings
from appliance.replication.destinations import Archive
from appliance.web.console import web_ui
from appliance.web.language import Languages
from tests.backup.conftest import IMAGES, Clinic, clinic_in
from tests.backup.conftest import disk as _disk
from tests.backup.test_bucket import bucket as _bucket
from tests.backup.test_bucket import the_cloud as _the_cloud
from tests.backup.test_restoring import archive_of, restore
from tests.lifecycle.purge import GONE, LATER, approve, carry_out, owed, study_of
from tests.lifecycle.test_bad_sectors import unreadable
from tests.replication.cloud import Cloud, line

pytestmark = pytest.mark.slow

disk = _disk

NOW = datetime.now(UTC)
ANY_KEY = b"whatever is sealed under the root key"


bucket, the_cloud = _bucket, _the_cloud


@pytest.fixture(params=["disk", "bucket"])
def clinic(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Clinic]:
    with clinic_in(tmp_path / "before", request.getfixturevalue(request.param)) as clinic:
        clinic.receive(*IMAGES[:2], *GONE)
        clinic.deliver()
        yield clinic


def backed_up(clinic: Clinic) -> list[Index]:
    """Three backups, the newest first."""
    return [clinic.back_up(NOW - timedelta(hours=hours)) for hours in (3, 2, 1)][::-1]


def mark(clinic: Clinic, *made: Index) -> None:
    """What somebody writes in the archive who has no key of the box."""
    for each in made:
        archive_of(clinic.place).put_document(snapshot.destroyed_key(each.name), snapshot.DESTROYED)


def keys_of(clinic: Clinic, *made: Index) -> list[bytes]:
    """What lies there as the keys of these; nothing for those that are gone."""
    archive = archive_of(clinic.place)
    there = {each.key for each in archive.documents(snapshot.PREFIX)}
    found = [snapshot.key_key(each.name) for each in made]
    return [archive.document(each) for each in found if each in there]


def test_a_backup_that_somebody_has_marked_as_destroyed_is_found_and_restored(
    clinic: Clinic, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = backed_up(clinic)
    mark(clinic, *made)
    assert [each.index for each in inventory.take(clinic.box, clinic.place).held] == made
    assert choice.look(archive_of(clinic.place), clinic.paper).backups == tuple(made)
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert (restored.snapshot, restored.damaged_snapshots) == (made[0], 0)
    said = "\n".join(each.getMessage() for each in caplog.records if each.name.startswith("appliance"))
    assert "marked as destroyed that have a key still" in said and "count=3" in said
    assert not [each for each in made if each.name in said]


def test_the_drill_tries_it_and_says_that_somebody_wrote_there(clinic: Clinic) -> None:
    made = backed_up(clinic)
    mark(clinic, made[1])
    found = drill.drill(clinic.box, clinic.place, NOW, actor="tests", dice=random.Random(1))
    assert (found.snapshot, found.sampled) == (made[0].name, 5)
    (said,) = found.findings
    assert said.startswith("a backup is marked as destroyed and still has its key")
    for code in ("fr", "es", "zh"):
        words = Languages(web_ui() / "languages").words(code)
        assert words.cause(said) != said[:1].upper() + said[1:]
    held = {each.name: each.proof for each in inventory.take(clinic.box, clinic.place).held}
    assert held[made[1].name] is Proof.UNTRIED


def test_a_purge_destroys_the_key_of_what_somebody_has_marked(clinic: Clinic) -> None:
    made = backed_up(clinic)
    mark(clinic, *made)
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    carry_out(clinic)
    assert set(keys_of(clinic, *made)) <= {snapshot.DESTROYED}
    with clinic.box.catalog.reading() as conn:
        (certificate,) = tombstones.certificates(conn)
        (place,) = tombstones.places(conn, certificate.id)
    assert certificate.completed_utc is not None
    assert (place.state, place.detail["older"]) == (PlaceState.DONE, 3)


def test_no_certificate_is_complete_while_the_key_of_a_marked_one_stays(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backed_up(clinic)
    mark(clinic, *made)
    kind = type(archive_of(clinic.place))
    put = kind.put_document

    def put_other(archive: Archive, key: str, data: bytes) -> None:
        if data == snapshot.DESTROYED:
            stays(archive, key)
        put(archive, key, data)

    def stays(_archive: Archive, _key: str) -> None:
        raise Transient("nobody may write over that")

    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    purging.carry_out(clinic.box, LATER)
    clinic.deliver_until(lambda: not owed(clinic))
    with monkeypatch.context() as patch:
        patch.setattr(making, "_rotate", lambda *_: 0)
        patch.setattr(kind, "put_document", put_other)
        if hasattr(kind, "remove"):
            patch.setattr(kind, "remove", stays)
        purging.carry_out(clinic.box, LATER)
    with clinic.box.catalog.reading() as conn:
        (certificate,) = tombstones.certificates(conn, unfinished=True)
        (place,) = tombstones.places(conn, certificate.id)
    assert (place.state, place.reason) == (PlaceState.LAID, "nobody may write over that")
    carry_out(clinic)
    assert set(keys_of(clinic, *made)) <= {snapshot.DESTROYED}


def test_what_is_destroyed_stays_left_out_and_is_not_destroyed_again(clinic: Clinic, tmp_path: Path) -> None:
    made = backed_up(clinic)
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    carry_out(clinic)
    there = standing.look(archive_of(clinic.place))
    (newest,) = there.names
    assert newest not in {each.name for each in made} and there.disbelieved == 0
    assert [each.name for each in inventory.take(clinic.box, clinic.place).held] == [newest]
    assert drill.drill(clinic.box, clinic.place, NOW, actor="tests").passed
    assert restore(tmp_path / "after", clinic.place, clinic.paper).damaged_snapshots == 0
    approve(clinic.box, study_of(clinic.box, IMAGES[0]).id)
    carry_out(clinic)
    with clinic.box.catalog.reading() as conn:
        done = [tombstones.places(conn, each.id)[0].detail["older"] for each in tombstones.certificates(conn)]
    assert sorted(done) == [1, 3], "the second time only the one of the first"


def test_a_key_that_somebody_has_put_back_dies_with_the_next_purge(
    bucket: DestinationSettings, tmp_path: Path
) -> None:
    with clinic_in(tmp_path / "before", bucket) as clinic:
        clinic.receive(*IMAGES[:2], *GONE)
        clinic.deliver()
        old = clinic.back_up()
        archive = archive_of(bucket)
        (key,) = keys_of(clinic, old)
        approve(clinic.box, study_of(clinic.box, GONE[0]).id)
        carry_out(clinic)
        archive.put_document(snapshot.key_key(old.name), key)
        assert standing.look(archive).disbelieved == 1
        approve(clinic.box, study_of(clinic.box, IMAGES[0]).id)
        carry_out(clinic)
        assert keys_of(clinic, old) == [snapshot.DESTROYED]


def test_the_rotation_takes_no_marked_backup_for_one_that_was_cut(
    disk: DestinationSettings, tmp_path: Path
) -> None:
    with clinic_in(tmp_path / "before", disk) as clinic:
        clinic.receive(IMAGES[0])
        made = [clinic.back_up(NOW - timedelta(days=days)) for days in (5, 4, 3)]
        mark(clinic, *made)
        with clinic.box.catalog.transaction() as tx:
            retention.watch_clock(tx, NOW, follows_time_server=True)
        clinic.back_up(NOW)
        assert len(keys_of(clinic, *made)) == 3
        assert len(standing.look(archive_of(disk)).names) == 4


def test_a_key_on_a_bad_spot_of_a_disk_is_neither_destroyed_nor_forged(
    disk: DestinationSettings, tmp_path: Path
) -> None:
    with clinic_in(tmp_path / "before", disk) as clinic:
        made = backed_up(clinic)
        mark(clinic, made[0])
        unreadable(tmp_path / "usb" / snapshot.key_key(made[0].name))
        there = standing.look(archive_of(disk))
        assert there == standing.Standing(tuple(each.name for each in made), frozenset(), 0)


def test_only_where_a_marker_lies_the_key_is_asked_for_and_for_a_list_once(
    bucket: DestinationSettings, the_cloud: Cloud, tmp_path: Path
) -> None:
    with clinic_in(tmp_path / "before", bucket) as clinic, line(the_cloud.port) as far:
        made = backed_up(clinic)
        place = replace(clinic.place, options={**clinic.place.options, "endpoint_url": far.url})
        archive = archive_of(place)
        assert len(standing.look(archive).names) == 3
        assert len(inventory.take(clinic.box, place).held) == 3
        assert far.count("GET", "/key") == 0
        archive.put_document(snapshot.key_key(made[0].name), snapshot.DESTROYED)
        mark(clinic, *made[:2])
        begun = far.count("GET", "/key")
        for _ in range(3):
            assert [each.index for each in inventory.take(clinic.box, place).held] == made[1:]
        assert far.count("GET", "/key") == begun + 2
        assert standing.look(archive).names == tuple(each.name for each in made[1:])
        assert far.count("GET", "/key") == begun + 4


def test_what_is_marked_and_has_no_key_is_destroyed_unasked() -> None:
    name = "20261125T203000Z-0123abcd"
    keys = [snapshot.index_key(name), snapshot.destroyed_key(name)]
    assert standing.to_ask(keys) == []
    assert standing.judge(keys, ()) == standing.Standing((), frozenset({name}), 0)
    found = standing.judge([*keys, snapshot.key_key(name)], [(name, lambda: ANY_KEY)])
    assert found == standing.Standing((name,), frozenset(), 1)
