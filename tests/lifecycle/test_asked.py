"""What is in a bucket and not here is asked for there in every pass: what it has lost or altered since is found, mended or said.

The gateway's tests (tests/replication/test_gateway.py) ask the same of a server that is not moto.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance import audit, health
from appliance.catalog import destinations, receipts, settings
from appliance.health.gathering import SCRUB_FAR, SCRUB_FAR_LOST
from appliance.lifecycle import asked, scrub
from appliance.lifecycle.scrub import Pass
from appliance.model import DestinationSettings
from appliance.replication import recall
from appliance.replication.destinations import prepare
from appliance.replication.destinations.archive import Told, differs, may_be
from tests.backup.conftest import IMAGES, Clinic, as_sent
from tests.boxes import recorded
from tests.lifecycle.evicting import NOW, evict_all, here, reached, rows
from tests.lifecycle.test_eviction_cloud import CLOUD, Remote, remote, the_cloud  # noqa: F401 - fixtures
from tests.replication.cloud import Fault

pytestmark = pytest.mark.slow

THIRTY_FOUR_DAYS = timedelta(days=34)


def a_pass(clinic: Clinic, begins: datetime = NOW, slices: int = 12) -> Pass:
    """Scrub until a pass has ended; how far it was before its end."""
    last = Pass(begun_utc="")
    for number in range(slices):
        now = scrub.scrub(clinic.box, begins + timedelta(minutes=number), most=4)
        with clinic.box.catalog.reading() as conn:
            standing = settings.get(conn, scrub.STANDING)
        last = now
        if standing["cursor"] == 0 and now.cursor:
            return last
    raise AssertionError("the pass does not end")


def problems(clinic: Clinic, at: datetime = NOW) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in health.status(clinic.box, at).problems:
        found.setdefault(each.code, []).append(each.subject)
    return found


def kept(clinic: Clinic, key: str) -> Any:
    with clinic.box.catalog.reading() as conn:
        return settings.get(conn, key)


def corrupt(clinic: Clinic) -> list[dict[str, Any]]:
    with clinic.box.catalog.reading() as conn:
        return [row for row in audit.export(conn) if row["action"] == "instance:corrupt"]


@pytest.fixture
def gone(remote: Remote) -> Remote:  # noqa: F811
    """All its images have left for the bucket."""
    evict_all(remote.clinic.box, CLOUD)
    assert here(remote.clinic.box) == 0
    remote.line.requests.clear()
    return remote


def gets(away: Remote) -> int:
    return away.line.count("GET", "/objects/")


def test_each_image_that_is_away_is_asked_for_once_in_a_pass_and_none_is_fetched(gone: Remote) -> None:
    found = a_pass(gone.clinic)
    assert (found.asked, found.unasked, found.lost, found.to_mend) == (11, (), (), ())
    assert gone.line.count("HEAD", "/objects/") == 11, "one small request for each"
    assert gets(gone) == 0
    assert kept(gone.clinic, asked.FAR)["asked_utc"] > kept(gone.clinic, scrub.FINISHED)["begun_utc"]
    assert (asked.FAR, asked.LOST) == (SCRUB_FAR, SCRUB_FAR_LOST)
    assert not {"bucket-lacks", "bucket-unasked", "damaged"} & problems(gone.clinic).keys()


def test_no_slice_asks_for_more_than_its_share(gone: Remote) -> None:
    scrub.scrub(gone.clinic.box, NOW, most=4)
    assert gone.line.count("HEAD", "/objects/") == 4


def test_what_is_here_is_not_asked_for(remote: Remote) -> None:  # noqa: F811
    remote.line.requests.clear()
    assert a_pass(remote.clinic).asked == 0
    assert remote.line.count("HEAD", "/objects/") == 0


@pytest.mark.parametrize("harm", ["removed", "a bit", "cut"])
def test_what_a_bucket_has_lost_or_altered_is_said_by_its_name_and_in_the_audit(
    gone: Remote, harm: str
) -> None:
    key, client = gone.key(2), gone.cloud.client()
    if harm == "removed":
        client.delete_object(Bucket=gone.bucket, Key=key)
    elif harm == "a bit":
        gone.damage(2)
    else:
        client.put_object(Bucket=gone.bucket, Key=key, Body=gone.cloud.get(gone.bucket, key)[:-1])
    gone.forget_earlier_versions(2)
    row = recorded(gone.clinic.box)[2]
    found = a_pass(gone.clinic)
    assert found.lost == (row.object_id,)
    assert found.asked == 10
    assert problems(gone.clinic)["bucket-lacks"] == ["cloud"]
    assert "damaged" in problems(gone.clinic)
    told = corrupt(gone.clinic)
    assert {each["subject"] for each in told} == {f"instance:{row.object_id}"}
    assert any("cloud" in each["details"] for each in told)
    a_pass(gone.clinic, NOW + timedelta(days=1))
    assert problems(gone.clinic)["bucket-lacks"] == ["cloud"], "as long as it is so"


@pytest.mark.parametrize("harm", ["removed", "a bit", "cut"])
def test_what_was_written_over_or_removed_is_taken_from_its_earlier_version_and_written_again(
    gone: Remote, harm: str
) -> None:
    """Whoever holds a key of the bucket has done it: the version of the receipt is there still, locked."""
    key, client = gone.key(2), gone.cloud.client()
    whole = gone.cloud.get(gone.bucket, key)
    if harm == "removed":
        client.delete_object(Bucket=gone.bucket, Key=key)
    elif harm == "a bit":
        gone.damage(2)
    else:
        client.put_object(Bucket=gone.bucket, Key=key, Body=whole[:-1])
    found = a_pass(gone.clinic)
    assert (found.lost, found.to_mend, found.copies) == ((), (), 1)
    assert gone.cloud.get(gone.bucket, key) == whole
    assert not {"bucket-lacks", "damaged"} & problems(gone.clinic).keys()
    gone.line.requests.clear()
    assert a_pass(gone.clinic, NOW + timedelta(days=1)).copies == 0
    assert gets(gone) == 0, "its receipt names the version that is there now"


@pytest.mark.parametrize("harm", ["removed", "a bit"])
def test_an_image_is_shown_from_its_earlier_version_and_that_somebody_altered_it_is_not_hidden_by_that(
    gone: Remote, harm: str
) -> None:
    clinic, key = gone.clinic, gone.key(2)
    whole = gone.cloud.get(gone.bucket, key)
    if harm == "removed":
        gone.cloud.client().delete_object(Bucket=gone.bucket, Key=key)
    else:
        gone.damage(2)
    row = recorded(clinic.box)[2]
    recall.open_object(clinic.box, row.object_id, row.key_id, row.sealed_bytes).close()
    with clinic.box.catalog.reading() as conn:
        (told,) = [each for each in audit.export(conn) if each["action"] == "instance:mend"]
    assert told["subject"] == f"instance:{row.object_id}"
    assert recall.WRITTEN_OVER in told["details"] and "cloud" in told["details"]
    assert kept(clinic, recall.ALTERED) == [row.object_id]

    a_pass(clinic)
    assert gone.cloud.get(gone.bucket, key) == whole, "it is there again, before the earlier version ends"
    assert kept(clinic, recall.ALTERED) is None
    assert reached(clinic.box) == as_sent(*IMAGES)


def test_what_was_altered_is_asked_for_until_its_bucket_answers_and_is_not_counted_as_away(
    gone: Remote,
) -> None:
    clinic, key = gone.clinic, gone.key(2)
    whole = gone.cloud.get(gone.bucket, key)
    gone.damage(2)
    row = recorded(clinic.box)[2]
    recall.open_object(clinic.box, row.object_id, row.key_id, row.sealed_bytes).close()
    gone.line.down = True
    found = a_pass(clinic)
    assert len(found.unasked) == 10 and row.object_id not in found.unasked
    assert kept(clinic, recall.ALTERED) == [row.object_id]
    gone.line.down = False
    a_pass(clinic, NOW + timedelta(days=1))
    assert gone.cloud.get(gone.bucket, key) == whole
    assert kept(clinic, recall.ALTERED) is None


def test_what_is_spoilt_on_the_way_is_altered_by_nobody(gone: Remote) -> None:
    key, spoilt = gone.key(10), [Fault.SHORT_ANSWER]
    gone.line.fault = lambda asked: spoilt.pop() if spoilt and asked.path.endswith(key) else None
    assert reached(gone.clinic.box) == as_sent(*IMAGES)
    assert spoilt == []
    assert kept(gone.clinic, recall.ALTERED) is None


def test_whoever_owns_the_bucket_brings_an_earlier_version_back_and_it_is_said_no_longer(
    gone: Remote,
) -> None:
    key, client = gone.key(2), gone.cloud.client()
    whole = gone.cloud.get(gone.bucket, key)
    gone.damage(2)
    gone.forget_earlier_versions(2)
    a_pass(gone.clinic)
    client.put_object(Bucket=gone.bucket, Key=key, Body=whole)
    a_pass(gone.clinic, NOW + timedelta(days=1))
    assert not {"bucket-lacks", "damaged"} & problems(gone.clinic).keys()
    row = recorded(gone.clinic.box)[2]
    recall.open_object(gone.clinic.box, row.object_id, row.key_id, row.sealed_bytes).close()


def test_the_same_bytes_as_another_version_are_read_once_and_believed_from_then_on(gone: Remote) -> None:
    key = gone.key(3)
    gone.cloud.client().put_object(Bucket=gone.bucket, Key=key, Body=gone.cloud.get(gone.bucket, key))
    found = a_pass(gone.clinic)
    assert (found.asked, found.lost, gets(gone)) == (11, (), 1)
    gone.line.requests.clear()
    found = a_pass(gone.clinic, NOW + timedelta(days=1))
    assert (found.asked, found.lost, gets(gone)) == (11, (), 0)
    assert rows(gone.clinic.box) == 11, "and it stays away"


@pytest.mark.parametrize("harm", ["removed", "a bit"])
def test_another_archive_that_has_it_is_tried_and_the_bucket_gets_it_again(
    remote: Remote,  # noqa: F811
    tmp_path: Path,
    harm: str,
) -> None:
    box = remote.clinic.box
    (tmp_path / "usb").mkdir()
    disk = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))
    copy_everything_to(remote.clinic, disk)
    evict_all(box, CLOUD)
    row = recorded(box)[2]
    if harm == "removed":
        remote.cloud.client().delete_object(Bucket=remote.bucket, Key=remote.key(2))
    else:
        remote.damage(2)
    found = a_pass(remote.clinic)
    assert (found.lost, found.to_mend, found.copies) == ((), (), 1)
    assert not {"bucket-lacks", "damaged"} & problems(remote.clinic).keys()
    with box.catalog.reading() as conn:
        place = destinations.destination(conn, "cloud")
        assert place is not None
        proof = receipts.of_object(conn, row.object_id)[place.id]
    now = remote.cloud.client().head_object(Bucket=remote.bucket, Key=remote.key(2))
    assert proof["version_id"] == now["VersionId"], "the receipt is of what is there now"
    remote.line.requests.clear()
    assert a_pass(remote.clinic, NOW + timedelta(days=1)).lost == ()
    assert reached(box) == as_sent(*IMAGES)


def copy_everything_to(clinic: Clinic, disk: DestinationSettings) -> None:
    from appliance.catalog import deliveries, instances
    from appliance.model import InstanceId, Owed

    with clinic.box.catalog.transaction() as tx:
        number = destinations.add(tx, disk)
        for instance_id, *_ in instances.objects_after(tx, InstanceId(0), 100):
            deliveries.owe(tx, instance_id, [Owed(number, 0)], NOW)
    clinic.deliver()


def test_a_bucket_that_does_not_answer_is_no_finding_and_what_is_owed_is_asked_when_it_is_back(
    gone: Remote,
) -> None:
    a_pass(gone.clinic)
    gone.line.down = True
    found = a_pass(gone.clinic, NOW + timedelta(days=10))
    assert (found.asked, len(found.unasked), found.lost, found.to_mend) == (0, 11, (), ())
    assert kept(gone.clinic, scrub.FINISHED)["finished_utc"] > (NOW + timedelta(days=10)).isoformat()
    soon, late = NOW + timedelta(days=20), NOW + THIRTY_FOUR_DAYS
    assert not {"bucket-unasked", "bucket-lacks", "damaged"} & problems(gone.clinic, soon).keys()
    assert "bucket-unasked" in problems(gone.clinic, late)
    gone.line.down = False
    a_pass(gone.clinic, late)
    assert "bucket-unasked" not in problems(gone.clinic, late + timedelta(hours=1))
    assert kept(gone.clinic, asked.FAR).get("unasked") is None


def test_a_bucket_that_is_away_for_one_slice_makes_no_pass_less_than_whole(gone: Remote) -> None:
    gone.line.down = True
    first = scrub.scrub(gone.clinic.box, NOW, most=4)
    assert len(first.unasked) == 4
    assert len(gone.line.requests) <= 3, "it is left alone for the slice, not asked for each"
    gone.line.down = False
    found = a_pass(gone.clinic, NOW + timedelta(minutes=10))
    assert (found.asked, found.unasked) == (11, ())
    assert "asked_utc" in kept(gone.clinic, asked.FAR)


@pytest.mark.parametrize(
    ("told", "receipt", "words"),
    [
        (Told(10), {}, ""),
        (Told(10, "e", "v", "s"), {"proof": "manifest"}, ""),
        (Told(10, "e", "v", "s"), {"etag": "e", "version_id": "v", "sha256": "s"}, ""),
        (Told(10, "e", "", ""), {"etag": "e", "version_id": "v", "sha256": "s"}, ""),
        (Told(9, "e", "v", "s"), {"etag": "e", "version_id": "v", "sha256": "s"}, "length"),
        (Told(10, "f", "v", "s"), {"etag": "e", "version_id": "v", "sha256": "s"}, "content"),
        (Told(10, "e", "w", "s"), {"etag": "e", "version_id": "v", "sha256": "s"}, "written over"),
        (Told(10, "e", "v", "t"), {"etag": "e", "version_id": "v", "sha256": "s"}, "check sum"),
    ],
)
def test_what_a_store_tells_is_held_to_the_receipt(told: Told, receipt: dict[str, str], words: str) -> None:
    assert (words in differs(told, receipt, 10)) if words else not differs(told, receipt, 10)


@pytest.mark.parametrize(
    ("told", "receipt", "can_be"),
    [
        (Told(10), {}, True),
        (Told(9), {}, False),
        (Told(10, "f", "w", ""), {"etag": "e", "version_id": "v", "sha256": "s"}, False),
        (Told(10, "f", "w", "s"), {"etag": "e", "version_id": "v", "sha256": "s"}, True),
        (Told(10, "e", "w", ""), {"etag": "e", "version_id": "v", "sha256": "s"}, True),
        (Told(9, "e", "v", "s"), {"etag": "e", "version_id": "v", "sha256": "s"}, False),
        (Told(10, "f", "w", "t"), {"proof": "manifest"}, True),
    ],
)
def test_what_a_store_tells_rules_the_content_out_or_does_not(
    told: Told, receipt: dict[str, str], *, can_be: bool
) -> None:
    assert may_be(told, receipt, 10) is can_be
