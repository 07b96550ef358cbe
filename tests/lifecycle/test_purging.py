"""A study that two people have decided to destroy is gone: here, in the replica, in every backup; and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import audit, health
from appliance.backup import snapshot
from appliance.catalog import (
    copying,
    deliveries,
    destroyed_keys,
    destructions,
    holds,
    instances,
    obeying,
    studies,
    study_keys,
    tombstones,
    totals,
)
from appliance.catalog import destinations as places
from appliance.catalog.holds import HoldKind
from appliance.catalog.tombstones import PlaceState
from appliance.errors import Corrupt
from appliance.lifecycle import purging
from appliance.lifecycle.certificate import document as certificate_of
from appliance.lifecycle.request import State
from appliance.model import DestinationSettings
from appliance.replication import manifest
from appliance.replication.destinations import Archive, build, prepare
from appliance.store import envelope
from appliance.store.keys import RootKey
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic_in, contents
from tests.backup.test_restoring import bring_home, restore
from tests.boxes import box_in, recorded
from tests.lifecycle.purge import (
    GONE,
    LATER,
    MARKERS,
    Secrets,
    approve,
    carry_out,
    owed,
    secrets_of,
    study_of,
)
from tests.lifecycle.remains import clear_pages
from tests.replication.cloud import Cloud, cloud, settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def disk(tmp_path: Path) -> DestinationSettings:
    """A USB disk."""
    (tmp_path / "usb").mkdir()
    return prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))


@pytest.fixture(params=["disk", "bucket"])
def place(request: pytest.FixtureRequest, the_cloud: Cloud) -> DestinationSettings:
    if request.param == "bucket":
        return settings(the_cloud.url, the_cloud.new_bucket(versioned=True))
    found: DestinationSettings = request.getfixturevalue("disk")
    return found


@pytest.fixture
def clinic(tmp_path: Path, place: DestinationSettings) -> Iterator[Clinic]:
    with clinic_in(tmp_path / "before", place) as clinic:
        yield clinic


def archive_of(place: DestinationSettings) -> Archive:
    built = build(place, None)  # type: ignore[arg-type]
    assert isinstance(built, Archive)
    return built


def everything_in(archive: Archive) -> dict[str, bytes]:
    """What a restore could read: the latest version of each document and object."""
    prefixes = ("manifests/", "snapshots/", "kept/", "keys/", "objects/")
    return {each.key: archive.document(each.key) for prefix in prefixes for each in archive.documents(prefix)}


def readable_in(archive: Archive, root: RootKey, scratch: Path) -> bytes:
    """All that the root key opens in an archive: manifests, and the pages of every catalog in every backup."""
    found = everything_in(archive)
    clear = [
        repr(manifest.unseal(root, key, data)).encode()
        for key, data in found.items()
        if key.startswith("manifests/")
    ]
    names = {key.split("/")[1] for key in found if key.startswith("snapshots/")}
    for name in sorted(names):
        pieces = sorted(key for key in found if key.startswith(f"snapshots/{name}/0"))
        sealed = found.get(snapshot.key_key(name), snapshot.DESTROYED)
        if sealed == snapshot.DESTROYED:
            continue
        path = scratch / f"{name}.db"
        path.write_bytes(b"".join(found[key] for key in pieces))
        clear.append(clear_pages(path, root.unseal(sealed, snapshot.key_context(name))))
    return b"".join(clear)


def assert_unreadable(clear: bytes, secrets: Secrets) -> None:
    for marker in (*MARKERS, *secrets.bytes_):
        assert marker not in clear
    for each in secrets.bytes_:
        assert each.hex().encode() not in clear


def assert_no_key_opens(root: RootKey, box_keys: list[bytes], archive: Archive, secrets: Secrets) -> None:
    """Ciphertext may lie in a bucket for ever: nothing that is left opens it."""
    for object_id in secrets.objects:
        try:
            sealed = archive.document(f"objects/{object_id[:2]}/{object_id}.sealed")
        except Exception:  # noqa: BLE001 - removed altogether is as good
            continue
        for key in [*box_keys, root.derive("catalog"), root.derive("intake"), bytes(32)]:
            opener = envelope.Opener(key, object_id.encode(), sealed[: envelope.HEADER_BYTES])
            first = sealed[envelope.HEADER_BYTES : envelope.SEGMENT_BYTES]
            with pytest.raises(Corrupt):
                opener.open_segment(0, first, last=len(sealed) <= envelope.SEGMENT_BYTES)


def test_a_purged_patient_is_unreadable_here_in_the_replica_and_in_every_backup(
    clinic: Clinic, tmp_path: Path
) -> None:
    box = clinic.box
    clinic.receive(*IMAGES, *GONE)
    clinic.deliver()
    old = clinic.back_up()
    secrets = secrets_of(box, GONE[0])
    archive = archive_of(clinic.place)
    before = readable_in(archive, box.root, tmp_path)
    assert all(each in before for each in (b"Zzyzxmarker", b"GONE-77", secrets.bytes_[0])), "the test can see"
    request = approve(box, secrets.row.id)
    carry_out(clinic)

    with box.catalog.reading() as conn:
        assert destructions.request(conn, request).state is State.CARRIED_OUT
        (certificate,) = tombstones.certificates(conn)
        assert certificate.completed_utc is not None
        (done,) = tombstones.places(conn, certificate.id)
        assert (done.state, done.detail["older"]) == (PlaceState.DONE, 1)
        found = tombstones.was_destroyed(conn, GONE[0].study_instance_uid)
        assert found is not None
        assert (found[0], found[1].instances) == (certificate, 3)
        assert studies.study_by_id(conn, secrets.row.id) is None
        assert conn.exec_driver_sql("SELECT count(*) FROM patients").scalar() == 2
        kept = totals.totals(conn)
        assert (kept.studies, kept.instances) == (4, 11)
        assert audit.verify(conn, box.audit_key, None) == []
        told = [row for row in audit.export(conn) if row["action"] == "study:destroy"]
    assert [json.loads(each["details"])["certificate"] for each in told] == [certificate.label]
    assert contents(box) == as_sent(*IMAGES), "other studies are untouched"

    assert_unreadable(clear_pages(tmp_path / "before" / "catalog.db", box.root.derive("catalog")), secrets)
    for object_id in secrets.objects:
        assert not list((tmp_path / "before" / "objects").rglob(f"{object_id}*"))
    assert_unreadable(readable_in(archive, box.root, tmp_path), secrets)
    everything = everything_in(archive)
    if clinic.place.kind == "vault":
        assert not [key for key in everything if old.name in key or any(o in key for o in secrets.objects)]
    else:
        assert everything[snapshot.key_key(old.name)] == snapshot.DESTROYED

    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert restored.snapshot is not None
    assert restored.snapshot.name != old.name
    with box_in(tmp_path / "after") as after:
        bring_home(after)
        assert contents(after) == as_sent(*IMAGES)
        with after.catalog.reading() as conn:
            keys = [
                after.study_keys.key(key_id)
                for key_id, _, _ in study_keys.under_earlier(conn, 2**32 - 1, 100)
            ]
            assert study_keys.destroyed_among(conn, secrets.keys) == set(secrets.keys)
        assert_no_key_opens(after.root, keys, archive, secrets)


def test_a_backup_from_before_does_not_bring_a_study_back_whose_tombstone_lies_there(
    clinic: Clinic, tmp_path: Path
) -> None:
    """Cut between tombstone and older backups: the older backup still opens, and the tombstone undoes it."""
    clinic.receive(*IMAGES, *GONE)
    clinic.deliver()
    clinic.back_up()
    secrets = secrets_of(clinic.box, GONE[0])
    approve(clinic.box, secrets.row.id)
    purging.carry_out(clinic.box, LATER)
    clinic.deliver_until(lambda: not owed(clinic))
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert restored.snapshot is not None
    assert (restored.studies, restored.instances) == (4, 11)
    with box_in(tmp_path / "after") as after:
        bring_home(after)
        assert contents(after) == as_sent(*IMAGES)
        with after.catalog.reading() as conn:
            assert study_keys.destroyed_among(conn, secrets.keys) == set(secrets.keys)
            assert any(row["action"] == "study:destroy" for row in audit.export(conn))


def test_manifests_alone_do_not_bring_it_back_either(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES, *GONE)
    clinic.deliver()
    approve(clinic.box, study_of(clinic.box, GONE[0]).id)
    purging.carry_out(clinic.box, LATER)
    clinic.deliver_until(lambda: not owed(clinic))
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert (restored.snapshot, restored.studies, restored.instances) == (None, 4, 11)
    assert restored.rebuilt.damaged == 0


def test_images_that_are_sent_again_are_a_new_study_under_a_new_key(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*GONE)
    clinic.deliver()
    secrets = secrets_of(clinic.box, GONE[0])
    approve(clinic.box, secrets.row.id)
    purging.carry_out(clinic.box, LATER)
    clinic.receive(*GONE)  # before the archive has heard of anything
    clinic.deliver()
    carry_out(clinic)
    assert contents(clinic.box) == as_sent(*GONE)
    assert not set(secrets_of(clinic.box, GONE[0]).keys) & set(secrets.keys)
    with clinic.box.catalog.reading() as conn:
        (certificate,) = tombstones.certificates(conn)
        back = [row for row in audit.export(conn) if row["action"] == "study:return"]
    assert [(each["subject"], each["study"]) for each in back] == [
        (certificate.label, GONE[0].study_instance_uid)
    ]
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert restored.instances == 3
    with box_in(tmp_path / "after") as after:
        bring_home(after)
        assert contents(after) == as_sent(*GONE), "what was sent again is not lost by a tombstone"


# --- on this box -----------------------------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path, disk: DestinationSettings) -> Iterator[Clinic]:
    """The same with a disk, which is quick."""
    with clinic_in(tmp_path / "before", disk) as clinic:
        yield clinic


def test_a_held_study_is_not_destroyed_even_when_the_hold_came_after_the_approval(local: Clinic) -> None:
    local.receive(*GONE)
    study = study_of(local.box, GONE[0])
    approve(local.box, study.id)
    with local.box.catalog.transaction() as tx:
        holds.add(
            tx,
            kind=HoldKind.LEGAL,
            study=study.id,
            whole_patient=False,
            reason="file 12",
            by="marie",
            now=datetime.now(UTC),
        )
    assert purging.carry_out(local.box, LATER) == 0
    assert contents(local.box) == as_sent(*GONE)
    with local.box.catalog.reading() as conn:
        assert tombstones.certificates(conn) == []
        owed = [each.state for each in deliveries.list_deliveries(conn, limit=10)]
    assert owed == ["PENDING"] * 3, "what stays goes on being copied"


def test_a_tombstone_in_an_archive_does_not_destroy_what_is_held_here(local: Clinic) -> None:
    local.receive(*GONE)
    study = study_of(local.box, GONE[0])
    keys = tuple(secrets_of(local.box, GONE[0]).keys)
    told = [destroyed_keys.Tombstone(keys, "D-1", LATER)]
    with local.box.catalog.transaction() as tx:
        held = holds.add(
            tx,
            kind=HoldKind.LEGAL,
            study=study.id,
            whole_patient=True,
            reason="file 12",
            by="marie",
            now=datetime.now(UTC),
        )
        assert obeying.obey(tx, "ab" * 16, told, LATER) == ()
    assert contents(local.box) == as_sent(*GONE)
    with local.box.catalog.transaction() as tx:
        holds.release(tx, held.id, reason="over", by="marie", now=LATER)
        assert [each.study for done in obeying.obey(tx, "ab" * 16, told, LATER) for each in done.erased] == [
            study.id
        ]


def test_an_image_on_its_way_is_waited_for(local: Clinic) -> None:
    local.receive(*GONE)
    box, now = local.box, datetime.now(UTC)
    approve(box, study_of(box, GONE[0]).id)
    with box.catalog.transaction() as tx:
        (claimed,) = deliveries.claim(tx, local.place.id, now=now, lease_seconds=60, limit=1)
    assert purging.carry_out(box, LATER) == 0
    with box.catalog.transaction() as tx:
        states = [each.state for each in deliveries.list_deliveries(tx, limit=10)]
        assert sorted(states) == ["PENDING", "PENDING", "SENDING"], "the request may yet be withdrawn"
        deliveries.fail(tx, claimed.id, claimed.attempts, reason="the receiver will not have it", now=now)
    assert purging.carry_out(box, LATER) == 1


def test_a_patient_with_another_study_stays_and_who_is_only_named_by_an_image_does_not(local: Clinic) -> None:
    from tests.instances import Instance

    first = Instance(1, study=1, patient_id="A", patient_name="Amsel^Anna")
    stranger = Instance(2, study=1, patient_id="B", patient_name="Buchfink^Bob")
    other = Instance(3, study=2, patient_id="A", patient_name="Amsel^Anna")
    local.receive(first, stranger, other)
    approve(local.box, study_of(local.box, first).id)
    assert purging.carry_out(local.box, LATER) == 1
    with local.box.catalog.reading() as conn:
        left = conn.exec_driver_sql("SELECT patient_id FROM patients").scalars().all()
    assert left == ["A"]
    assert contents(local.box) == as_sent(other)


def test_what_was_given_away_in_clear_is_told(local: Clinic) -> None:
    box, now = local.box, datetime.now(UTC)
    with box.catalog.transaction() as tx:
        pacs = places.add(
            tx,
            DestinationSettings(
                "pacs", "dicom", "dicom", {"address": "127.0.0.1", "port": 104, "ae_title": "PACS"}
            ),
        )
    local.receive(*GONE)
    study = study_of(box, GONE[0])
    with box.catalog.transaction() as tx:
        for row in instances.instances_of_study(tx, study.study_instance_uid)[:2]:
            deliveries.hold(tx, pacs, row.id, {"status": "0000"}, now)
        export = audit.Entry("study:export", f"study:{study.id}", "marie", study=study.study_instance_uid)
        audit.append(tx, box.audit_key, [export], now)
    approve(box, study.id)
    purging.carry_out(box, LATER)
    with box.catalog.reading() as conn:
        (told,) = tombstones.studies_of(conn, tombstones.certificates(conn)[0].id)
        assert totals.confirmed(conn)[pacs] == 0
    assert (told.elsewhere, told.exports) == ({"pacs": 2}, 1)


def problems(clinic: Clinic, now: datetime) -> set[str]:
    return {each.code for each in health.status(clinic.box, now).problems}


def test_an_archive_that_is_away_owes_its_part_and_one_that_was_removed_is_given_up(
    local: Clinic, tmp_path: Path
) -> None:
    local.receive(*GONE)
    local.deliver()
    local.back_up()
    approve(local.box, study_of(local.box, GONE[0]).id)
    (tmp_path / "usb").rename(tmp_path / "taken home")
    purging.carry_out(local.box, LATER)
    with local.box.catalog.reading() as conn:
        (certificate,) = tombstones.certificates(conn, unfinished=True)
        (place,) = tombstones.places(conn, certificate.id)
        assert (place.state, certificate.completed_utc) == (PlaceState.OWED, None)
        assert tombstones.owed(conn, local.place.id, 10)
    assert "destruction-waits" not in problems(local, LATER + timedelta(days=8))
    assert "destruction-waits" in problems(local, LATER + timedelta(days=9)), (
        "nobody opens its certificate to see"
    )
    with local.box.catalog.transaction() as tx:
        places.remove(tx, "usb", datetime.now(UTC))
    purging.carry_out(local.box, LATER)
    with local.box.catalog.reading() as conn:
        (certificate,) = tombstones.certificates(conn)
        (place,) = tombstones.places(conn, certificate.id)
    assert place.state is PlaceState.GIVEN_UP
    assert certificate.completed_utc is not None
    assert "destruction-waits" not in problems(local, LATER + timedelta(days=9))


def test_older_backups_stay_while_the_newest_does_not_pass_its_drill(local: Clinic, tmp_path: Path) -> None:
    local.receive(*IMAGES[:3], *GONE)
    local.deliver()
    old = local.back_up()
    approve(local.box, study_of(local.box, GONE[0]).id)
    purging.carry_out(local.box, LATER)
    local.deliver_until(lambda: not owed(local))
    kept = recorded(local.box)[0]
    whole = tmp_path / "usb" / "objects" / kept.object_id[:2] / f"{kept.object_id}.sealed"
    data = whole.read_bytes()
    whole.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    purging.carry_out(local.box, LATER)
    with local.box.catalog.reading() as conn:
        (certificate,) = tombstones.certificates(conn, unfinished=True)
        (place,) = tombstones.places(conn, certificate.id)
        told = certificate_of(conn, certificate, LATER)
    assert place.state is PlaceState.LAID
    assert "did not pass" in place.reason
    assert [each["waits_for"] for each in told["archives"]] == [place.reason], "and the paper says so"
    assert (tmp_path / "usb" / "snapshots" / old.name / "key").exists()
    whole.write_bytes(data)
    carry_out(local)
    assert not (tmp_path / "usb" / "snapshots" / old.name).exists()


# --- cut -------------------------------------------------------------------------------------------------------------


class Cut(BaseException):
    """The power failed."""


@contextmanager
def reopened(data: Path, place: DestinationSettings, clinic: Clinic) -> Iterator[Clinic]:
    with box_in(data) as box:
        yield Clinic(box, place, clinic.paper)


def test_a_purge_cut_at_every_step_is_finished_and_never_half_visible(
    tmp_path: Path, disk: DestinationSettings
) -> None:
    data = tmp_path / "before"
    with clinic_in(data, disk) as clinic:
        clinic.receive(*IMAGES[:4], *GONE)
        clinic.deliver()
        clinic.back_up()
        secrets = secrets_of(clinic.box, GONE[0])
        approve(clinic.box, secrets.row.id)
        place = clinic.place
    steps: list[str] = []
    cut_at = 0
    while True:
        seen: list[str] = []

        def reached(word: str, seen: list[str] = seen, at: int = cut_at) -> None:
            seen.append(word)
            if len(seen) > at:
                raise Cut

        with reopened(data, place, clinic) as again:
            try:
                purging.carry_out(again.box, LATER, purging.Around(reached=reached))
                finished = not owed(again)
            except Cut:
                finished = False
            with again.box.catalog.reading() as conn:
                left = totals.totals(conn).instances
                assert left in {4, 7}, "all of the study, or nothing"
                found = studies.study_by_id(conn, secrets.row.id)
                assert (found is None) is (left == 4)
                assert (study_keys.destroyed_among(conn, secrets.keys) == set()) is (left == 7)
            again.deliver_until(lambda again=again: not owed(again))  # type: ignore[misc]
        steps += seen
        if finished:
            break
        # each start goes one step further than the one before, and then begins again
        cut_at = 0 if steps[-1:] and len(seen) <= cut_at else cut_at + 1
        assert len(steps) < 200
    assert {
        "destroying",
        "destroyed",
        "objects removed",
        "no remains",
        "backup made",
        "drill passed",
        "backup destroyed",
        "archive done",
    } <= set(steps)
    with reopened(data, place, clinic) as again:
        carry_out(again)
        assert contents(again.box) == as_sent(*IMAGES[:4])
        assert_unreadable(clear_pages(data / "catalog.db", again.box.root.derive("catalog")), secrets)
        assert_unreadable(readable_in(archive_of(place), again.box.root, tmp_path), secrets)


# --- races -----------------------------------------------------------------------------------------------------------


def test_an_image_that_was_sealed_while_its_study_was_destroyed_is_kept_under_another_key(
    local: Clinic,
) -> None:
    """The receiving process remembers the study's key; what it has acknowledged is not lost, and the old key stays dead."""
    from appliance.ingest import Reception
    from tests.boxes import send

    reception = Reception(local.box, "worker")
    try:
        send(reception, GONE[0])
        from tests.backup.conftest import eventually

        eventually(lambda: bool(recorded(local.box)))
        secrets = secrets_of(local.box, GONE[0])
        approve(local.box, secrets.row.id)
        with local.box.catalog.transaction() as tx:
            from appliance.catalog import erasure

            erasure.erase(tx, secrets.row.id, datetime.now(UTC))
        for each in GONE[1:]:  # small by the log, large by a part
            send(reception, each)
    finally:
        reception.close()
    assert contents(local.box) == as_sent(*GONE[1:])
    rows = recorded(local.box)
    assert not {each.key_id for each in rows} & set(secrets.keys)
    held = {path.stem for path in local.box.objects.root.glob("??/*.sealed")}
    assert {each.object_id for each in rows} <= held
    assert not [*local.box.objects.parts.glob("*/*")]


