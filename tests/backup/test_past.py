"""A bucket as it stood at a moment: whoever had the box's key has written over everything in it, and everything comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.backup import choice, making, restoring
from appliance.backup.restoring import Restored
from appliance.catalog import Catalog, Transaction, study_keys
from appliance.errors import Corrupt, OperatorNeeded, Refused, Unknown
from appliance.lifecycle import purging, rotation
from appliance.model import DestinationSettings
from appliance.replication import manifest
from appliance.replication.destinations.past import Past, as_it_was
from appliance.store import keys, root_key
from appliance.store.recovery import RecoveryKey
from appliance.store.root_key import sealed_generation
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic_in, contents
from tests.backup.test_restoring import archive_of, bring_home, restore
from tests.boxes import box_in, config_in
from tests.lifecycle.purge import GONE, LATER, approve, owed, secrets_of
from tests.lifecycle.test_rotation import ENTRY
from tests.replication.cloud import Cloud, Fault, cloud, line, settings
from tests.replication.test_protection import protected_bucket

pytestmark = pytest.mark.slow

SEALED = ("keys/", "kept/", "manifests/", "objects/", "snapshots/")


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def clinic(tmp_path: Path, the_cloud: Cloud) -> Iterator[Clinic]:
    place = settings(the_cloud.url, protected_bucket(the_cloud))
    with clinic_in(tmp_path / "before", place) as clinic:
        yield clinic


def write_over(the_cloud: Cloud, place: DestinationSettings, *prefixes: str) -> None:
    """What a thief can do who has the box's key to a bucket."""
    bucket = str(place.options["bucket"])
    for prefix in prefixes:
        for key in the_cloud.keys(bucket, prefix):
            the_cloud.client().put_object(
                Bucket=bucket, Key=key, Body=b"encrypted by a thief", ChecksumAlgorithm="SHA256"
            )


def remove(the_cloud: Cloud, place: DestinationSettings, *prefixes: str) -> None:
    """And what one can do who has its owner's: every version stays, below a marker."""
    bucket = str(place.options["bucket"])
    for prefix in prefixes:
        for key in the_cloud.keys(bucket, prefix):
            the_cloud.client().delete_object(Bucket=bucket, Key=key)


def a_moment() -> datetime:
    """After all that was done, and before all that comes: a bucket counts in seconds."""
    time.sleep(1.1)
    now = datetime.now(UTC)
    time.sleep(1.1)
    return now


def restore_as_of(data: Path, clinic: Clinic, moment: datetime) -> Restored:
    return restoring.restore(
        config_in(data),
        archive_of(clinic.place),
        clinic.place,
        clinic.paper,
        tell=lambda *_: None,
        actor="tests",
        as_of=moment,
    )


@pytest.mark.parametrize("harm", [write_over, remove])
@pytest.mark.parametrize("with_backup", [True, False])
def test_what_was_written_over_comes_back_as_it_was_and_lies_there_again(
    clinic: Clinic, the_cloud: Cloud, tmp_path: Path, harm: object, with_backup: bool
) -> None:
    clinic.receive(*IMAGES[:6])
    clinic.deliver()
    made = clinic.back_up() if with_backup else None
    clinic.receive(*IMAGES[6:])
    clinic.deliver()
    before = a_moment()
    assert callable(harm)
    harm(the_cloud, clinic.place, *SEALED)
    with pytest.raises((Corrupt, OperatorNeeded)) as broken:
        restore(tmp_path / "after", clinic.place, clinic.paper)
    assert "--as-of" in (broken.value.hint or "")
    restored = restore_as_of(tmp_path / "after", clinic, before)
    assert restored.snapshot == made
    assert (restored.instances, restored.damaged_snapshots, restored.rebuilt.damaged) == (11, 0, 0)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)
        with box.catalog.reading() as conn:
            (place,) = making.archives(conn)
            assert making.is_due(conn, place.name, datetime.now(UTC), timedelta(days=1))
        again = Clinic(box, place, clinic.paper)
        again.receive(GONE[0])
        again.deliver()
        after = again.back_up()
    plain = restore(tmp_path / "plain", clinic.place, clinic.paper)
    assert plain.snapshot == after, "the bucket is the box's again"
    assert (plain.instances, plain.rebuilt.damaged) == (12, 0)


def test_before_its_next_backup_the_manifests_alone_are_enough_again(
    clinic: Clinic, the_cloud: Cloud, tmp_path: Path
) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    clinic.back_up()
    before = a_moment()
    write_over(the_cloud, clinic.place, "keys/", "manifests/", "snapshots/")
    restore_as_of(tmp_path / "after", clinic, before)
    plain = restore(tmp_path / "plain", clinic.place, clinic.paper)
    assert (plain.snapshot, plain.instances, plain.rebuilt.damaged) == (None, 11, 0)


