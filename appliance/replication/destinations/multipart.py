"""Uploads in parts that go on where they were cut, with the SHA-256 of every part verified by S3.

The parts of an upload are one size, chosen from the measured uplink so that a part takes about a minute and never five
(signatures age, and a lost connection costs one part). What an earlier attempt has left is found by asking the bucket,
not by remembering: the part size is that of its first part, and a part counts only if its checksum is that of the same
range here. A store that keeps no SHA-256 of parts is asked for the MD5 that its ETags are.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from appliance.errors import Corrupt, Transient
from appliance.replication.destinations.s3_errors import code_of, in_our_terms

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, PartTypeDef

LEAST_PART_BYTES: Final = 5 << 20  # S3's own limit
LARGEST_PART_BYTES: Final = 32 << 20  # a part is held in memory
MOST_PARTS: Final = 10_000
PART_SECONDS: Final = 60.0


class Uplink:
    """How fast bytes leave, as seen so far. Shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes_per_second: float | None = None

    def measured(self, sent_bytes: int, seconds: float) -> None:
        """Count a request that took `seconds`; small ones say nothing of the line."""
        if sent_bytes < 256 << 10 or seconds <= 0:
            return
        rate = sent_bytes / seconds
        with self._lock:
            known = self._bytes_per_second
            self._bytes_per_second = rate if known is None else 0.7 * known + 0.3 * rate

    def part_bytes(self, total_bytes: int = 0) -> int:
        """The size of a part that takes about a minute, within S3's limits for an object of `total_bytes`."""
        with self._lock:
            rate = self._bytes_per_second
        return part_bytes(rate, total_bytes)


def part_bytes(bytes_per_second: float | None, total_bytes: int) -> int:
    """The part size for a line of that speed (None: not measured yet); whole MiB. Pure."""
    wanted = 0 if bytes_per_second is None else int(bytes_per_second * PART_SECONDS) >> 20 << 20
    needed = -(-total_bytes // MOST_PARTS >> 20) << 20
    return max(LEAST_PART_BYTES, min(LARGEST_PART_BYTES, wanted), needed)


def composite_sha256(part_digests: list[bytes]) -> str:
    """S3's checksum of an object uploaded in parts: the SHA-256 of their SHA-256s, and how many they are."""
    digest = hashlib.sha256(b"".join(part_digests)).digest()
    return f"{base64.b64encode(digest).decode()}-{len(part_digests)}"


@dataclass(frozen=True, slots=True)
class Part:
    """A range of the file with its digest."""

    number: int
    offset: int
    length: int


def parts_of(total_bytes: int, size: int) -> list[Part]:
    """The ranges of a file in parts of `size` bytes. Pure."""
    return [
        Part(number, offset, min(size, total_bytes - offset))
        for number, offset in enumerate(range(0, total_bytes, size), start=1)
    ]


def upload_in_parts(
    client: S3Client,
    bucket: str,
    key: str,
    path: Path,
    *,
    total_bytes: int,
    metadata: Callable[[int], Mapping[str, str]],
    uplink: Uplink,
    look_for_earlier: bool,
    keep_going: Callable[[], bool],
) -> Mapping[str, Any]:
    """Upload the file at `path`; the answer of CompleteMultipartUpload with `ChecksumSHA256` recomputed here.

    `metadata` is given the part size. Raises `Transient` between two parts once `keep_going` says no; what was sent
    stays for the next attempt.
    """
    upload: str | None = None
    size = 0
    found: dict[int, PartTypeDef] = {}
    if look_for_earlier:
        upload, size, found = _earlier(client, bucket, key, total_bytes)
    if upload is None:
        size = uplink.part_bytes(total_bytes)
        with in_our_terms("beginning an upload"):
            upload = client.create_multipart_upload(
                Bucket=bucket,
                Key=key,
                ChecksumAlgorithm="SHA256",
                ContentType="application/octet-stream",
                Metadata=dict(metadata(size)),
            )["UploadId"]
    completed: list[CompletedPartTypeDef] = []
    digests: list[bytes] = []
    with path.open("rb") as file:
        for part in parts_of(total_bytes, size):
            data = _range(file, part)
            digest = hashlib.sha256(data).digest()
            checksum = base64.b64encode(digest).decode()
            etag = _kept(found.get(part.number), part, data, checksum)
            if etag is None:
                if not keep_going():
                    raise Transient("an upload was interrupted; it goes on where it was")
                began = time.monotonic()
                with in_our_terms("sending a part"):
                    etag = client.upload_part(
                        Bucket=bucket,
                        Key=key,
                        UploadId=upload,
                        PartNumber=part.number,
                        Body=data,
                        ContentLength=part.length,
                        ChecksumSHA256=checksum,
                    )["ETag"]
                uplink.measured(part.length, time.monotonic() - began)
            completed.append({"PartNumber": part.number, "ETag": etag, "ChecksumSHA256": checksum})
            digests.append(digest)
    with in_our_terms("completing an upload"):
        answer = client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": completed}
        )
    if "Error" in answer:  # S3 may answer 200 and then say that it failed
        raise Transient("completing an upload failed")
    return answer | {"ChecksumSHA256": composite_sha256(digests)}


