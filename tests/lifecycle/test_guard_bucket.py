"""The ransomware guard over a real bucket: what was committed there stays the version that it is, new images leave, and a release lets all go on.

The gateway's tests (tests/replication/test_gateway.py) ask the same of a server that is not moto.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import health
from appliance.backup import snapshot
from appliance.catalog import deliveries, freezes, tombstones
from appliance.errors import Transient
from appliance.lifecycle import census, freezing, purging, scrub
from appliance.lifecycle.acting import Act
from appliance.lifecycle.shredding import shred_older
from appliance.model import DestinationSettings
from appliance.replication import manifest
from appliance.replication.delivery import State
from tests.backup.conftest import IMAGES, KEEP, Clinic, clinic_in
from tests.boxes import delivery_states, recorded
from tests.instances import Instance
from tests.lifecycle.purge import GONE, approve, carry_out, study_of
from tests.replication.cloud import Cloud, cloud, settings
from tests.replication.test_protection import protected_bucket

pytestmark = pytest.mark.slow

Versions = dict[str, list[str]]


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def place(the_cloud: Cloud) -> DestinationSettings:
    return settings(the_cloud.url, protected_bucket(the_cloud))


@pytest.fixture
def clinic(tmp_path: Path, place: DestinationSettings) -> Iterator[Clinic]:
    with clinic_in(tmp_path / "before", place) as clinic:
        yield clinic


def versions(server: Cloud, bucket: str) -> Versions:
    """Every version by its key, but for what the connection test writes; nothing may be marked as removed."""
    found: Versions = {}
    for page in server.client().get_paginator("list_object_versions").paginate(Bucket=bucket):
        assert not page.get("DeleteMarkers")
        for each in page.get("Versions", ()):
            if each["Key"] != "keys/connection-test":
                found.setdefault(each["Key"], []).append(each["VersionId"])
    return found


def arrived(clinic: Clinic) -> int:
    with clinic.box.catalog.reading() as conn:
        return delivery_states(conn)[State.CONFIRMED]


def test_while_the_guard_holds_a_bucket_gets_what_is_new_and_no_version_there_gets_another_over_it(
    clinic: Clinic, the_cloud: Cloud
) -> None:
    box, bucket = clinic.box, str(clinic.place.options["bucket"])
    clinic.receive(*IMAGES, *GONE)
    clinic.deliver()
    clinic.back_up()
    approve(box, study_of(box, GONE[0]).id)
    for row in recorded(box):
        path = box.objects.path(row.object_id)
        path.write_bytes(bytes(each ^ 0xA5 for each in path.read_bytes()))
    before = versions(the_cloud, bucket)
    now = datetime.now(UTC)
    assert census.take(box, now, dice=random.Random(8)) is not None
    assert "mass-loss" in {each.code for each in health.status(box, now).problems}, "it is said"

    late = [Instance(500, study=70, pixel_bytes=900), Instance(501, study=1, pixel_bytes=900)]
    clinic.receive(*late)
    clinic.deliver_until(lambda: arrived(clinic) == len(IMAGES) + len(GONE) + len(late))
    known = manifest.key(box.root, IMAGES[0].study_instance_uid)
    clinic.deliver_until(lambda: len(_manifests(versions(the_cloud, bucket))) > len(_manifests(before)))
    with pytest.raises(Transient, match="ransomware guard"):
        shred_older(box, clinic.place, now, keep=KEEP, keep_going=lambda: True, reached=lambda _: None)
    assert purging.carry_out(box, now) == 0
    scrub.scrub(box, now)
    clinic.back_up(datetime.now(UTC))  # which only adds
    after = versions(the_cloud, bucket)
    assert {key: after.get(key) for key in before} == before, "nothing is written over"
    assert len([key for key in after if key.startswith("objects/")]) == len(IMAGES) + len(GONE) + len(late)

    with box.catalog.transaction() as tx:
        freezing.release(tx, Act("marie", now, box.audit_key), reason="the computer was found and cleaned")
        assert freezes.in_force(tx) is None
        deliveries.wake(tx, clinic.place.id, now=now, jitter=lambda: 0.0)
    clinic.deliver()
    assert len(versions(the_cloud, bucket)[known]) > len(before[known]), "the manifest that waited"


def test_after_a_release_what_two_people_approved_is_destroyed_in_the_bucket_too(
    clinic: Clinic, the_cloud: Cloud
) -> None:
    box, bucket = clinic.box, str(clinic.place.options["bucket"])
    clinic.receive(*IMAGES[:4], *GONE)
    clinic.deliver()
    old = clinic.back_up()
    approve(box, study_of(box, GONE[0]).id)
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        freezing.freeze(tx, Act("marie", now, box.audit_key), reason="a strange message on a screen")
    before = versions(the_cloud, bucket)
    assert purging.carry_out(box, now) == 0
    assert versions(the_cloud, bucket) == before
    with box.catalog.transaction() as tx:
        freezing.release(tx, Act("marie", now, box.audit_key), reason="a false alarm")
    carry_out(clinic)
    after = versions(the_cloud, bucket)
    buried = manifest.key(box.root, GONE[0].study_instance_uid)
    for key in (buried, snapshot.key_key(old.name)):
        assert len(after[key]) > len(before[key]), "a tombstone, and a key that is none"
    assert all(set(before[key]) <= set(after[key]) for key in before), "by another version: none is removed"
    with box.catalog.reading() as conn:
        (paper,) = tombstones.certificates(conn)
    assert paper.completed_utc is not None


def _manifests(found: Versions) -> list[str]:
    return [key for key in found if key.startswith("manifests/")]
