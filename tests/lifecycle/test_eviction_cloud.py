"""Images that leave for a bucket come back over a line that breaks, and none leaves for a bucket that doesn't show it whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from appliance.errors import Corrupt, OperatorNeeded, Transient
from appliance.lifecycle import eviction, returning, scrub
from appliance.lifecycle.eviction import Evicted
from appliance.replication import recall
from appliance.replication.destinations.archive import object_key
from tests.backup.conftest import IMAGES, Clinic, as_sent, clinic_in
from tests.boxes import recorded
from tests.lifecycle.evicting import ANY, NOW, at_now, evict_all, grow_old, here, only_at, reached, rows
from tests.replication.cloud import Cloud, Fault, Line, Request, cloud, line, settings

pytestmark = pytest.mark.slow

CLOUD = replace(ANY, always_there=frozenset({"s3"}))


@dataclass(frozen=True)
class Remote:
    """A clinic whose images have grown old, the line to its bucket, and the bucket as whoever owns it sees it."""

    clinic: Clinic
    line: Line
    cloud: Cloud
    bucket: str

    def key(self, number: int) -> str:
        return object_key(recorded(self.clinic.box)[number].object_id)

    def damage(self, number: int) -> None:
        """One bit of an object is not what was written."""
        data = bytearray(self.cloud.get(self.bucket, self.key(number)))
        data[-1] ^= 1
        self.cloud.client().put_object(Bucket=self.bucket, Key=self.key(number), Body=bytes(data))

    def forget_earlier_versions(self, number: int) -> None:
        """Only what is there now is left of an object; of one that was removed, nothing."""
        client, key = self.cloud.client(), self.key(number)
        page = client.list_object_versions(Bucket=self.bucket, Prefix=key)
        for each in page.get("Versions", ()):
            if not each["IsLatest"]:
                client.delete_object(Bucket=self.bucket, Key=key, VersionId=each["VersionId"])

    def break_reading(self, fault: Fault, number: int) -> None:
        """From now on an object can't be read over the line; the others can."""
        key = self.key(number)
        self.line.fault = lambda asked: fault if asked.method == "GET" and asked.path.endswith(key) else None


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def remote(tmp_path: Path, the_cloud: Cloud) -> Iterator[Remote]:
    bucket = the_cloud.new_bucket(versioned=True)
    with (
        line(the_cloud.port) as the_line,
        clinic_in(tmp_path / "before", settings(the_line.url, bucket)) as clinic,
    ):
        clinic.receive(*IMAGES)
        clinic.deliver()
        grow_old(clinic.box)
        yield Remote(clinic, the_line, the_cloud, bucket)


def test_what_leaves_for_a_bucket_comes_back_byte_for_byte(remote: Remote) -> None:
    box = remote.clinic.box
    assert evict_all(box, CLOUD) == Evicted(4, 11, total(remote), 0)
    assert here(box) == 0 and rows(box) == 11
    assert reached(box) == as_sent(*IMAGES)
    assert here(box) == 11 and rows(box) == 0


def total(remote: Remote) -> int:
    return sum(row.sealed_bytes for row in recorded(remote.clinic.box))


@pytest.mark.parametrize("fault", [Fault.HANG_UP, Fault.CUT_ANSWER, Fault.UNAVAILABLE])
def test_a_line_that_breaks_while_an_image_comes_back_loses_nothing(remote: Remote, fault: Fault) -> None:
    """The tenth image is the large one: it comes in several pieces."""
    box = remote.clinic.box
    evict_all(box, CLOUD)
    remote.break_reading(fault, 10)
    row = recorded(box)[10]
    with pytest.raises(Transient):
        recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes)
    assert not recall.is_here(box, row.object_id), "half of it never gets its name"
    with pytest.raises(Transient):
        returning.bring_back(box, NOW)
    remote.line.fault = lambda _: None
    eviction.settle(box, NOW)
    returning.bring_back(box, NOW)
    assert reached(box) == as_sent(*IMAGES)
    assert rows(box) == 0


@pytest.mark.parametrize("fault", [Fault.PAGE, Fault.ABSENT_PAGE, Fault.NO_BUCKET])
def test_who_answers_in_the_place_of_the_bucket_writes_no_image_off(remote: Remote, fault: Fault) -> None:
    """Each image that was asked for meanwhile would be missed here, and so many of them hold the ransomware guard."""
    box = remote.clinic.box
    evict_all(box, CLOUD)
    remote.line.fault = lambda _: fault
    with pytest.raises((Transient, OperatorNeeded)):
        returning.bring_back(box, NOW)
    assert rows(box) == 11, "all of them are known to be away"
    remote.line.fault = lambda _: None
    returning.bring_back(box, NOW)
    assert reached(box) == as_sent(*IMAGES)
    assert rows(box) == 0


