"""What was sent before a bucket kept versions has a receipt that names none: it is there still once versions are kept and somebody writes over it.

The gateway's tests (tests/replication/test_gateway.py) ask the same of a server that is not moto.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import Corrupt, Resting
from appliance.lifecycle import eviction, returning
from appliance.replication import recall
from appliance.replication.destinations.s3 import S3Destination
from tests.backup.conftest import IMAGES, as_sent, clinic_in
from tests.lifecycle.evicting import NOW, evict_all, grow_old, here, reached, rows
from tests.lifecycle.test_asked import a_pass, kept, problems
from tests.lifecycle.test_earlier_versions import HARM, open_one, told, version_of
from tests.lifecycle.test_eviction_cloud import CLOUD, Remote, the_cloud  # noqa: F401 - a fixture
from tests.replication.cloud import Cloud, Fault, come_up, line, settings, sink_version

pytestmark = pytest.mark.slow


@pytest.fixture
def plain(tmp_path: Path, the_cloud: Cloud) -> Iterator[Remote]:  # noqa: F811
    """All its images have left for a bucket that keeps no versions."""
    bucket = the_cloud.new_bucket()
    with (
        line(the_cloud.port) as the_line,
        clinic_in(tmp_path / "before", settings(the_line.url, bucket)) as clinic,
    ):
        clinic.receive(*IMAGES)
        clinic.deliver()
        grow_old(clinic.box)
        evict_all(clinic.box, CLOUD)
        assert here(clinic.box) == 0
        the_line.requests.clear()
        yield Remote(clinic, the_line, the_cloud, bucket)


def keep_versions(away: Remote, status: str = "Enabled") -> None:
    """Whoever owns the bucket has it keep versions from now on, or no longer."""
    away.cloud.client().put_bucket_versioning(Bucket=away.bucket, VersioningConfiguration={"Status": status})


def harm_one(away: Remote, number: int, harm: str) -> None:
    if harm == "removed":
        away.cloud.client().delete_object(Bucket=away.bucket, Key=away.key(number))
    else:
        away.damage(number)


def versions_asked_for(away: Remote) -> list[str]:
    """Of which versions something was asked over the line."""
    return [each.query for each in away.line.requests if "versionId" in each.query]


@HARM
def test_it_is_taken_from_before_versions_were_kept_and_written_again_as_a_version(
    plain: Remote, harm: str
) -> None:
    key = plain.key(2)
    whole = plain.cloud.get(plain.bucket, key)
    assert version_of(plain, 2) == ""
    keep_versions(plain)
    harm_one(plain, 2, harm)
    open_one(plain, 2)
    (mended,) = told(plain, "instance:mend")
    assert recall.WRITTEN_OVER in mended["details"] and "cloud" in mended["details"]
    assert kept(plain.clinic, recall.ALTERED)

    a_pass(plain.clinic)
    assert plain.cloud.get(plain.bucket, key) == whole, "it is there again"
    assert kept(plain.clinic, recall.ALTERED) is None
    assert version_of(plain, 2), "its receipt names what is there now"
    assert reached(plain.clinic.box) == as_sent(*IMAGES)


@HARM
def test_a_pass_that_finds_it_mends_the_bucket(plain: Remote, harm: str) -> None:
    key = plain.key(2)
    whole = plain.cloud.get(plain.bucket, key)
    keep_versions(plain)
    harm_one(plain, 2, harm)
    found = a_pass(plain.clinic)
    assert (found.lost, found.to_mend, found.copies) == ((), (), 1)
    assert plain.cloud.get(plain.bucket, key) == whole
    assert not {"bucket-lacks", "damaged"} & problems(plain.clinic).keys()


@HARM
def test_a_bucket_that_keeps_no_versions_is_asked_for_none(plain: Remote, harm: str) -> None:
    harm_one(plain, 2, harm)
    with pytest.raises(Corrupt, match=recall.NOT_WHOLE):
        open_one(plain, 2)
    assert versions_asked_for(plain) == []
    assert rows(plain.clinic.box) == 10 and len(told(plain, "instance:corrupt")) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault.FORBIDDEN, Fault.NOT_IMPLEMENTED, Fault.BAD_REQUEST, Fault.NOT_THERE],
    ids=lambda each: each.name,
)
def test_a_store_that_does_not_say_whether_it_keeps_versions_is_asked_for_none(
    plain: Remote, fault: Fault
) -> None:
    harm_one(plain, 2, "removed")
    plain.line.fault = lambda asked: fault if "versioning" in asked.query else None
    with pytest.raises(Corrupt, match=recall.NOT_WHOLE):
        open_one(plain, 2)
    assert versions_asked_for(plain) == []


@HARM
def test_what_was_altered_while_versions_were_suspended_is_lost_and_never_shown(
    plain: Remote, harm: str
) -> None:
    """That takes the place of what was written before: nothing is left of it."""
    keep_versions(plain)
    keep_versions(plain, "Suspended")
    harm_one(plain, 2, harm)
    with pytest.raises(Corrupt, match=recall.NOT_WHOLE):
        open_one(plain, 2)
    assert rows(plain.clinic.box) == 10 and told(plain, "instance:mend") == []


def test_what_is_spoilt_on_the_way_was_altered_by_nobody(plain: Remote) -> None:
    keep_versions(plain)
    key, spoilt = plain.key(10), [Fault.SHORT_ANSWER]
    plain.line.fault = lambda asked: spoilt.pop() if spoilt and asked.path.endswith(key) else None
    assert reached(plain.clinic.box) == as_sent(*IMAGES)
    assert spoilt == []
    assert kept(plain.clinic, recall.ALTERED) is None and told(plain, "instance:mend") == []


def test_a_bucket_says_whether_it_keeps_versions_or_ever_did(plain: Remote) -> None:
    bucket = S3Destination.from_settings(settings(plain.cloud.url, plain.bucket))
    found = [bucket.keeps_versions()]
    for status in ("Enabled", "Suspended"):
        keep_versions(plain, status)
        found.append(bucket.keeps_versions())
    assert found == [False, True, True]


def test_where_it_lies_deep_it_is_asked_for(plain: Remote) -> None:
    """moto alone has deep archive."""
    keep_versions(plain)
    harm_one(plain, 2, "removed")
    sink_version(plain.bucket, plain.key(2), "null")
    for _ in range(2):
        with pytest.raises(Resting, match="it is here within 12 hours"):
            open_one(plain, 2)
    (asked,) = [each for each in plain.line.requests if each.method == "POST"]
    assert "versionId=null" in asked.query
    returning.bring_wanted(plain.clinic.box)
    come_up(plain.bucket, plain.key(2), version_id="null")
    eviction.settle(plain.clinic.box, NOW)
    assert returning.bring_wanted(plain.clinic.box) == 1
    assert len(told(plain, "instance:mend")) == 1