def abort_uploads(
    client: S3Client, bucket: str, prefix: str, *, obsolete: Callable[[str, datetime], bool]
) -> int:
    """Abort the unfinished uploads below `prefix` that are `obsolete` (key, when begun); how many those were."""
    aborted = 0
    with in_our_terms("looking for unfinished uploads"):
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
            for upload in page.get("Uploads", []):
                if obsolete(upload["Key"], upload["Initiated"]):
                    _abort(client, bucket, upload["Key"], upload["UploadId"])
                    aborted += 1
    return aborted


def _earlier(
    client: S3Client, bucket: str, key: str, total_bytes: int
) -> tuple[str | None, int, dict[int, PartTypeDef]]:
    """The upload to go on with, its part size and parts; the others of the same key are aborted."""
    with in_our_terms("looking for an unfinished upload"):
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key)
        uploads = [each for page in pages for each in page.get("Uploads", []) if each["Key"] == key]
    chosen: tuple[str, int, dict[int, PartTypeDef]] | None = None
    for upload in sorted(uploads, key=lambda each: each["Initiated"], reverse=True):
        if chosen is None:
            with in_our_terms("looking at an unfinished upload"):
                pages_of_parts = client.get_paginator("list_parts").paginate(
                    Bucket=bucket, Key=key, UploadId=upload["UploadId"]
                )
                parts = {
                    part["PartNumber"]: part for page in pages_of_parts for part in page.get("Parts", [])
                }
            size = parts[1]["Size"] if 1 in parts else 0
            if LEAST_PART_BYTES <= size <= max(LARGEST_PART_BYTES, -(-total_bytes // MOST_PARTS) + (1 << 20)):
                chosen = (upload["UploadId"], size, parts)
                continue
        _abort(client, bucket, key, upload["UploadId"])
    return chosen or (None, 0, {})


def _abort(client: S3Client, bucket: str, key: str, upload: str) -> None:
    with in_our_terms("aborting an upload"):
        try:
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise


def _kept(found: PartTypeDef | None, part: Part, data: bytes, checksum: str) -> str | None:
    """The ETag of a part that is there already with the same bytes."""
    if found is None or found["Size"] != part.length:
        return None
    known = found.get("ChecksumSHA256")
    if known is None:
        same = found["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()
    else:
        same = known == checksum
    return found["ETag"] if same else None


def _range(file: Any, part: Part) -> bytes:
    file.seek(part.offset)
    data: bytes = file.read(part.length)
    if len(data) != part.length:
        raise Corrupt("a sealed object is shorter than it was")
    return data
