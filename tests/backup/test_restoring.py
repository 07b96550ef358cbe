"""A blank box, the paper and one archive: everything is there again, whatever was cut, damaged or mistyped on the way."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance import audit, identity
from appliance import settings as operator_settings
from appliance.backup import choice, homecoming, restoring, snapshot
from appliance.backup.restoring import Restored
from appliance.box import Box
from appliance.catalog import deliveries, destinations, people, settings
from appliance.errors import Corrupt, OperatorNeeded, Refused
from appliance.fleet import consent
from appliance.model import DestinationSettings
from appliance.replication import recall
from appliance.replication.destinations import Archive, build
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from tests.backup.conftest import IMAGES, Clinic, as_sent, contents
from tests.boxes import box_in, config_in, recorded
from tests.instances import Instance
from tests.web.conftest import add_owner

pytestmark = pytest.mark.slow


def archive_of(place: DestinationSettings) -> Archive:
    built = build(place, None)  # type: ignore[arg-type]
    assert isinstance(built, Archive)
    return built


def restore(
    data: Path, place: DestinationSettings, paper: RecoveryKey, archive: Archive | None = None
) -> Restored:
    return restoring.restore(
        config_in(data), archive or archive_of(place), place, paper, tell=lambda *_: None, actor="tests"
    )


def bring_home(box: Box, most: int = 4) -> None:
    for _ in range(100):
        homecoming.bringing_home(box, datetime.now(UTC), keep_going=lambda: True, most=most)
        with box.catalog.reading() as conn:
            if settings.get(conn, homecoming.LAST)["home"]:
                return
    raise AssertionError("the images do not come home")


def test_a_blank_box_and_the_paper_are_the_box_again(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    made = clinic.back_up()
    before = contents(clinic.box)
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert restored.snapshot == made
    assert (restored.studies, restored.instances, restored.damaged_snapshots) == (4, 11, 0)
    with box_in(tmp_path / "after") as box:
        rows = recorded(box)
        assert not any(recall.is_here(box, row.object_id) for row in rows), "metadata first"
        with recall.open_object(box, rows[0].object_id, rows[0].key_id, rows[0].sealed_bytes) as reader:
            assert reader.read(132)[128:] == b"DICM"
        bring_home(box)
        assert contents(box) == before == as_sent(*IMAGES)
        with box.catalog.reading() as conn:
            assert audit.verify(conn, box.audit_key, None) == []
            actions = [row["action"] for row in audit.export(conn)]
        assert actions.count("instance:receive") == 11
        assert actions[-1] == "backup:restore"
    assert not (tmp_path / "after" / "restoring").exists()


def test_a_restored_box_sends_no_heartbeat_before_somebody_agrees_again(
    clinic: Clinic, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    address = {"heartbeat.address": "https://fleet.example.ca/heartbeats"}
    with clinic.box.catalog.transaction() as tx:
        operator_settings.change(
            tx, clinic.box.audit_key, address, actor="tests", now=now, root=clinic.box.root
        )
        consent.agree(tx, consent.terms(tx), "tests", now)
    clinic.receive(*IMAGES[:1])
    clinic.deliver()
    clinic.back_up()
    with clinic.box.catalog.transaction() as tx:
        assert consent.withdraw(tx)
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box, box.catalog.reading() as conn:
        assert consent.address(conn) == address["heartbeat.address"]
        assert consent.given(conn) is None
        assert consent.standing(conn) is None
        actions = [row["action"] for row in audit.export(conn)]
    assert actions[-2:] == ["backup:restore", "heartbeat:withdraw"]


def test_what_came_after_the_snapshot_comes_by_its_manifests(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES[:5])
    clinic.deliver()
    clinic.back_up()
    clinic.receive(*IMAGES[5:])
    clinic.deliver()
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert (restored.instances, restored.rebuilt.instances) == (11, 6)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)
        with box.catalog.reading() as conn:
            rows = deliveries.list_deliveries(conn, limit=100)
        assert {row.state for row in rows} == {"CONFIRMED"}
        assert len(rows) == 11


def test_without_any_snapshot_the_manifests_alone_are_enough(clinic: Clinic, tmp_path: Path) -> None:
    twice = Instance(3, study=1, pixel_bytes=3_000, variant=1)
    clinic.receive(*IMAGES, twice)
    clinic.deliver()
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert restored.snapshot is None
    assert (restored.studies, restored.instances) == (4, 12)
    with box_in(tmp_path / "after") as box, box.catalog.reading() as conn:
        (place,) = destinations.destinations(conn)
        assert (place.kind, place.options) == (clinic.place.kind, clinic.place.options)
        bring_home(box)
        rows = recorded(box)
        assert sorted(row.version for row in rows) == [0] * 11 + [1]
        before = {
            (row.object_id, row.sop_instance_uid, row.version, row.received_utc)
            for row in recorded(clinic.box)
        }
        assert {
            (row.object_id, row.sop_instance_uid, row.version, row.received_utc) for row in rows
        } == before


def test_a_second_restore_finds_nothing_new(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with pytest.raises(Refused, match="not blank"):
        restore(tmp_path / "after", clinic.place, clinic.paper)
    with pytest.raises(Refused, match="not blank"):
        restore(tmp_path / "before", clinic.place, clinic.paper)


# --- cut -------------------------------------------------------------------------------------------------------------


class Cut(Exception):
    """The power failed."""


class Failing:
    """An archive whose box dies at the n-th call; `reads_at_once` documents are asked for by threads of their own."""

    def __init__(self, archive: Archive, calls: int, reads_at_once: int = 1) -> None:
        self._archive = archive
        self._left = calls
        self.reads_at_once = reads_at_once

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Cut

    def put_document(self, key: str, data: bytes) -> None:
        self._count()
        self._archive.put_document(key, data)

    def document(self, key: str) -> bytes:
        self._count()
        return self._archive.document(key)

    def documents(self, prefix: str) -> Any:
        self._count()
        yield from self._archive.documents(prefix)

    def blocks(self, key: str) -> Any:
        self._count()
        yield from self._archive.blocks(key)


@pytest.mark.parametrize("reads_at_once", [1, 3])
def test_a_restore_cut_at_any_call_goes_on_to_the_end(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads_at_once: int
) -> None:
    monkeypatch.setattr(snapshot, "PIECE_BYTES", 64 << 10)
    clinic.receive(*IMAGES[:8])
    clinic.deliver()
    clinic.back_up()
    clinic.receive(*IMAGES[8:])
    clinic.deliver()
    archive, data = archive_of(clinic.place), tmp_path / "after"
    for calls in range(200):
        try:
            restored = restore(data, clinic.place, clinic.paper, Failing(archive, calls, reads_at_once))
        except Cut:
            continue
        break
    else:
        raise AssertionError("it never came to an end")
    assert calls > 5, "it was cut at hardly any step"
    assert restored.instances == 11
    with box_in(data) as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)


STEPS: list[tuple[str, str]] = [
    ("appliance.backup.restoring.os.replace", "before the catalog has its name"),
    ("appliance.backup.restoring.restore_keys", "between the catalog and the keys"),
    ("appliance.backup.restoring.open_box", "after the keys"),
    ("appliance.backup.rebuilding.rebuild", "before what came after"),
    ("appliance.backup.restoring._finish", "before the end is written down"),
]


@pytest.mark.parametrize(("step", "when"), STEPS)
def test_a_restore_cut_while_the_box_is_put_in_place_goes_on(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    clinic.receive(*IMAGES[:3])
    clinic.deliver()
    clinic.back_up()

    def cut(*arguments: object, **named: object) -> None:
        raise Cut(when)

    with monkeypatch.context() as patched:
        patched.setattr(step, cut)
        with pytest.raises(Cut):
            restore(tmp_path / "after", clinic.place, clinic.paper)
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert restored.instances == 3
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES[:3])


def cut(*arguments: object) -> None:
    raise Cut


def test_a_box_that_begins_while_a_restore_is_cut_is_blank_and_is_replaced(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    clinic.back_up()
    with monkeypatch.context() as patched:
        patched.setattr("appliance.backup.restoring.restore_keys", cut)
        with pytest.raises(Cut):
            restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        assert recorded(box) == []
        blank = box.root
    assert restore(tmp_path / "after", clinic.place, clinic.paper).instances == 2
    with box_in(tmp_path / "after") as box:
        assert box.root == clinic.box.root != blank
    assert not (tmp_path / "after" / "replaced").exists()


def test_an_attempt_that_was_cut_begins_anew_from_another_box_s_archive(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.backup.conftest import clinic_in

    clinic.receive(*IMAGES[:3])
    clinic.deliver()
    clinic.back_up()
    (tmp_path / "other usb").mkdir()
    elsewhere = DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "other usb")})
    with clinic_in(tmp_path / "other box", elsewhere) as other:
        made = other.back_up()
        with monkeypatch.context() as patched:
            patched.setattr("appliance.backup.restoring.restore_keys", cut)
            with pytest.raises(Cut):
                restore(tmp_path / "after", clinic.place, clinic.paper)
        restored = restore(tmp_path / "after", other.place, other.paper)
        assert (restored.snapshot, restored.instances) == (made, 0)
        with box_in(tmp_path / "after") as box:
            assert box.root == other.box.root


def test_another_archive_of_the_same_box_finishes_an_attempt_that_was_cut(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.receive(*IMAGES[:3])
    clinic.deliver()
    made = clinic.back_up()
    with monkeypatch.context() as patched:
        patched.setattr("appliance.backup.restoring.open_box", cut)
        with pytest.raises(Cut):
            restore(tmp_path / "after", clinic.place, clinic.paper)
    shutil.copytree(tmp_path / "usb", tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "snapshots")  # this one has manifests only
    other = DestinationSettings("copy", "vault", "ciphertext", {"path": str(tmp_path / "copy")})
    restored = restore(tmp_path / "after", other, clinic.paper)
    assert (restored.snapshot, restored.instances) == (made, 3)


def test_nobody_sees_the_restored_box_before_the_old_sessions_are_ended(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor that starts in the middle of a restore must not let a cookie of the lost box in."""
    add_owner(clinic.box)
    with clinic.box.catalog.transaction() as tx:
        person = people.people(tx)[0]
        cookie = identity.open_session(
            tx, person.id, address="", agent="", now=datetime.now(UTC), proof=identity.Proof.PASSWORD
        )
    clinic.back_up()
    looked: list[bool] = []
    finish = restoring._finish

    def looking(*arguments: Any) -> Restored:
        with box_in(tmp_path / "after") as box, box.catalog.reading() as conn:
            looked.append(people.anybody(conn))
        return finish(*arguments)

    monkeypatch.setattr(restoring, "_finish", looking)
    restore(tmp_path / "after", clinic.place, clinic.paper)
    assert looked == [False]
    with box_in(tmp_path / "after") as box, box.catalog.reading() as conn:
        assert people.session(conn, identity.digest(cookie)) is None
        assert people.person(conn, person.login) is not None


