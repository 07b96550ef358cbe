"""What is answered in the place of a bucket, or half answered, says nothing of what lies there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from appliance.errors import ApplianceError, OperatorNeeded, Transient, Unknown
from appliance.replication.destinations import Parcel
from appliance.replication.destinations.archive import object_key
from appliance.replication.destinations.s3 import S3Destination
from appliance.replication.destinations.s3_answers import written_utc
from tests.instances import Instance
from tests.replication.cloud import Cloud, Fault, Line, Request
from tests.replication.parcels import parcels_in
from tests.replication.test_s3 import MIB, destination_at, in_parts, send

KEY = "manifests/one.sealed"
TEXT = bytes(range(256)) * 40


@pytest.fixture
def there(the_cloud: Cloud, the_line: Line, bucket: str) -> S3Destination:
    """A bucket with a document."""
    destination_at(the_cloud.url, bucket).put_document(KEY, TEXT)
    return destination_at(the_line.url, bucket)


def once(fault: Fault, method: str = "GET") -> Callable[[Request], Fault | None]:
    """The fault at the first request of that kind."""
    left = [fault]
    return lambda request: left.pop() if request.method == method and left else None


@pytest.mark.parametrize("fault", [Fault.PAGE, Fault.ABSENT_PAGE, Fault.SHORT_ANSWER])
def test_one_wrong_answer_is_asked_for_again(there: S3Destination, the_line: Line, fault: Fault) -> None:
    the_line.fault = once(fault)
    assert there.document(KEY) == TEXT
    the_line.fault = once(fault)
    if fault is not Fault.SHORT_ANSWER:  # where it is found out by whoever knows what it should be
        assert b"".join(there.blocks(KEY)) == TEXT


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.PAGE, Transient),
        (Fault.ABSENT_PAGE, OperatorNeeded),
        (Fault.NO_BUCKET, OperatorNeeded),
        (Fault.CUT_ANSWER, Transient),
        (Fault.RESET_ANSWER, Transient),
        (Fault.UNAVAILABLE, Transient),
    ],
)
def test_who_answers_in_its_place_does_not_say_that_a_document_is_gone(
    there: S3Destination, the_line: Line, fault: Fault, kind: type[ApplianceError]
) -> None:
    """An image that had left this disk would count as lost, and many of them as a disaster."""
    the_line.fault = lambda _: fault
    for ask in (lambda: there.document(KEY), lambda: b"".join(there.blocks(KEY))):
        with pytest.raises(kind) as error:
            ask()
        assert not isinstance(error.value, Unknown)
        assert KEY not in str(error.value)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(Fault.PAGE, Transient), (Fault.ABSENT_PAGE, OperatorNeeded), (Fault.NO_BUCKET, OperatorNeeded)],
)
def test_nor_when_it_is_only_asked_of_it(
    there: S3Destination, the_line: Line, fault: Fault, kind: type[ApplianceError]
) -> None:
    the_line.fault = lambda _: fault
    with pytest.raises(kind) as error:
        there.told(KEY)
    assert not isinstance(error.value, Unknown)
    the_line.fault = once(fault, "HEAD")
    with pytest.raises(Transient):
        there.told(KEY)
    assert there.told(KEY).bytes == len(TEXT)
    with pytest.raises(Unknown):
        there.told("manifests/none.sealed")


def test_what_the_store_itself_does_not_hold_is_unknown_by_one_request(
    there: S3Destination, the_line: Line
) -> None:
    with pytest.raises(Unknown):
        there.document("manifests/none.sealed")
    assert len(the_line.requests) == 1


def test_what_is_damaged_there_is_given_as_it_lies_and_asked_for_twice(
    there: S3Destination, the_cloud: Cloud, the_line: Line, bucket: str
) -> None:
    metadata = the_cloud.client().head_object(Bucket=bucket, Key=KEY)["Metadata"]
    the_cloud.client().put_object(Bucket=bucket, Key=KEY, Body=TEXT[:-1], Metadata=metadata)
    assert there.document(KEY) == TEXT[:-1]
    assert the_line.count("GET") == 2


def test_a_document_of_earlier_software_has_no_sum_beside_it_and_is_read_once(
    there: S3Destination, the_cloud: Cloud, the_line: Line, bucket: str
) -> None:
    the_cloud.client().put_object(Bucket=bucket, Key=KEY, Body=TEXT[:-1])
    assert there.document(KEY) == TEXT[:-1]
    assert the_line.count("GET") == 1


@pytest.mark.parametrize(
    "fault", [Fault.PAGE, Fault.SHORT_ANSWER, Fault.ERROR_IN_200, Fault.CUT_ANSWER, Fault.UNAVAILABLE]
)
def test_half_a_page_of_a_list_is_no_list(there: S3Destination, the_line: Line, fault: Fault) -> None:
    the_line.fault = once(fault)
    with pytest.raises(Transient):
        list(there.documents("manifests/"))
    assert [each.key for each in there.documents("manifests/")] == [KEY]


def test_a_list_whose_second_page_fails_does_not_look_whole(
    there: S3Destination, the_line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")  # a page of the server's
    for number in range(3):
        there.put_document(f"snapshots/{number}", b"x")
    assert len(list(there.documents("snapshots/"))) == 3
    the_line.fault = lambda asked: Fault.UNAVAILABLE if "continuation-token" in asked.query else None
    with pytest.raises(Transient):
        list(there.documents("snapshots/"))
    with pytest.raises(Transient):
        there.newest("snapshots/", "")


@pytest.mark.parametrize("fault", [Fault.PAGE, Fault.ERROR_IN_200, Fault.CUT, Fault.RESET, Fault.LOSE_ANSWER])
def test_a_document_whose_writing_fails_is_the_old_one_or_the_new_one(
    there: S3Destination, the_line: Line, fault: Fault
) -> None:
    the_line.fault = once(fault, "PUT")
    with pytest.raises(Transient):
        there.put_document(KEY, TEXT + b"new")
    assert there.document(KEY) == (TEXT + b"new" if fault is Fault.LOSE_ANSWER else TEXT)
    there.put_document(KEY, TEXT + b"new")
    assert there.document(KEY) == TEXT + b"new"


def test_a_document_that_is_not_there_yet_when_it_is_read_back_is_not_believed(
    there: S3Destination, the_line: Line
) -> None:
    the_line.fault = once(Fault.NOT_THERE)
    with pytest.raises(Transient, match="did not keep"):
        there.put_document(KEY, TEXT + b"new")
    there.put_document(KEY, TEXT + b"new")


@pytest.fixture
def large(data_dir: Path) -> Iterator[Parcel]:
    """Two parts."""
    with parcels_in(data_dir, [Instance(1, pixel_bytes=6 * MIB)]) as parcels:
        yield parcels[0]


@pytest.mark.parametrize("fault", [Fault.ERROR_IN_200, Fault.PAGE, Fault.SHORT_ANSWER, Fault.LOSE_ANSWER])
def test_an_upload_that_is_not_completed_counts_as_nothing_and_is_taken_up_again(
    the_cloud: Cloud, the_line: Line, bucket: str, large: Parcel, fault: Fault
) -> None:
    """S3 may answer 200, and then that it failed. That it was completed all the same is found, and it isn't sent twice."""
    the_line.fault = lambda asked: fault if asked.method == "POST" and "uploadId" in asked.query else None
    with pytest.raises(Transient):
        send(in_parts(the_line.url, bucket), large)
    the_line.fault = lambda _: None
    sent = sum(each.is_part for each in the_line.requests)
    send(in_parts(the_line.url, bucket), replace(large, tried_before=True))
    assert sum(each.is_part for each in the_line.requests) == sent, "no part is sent again"
    assert the_cloud.get(bucket, object_key(large.object_id)) == large.sealed_path.read_bytes()
    assert the_cloud.uploads(bucket) == []


