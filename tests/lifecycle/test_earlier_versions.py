"""What somebody has written over or removed in a bucket lies deep as the version of its receipt: that is asked for, and comes within hours.

moto takes no notice of the version when something is to be fetched; the line in front of it does so in its place (tests/replication/cloud.py).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance import audit, settings
from appliance.catalog import receipts
from appliance.errors import NotAskedFor, Resting
from appliance.lifecycle import eviction, returning
from appliance.model import DestinationSettings
from appliance.replication import recall
from appliance.replication.destinations import prepare
from tests.backup.conftest import IMAGES, as_sent
from tests.boxes import recorded
from tests.lifecycle.evicting import NOW, evict_all, here, reached, rows
from tests.lifecycle.test_asked import a_pass, copy_everything_to, gone, kept, problems  # noqa: F401 - a fixture
from tests.lifecycle.test_deep_archive import asked_for, asking_ends
from tests.lifecycle.test_eviction_cloud import CLOUD, Remote, remote, the_cloud  # noqa: F401 - fixtures
from tests.replication.cloud import Fault, come_up, sink_version

pytestmark = pytest.mark.slow

HARM = pytest.mark.parametrize("harm", ["removed", "a bit"])


def version_of(away: Remote, number: int) -> str:
    """The version that the receipt of an image names."""
    with away.clinic.box.catalog.reading() as conn:
        (receipt,) = receipts.of_object(conn, recorded(away.clinic.box)[number].object_id).values()
    return str(receipt["version_id"])


def harm_deep(away: Remote, number: int, harm: str) -> str:
    """An image that lies deep is written over, or marked as removed; its version."""
    version = version_of(away, number)
    if harm == "removed":
        away.cloud.client().delete_object(Bucket=away.bucket, Key=away.key(number))
    else:
        away.damage(number)
    sink_version(away.bucket, away.key(number), version)
    away.line.requests.clear()
    return version


def open_one(away: Remote, number: int) -> None:
    row = recorded(away.clinic.box)[number]
    recall.open_object(away.clinic.box, row.object_id, row.key_id, row.sealed_bytes).close()


def told(away: Remote, action: str) -> list[dict[str, Any]]:
    with away.clinic.box.catalog.reading() as conn:
        return [each for each in audit.export(conn) if each["action"] == action]


@HARM
def test_the_version_of_the_receipt_is_asked_for_once_comes_within_hours_and_is_written_again(
    gone: Remote,  # noqa: F811
    harm: str,
) -> None:
    box, key = gone.clinic.box, gone.key(2)
    whole = gone.cloud.get(gone.bucket, key)
    version = harm_deep(gone, 2, harm)
    for _ in range(3):
        with pytest.raises(Resting, match="has been asked for: it is here within 12 hours") as said:
            open_one(gone, 2)
        assert not isinstance(said.value, NotAskedFor)
        assert said.value.wait_hours == 12
    (asked,) = [each for each in gone.line.requests if each.method == "POST"]
    assert f"versionId={version}" in asked.query and asked.path.endswith(key)
    assert rows(box) == 11, "it is away, and not given up"
    (found,) = told(gone, "instance:corrupt")
    assert recall.LIES_DEEP in found["details"] and "cloud" in found["details"]
    assert told(gone, "instance:mend") == []

    others = returning.bring_wanted(box)  # of its study, which lie at hand
    come_up(gone.bucket, key, version_id=version)
    eviction.settle(box, NOW)
    assert returning.bring_wanted(box) == 1
    assert here(box) == others + 1
    (mended,) = told(gone, "instance:mend")
    assert recall.WRITTEN_OVER in mended["details"]
    assert asked_for(gone) == 1

    a_pass(gone.clinic)
    assert gone.cloud.get(gone.bucket, key) == whole
    assert kept(gone.clinic, recall.ALTERED) is None
    assert version_of(gone, 2) != version
    assert reached(box) == as_sent(*IMAGES)


@HARM
def test_a_pass_that_finds_it_asks_for_it_and_mends_the_bucket_when_it_has_come(
    gone: Remote,  # noqa: F811
    harm: str,
) -> None:
    box, key = gone.clinic.box, gone.key(2)
    row = recorded(box)[2]
    whole = gone.cloud.get(gone.bucket, key)
    version = harm_deep(gone, 2, harm)
    for day in range(2):
        found = a_pass(gone.clinic, NOW + timedelta(days=day))
        assert (found.lost, found.to_mend) == ((), (row.object_id,))
        assert "damaged" in problems(gone.clinic), "it is said while it is not here"
    assert asked_for(gone) == 1
    assert len(told(gone, "instance:corrupt")) == 1, "and is reported once"
    come_up(gone.bucket, key, version_id=version)
    found = a_pass(gone.clinic, NOW + timedelta(days=3))
    assert (found.lost, found.to_mend) == ((), ())
    assert gone.cloud.get(gone.bucket, key) == whole
    a_pass(gone.clinic, NOW + timedelta(days=4))
    assert not {"bucket-lacks", "damaged"} & problems(gone.clinic).keys()
    assert kept(gone.clinic, recall.ALTERED) is None


def test_what_lies_over_it_is_fetched_at_the_first_attempt_alone(gone: Remote) -> None:  # noqa: F811
    harm_deep(gone, 10, "a bit")
    newest = [0]
    for _ in range(4):
        with pytest.raises(Resting):
            open_one(gone, 10)
        newest.append(
            sum(each.method == "GET" and "versionId" not in each.query for each in gone.line.requests)
        )
    assert newest == [0, 2, 2, 2, 2], "once, and once more in case it was spoilt on the way"


def write_deep_over(away: Remote, number: int) -> None:
    """Something else, as long, lies over an image, and lies deep itself."""
    size = recorded(away.clinic.box)[number].sealed_bytes
    client = away.cloud.client()
    client.put_object(Bucket=away.bucket, Key=away.key(number), Body=b"x" * size, StorageClass="DEEP_ARCHIVE")


def test_what_lies_over_it_is_not_awaited_where_that_lies_deep_itself(gone: Remote) -> None:  # noqa: F811
    key = gone.key(2)
    whole = gone.cloud.get(gone.bucket, key)
    write_deep_over(gone, 2)
    open_one(gone, 2)
    assert asked_for(gone) == 0
    assert len(told(gone, "instance:mend")) == 1
    write_deep_over(gone, 3)
    sink_version(gone.bucket, gone.key(3), version := version_of(gone, 3))
    with pytest.raises(Resting, match="within 12 hours"):
        open_one(gone, 3)
    (asked,) = [each for each in gone.line.requests if each.method == "POST"]
    assert f"versionId={version}" in asked.query
    a_pass(gone.clinic)
    assert gone.cloud.get(gone.bucket, key) == whole


def test_a_pass_mends_what_something_that_lies_deep_lies_over(gone: Remote) -> None:  # noqa: F811
    key = gone.key(2)
    whole = gone.cloud.get(gone.bucket, key)
    write_deep_over(gone, 2)
    found = a_pass(gone.clinic)
    assert (found.lost, found.to_mend, found.copies) == ((), (), 1)
    assert gone.cloud.get(gone.bucket, key) == whole
    assert asked_for(gone) == 0 and told(gone, "instance:mend")


def test_whoever_owns_the_bucket_copies_it_over_and_nobody_waits_for_the_version(
    gone: Remote,  # noqa: F811
) -> None:
    key, client = gone.key(2), gone.cloud.client()
    before = client.get_object(Bucket=gone.bucket, Key=key)
    whole = before["Body"].read()
    harm_deep(gone, 2, "a bit")
    with pytest.raises(Resting):
        open_one(gone, 2)
    client.put_object(Bucket=gone.bucket, Key=key, Body=whole, Metadata=before["Metadata"])
    open_one(gone, 2)


def test_what_is_spoilt_on_the_way_is_not_awaited_as_its_earlier_version(gone: Remote) -> None:  # noqa: F811
    """Whoever owns the bucket has copied it: the version of the receipt lies deep, and what lies over it is whole."""
    key, version = gone.key(10), version_of(gone, 10)
    gone.cloud.client().put_object(Bucket=gone.bucket, Key=key, Body=gone.cloud.get(gone.bucket, key))
    sink_version(gone.bucket, key, version)
    spoilt = [Fault.SHORT_ANSWER]
    gone.line.fault = lambda asked: spoilt.pop() if spoilt and asked.path.endswith(key) else None
    open_one(gone, 10)
    assert spoilt == [] and asked_for(gone) == 0
    assert told(gone, "instance:corrupt") == []


@HARM
def test_it_is_fetched_in_bulk_and_a_key_that_may_not_ask_is_told_so(gone: Remote, harm: str) -> None:  # noqa: F811
    box = gone.clinic.box
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, {"tiers.retrieval": "bulk"}, actor="tests", now=NOW)
    harm_deep(gone, 2, harm)
    asking_ends(gone, Fault.FORBIDDEN)
    with pytest.raises(NotAskedFor) as refused:
        open_one(gone, 2)
    assert "s3:RestoreObject" in refused.value.hint and refused.value.wait_hours == 48
    assert rows(box) == 11 and len(told(gone, "instance:corrupt")) == 1, "not given up, and not hidden"
    asking_ends(gone, None)
    gone.line.fetched_by.clear()
    with pytest.raises(Resting, match="within 48 hours"):
        open_one(gone, 2)
    assert [b"<Tier>Bulk</Tier>" in each for each in gone.line.fetched_by] == [True]


def test_another_archive_that_has_it_is_not_kept_waiting(remote: Remote, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "usb").mkdir()
    disk = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))
    copy_everything_to(remote.clinic, disk)
    evict_all(remote.clinic.box, CLOUD)
    with remote.clinic.box.catalog.reading() as conn:
        found = receipts.of_object(conn, recorded(remote.clinic.box)[2].object_id).values()
    (version,) = [each["version_id"] for each in found if each.get("version_id")]
    remote.damage(2)
    sink_version(remote.bucket, remote.key(2), version)
    open_one(remote, 2)
    assert asked_for(remote) == 0