# --- wrong -----------------------------------------------------------------------------------------------------------


def test_a_mistyped_key_is_told_from_another_box_s(clinic: Clinic, tmp_path: Path) -> None:
    clinic.back_up()
    printed = str(clinic.paper)
    mistyped = printed[:7] + ("2" if printed[7] != "2" else "3") + printed[8:]
    with pytest.raises(Refused, match="group 2 of the recovery key is mistyped"):
        RecoveryKey.parse(mistyped)
    with pytest.raises(Refused, match="this is a recovery key, but none that opens this archive"):
        restore(tmp_path / "after", clinic.place, RecoveryKey.generate())
    assert not (tmp_path / "after" / "keys").exists()


def test_an_archive_that_was_away_when_a_key_was_issued_asks_for_the_one_before(
    clinic: Clinic, tmp_path: Path
) -> None:
    """The newest printed key is this clinic's: who has typed it is not told that it is another box's, nor sent to look for it."""
    clinic.receive(*IMAGES[:1])
    clinic.deliver()
    clinic.back_up()
    folder = clinic.box.config.data / "keys"
    newest = keys.rotate(folder, clinic.box.root)
    keys.check_recovery(folder, clinic.box.root, str(newest))
    with pytest.raises(Refused) as refusal:
        restore(tmp_path / "after", clinic.place, newest)
    assert "not this box's" not in refusal.value.message
    assert refusal.value.hint == (
        "try every recovery key that this clinic has printed: an archive that was away when a new one was issued opens with the one before"
    )
    assert restore(tmp_path / "after", clinic.place, clinic.paper).instances == 1


