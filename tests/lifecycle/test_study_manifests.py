"""A study manifest that is read again is held to what it should say: one that opens may be of last month."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.catalog import manifests, settings
from appliance.catalog.destroyed_keys import Tombstone
from appliance.errors import ApplianceError, Resting, Transient
from appliance.lifecycle import freezing, read_through, scrub, study_manifests
from appliance.lifecycle.acting import Act
from appliance.lifecycle.study_manifests import ReadManifests
from appliance.model import DestinationId, Uid
from appliance.replication import manifest
from appliance.replication.destinations.vault import VaultDestination
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.boxes import recorded
from tests.lifecycle.test_bad_sectors import unreadable
from tests.lifecycle.test_scrub import NOW, finished
from tests.lifecycle.test_scrub import kept as _kept

pytestmark = pytest.mark.slow

clinic, disk, kept = _clinic, _disk, _kept

STUDY = Uid(IMAGES[0].study_instance_uid)


def document(clinic: Clinic) -> Path:
    """The manifest of the first study, on the disk."""
    return Path(str(clinic.place.options["path"])) / manifest.key(clinic.box.root, STUDY)


def images_in(clinic: Clinic) -> int:
    told = manifest.unseal(
        clinic.box.root, manifest.key(clinic.box.root, STUDY), document(clinic).read_bytes()
    )
    return len(told["instances"])


def read(clinic: Clinic) -> ReadManifests:
    return study_manifests.read_again(clinic.box, 0, NOW, lambda: True, 20)


@pytest.fixture
def grown(clinic: Clinic) -> tuple[Clinic, bytes]:
    """A study that has got another image since its manifest was written first, and that manifest."""
    clinic.receive(*IMAGES[:3])
    clinic.deliver()
    before = document(clinic).read_bytes()
    clinic.receive(IMAGES[3], IMAGES[10])
    clinic.deliver()
    assert images_in(clinic) == 4
    return clinic, before


def test_a_manifest_of_before_the_last_image_is_written_again(grown: tuple[Clinic, bytes]) -> None:
    """As a share has it that was put back to a snapshot."""
    clinic, before = grown
    document(clinic).write_bytes(before)
    assert finished(clinic)["rewritten"] == 1
    clinic.deliver()
    assert images_in(clinic) == 4
    assert finished(clinic)["rewritten"] == 0


def test_what_a_manifest_says_beyond_the_catalog_is_no_damage(grown: tuple[Clinic, bytes]) -> None:
    clinic, _ = grown
    with clinic.box.catalog.transaction() as tx:
        tx.exec_driver_sql("UPDATE deliveries SET state = 'CANCELLED' WHERE instance = 1")
    assert read(clinic).rewritten == 0


def test_one_that_later_software_has_written_is_left_as_it_is(kept: Clinic) -> None:
    """As on a box that has gone back a version."""
    name, root = manifest.key(kept.box.root, STUDY), kept.box.root
    told = manifest.unseal(root, name, document(kept).read_bytes())
    document(kept).write_bytes(manifest._seal(root, name, told | {"format": manifest.FORMAT + 1}))
    later = document(kept).read_bytes()
    found = read(kept)
    assert (found.read, found.rewritten, found.missed) == (3, 0, ())
    kept.deliver()
    assert document(kept).read_bytes() == later


def meanwhile(patch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """`act` once a manifest has been fetched, and before it is held to anything."""
    fetch, left = VaultDestination.document, [act]

    def document(self: VaultDestination, key: str) -> bytes:
        found = fetch(self, key)
        if left:
            left.pop()()
        return found

    patch.setattr(VaultDestination, "document", document)


def test_one_that_is_to_be_written_again_since_it_was_fetched_is_left(
    grown: tuple[Clinic, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic, before = grown
    document(clinic).write_bytes(before)

    def mark() -> None:
        with clinic.box.catalog.transaction() as tx:
            manifests.mark(tx, DestinationId(clinic.place.id), [1], NOW)

    meanwhile(monkeypatch, mark)
    assert read(clinic).rewritten == 0


def test_an_image_that_came_since_it_was_fetched_is_not_missed_in_it(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.receive(*IMAGES[:3])
    clinic.deliver()

    def come() -> None:
        clinic.receive(IMAGES[3])
        clinic.deliver()

    meanwhile(monkeypatch, come)
    found = read(clinic)
    assert (found.read, found.rewritten) == (1, 0)


# --- one that its archive does not give back, and the others -----------------------------------------------------------


def documents(clinic: Clinic) -> list[Path]:
    """The manifests of all studies, on the disk."""
    return sorted((Path(str(clinic.place.options["path"])) / "manifests").iterdir())


def passed_over(clinic: Clinic) -> list[int]:
    """The rows of the studies whose manifests are to be tried again in the pass."""
    with clinic.box.catalog.reading() as conn:
        told = settings.get(conn, read_through.ARCHIVES)[str(clinic.place.id)]
    return list(told["manifests"])


def withholding(patch: pytest.MonkeyPatch, path: Path, error: ApplianceError) -> None:
    """The disk answers so for one manifest, whenever it is asked."""
    fetch = VaultDestination.document

    def document(self: VaultDestination, key: str) -> bytes:
        if key.endswith(path.name):
            raise error
        return fetch(self, key)

    patch.setattr(VaultDestination, "document", document)


def test_one_on_a_bad_sector_is_written_again_and_the_others_are_read(kept: Clinic) -> None:
    hurt = documents(kept)[0]
    unreadable(hurt)
    found = finished(kept)
    assert (found["manifests"], found["rewritten"]) == (3, 1)
    assert passed_over(kept) == []
    kept.deliver()
    assert not hurt.is_symlink()
    found = finished(kept)
    assert (found["manifests"], found["rewritten"]) == (4, 0)


def test_a_disk_that_does_not_give_back_several_is_left_alone_for_a_slice(
    kept: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_manifests, "MOST_UNREAD", 2)
    for path in documents(kept):
        unreadable(path)
    first = scrub.scrub(kept.box, NOW, most=20)
    assert (first.manifests, first.rewritten, len(passed_over(kept))) == (0, 2, 2)


def test_one_on_a_bad_sector_says_nothing_where_the_disk_takes_nothing(
    kept: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(documents(kept)[0])

    def check(self: VaultDestination) -> str:
        del self
        raise Transient("it is gone")

    monkeypatch.setattr(VaultDestination, "check", check)
    assert scrub.scrub(kept.box, NOW, most=20).rewritten == 0
    assert passed_over(kept)


ANSWERS = {
    "in deep archive": Resting("it rests", wait_hours=48),
    "another error": Transient("an error of the server"),
}


@pytest.mark.parametrize("error", ANSWERS.values(), ids=ANSWERS)
def test_one_that_is_never_given_keeps_no_other_from_being_read(
    kept: Clinic, monkeypatch: pytest.MonkeyPatch, error: ApplianceError
) -> None:
    withholding(monkeypatch, documents(kept)[0], error)
    assert finished(kept)["manifests"] == 3


def test_one_in_deep_archive_leaves_the_others_of_the_slice_to_be_read(
    kept: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in documents(kept)[:3]:
        withholding(monkeypatch, path, Resting("it rests", wait_hours=48))
    first = scrub.scrub(kept.box, NOW, most=20)
    assert (first.manifests, len(passed_over(kept))) == (1, 3)


def test_a_tombstone_that_waits_for_the_guard_keeps_no_other_from_being_read(kept: Clinic) -> None:
    """Who can write in an archive could have laid it."""
    first, *_ = recorded(kept.box)
    with kept.box.catalog.reading() as conn:
        rows = manifests.rows_of(conn, kept.place.id, 1)
    laid = Tombstone((first.key_id,), "D-1", NOW)
    name = manifest.key(kept.box.root, STUDY)
    document(kept).write_bytes(manifest.seal(kept.box.root, name, rows, [laid]))
    with kept.box.catalog.transaction() as tx:
        freezing.freeze(tx, Act("marie", NOW, kept.box.audit_key), reason="a strange message")
    slice_of = scrub.scrub(kept.box, NOW, most=20)
    assert (slice_of.manifests, passed_over(kept)) == (3, [1])