def test_the_bucket_is_never_asked_in_a_transaction(
    clinic: Clinic, the_cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.receive(*IMAGES)
    clinic.deliver()
    before = a_moment()
    write_over(the_cloud, clinic.place, "objects/", "manifests/")
    open_transactions, asked = [0], list[int]()

    @contextmanager
    def watched(catalog: Catalog) -> Iterator[Transaction]:
        with of_the_product(catalog) as tx:
            open_transactions[0] += 1
            try:
                yield tx
            finally:
                open_transactions[0] -= 1

    def version_over(moment: Past, key: str) -> str:
        asked.append(open_transactions[0])
        return told(moment, key)

    of_the_product, told = Catalog.transaction, Past.version_over
    monkeypatch.setattr(Catalog, "transaction", watched)
    monkeypatch.setattr(Past, "version_over", version_over)
    assert restore_as_of(tmp_path / "after", clinic, before).instances == 11
    assert set(asked) == {0}, "a bucket answers late, and every reception would wait"


def test_what_came_after_the_moment_and_opens_is_read_whatever_lies_over_it(
    clinic: Clinic, the_cloud: Cloud, tmp_path: Path
) -> None:
    """Images that came, and a study that was destroyed, between the moment and the harm."""
    clinic.receive(*IMAGES[:4], *GONE)
    clinic.deliver()
    clinic.back_up()
    moment = a_moment()
    clinic.receive(*IMAGES[4:])
    clinic.deliver()
    secrets = secrets_of(clinic.box, GONE[0])
    approve(clinic.box, secrets.row.id)
    purging.carry_out(clinic.box, LATER)
    clinic.deliver_until(lambda: not owed(clinic))
    write_over(the_cloud, clinic.place, *SEALED)
    restored = restore_as_of(tmp_path / "after", clinic, moment)
    assert (restored.instances, restored.rebuilt.destroyed) == (11, 1)
    with box_in(tmp_path / "after") as box:
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)
        with box.catalog.reading() as conn:
            assert study_keys.destroyed_among(conn, secrets.keys) == set(secrets.keys)
    plain = restore(tmp_path / "plain", clinic.place, clinic.paper)
    assert plain.instances == 11, "the tombstone lies there again"


def rotated(clinic: Clinic, *, with_new_paper: bool = False) -> RecoveryKey:
    """The root key is changed, and everything lies under the new one in the archive, too; the paper that opens it."""
    folder, paper = clinic.box.config.data / "keys", clinic.paper
    keys.check_recovery(folder, clinic.box.root, str(paper))
    if with_new_paper:
        paper = keys.rotate(folder, clinic.box.root)
        keys.check_recovery(folder, clinic.box.root, str(paper))
    rotation.rotate(clinic.box, str(paper), ENTRY, datetime.now(UTC))
    rotation.finish(clinic.box, datetime.now(UTC))
    clinic.deliver()
    return paper


def under_later(the_cloud: Cloud, place: DestinationSettings) -> dict[str, bytes]:
    """The manifests in a bucket that lie under the second root key."""
    archive = archive_of(place)
    there = {
        each: archive.document(each) for each in the_cloud.keys(str(place.options["bucket"]), "manifests/")
    }
    return {key: sealed for key, sealed in there.items() if sealed_generation(sealed) == 2}


def rotated_and_destroyed(clinic: Clinic, *, with_new_paper: bool = False) -> tuple[datetime, RecoveryKey]:
    """A study came and another was destroyed after the root key was changed; a moment before that, and the newest paper."""
    clinic.receive(*IMAGES[:4], *GONE)
    clinic.deliver()
    clinic.back_up()
    moment = a_moment()
    paper = rotated(clinic, with_new_paper=with_new_paper)
    clinic.receive(*IMAGES[4:])
    clinic.deliver()
    approve(clinic.box, secrets_of(clinic.box, GONE[0]).row.id)
    purging.carry_out(clinic.box, LATER)
    clinic.deliver_until(lambda: not owed(clinic))
    clinic.deliver()
    return moment, paper


