"""A study manifest that is read again is held to what it should say: one that opens may be of last month."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.catalog import manifests
from appliance.lifecycle import study_manifests
from appliance.lifecycle.study_manifests import ReadManifests
from appliance.model import DestinationId, Uid
from appliance.replication import manifest
from appliance.replication.destinations.vault import VaultDestination
from tests.backup.conftest import IMAGES, Clinic
from tests.backup.conftest import clinic as _clinic
from tests.backup.conftest import disk as _disk
from tests.lifecycle.test_scrub import NOW, finished

pytestmark = pytest.mark.slow

clinic, disk = _clinic, _disk

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
