"""What is owed reaches real receivers and a real bucket, with a receipt each, and nothing in the bucket is in clear."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.filereader import dcmread

from appliance.catalog import destinations, manifests
from appliance.replication import manifest
from appliance.store.keys import open_with_recovery
from appliance.store.recovery import RecoveryKey
from tests import synthetic
from tests.demo.stage import ACCESS_KEY, BUCKET, REGION, SECRET, s3_server
from tests.replication.cloud import Cloud
from tests.replication.receivers import orthanc, storescp
from tests.system.clear_text import words_in
from tests.system.dcmtk import storescu
from tests.system.running import CALLER, MIB, Appliance, appliance, wait_for
from tests.system.tink_streams import opened_by_tink

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    """A clinic's day of 35 instances, and one that is large enough to be sent to the cloud in parts."""
    day = [*synthetic.clinic_set(1, scale=0.1), synthetic.cbct(2, frames=150, size=256)]
    return synthetic.write(iter(day), tmp_path / "films")


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with s3_server() as server:
        client = Cloud(server.port)
        client.client().put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield client


def test_everything_reaches_every_receiver_and_the_bucket(
    tmp_path: Path, free_port: Callable[[], int], films: list[Path], cloud: Cloud
) -> None:
    with (
        orthanc() as pacs,
        storescp("+xa", ae_title="ORTHO") as specialist,
        appliance(tmp_path / "box", free_port, start=["dicom", "courier"]) as box,
    ):
        for name, peer in (("pacs", pacs), ("specialist", specialist)):
            where = ("--ae-title", peer.ae_title, "--address", "127.0.0.1", "--port", peer.port)
            box.say("destination", "add", "dicom", name, *where)
        options = ("--bucket", BUCKET, "--region", REGION, "--endpoint-url", cloud.url, "--canadian")
        box.say("destination", "add", "s3", "cloud", *options, "--access-key-id", ACCESS_KEY, typed=SECRET)
        for name in ("pacs", "specialist", "cloud"):
            box.say("destination", "test", name)
            box.say("rule", "add", "--to", name)

        sent = storescu(box.dicom_port, "--max-pdu", "131072", calling=CALLER, files=films)
        assert sent.returncode == 0, sent.stderr
        deliveries = box.wait_until_confirmed(3 * len(films), seconds=120)
        assert all(row["receipt"] for row in deliveries)
        expected = {str(ds.SOPInstanceUID): ds for ds in map(dcmread, films)}
        for name in ("pacs", "specialist", "cloud"):
            assert {r["sop_instance_uid"] for r in deliveries if r["destination"] == name} == set(expected)

        statistics = json.loads(pacs.orthanc("/statistics"))
        assert statistics["CountInstances"] == len(films)
        for identifier in json.loads(pacs.orthanc("/instances")):
            _assert_same(pacs.orthanc(f"/instances/{identifier}/file"), expected, tmp_path)
        files = specialist.files()
        assert set(files) == set(expected)
        for path in files.values():
            _assert_same(path.read_bytes(), expected, tmp_path)

        receipts = {r["sop_instance_uid"]: r["receipt"] for r in deliveries if r["destination"] == "cloud"}
        studies = {str(ds.StudyInstanceUID) for ds in expected.values()}
        wait_for(
            lambda: len(cloud.keys(BUCKET, "manifests/")) == len(studies) and not _manifests_due(box),
            "a manifest for each study, of all its instances",
        )
        box.stop("courier")
        _check_bucket(box, cloud, receipts, expected)


def _manifests_due(box: Appliance) -> bool:
    """Whether the courier has yet to write a manifest."""
    later = datetime.now(UTC) + timedelta(minutes=1)
    with box.opened() as opened, opened.catalog.reading() as reading:
        (destination,) = [each for each in destinations.destinations(reading) if each.name == "cloud"]
        return bool(
            manifests.out_of_date(reading, destination.id, quiet_since=later, written_before=later, limit=1)
        )


def _assert_same(received: bytes, expected: Mapping[str, Dataset], tmp_path: Path) -> None:
    """Every element that was sent is in the file that was received, pixels included, and no other."""
    path = tmp_path / "received.dcm"
    path.write_bytes(received)
    dataset = dcmread(path)
    original = expected[str(dataset.SOPInstanceUID)]
    assert dataset == original


def _check_bucket(
    box: Appliance, cloud: Cloud, receipts: dict[str, dict[str, object]], expected: Mapping[str, Dataset]
) -> None:
    keys = cloud.keys(BUCKET)
    bodies = {key: cloud.get(BUCKET, key) for key in keys}

    # What is in the cloud is what is on the disk, once; each receipt says so.
    on_disk = {path.name: path.read_bytes() for path in box.files("objects")}
    assert {k.rpartition("/")[2]: body for k, body in bodies.items() if k.startswith("objects/")} == on_disk
    assert len(on_disk) == len(expected)
    assert any(len(body) > 16 * MIB for body in on_disk.values()), "one was to be sent in parts"
    versions = cloud.client().list_object_versions(Bucket=BUCKET, Prefix="objects/")
    assert len(versions["Versions"]) == len(on_disk), "an object was sent twice"
    for receipt in receipts.values():
        assert hashlib.sha256(bodies[str(receipt["key"])]).hexdigest() == receipt["sha256"]
    assert cloud.uploads(BUCKET) == []

    # Nothing there is in clear.
    for key, body in bodies.items():
        assert words_in(key.encode() + body) == set(), key
    head = cloud.client().head_object(Bucket=BUCKET, Key=next(k for k in keys if k.startswith("objects/")))
    assert words_in(repr(head).encode()) == set()

    # The bucket and the paper are enough: root key from the slot, study keys from the manifests, images by Tink.
    paper = RecoveryKey.parse(_shown_key(box))
    root = open_with_recovery(bodies["keys/root.recovery"], paper)
    found = {}
    for key in (key for key in keys if key.startswith("manifests/")):
        document = manifest.unseal(root, key, bodies[key])
        study_keys = {row["id"]: row for row in document["study_keys"]}
        for row in document["instances"]:
            object_id = row["object_id"]
            sealed = bodies[f"objects/{object_id[:2]}/{object_id}.sealed"]
            found[row["sop_instance_uid"]] = opened_by_tink(
                root, study_keys[row["key_id"]], object_id, sealed
            )
    assert set(found) == set(expected)
    for part10 in found.values():
        _assert_same(part10, expected, box.folder)


def _shown_key(box: Appliance) -> str:
    """The recovery key as `appliance key show-recovery` prints it."""
    lines = [line.strip() for line in box.say("key", "show-recovery").splitlines()]
    (shown,) = [line for line in lines if line.count("-") > 4]
    return shown