def test_an_image_that_is_spoilt_on_the_way_is_asked_for_again(remote: Remote) -> None:
    box, key = remote.clinic.box, remote.key(10)
    evict_all(box, CLOUD)
    spoilt = [Fault.SHORT_ANSWER]
    remote.line.fault = lambda asked: spoilt.pop() if spoilt and asked.path.endswith(key) else None
    returning.bring_back(box, NOW)
    assert spoilt == []
    assert reached(box) == as_sent(*IMAGES)
    assert rows(box) == 0


@pytest.mark.parametrize("fault", [Fault.HANG_UP, Fault.CUT_ANSWER])
def test_a_line_that_breaks_during_the_proof_keeps_the_study_here(remote: Remote, fault: Fault) -> None:
    remote.break_reading(fault, 10)
    assert evict_all(remote.clinic.box, CLOUD).kept == 1
    assert recall.is_here(remote.clinic.box, recorded(remote.clinic.box)[10].object_id)


def test_a_line_that_breaks_after_the_decision_takes_nothing_back(remote: Remote) -> None:
    """What was proven is proven: the files may go while the bucket can't be asked."""

    def cut() -> None:
        remote.line.down = True

    done = evict_all(remote.clinic.box, CLOUD, only_at("written down", cut))
    assert done.images and done.kept, "one study was proven before the cut, the others are not"
    remote.line.down = False
    assert reached(remote.clinic.box) == as_sent(*IMAGES)


def test_a_study_stays_while_one_bit_of_its_object_in_the_bucket_differs(remote: Remote) -> None:
    box = remote.clinic.box
    remote.damage(0)
    done = evict_all(box, CLOUD)
    assert (done.studies, done.kept) == (3, 1)
    assert recall.is_here(box, recorded(box)[0].object_id)
    assert reached(box) == as_sent(*IMAGES)


def test_an_object_that_a_bucket_has_lost_or_damaged_since_is_told_and_never_shown(remote: Remote) -> None:
    box = remote.clinic.box
    evict_all(box, CLOUD)
    remote.damage(3)
    remote.cloud.client().delete_object(Bucket=remote.bucket, Key=remote.key(10))
    for number in (3, 10):
        remote.forget_earlier_versions(number)
        row = recorded(box)[number]
        with pytest.raises(Corrupt):
            recall.open_object(box, row.object_id, row.key_id, row.sealed_bytes)
        assert not recall.is_here(box, row.object_id)
    assert rows(box) == 9, "those two are missed from now on"
    returning.bring_back(box, NOW)
    assert here(box) == 9


def test_an_overwritten_object_comes_as_the_version_that_was_proven(remote: Remote) -> None:
    """Whoever has the box's key may overwrite; a bucket that keeps versions has the one of the receipt."""
    evict_all(remote.clinic.box, CLOUD)
    remote.damage(0)
    assert reached(remote.clinic.box) == as_sent(*IMAGES)


def test_nothing_leaves_for_a_bucket_that_is_out_of_reach(remote: Remote) -> None:
    remote.line.down = True
    assert evict_all(remote.clinic.box, CLOUD) == Evicted(kept=4)
    assert here(remote.clinic.box) == 11


def test_a_proof_reads_each_image_once_and_nothing_else(remote: Remote) -> None:
    with remote.line.lock:
        remote.line.requests.clear()
    evict_all(remote.clinic.box, CLOUD)
    asked: list[Request] = [each for each in remote.line.requests if each.method == "GET"]
    assert sorted(each.path.partition("objects/")[2] for each in asked) == sorted(
        remote.key(number).partition("objects/")[2] for number in range(11)
    )
    assert at_now() == NOW


def test_a_damaged_object_is_mended_from_the_bucket(remote: Remote) -> None:
    """As from a disk: what is in the bucket takes its place; what differs there too is reported, and stays."""
    box = remote.clinic.box
    first, second = (box.objects.path(recorded(box)[number].object_id) for number in (3, 5))
    whole = first.read_bytes()
    remote.damage(5)
    remote.forget_earlier_versions(5)
    for path in (first, second):
        path.write_bytes(path.read_bytes()[:-1])
    found = scrub.scrub(box, NOW)
    assert (found.repaired, found.lost) == (1, (second.stem,))
    assert first.read_bytes() == whole
    assert second.exists()