def test_a_snapshot_of_newer_software_is_refused_with_its_version(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("appliance.backup.making.REVISION", "9999")
        patched.setattr("appliance.backup.making.__version__", "7.1.0")
        clinic.back_up()
    with pytest.raises(OperatorNeeded, match=r"newer software \(7\.1\.0\)") as refusal:
        restore(tmp_path / "after", clinic.place, clinic.paper)
    assert "7.1.0" in refusal.value.hint
    assert not (tmp_path / "after" / "keys").exists()


@pytest.mark.parametrize("which", ["index", "000000"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_snapshot_is_said_and_the_one_before_it_is_taken(
    clinic: Clinic, tmp_path: Path, which: str, how: str
) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    older = clinic.back_up(datetime.now(UTC) - timedelta(hours=2))
    newer = clinic.back_up()
    path = tmp_path / "usb" / "snapshots" / newer.name / which
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.unlink() if how == "gone" else path.write_bytes(data if how == "flipped" else data[:-7])
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert restored.snapshot == older
    assert restored.damaged_snapshots == (0 if (which, how) == ("index", "gone") else 1)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)


def test_a_damaged_manifest_or_object_holds_up_nothing_else(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    (first, *_) = sorted((tmp_path / "usb" / "manifests").iterdir())
    first.write_bytes(first.read_bytes()[:-1])
    restored = restore(tmp_path / "after", clinic.place, clinic.paper)
    assert restored.rebuilt.damaged == 1
    assert restored.studies == 3
    with box_in(tmp_path / "after") as box:
        (row, *rest) = recorded(box)
        copy = tmp_path / "usb" / "objects" / row.object_id[:2] / f"{row.object_id}.sealed"
        copy.write_bytes(copy.read_bytes()[:-1])
        with pytest.raises(Corrupt):
            recall.recall(box, row.object_id, row.key_id, row.sealed_bytes)
        bring_home(box)
        assert not recall.is_here(box, row.object_id), "what is not whole never becomes an object"
        assert all(recall.is_here(box, each.object_id) for each in rest)
        with box.catalog.reading() as conn:
            assert settings.get(conn, homecoming.LAST)["missing"] == 1
        assert box.objects.abandoned_parts() == []


def test_an_empty_place_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    place = DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")})
    with pytest.raises(OperatorNeeded, match="holds nothing of a box"):
        restore(tmp_path / "after", place, RecoveryKey.generate())


def test_old_backups_open_after_any_number_of_rotations(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    clinic.back_up(datetime.now(UTC) - timedelta(days=3))
    papers = [clinic.paper]
    folder = tmp_path / "before" / "keys"
    keys.check_recovery(folder, clinic.box.root, str(clinic.paper))
    for days in (2, 1, 0):
        paper = keys.rotate(folder, clinic.box.root)
        keys.check_recovery(folder, clinic.box.root, str(paper))
        papers.append(paper)
        clinic.back_up(datetime.now(UTC) - timedelta(days=days))
    (tmp_path / "usb" / "keys" / "root.recovery").unlink()
    for number, paper in enumerate(papers):
        assert restore(tmp_path / f"after-{number}", clinic.place, paper).instances == 2


def test_a_wrong_clock_at_the_backup_hides_nothing_that_came_after(clinic: Clinic, tmp_path: Path) -> None:
    clinic.receive(*IMAGES[:4])
    clinic.deliver()
    clinic.back_up(datetime.now(UTC) + timedelta(hours=3))
    clinic.receive(*IMAGES[4:])
    clinic.deliver()
    assert restore(tmp_path / "after", clinic.place, clinic.paper).instances == 11


def test_a_disk_at_another_mount_point_is_the_same_archive(clinic: Clinic, tmp_path: Path) -> None:
    from dataclasses import replace

    clinic.receive(*IMAGES[:3])
    clinic.deliver()
    clinic.back_up()
    (tmp_path / "usb").rename(tmp_path / "usb1")
    moved = replace(clinic.place, options={**clinic.place.options, "path": str(tmp_path / "usb1")})
    restore(tmp_path / "after", moved, clinic.paper)
    with box_in(tmp_path / "after") as box:
        with box.catalog.reading() as conn:
            (place,) = destinations.destinations(conn)
        assert place.options["path"] == str(tmp_path / "usb1")
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES[:3])


def test_an_image_that_came_after_the_snapshot_is_still_owed_elsewhere(
    clinic: Clinic, tmp_path: Path
) -> None:
    from appliance.catalog import rules
    from appliance.model import Rule

    with clinic.box.catalog.transaction() as tx:
        pacs = DestinationSettings("pacs", "folder", "dicom", {"path": str(tmp_path / "pacs")}, paused=True)
        rules.add_rule(tx, Rule(destinations.add(tx, pacs), "pacs", "dicom"))
        destinations.pause(tx, "pacs")
    clinic.back_up()
    clinic.receive(IMAGES[0])

    def at_the_vault() -> bool:
        with clinic.box.catalog.reading() as conn:
            dirty = conn.exec_driver_sql(
                "SELECT count(*) FROM manifests WHERE dirty_utc IS NOT NULL"
            ).scalar()
            rows = deliveries.list_deliveries(conn, destination="usb", limit=10)
        return {row.state for row in rows} == {"CONFIRMED"} and not dirty

    clinic.deliver_until(at_the_vault)
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box, box.catalog.reading() as conn:
        owed = {row.destination: str(row.state) for row in deliveries.list_deliveries(conn, limit=10)}
    assert owed == {"usb": "CONFIRMED", "pacs": "PENDING"}


def test_everything_that_a_header_says_comes_back_by_the_manifest() -> None:
    import inspect
    from dataclasses import fields

    from appliance.model import Header
    from appliance.replication import retold

    source = inspect.getsource(retold._received)
    assert [each.name for each in fields(Header) if f"{each.name}=" not in source] == []


def test_another_box_s_archive_is_not_taken_over(clinic: Clinic, tmp_path: Path) -> None:
    """Somebody sets up a new box on the old one's disk: what would bring the old one back must not be written over."""
    from tests.backup.conftest import clinic_in, eventually

    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    slot = (tmp_path / "usb" / "keys" / "root.recovery").read_bytes()
    lay_there = {each.name for each in (tmp_path / "usb").rglob("*") if each.is_file()}
    with clinic_in(tmp_path / "new box", clinic.place) as other:
        other.receive(IMAGES[5])

        def refused() -> bool:
            with other.box.catalog.reading() as conn:
                (health,) = destinations.health(conn)
            return "another box" in health.breaker.reason

        other.deliver_until(refused)
        with other.box.catalog.reading() as conn:
            receipts = conn.exec_driver_sql(
                "SELECT count(*) FROM deliveries WHERE receipt IS NOT NULL"
            ).scalar()
        assert receipts == 0, "another box's archive gave a receipt, by which an image could leave this disk"
        assert {each.name for each in (tmp_path / "usb").rglob("*") if each.is_file()} == lay_there
    eventually(lambda: (tmp_path / "usb" / "keys" / "root.recovery").read_bytes() == slot)
    assert restore(tmp_path / "after", clinic.place, clinic.paper).instances == 2


def test_what_another_archive_holds_besides_is_kept_aside_after_a_restore(
    clinic: Clinic, tmp_path: Path
) -> None:
    """A box restored from one archive does not know what only the other one got; its keys must not be written over."""
    from appliance.catalog import rules
    from appliance.model import Rule
    from appliance.replication.destinations import prepare

    (tmp_path / "zip").mkdir()
    other = prepare(DestinationSettings("zip", "vault", "ciphertext", {"path": str(tmp_path / "zip")}))
    with clinic.box.catalog.transaction() as tx:
        rules.add_rule(tx, Rule(destinations.add(tx, other), "zip", "ciphertext"))
    clinic.receive(IMAGES[0])
    clinic.deliver()
    clinic.back_up()
    with clinic.box.catalog.transaction() as tx:
        destinations.pause(tx, "usb")
    clinic.receive(IMAGES[1])

    def only_there() -> bool:
        with clinic.box.catalog.reading() as conn:
            dirty = conn.exec_driver_sql(
                "SELECT count(*) FROM manifests WHERE dirty_utc IS NOT NULL"
            ).scalar()
            rows = deliveries.list_deliveries(conn, destination="zip", limit=10)
        return len(rows) == 2 and {row.state for row in rows} == {"CONFIRMED"} and not dirty

    clinic.deliver_until(only_there)
    (before,) = (tmp_path / "zip" / "manifests").iterdir()
    told = before.read_bytes()
    assert restore(tmp_path / "after", clinic.place, clinic.paper).instances == 1
    with box_in(tmp_path / "after") as box:
        after = Clinic(box, clinic.place, clinic.paper)
        after.receive(IMAGES[2])
        after.deliver_until((tmp_path / "zip" / "kept").exists)
    (kept,) = [path for path in (tmp_path / "zip" / "kept").iterdir() if path.read_bytes() == told]
    assert kept.name.startswith(before.stem)
    assert restore(tmp_path / "third", other, clinic.paper).instances == 3, "what was kept aside is read back"
    with box_in(tmp_path / "third") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES[:3])


def test_an_old_paper_opens_what_is_made_until_the_root_key_is_changed_and_nothing_after(
    clinic: Clinic,
) -> None:
    """As the help says: a new paper alone shuts the box and not its archives, whenever the courier comes round to them."""
    folder, old, now = clinic.box.config.data / "keys", clinic.paper, datetime.now(UTC)
    clinic.receive(*IMAGES[:1])
    clinic.deliver()
    clinic.back_up(now)
    keys.check_recovery(folder, clinic.box.root, str(old))
    new = keys.rotate(folder, clinic.box.root)
    keys.check_recovery(folder, clinic.box.root, str(new))
    between = clinic.back_up(now + timedelta(hours=1))

    def newest(paper: RecoveryKey) -> str:
        return choice.look(archive_of(clinic.place), paper).snapshots[0].name

    assert newest(old) == newest(new) == between.name
    clinic.receive(*IMAGES[1:2])
    clinic.deliver()  # and the new paper is in the archive
    assert newest(old) == between.name
    keys.rotate_root(folder, clinic.box.root, str(new))
    after = clinic.back_up(now + timedelta(hours=2))
    assert (newest(old), newest(new)) == (between.name, after.name)


def test_what_came_back_by_manifests_may_leave_the_disk_again(clinic: Clinic, tmp_path: Path) -> None:
    """The restored box did not write those manifests: it lets nothing leave for an archive, and seals none anew, before it has."""
    clinic.receive(*IMAGES)
    clinic.deliver()
    restore(tmp_path / "after", clinic.place, clinic.paper)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        Clinic(box, clinic.place, clinic.paper).deliver()
        with box.catalog.reading() as conn:
            written = conn.exec_driver_sql(
                "SELECT count(*) FROM manifests WHERE written_utc IS NOT NULL AND dirty_utc IS NULL"
            ).scalar()
    assert written == len({each.study_instance_uid for each in IMAGES})