def test_a_bucket_says_when_what_is_there_was_written_and_nothing_of_what_is_not(
    there: S3Destination,
) -> None:
    found = there.since(KEY)
    assert found is not None and abs(datetime.now(UTC) - found) < timedelta(minutes=1)
    assert there.since("manifests/other.sealed") is None


@pytest.mark.parametrize(
    ("fault", "kind"), [(Fault.UNAVAILABLE, Transient), (Fault.FORBIDDEN, OperatorNeeded)]
)
def test_a_bucket_that_does_not_say_when_is_no_bucket_that_says_nothing(
    there: S3Destination, the_line: Line, fault: Fault, kind: type[ApplianceError]
) -> None:
    the_line.fault = lambda _: fault
    with pytest.raises(kind):
        there.since(KEY)


class Marked:
    """A store in which something was marked as removed, as Amazon documents its answers: 404, and 405 for the mark itself."""

    def __init__(self, first: dict[str, str], mark: dict[str, str]) -> None:
        self.answers = {"": (404, first), "mark-7": (405, mark)}
        self.asked: list[str] = []

    def head_object(self, *, Bucket: str, Key: str, VersionId: str = "") -> dict[str, Any]:  # noqa: N803
        del Bucket, Key
        self.asked.append(VersionId)
        status, headers = self.answers[VersionId]
        raise ClientError(
            {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}},  # type: ignore[typeddict-item]
            "HeadObject",
        )


MARK = {"x-amz-delete-marker": "true", "x-amz-version-id": "mark-7"}
SAID = {"last-modified": "Fri, 27 Nov 2026 17:57:51 GMT"}
THEN = datetime(2026, 11, 27, 17, 57, 51, tzinfo=UTC)


@pytest.mark.parametrize(
    ("first", "mark", "asked", "found"),
    [
        (MARK, MARK | SAID, 2, THEN),
        (MARK | SAID, {}, 1, THEN),
        (MARK, MARK, 2, None),
        (MARK, MARK | {"last-modified": "yesterday"}, 2, None),
        ({}, {}, 1, None),
    ],
)
def test_when_something_was_marked_as_removed_is_asked_of_the_mark(
    first: dict[str, str], mark: dict[str, str], asked: int, found: datetime | None
) -> None:
    store: Any = Marked(first, mark)
    assert written_utc(store, "bucket", KEY) == found
    assert len(store.asked) == asked