def test_a_manifest_that_was_read_before_the_destruction_does_not_stay(local: Clinic) -> None:
    local.receive(*GONE)
    local.deliver()
    box = local.box
    name = manifest.key(box.root, GONE[0].study_instance_uid)
    archive = archive_of(local.place)
    alive = archive.document(name)
    approve(box, study_of(box, GONE[0]).id)
    purging.carry_out(box, LATER)
    archive.put_document(name, alive)  # as a lane that was slow would
    local.deliver_until(lambda: not owed(local))
    told = manifest.unseal(box.root, name, archive.document(name))
    assert (told["instances"], told["study_keys"], told["patients"]) == ([], [], [])
    assert manifest.tombstones(told)


def test_a_copy_of_the_catalog_holds_no_remains(local: Clinic, tmp_path: Path) -> None:
    local.receive(*IMAGES, *GONE)
    secrets = secrets_of(local.box, GONE[0])
    approve(local.box, secrets.row.id)
    purging.carry_out(local.box, LATER)
    key = bytes(range(32))
    copying.copy(local.box.catalog, tmp_path / "pages.db", key, lambda _: None, lambda: None)
    copying.rewrite(tmp_path / "pages.db", key, tmp_path / "rows.db", lambda: None)
    assert_unreadable(clear_pages(tmp_path / "rows.db", key), secrets)


def test_a_tombstone_takes_no_study_that_has_got_images_since(local: Clinic) -> None:
    local.receive(*GONE)
    secrets = secrets_of(local.box, GONE[0])
    old = destroyed_keys.Tombstone(secrets.keys, "D-2020-0001-ab", datetime.now(UTC) - timedelta(days=1))
    with local.box.catalog.transaction() as tx:
        assert obeying.obey(tx, "manifests/x.sealed", [old], datetime.now(UTC)) == ()
        assert study_keys.destroyed_among(tx, secrets.keys) == set()
    assert contents(local.box) == as_sent(*GONE)
