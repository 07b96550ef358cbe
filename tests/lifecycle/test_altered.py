"""Somebody has written over, or removed, images in a bucket where all could be mended: a person is told, until the key there is another one."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import health
from appliance.catalog import alterations, destinations
from appliance.errors import Resting
from appliance.health import Problem
from appliance.model import DestinationSettings
from appliance.replication import recall
from appliance.replication.destinations import prepare
from tests.backup.conftest import IMAGES, as_sent
from tests.boxes import recorded
from tests.lifecycle.evicting import NOW, evict_all, reached
from tests.lifecycle.test_asked import a_pass, copy_everything_to, gone, kept  # noqa: F401 - a fixture
from tests.lifecycle.test_earlier_versions import harm_deep
from tests.lifecycle.test_eviction_cloud import CLOUD, Remote, remote, the_cloud  # noqa: F401 - fixtures
from tests.replication.cloud import Fault, come_up

pytestmark = pytest.mark.slow

TOMORROW = NOW + timedelta(days=1)
HARMS = ("removed", "a bit")


def harm(away: Remote, how: str, number: int = 2) -> bytes:
    """What somebody with the key does; what was there."""
    whole = away.cloud.get(away.bucket, away.key(number))
    if how == "removed":
        away.cloud.client().delete_object(Bucket=away.bucket, Key=away.key(number))
    else:
        away.damage(number)
    return whole


def look_at(away: Remote, number: int = 2) -> None:
    row = recorded(away.clinic.box)[number]
    recall.open_object(away.clinic.box, row.object_id, row.key_id, row.sealed_bytes).close()


def told(away: Remote, at: datetime = NOW) -> list[Problem]:
    return [each for each in health.status(away.clinic.box, at).problems if each.code == "bucket-altered"]


def count(away: Remote, at: datetime = NOW) -> int:
    """How many images the one problem says."""
    (problem,) = told(away, at)
    assert problem.subject == "cloud"
    return int(problem.words.partition("this box: ")[2].partition(" ")[0])


def change_key(away: Remote) -> None:
    with away.clinic.box.catalog.transaction() as tx:
        place = destinations.destination(tx, "cloud")
        assert place is not None
        destinations.change(tx, "cloud", {**place.options, "access_key_id": "another"}, "another secret")


@pytest.mark.parametrize("how", HARMS)
def test_an_image_that_was_opened_and_then_mended_in_its_bucket_is_told_once_until_the_key_is_changed(
    gone: Remote,  # noqa: F811
    how: str,
) -> None:
    assert not told(gone)
    whole = harm(gone, how)
    look_at(gone)
    assert count(gone) == 1
    first = told(gone)[0].words
    a_pass(gone.clinic)
    assert gone.cloud.get(gone.bucket, gone.key(2)) == whole, "it is there again"
    assert told(gone)[0].words == first, "and is the same one"
    a_pass(gone.clinic, TOMORROW)
    assert count(gone, TOMORROW) == 1
    change_key(gone)
    assert not told(gone)
    assert reached(gone.clinic.box) == as_sent(*IMAGES)


@pytest.mark.parametrize("how", HARMS)
def test_what_is_found_when_its_bucket_is_asked_is_told_too(gone: Remote, how: str) -> None:  # noqa: F811
    harm(gone, how)
    harm(gone, how, 3)
    found = a_pass(gone.clinic)
    assert (found.copies, found.lost) == (2, ())
    assert count(gone) == 2, "it was recalled and mended in one step"
    harm(gone, how, 3)  # once more
    assert a_pass(gone.clinic, TOMORROW).copies == 1
    assert count(gone, TOMORROW) == 2, "images, and not how often each"


@pytest.mark.parametrize("how", HARMS)
def test_the_key_is_changed_between_finding_it_and_mending_it(gone: Remote, how: str) -> None:  # noqa: F811
    whole = harm(gone, how)
    look_at(gone)
    change_key(gone)
    assert not told(gone)
    a_pass(gone.clinic)
    assert gone.cloud.get(gone.bucket, gone.key(2)) == whole
    assert not told(gone), "it is the one that was done with the key from before"


def test_what_was_done_before_the_key_was_changed_is_mended_and_what_is_done_after_is_told(
    gone: Remote,  # noqa: F811
) -> None:
    whole = harm(gone, "a bit")
    time.sleep(1.1)  # a store says in seconds when something was written
    change_key(gone)
    a_pass(gone.clinic)
    assert gone.cloud.get(gone.bucket, gone.key(2)) == whole
    assert not told(gone)
    harm(gone, "a bit", 3)
    a_pass(gone.clinic, TOMORROW)
    assert count(gone, TOMORROW) == 1, "whoever did that has the new one"


@pytest.mark.parametrize("how", HARMS)
def test_what_lies_deep_as_its_earlier_version_is_told_at_once_and_is_one_when_it_has_come(
    gone: Remote,  # noqa: F811
    how: str,
) -> None:
    whole = gone.cloud.get(gone.bucket, gone.key(2))
    version = harm_deep(gone, 2, how)
    for _ in range(2):
        with pytest.raises(Resting):
            look_at(gone)
        assert count(gone) == 1
    first = told(gone)[0].words
    come_up(gone.bucket, gone.key(2), version_id=version)
    a_pass(gone.clinic)
    a_pass(gone.clinic, TOMORROW)
    assert gone.cloud.get(gone.bucket, gone.key(2)) == whole
    assert told(gone, TOMORROW)[0].words == first


def test_it_ends_after_thirty_five_days(gone: Remote) -> None:  # noqa: F811
    harm(gone, "a bit")
    look_at(gone)
    done = datetime.now(UTC)
    assert told(gone, done + timedelta(days=34, hours=23))
    assert not told(gone, done + alterations.REMEMBERED)


def test_a_bucket_that_was_copied_is_altered_by_nobody_even_if_the_line_spoils_what_is_read(
    gone: Remote,  # noqa: F811
) -> None:
    key = gone.key(10)
    whole = gone.cloud.get(gone.bucket, key)
    gone.cloud.client().put_object(Bucket=gone.bucket, Key=key, Body=whole)
    spoilt = [Fault.SHORT_ANSWER]
    gone.line.fault = lambda asked: (
        spoilt.pop() if spoilt and asked.method == "GET" and asked.path.endswith(key) else None
    )
    found = a_pass(gone.clinic)
    assert (found.asked, found.copies, found.lost, spoilt) == (11, 0, (), [])
    assert not told(gone)


def test_what_nobody_has_whole_is_lost_and_not_counted_among_what_was_mended(gone: Remote) -> None:  # noqa: F811
    gone.damage(2)
    gone.forget_earlier_versions(2)
    harm(gone, "a bit", 3)
    assert len(a_pass(gone.clinic).lost) == 1
    assert count(gone) == 1
    assert "bucket-lacks" in {each.code for each in health.status(gone.clinic.box, NOW).problems}


@pytest.mark.parametrize("how", HARMS)
def test_it_is_told_of_the_bucket_that_was_altered_and_not_of_the_archive_that_had_it(
    remote: Remote,  # noqa: F811
    tmp_path: Path,
    how: str,
) -> None:
    (tmp_path / "usb").mkdir()
    disk = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path / "usb")}))
    copy_everything_to(remote.clinic, disk)
    evict_all(remote.clinic.box, CLOUD)
    harm(remote, how)
    assert a_pass(remote.clinic).copies == 1
    assert kept(remote.clinic, recall.ALTERED) is None, "nobody took an earlier version"
    assert count(remote) == 1
