"""Object storage in Canada: ciphertext exactly as it lies on this disk, and the proof that it arrived.

The layout is that of every archive (`archive`). Each object and document carries the metadata ``sha256`` (of what lies there, hexadecimal),
and an object that was sent in parts ``part-bytes``.

What is proof. The SHA-256 travels with each request; a store that verifies it, as S3 does, records it and gives it out
again. Whether a store verifies is found out, not believed: the first session sends a small object with a wrong SHA-256.
Objects up to `READ_BACK_BYTES` are downloaded and hashed all the same; larger ones are taken at the recorded checksum,
which costs one HEAD request instead of the object's size. A store that verifies nothing has every object downloaded.
Before it leaves, an object is opened here from end to end, so that what is proven is also whole.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botocore.config import Config as ClientConfig
from botocore.exceptions import ClientError

from appliance.errors import OperatorNeeded, Refused, Transient, Unknown
from appliance.lifecycle.storage_class import INTELLIGENT, Rest, Retrieval, Tier, rest_of
from appliance.model import DestinationSettings, ObjectId, Takes
from appliance.replication.destinations import options, protection, s3_answers, s3_client
from appliance.replication.destinations.archive import (
    BLOCK_BYTES,
    CONNECTION_TEST,
    CONNECTION_TEXT,
    Document,
    Entry,
    KeepsNoTags,
    Told,
    Version,
    Versions,
    object_key,
    verified_digest,
)
from appliance.replication.destinations.bucket_policy import TAG
from appliance.replication.destinations.canada import AWS_REGIONS, canadian, is_aws
from appliance.replication.destinations.multipart import (
    LEAST_PART_BYTES,
    Uplink,
    abort_uploads,
    composite_sha256,
    parts_of,
    upload_in_parts,
)
from appliance.replication.destinations.parcel import Parcel, Receipt, Session, WouldReplace
from appliance.replication.destinations.protection import Protection
from appliance.replication.destinations.s3_answers import digest_of_body, opened, unless_absent, written_utc
from appliance.replication.destinations.s3_errors import (
    ALLOW_TAGGING,
    ALLOW_WAKING,
    NOT_OFFERED,
    code_of,
    in_our_terms,
    not_the_store,
    status_of,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import TierType
    from mypy_boto3_s3.type_defs import RestoreRequestTypeDef, TaggingTypeDef

_RETRIEVALS: Final[Mapping[Retrieval, TierType]] = {Retrieval.STANDARD: "Standard", Retrieval.BULK: "Bulk"}
READ_BACK_BYTES: Final = 8 << 20
AWAKE_DAYS: Final = 7
READS_AT_ONCE: Final = 32
"""What one box may ask for at once when it reads much: over 100 ms that is 300 documents a second, as many as it takes in."""
CONNECTIONS_KEPT: Final = 10
CONNECT_SECONDS: Final = 10
READ_SECONDS: Final = 60
_OBSOLETE_SECONDS: Final = 24 * 3600


@dataclass(frozen=True)
class S3Destination:
    """A bucket. Shared by threads: the client is safe to share, and so is what is measured."""

    bucket: str
    region: str
    endpoint_url: str = ""
    access_key_id: str = ""
    secret: str = field(default="", repr=False)
    takes: Takes = "ciphertext"
    read_back_bytes: int = READ_BACK_BYTES
    reads_at_once: int = READS_AT_ONCE
    connect_seconds: float = CONNECT_SECONDS
    read_seconds: float = READ_SECONDS
    uplink: Uplink = field(default_factory=Uplink, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _made: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_settings(cls, settings: DestinationSettings) -> S3Destination:
        """Raises `Refused` for a place outside Canada, `OperatorNeeded` for options that are missing."""
        region = options.text(settings, "region").strip()
        endpoint_url = options.text(settings, "endpoint_url", "").strip()
        canadian(region, endpoint_url, options.flag(settings, "canadian"))
        access_key_id = options.text(settings, "access_key_id", "").strip()
        if access_key_id and not settings.secret:
            raise OperatorNeeded(
                f"the destination {settings.name} has an access key without its secret",
                hint="give the secret access key on standard input or with --secret-file",
            )
        return cls(
            bucket=options.text(settings, "bucket").strip(),
            region=region,
            endpoint_url=endpoint_url,
            access_key_id=access_key_id,
            secret=settings.secret,
        )

    def check(self) -> str:
        """Find the bucket, ask where it is, write a small text and read it back: all that a delivery needs."""
        client = self._client()
        self._refuse_elsewhere(client)
        self.put_document(CONNECTION_TEST, CONNECTION_TEXT)
        return f"The bucket {self.bucket} ({self.region}) can be written and read."

    def protections(self) -> list[Protection]:
        """What protects the bucket from the key that this box has. Raises as `check`."""
        return protection.protections(self._client(), self.bucket)

    def versions(self) -> Versions | None:
        """See `Remembering`."""
        return protection.versions(self._client(), self.bucket)

    def moves(self) -> frozenset[Tier] | None:
        """See `Tiered`."""
        return protection.moves(self._client(), self.bucket)

    @contextmanager
    def open(self, parcels: Sequence[Parcel]) -> Iterator[Session]:  # noqa: ARG002
        """The connections are kept by the client, for all sessions."""
        client = self._client()
        if "verifies" not in self._made:
            self._refuse_elsewhere(client)
            self._made["verifies"] = self._verifies(client)
        yield self

    def send(self, parcel: Parcel) -> Receipt:
        """Upload the ciphertext unless it is there already, and prove that what is there is what is here."""
        client = self._client()
        key = object_key(parcel.object_id)
        sha256 = verified_digest(parcel)
        looks_first = parcel.tried_before or parcel.replaces == "nothing"
        if looks_first and (receipt := self._found(client, key, parcel, sha256)):
            if parcel.sealed_bytes > LEAST_PART_BYTES:
                with suppress(Transient):  # it is there and proven; `abort_obsolete` comes round to this
                    abort_uploads(client, self.bucket, key, obsolete=lambda found, _: found == key)
            return receipt
        if parcel.replaces == "nothing" and unless_absent(
            lambda: client.head_object(Bucket=self.bucket, Key=key)
        ):
            raise WouldReplace
        size = self.uplink.part_bytes(parcel.sealed_bytes)
        began = time.monotonic()
        if parcel.sealed_bytes <= size:
            with parcel.sealed_path.open("rb") as body, in_our_terms("sending an object"):
                answer: Mapping[str, Any] = client.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=body,
                    ContentLength=parcel.sealed_bytes,
                    ContentType="application/octet-stream",
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=base64.b64encode(sha256).decode(),
                    Metadata={"sha256": sha256.hex()},
                )
            self.uplink.measured(parcel.sealed_bytes, time.monotonic() - began)
        else:
            answer = upload_in_parts(
                client,
                self.bucket,
                key,
                parcel.sealed_path,
                total_bytes=parcel.sealed_bytes,
                metadata=lambda part_bytes: {"sha256": sha256.hex(), "part-bytes": str(part_bytes)},
                uplink=self.uplink,
                look_for_earlier=parcel.tried_before,
                keep_going=parcel.keep_going,
            )
        proven = self._found(client, key, parcel, sha256, version_id=answer.get("VersionId"))
        if proven is None:
            raise Transient("the cloud storage did not keep what was sent to it")
        return proven

    def put_document(self, key: str, data: bytes) -> None:
        """Write a small sealed document over what is there, and read it back. Raises as `send`."""
        client = self._client()
        with in_our_terms("writing to the bucket"):
            answer = client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=data,
                ContentType="application/octet-stream",
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=base64.b64encode(hashlib.sha256(data).digest()).decode(),
                Metadata={"sha256": hashlib.sha256(data).hexdigest()},
            )
        version_id: str = answer.get("VersionId", "")
        which: dict[str, Any] = {"VersionId": version_id} if version_id else {}
        found = opened(client, self.bucket, Key=key, **which)
        if not found or digest_of_body(found) != hashlib.sha256(data).digest():
            raise Transient("the cloud storage did not keep what was sent to it")

    def put_new(self, key: str, data: bytes) -> None:
        """Write a small sealed document under a name that isn't taken. Raises as `send`, `Refused` if it is.

        Looks first, since some stores take no notice of `IfNoneMatch`; which holds where two come at once, in those that do.
        """
        client = self._client()
        if unless_absent(lambda: client.head_object(Bucket=self.bucket, Key=key)):
            raise Refused("that name is taken in the bucket already")
        with in_our_terms("writing to the bucket"):
            client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=data,
                IfNoneMatch="*",
                ContentType="application/octet-stream",
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=base64.b64encode(hashlib.sha256(data).digest()).decode(),
            )

    def newest(self, prefix: str, after: str) -> str:
        """The last of the names that begin with `prefix`, of those after `after`; empty if there is none."""
        return s3_answers.newest(self._client(), self.bucket, prefix, after)

    def document(self, key: str) -> bytes:
        """See `Archive`."""
        return self.document_of(key, "")

    def document_of(self, key: str, version_id: str) -> bytes:
        """See `Recounting`. One that is not what was written is asked for once more: it may have been spoilt on the way."""
        which = {"Key": key, "VersionId": version_id} if version_id else {"Key": key}
        written, data = self._document(**which)
        if written and hashlib.sha256(data).hexdigest() != written:
            _, data = self._document(**which)
        return data

    def versions_below(self, prefix: str) -> Iterator[Version]:
        """See `Recounting`."""
        return s3_answers.versions_below(self._client(), self.bucket, prefix)

    def _document(self, **which: str) -> tuple[str, bytes]:
        """Of a document the SHA-256 that was told when it was written (earlier software told none), and what comes."""
        found = opened(self._client(), self.bucket, **which)
        if not found:
            raise Unknown("the cloud storage does not hold that", hint="look in another archive")
        with in_our_terms("reading an object back"), closing(found["Body"]) as body:
            return str(found.get("Metadata", {}).get("sha256", "")), body.read()

    def beginning(self, key: str, most_bytes: int) -> bytes:
        """The first `most_bytes` of an object that others write, whose size nobody promises. Raises as `document`."""
        found = bytearray()
        with closing(self.blocks(key)) as blocks:
            while len(found) < most_bytes and (block := next(blocks, b"")):
                found += block
        return bytes(found[:most_bytes])

    def documents(self, prefix: str) -> Iterator[Document]:
        """See `Archive`; a thousand a request."""
        token: dict[str, Any] = {}
        while True:
            with in_our_terms("listing the bucket"):
                page = self._client().list_objects_v2(Bucket=self.bucket, Prefix=prefix, **token)
            for each in page.get("Contents", ()):
                yield Document(each["Key"], each["LastModified"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def blocks(self, key: str) -> Generator[bytes]:
        """See `Archive`."""
        return self._blocks(Key=key)

    def keeps_versions(self) -> bool:
        """See `Keeping`."""
        return protection.keeps_versions(self._client(), self.bucket)

    def blocks_of(self, key: str, version_id: str) -> Generator[bytes]:
        """See `Keeping`."""
        return self._blocks(Key=key, VersionId=version_id)

    def _blocks(self, **which: str) -> Generator[bytes]:
        found = opened(self._client(), self.bucket, **which)
        if not found:
            raise Unknown("the cloud storage does not hold that", hint="look in another archive")
        with in_our_terms("reading an object back"), closing(found["Body"]) as body:
            yield from body.iter_chunks(BLOCK_BYTES)

    def told(self, key: str) -> Told:
        """See `Telling`: of the version that would be read. A check sum of parts says nothing of the whole, so ours beside it counts."""
        client = self._client()
        found = unless_absent(lambda: client.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED"))
        if "ETag" not in found:
            with in_our_terms("asking of an object"):
                if not found and self._is_absent(key):
                    raise Unknown("the cloud storage does not hold that", hint="look in another archive")
            raise not_the_store("asking of an object")
        noted = str(found.get("ChecksumSHA256", ""))
        whole = base64.b64decode(noted).hex() if noted and "-" not in noted else ""
        return Told(
            bytes=int(found["ContentLength"]),
            etag=found["ETag"].strip('"'),
            version_id=found.get("VersionId", ""),
            sha256=whole or found.get("Metadata", {}).get("sha256", ""),
        )

    def since(self, key: str) -> datetime | None:
        """See `Telling`."""
        return written_utc(self._client(), self.bucket, key)

    def listed(self, prefix: str, after: str, most: int) -> tuple[Sequence[Entry], bool]:
        """See `Listing`."""
        return s3_answers.listed(self._client(), self.bucket, prefix, after, most)

    def wake(self, key: str, retrieval: Retrieval, version_id: str = "") -> None:
        """See `Waking`. What has come up can be read for `AWAKE_DAYS`. Raises `Unknown`, and as `send`."""
        client = self._client()
        which: dict[str, Any] = {"Key": key} | ({"VersionId": version_id} if version_id else {})
        found = unless_absent(lambda: client.head_object(Bucket=self.bucket, **which))
        if not found:
            raise Unknown("the cloud storage does not hold that", hint="look in another archive")
        name = found.get("StorageClass", "")
        if rest_of(name, found.get("Restore", ""), found.get("ArchiveStatus", "")) is not Rest.RESTING:
            return
        wanted: RestoreRequestTypeDef = {"GlacierJobParameters": {"Tier": _RETRIEVALS[retrieval]}}
        if name != INTELLIGENT:  # which keeps what came up, and refuses to be told for how long
            wanted["Days"] = AWAKE_DAYS
        with in_our_terms("fetching an object from deep archive", allow=ALLOW_WAKING):
            try:
                client.restore_object(Bucket=self.bucket, **which, RestoreRequest=wanted)
            except ClientError as error:
                if code_of(error) != "RestoreAlreadyInProgress":  # somebody has asked since we looked
                    raise

    def say_tier(self, key: str, tier: Tier) -> None:
        """See `Tiered`. A tag of the version that is read; it makes no other version, and the lock stays. Raises as `send`."""
        client = self._client()
        tags: TaggingTypeDef = {"TagSet": [{"Key": TAG, "Value": str(tier)}]}
        with in_our_terms("saying how far away an object may lie", allow=ALLOW_TAGGING):
            try:
                client.put_object_tagging(Bucket=self.bucket, Key=key, Tagging=tags)
            except ClientError as error:
                # A marker that it was removed is answered with 405, as is a store that knows no tags: which of them is asked.
                if status_of(error) in {404, 405} and self._is_absent(key):
                    raise Unknown(
                        "the cloud storage does not hold that", hint="look in another archive"
                    ) from error
                if code_of(error) in NOT_OFFERED or status_of(error) in {405, 501}:
                    raise KeepsNoTags(
                        "this cloud storage keeps no tags, so its images stay in its ordinary class",
                        hint="nothing is lost; for cheaper classes keep images in a bucket that takes tags, such as Amazon's",
                    ) from error
                raise

    def _is_absent(self, key: str) -> bool:
        client = self._client()
        client.head_bucket(Bucket=self.bucket)
        return not unless_absent(lambda: client.head_object(Bucket=self.bucket, Key=key))

    def abort_obsolete(self, is_owed: Callable[[ObjectId], bool], now: datetime) -> int:
        """Abort uploads begun over a day ago of objects that are not owed any more; how many those were."""

        def obsolete(key: str, begun: datetime) -> bool:
            object_id = ObjectId(key.rpartition("/")[2].removesuffix(".sealed"))
            return (now - begun).total_seconds() > _OBSOLETE_SECONDS and not is_owed(object_id)

        return abort_uploads(self._client(), self.bucket, "objects/", obsolete=obsolete)

    def _found(
        self, client: S3Client, key: str, parcel: Parcel, sha256: bytes, *, version_id: str | None = None
    ) -> Receipt | None:
        """The receipt of the object at `key`, if it is there and is the one here. One request, or two."""
        which: dict[str, Any] = {"Key": key}
        if version_id and version_id != "null":
            which["VersionId"] = version_id
        proof, answer = "", {}
        if self._made.get("verifies") and parcel.sealed_bytes > self.read_back_bytes:
            answer = unless_absent(
                lambda: client.head_object(Bucket=self.bucket, **which, ChecksumMode="ENABLED")
            )
            if not answer:
                return None
            part_bytes = answer.get("Metadata", {}).get("part-bytes", "")
            if answer.get("ChecksumSHA256") == _expected_checksum(parcel, sha256, part_bytes):
                proof = "checksum"
        if not proof:
            answer = opened(client, self.bucket, **which)
            if not answer or digest_of_body(answer) != sha256:
                return None
            proof = "read back"
        if answer["ContentLength"] != parcel.sealed_bytes:
            return None
        return {
            "at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "bucket": self.bucket,
            "key": key,
            "bytes": parcel.sealed_bytes,
            "sha256": sha256.hex(),
            "etag": answer["ETag"].strip('"'),
            "version_id": answer.get("VersionId", ""),
            "proof": proof,
        }

    def _refuse_elsewhere(self, client: S3Client) -> None:
        """Whether the bucket exists, and, on AWS, is where the settings say. Raises `Refused` if it is abroad."""
        with in_our_terms(f"opening the bucket {self.bucket}"):
            answer = client.head_bucket(Bucket=self.bucket)
        if not is_aws(self.endpoint_url):
            return
        headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
        place = answer.get("BucketRegion") or headers.get("x-amz-bucket-region", "")
        if place not in AWS_REGIONS:
            raise Refused(
                f"the bucket {self.bucket} is in {place or 'an unknown region'}, outside Canada",
                hint="create a bucket in ca-central-1 or ca-west-1",
            )

    def _verifies(self, client: S3Client) -> bool:
        """Whether the store refuses an object whose SHA-256 isn't the one announced."""
        wrong = base64.b64encode(hashlib.sha256(b"something else").digest()).decode()
        with in_our_terms("writing to the bucket"):
            try:
                client.put_object(
                    Bucket=self.bucket,
                    Key=CONNECTION_TEST,
                    Body=CONNECTION_TEXT,
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=wrong,
                )
            except ClientError as error:
                if status_of(error) == 400:
                    return True
                raise
        return False

    def _client(self) -> S3Client:
        with self._lock:
            if "client" not in self._made:
                self._made["client"] = self._connect()
            client: S3Client = self._made["client"]
            return client

    def _connect(self) -> S3Client:
        with in_our_terms("opening the cloud storage"):
            return s3_client.connect(
                self.region,
                self.endpoint_url,
                (self.access_key_id, self.secret),
                ClientConfig(
                    connect_timeout=self.connect_seconds,
                    read_timeout=self.read_seconds,
                    max_pool_connections=max(self.reads_at_once, CONNECTIONS_KEPT),
                ),
            )


def _expected_checksum(parcel: Parcel, sha256: bytes, part_bytes: str) -> str:
    """What S3 should have recorded: of the whole object, or of its parts if it was sent in parts."""
    if not part_bytes.isdecimal() or int(part_bytes) < LEAST_PART_BYTES:
        return base64.b64encode(sha256).decode()
    return composite_sha256(_part_digests(parcel.sealed_path, parcel.sealed_bytes, int(part_bytes)))


def _part_digests(path: Path, total_bytes: int, part_bytes: int) -> list[bytes]:
    digests = []
    with path.open("rb") as file:
        for part in parts_of(total_bytes, part_bytes):
            digest = hashlib.sha256()
            left = part.length
            while left and (block := file.read(min(left, BLOCK_BYTES))):
                digest.update(block)
                left -= len(block)
            digests.append(digest.digest())
    return digests