@pytest.mark.parametrize("with_new_paper", [False, True])
@pytest.mark.parametrize("with_harm", [False, True])
def test_what_came_after_the_root_key_was_changed_opens_as_of_a_moment_before(
    clinic: Clinic, the_cloud: Cloud, tmp_path: Path, *, with_harm: bool, with_new_paper: bool
) -> None:
    moment, paper = rotated_and_destroyed(clinic, with_new_paper=with_new_paper)
    clinic.paper = paper
    before = under_later(the_cloud, clinic.place)
    assert len(before) == 5
    if with_harm:
        write_over(the_cloud, clinic.place, *SEALED)
    assert choice.look(as_it_was(archive_of(clinic.place), moment), paper).backups
    restored = restore_as_of(tmp_path / "after", clinic, moment)
    assert (restored.instances, restored.rebuilt.destroyed) == (11, 1)
    assert under_later(the_cloud, clinic.place) == before, (
        "nothing of it was written over with what was there"
    )
    with box_in(tmp_path / "after") as box:
        assert box.root.generation == 2
        bring_home(box)
        assert contents(box) == as_sent(*IMAGES)
    plain = restore(tmp_path / "plain", clinic.place, paper)
    assert plain.instances == 11


def test_what_opens_with_a_later_paper_alone_is_left_as_it_is(
    clinic: Clinic, the_cloud: Cloud, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody restores with a paper that was replaced; the newest one opens all of it afterwards."""
    moment, newest = rotated_and_destroyed(clinic, with_new_paper=True)
    before = under_later(the_cloud, clinic.place)
    write_over(the_cloud, clinic.place, "keys/root.recovery", "snapshots/")
    restored = restore_as_of(tmp_path / "after", clinic, moment)
    assert restored.instances == 7, "what was sealed since does not open with this paper"
    assert "5 study manifests open only with a later recovery key" in caplog.text
    assert under_later(the_cloud, clinic.place) == before
    plain = restore(tmp_path / "plain", clinic.place, newest)
    assert plain.instances == 11


def test_who_claims_a_later_paper_keeps_no_study_out_of_the_bucket(
    clinic: Clinic, the_cloud: Cloud, tmp_path: Path
) -> None:
    """A slot tells its own check sum and a sealed document its generation: whoever has the bucket's key can write both."""
    clinic.receive(*IMAGES[:8])
    clinic.deliver()
    clinic.back_up()
    moment = a_moment()
    clinic.receive(*IMAGES[8:])
    clinic.deliver()
    archive = archive_of(clinic.place)
    own = archive.document("keys/root.recovery")
    archive.put_document("keys/root.recovery", root_key._slot(bytes(32), 2, b"R", bytes(32)))
    for name in the_cloud.keys(str(clinic.place.options["bucket"]), "manifests/"):
        sealed = archive.document(name)
        archive.put_document(name, sealed[:2] + (2).to_bytes(4, "big") + bytes(len(sealed)))
    write_over(the_cloud, clinic.place, "snapshots/")
    restored = restore_as_of(tmp_path / "after", clinic, moment)
    assert restored.instances == len(IMAGES)
    archive.put_document("keys/root.recovery", own)
    plain = restore(tmp_path / "plain", clinic.place, clinic.paper)
    assert plain.instances == len(IMAGES), "it lies beside what was forged"


def test_a_manifest_that_was_kept_since_is_read_and_lies_there_again(
    clinic: Clinic, the_cloud: Cloud, tmp_path: Path
) -> None:
    clinic.receive(*IMAGES[:4])
    clinic.deliver()
    clinic.back_up()
    moment = a_moment()
    clinic.receive(*IMAGES[4:])
    clinic.deliver()
    archive = archive_of(clinic.place)
    name = manifest.key(clinic.box.root, IMAGES[4].study_instance_uid)
    kept = f"kept/{manifest.digits(name)}-0.sealed"
    told = manifest.unseal(clinic.box.root, name, archive.document(name))
    told["instances"][0] |= {
        "sop_instance_uid": "1.2.3.4.5",
        "object_id": "ab" * 16,
    }  # that only this one tells of
    archive.put_document(kept, manifest._seal(clinic.box.root, name, told))
    write_over(the_cloud, clinic.place, *SEALED)
    restored = restore_as_of(tmp_path / "after", clinic, moment)
    assert (restored.instances, restored.rebuilt.damaged) == (12, 0)
    assert manifest.unseal(clinic.box.root, name, archive.document(kept)) == told


def test_what_another_box_has_in_the_bucket_is_not_written_again(clinic: Clinic, tmp_path: Path) -> None:
    """Two boxes that came to one bucket in the same hour: the older version would bring keys back that were destroyed since."""
    theirs = root_key.RootKey(bytes(range(32)))
    name = manifest.key(theirs, IMAGES[0].study_instance_uid)
    kept = manifest.kept_key(name, b"theirs")
    then, since = (manifest.seal_tombstone(theirs, name, None, []) for _ in range(2))
    clinic.receive(*IMAGES[:2])
    clinic.deliver()
    archive = archive_of(clinic.place)
    for key in (name, kept):
        archive.put_document(key, then)
    before = a_moment()
    for key in (name, kept):
        archive.put_document(key, since)
    assert restore_as_of(tmp_path / "after", clinic, before).instances == 2
    assert [archive.document(key) for key in (name, kept)] == [since, since]
    assert {each.key for each in archive.documents("kept/")} == {kept}


def test_an_attempt_that_was_cut_goes_on_as_of_its_own_moment_alone(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.receive(IMAGES[0])
    clinic.deliver()
    older = clinic.back_up()
    moment = a_moment()
    clinic.receive(IMAGES[4])
    clinic.deliver()
    newer = clinic.back_up()

    class Cut(Exception):
        pass

    def cut(*_: object, **__: object) -> None:
        raise Cut

    with monkeypatch.context() as patched, pytest.raises(Cut):
        patched.setattr("appliance.backup.rebuilding.rebuild", cut)
        restore(tmp_path / "after", clinic.place, clinic.paper)
    for _ in range(2):
        with monkeypatch.context() as patched, pytest.raises(Cut):
            patched.setattr("appliance.backup.catching_up.catch_up", cut)
            restore_as_of(tmp_path / "after", clinic, moment)
    restored = restore_as_of(tmp_path / "after", clinic, moment)
    assert newer != older
    assert restored.snapshot == older
    assert restored.instances == 2, "what came later came by its manifest"


def test_what_there_was_is_told_and_written_over_by_nobody(clinic: Clinic, the_cloud: Cloud) -> None:
    archive = archive_of(clinic.place)
    archive.put_document("manifests/a.sealed", b"first")
    archive.put_document("manifests/b.sealed", b"removed")
    a_moment()
    remove(the_cloud, clinic.place, "manifests/b")
    moment = a_moment()
    archive.put_document("manifests/a.sealed", b"second")
    archive.put_document("manifests/a.sealed", b"third")
    archive.put_document("manifests/b.sealed", b"again")
    archive.put_document("manifests/c.sealed", b"new")
    then = as_it_was(archive, moment)
    for _ in range(2):  # before and after it was listed
        assert then.document("manifests/a.sealed") == b"first"
        for absent in ("manifests/b.sealed", "manifests/c.sealed", "keys/root.recovery"):
            with pytest.raises(Unknown):
                then.document(absent)
        assert [each.key for each in then.documents("manifests/")] == ["manifests/a.sealed"]
    later = then.later()
    found = [later.document(each.key) for each in later.documents("manifests/")]
    assert found == [b"second", b"third", b"again", b"new"]
    with pytest.raises(Refused):
        then.put_document("manifests/a.sealed", b"fourth")


def test_a_long_list_of_versions_is_read_page_by_page(
    clinic: Clinic, the_cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of(clinic.place)
    for key in "abc":
        for number in range(5):
            archive.put_document(f"kept/{key}", f"{key}{number}".encode())
    moment = a_moment()
    for key in "abc":
        for number in range(5, 9):
            archive.put_document(f"kept/{key}", f"{key}{number}".encode())
    client = archive._client()  # type: ignore[attr-defined]
    entire = client.list_object_versions
    monkeypatch.setattr(client, "list_object_versions", lambda **which: entire(**which, MaxKeys=4))
    then = as_it_was(archive, moment)
    keys = [each.key for each in then.documents("kept/")]
    assert [then.document(each) for each in keys] == [b"a4", b"b4", b"c4"]
    later = then.later()
    found = sorted(later.document(each.key) for each in later.documents("kept/"))
    assert found == sorted(f"{key}{number}".encode() for key in "abc" for number in range(5, 9))


def test_a_key_that_may_not_list_versions_is_told_what_it_needs(
    clinic: Clinic, the_cloud: Cloud, tmp_path: Path
) -> None:
    clinic.receive(IMAGES[0])
    clinic.deliver()
    with line(the_cloud.port) as far:
        far.fault = lambda request: Fault.FORBIDDEN if "versions" in request.query else None
        place = settings(far.url, str(clinic.place.options["bucket"]))
        with pytest.raises(OperatorNeeded, match="listing the earlier versions") as refused:
            choice.look(as_it_was(archive_of(place), datetime.now(UTC)), clinic.paper)
    assert "s3:ListBucketVersions" in (refused.value.hint or "")


def test_no_other_archive_tells_what_it_held(tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    from appliance.replication.destinations import prepare

    disk = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))
    with pytest.raises(OperatorNeeded, match="only a bucket"):
        as_it_was(archive_of(disk), datetime.now(UTC))
