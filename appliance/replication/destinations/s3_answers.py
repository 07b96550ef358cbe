"""Objects of a bucket as they are answered, and who it is that answers.

What is in a bucket's place for a while, a page that says that it is being mended or one of a network's that wants to be paid, says
nothing of any object; nor does a bucket that is not there. An object counts as absent when the store itself says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from appliance.replication.destinations.archive import BLOCK_BYTES, Entry, Version
from appliance.replication.destinations.s3_errors import (
    ALLOW,
    ALLOW_VERSIONS,
    NO_BUCKET,
    NO_OBJECT,
    code_of,
    in_our_terms,
    not_the_store,
    status_of,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def versions_below(client: S3Client, bucket: str, prefix: str) -> Iterator[Version]:
    """See `Recounting`; a thousand a request, versions and markers of removal apart in each answer."""
    where: dict[str, Any] = {}
    held: list[Version] = []
    while True:
        with in_our_terms("listing the earlier versions in the bucket", allow=ALLOW_VERSIONS):
            page = client.list_object_versions(Bucket=bucket, Prefix=prefix, **where)
        held += [
            Version(
                each["Key"], each["VersionId"], each["LastModified"], each["IsLatest"], bytes=each["Size"]
            )
            for each in page.get("Versions", ())
        ]
        held += [
            Version(each["Key"], each["VersionId"], each["LastModified"], each["IsLatest"], is_removal=True)
            for each in page.get("DeleteMarkers", ())
        ]
        # Of the last key of a page more may come; within a second, what is there counts as written after what removed it.
        held.sort(key=lambda each: (each.is_latest, each.written_utc, not each.is_removal), reverse=True)
        held.sort(key=lambda each: each.key)
        last = held[-1].key if held and page.get("IsTruncated") else None
        yield from (each for each in held if each.key != last)
        held = [each for each in held if each.key == last]
        if not page.get("IsTruncated"):
            return
        where = {"KeyMarker": page["NextKeyMarker"]}
        if marker := page.get("NextVersionIdMarker"):
            where["VersionIdMarker"] = marker


def opened(client: S3Client, bucket: str, **which: Any) -> dict[str, Any]:
    """An object, to be read; empty if the store itself says that it has none by that name. Raises `Transient`, `OperatorNeeded`."""
    doing = "looking at an object"
    with in_our_terms(doing, allow=ALLOW_VERSIONS if "VersionId" in which else ALLOW):
        for is_last in (False, True):
            try:
                answer: dict[str, Any] = {**client.get_object(Bucket=bucket, **which)}
            except ClientError as error:
                if status_of(error) != 404 or code_of(error) in NO_BUCKET:
                    raise
                if is_last or code_of(error) in NO_OBJECT:
                    return {}
                client.head_bucket(Bucket=bucket)  # raises if it is not there, or the store is not
            else:
                if "ETag" in answer:
                    return answer
                answer["Body"].close()
    raise not_the_store(doing)


def unless_absent(ask: Callable[[], Any]) -> dict[str, Any]:
    """What S3 answers about an object; empty if there is none."""
    with in_our_terms("looking at an object"):
        try:
            answer: dict[str, Any] = ask()
        except ClientError as error:
            if status_of(error) == 404:
                return {}
            raise
        return answer


def written_utc(client: S3Client, bucket: str, key: str) -> datetime | None:
    """When what lies under a key was written, or was marked as removed; None where the store doesn't say. Raises `Transient`, `OperatorNeeded`.

    A mark is not given back: its version is told with the 404, and asked for, it is answered with 405 and its moment.
    """
    which: dict[str, Any] = {}
    with in_our_terms("looking at an object"):
        for _ in range(2):
            try:
                return client.head_object(Bucket=bucket, Key=key, **which).get("LastModified")
            except ClientError as error:
                if status_of(error) not in {404, 405}:
                    raise
                told: Mapping[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            if told.get("x-amz-delete-marker") != "true":
                return None
            if found := _moment(told.get("last-modified", "")):
                return found
            which = {"VersionId": told.get("x-amz-version-id", "")}
    return None


def listed(client: S3Client, bucket: str, prefix: str, after: str, most: int) -> tuple[Sequence[Entry], bool]:
    """See `Listing`. A store that takes no notice of where to begin could never be listed to its end. Raises `Transient`, `OperatorNeeded`."""
    doing = "listing the bucket"
    where: dict[str, Any] = {"StartAfter": after} if after else {}
    with in_our_terms(doing):
        page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=most, **where)
    found = [
        Entry(each["Key"], each["Size"], each.get("ETag", "").strip('"'))
        for each in page.get("Contents", ())
        if each["Key"] > after
    ]
    has_more = page.get("IsTruncated", False)
    if has_more and not found:
        raise not_the_store(doing)
    return found, has_more


def newest(client: S3Client, bucket: str, prefix: str, after: str) -> str:
    """The last of the names that begin with `prefix`, of those after `after`; empty if there is none. Raises `Transient`, `OperatorNeeded`."""
    last = ""
    where: dict[str, Any] = {"StartAfter": after} if after else {}
    while True:
        with in_our_terms("listing the bucket"):
            page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, **where)
        last = max([last, *(each["Key"] for each in page.get("Contents", ()))])
        if not page.get("IsTruncated"):
            return last
        where = {"ContinuationToken": page["NextContinuationToken"]}


def _moment(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def digest_of_body(answer: Mapping[str, Any]) -> bytes:
    """The SHA-256 of an object as it comes back."""
    digest = hashlib.sha256()
    with in_our_terms("reading an object back"), closing(answer["Body"]) as body:
        for block in body.iter_chunks(BLOCK_BYTES):
            digest.update(block)
    return digest.digest()
