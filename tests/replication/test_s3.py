"""The S3 destination, against a real server, over a line that breaks."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.errors import ApplianceError, Corrupt, OperatorNeeded, Refused, Transient
from appliance.model import DestinationSettings, ObjectId
from appliance.replication.destinations import Destination, Parcel
from appliance.replication.destinations.archive import object_key
from appliance.replication.destinations.multipart import Uplink
from appliance.replication.destinations.s3 import S3Destination
from tests.instances import Instance
from tests.replication.archive_contract import ArchiveContract
from tests.replication.cloud import REGION, Cloud, Fault, Line, Request, fill, line, settings
from tests.replication.contract import DestinationContract, NamesContract, Place, RefusalContract
from tests.replication.parcels import parcels_in
from tests.replication.receivers import free_port

MIB = 1 << 20


def destination_at(url: str, bucket: str) -> S3Destination:
    return S3Destination.from_settings(settings(url, bucket))


class SlowUplink(Uplink):
    """A line so slow that parts have the least size."""

    def part_bytes(self, total_bytes: int = 0) -> int:
        return 5 * MIB


def send(destination: S3Destination, parcel: Parcel) -> dict[str, object]:
    with destination.open([parcel]) as session:
        return dict(session.send(parcel))


@pytest.fixture
def small(data_dir: Path) -> Iterator[Parcel]:
    with parcels_in(data_dir, [Instance(1)]) as parcels:
        yield parcels[0]


@pytest.fixture
def large(data_dir: Path) -> Iterator[Parcel]:
    """Four parts of 5 MiB and a bit."""
    with parcels_in(data_dir, [Instance(1, pixel_bytes=22 * MIB)]) as parcels:
        yield parcels[0]


class TestS3(DestinationContract, NamesContract, RefusalContract):
    @pytest.fixture
    def place(self, the_cloud: Cloud, bucket: str) -> Iterator[Place]:
        @contextmanager
        def refusing() -> Iterator[tuple[Destination, Callable[[Parcel], Parcel]]]:
            unwelcome: list[str] = []

            def fault(request: Request) -> Fault | None:
                bad = request.method == "PUT" and any(each in request.path for each in unwelcome)
                return Fault.BAD_REQUEST if bad else None

            def mark(parcel: Parcel) -> Parcel:
                unwelcome.append(parcel.object_id)
                return parcel

            with line(the_cloud.port) as broken:
                broken.fault = fault
                yield destination_at(broken.url, bucket), mark

        without_key = replace(destination_at(the_cloud.url, bucket), access_key_id="", secret="")
        yield Place(
            destination=destination_at(the_cloud.url, bucket),
            unreachable=destination_at(f"http://127.0.0.1:{free_port()}", bucket),
            closed_to_us=without_key,
            refusing=refusing,
            held=lambda parcel: the_cloud.get(bucket, object_key(parcel.object_id)),
            count=lambda: len(the_cloud.keys(bucket, "objects/")),
        )


class TestS3AsArchive(ArchiveContract):
    @pytest.fixture
    def archive(self, the_cloud: Cloud, bucket: str) -> S3Destination:
        return destination_at(the_cloud.url, bucket)

    @pytest.fixture
    def unreachable(self, bucket: str) -> S3Destination:
        return destination_at(f"http://127.0.0.1:{free_port()}", bucket)

    def test_more_than_a_page_of_documents_is_listed(self, archive: S3Destination) -> None:
        fill(archive.bucket, *(f"manifests/{number:04}" for number in range(1003)))
        assert len(list(archive.documents("manifests/"))) == 1003


# --- Proof -----------------------------------------------------------------------------------------------------------


def test_the_receipt_names_the_version_that_was_read_back(the_cloud: Cloud, small: Parcel) -> None:
    bucket = the_cloud.new_bucket(versioned=True)
    receipt = send(destination_at(the_cloud.url, bucket), small)
    version = the_cloud.client().get_object(
        Bucket=bucket, Key=str(receipt["key"]), VersionId=str(receipt["version_id"])
    )
    assert hashlib.sha256(version["Body"].read()).hexdigest() == receipt["sha256"]
    assert receipt["sha256"] == hashlib.sha256(small.sealed_path.read_bytes()).hexdigest()
    assert receipt["proof"] == "read back"


def test_a_resend_of_what_is_there_uploads_nothing(the_cloud: Cloud, the_line: Line, small: Parcel) -> None:
    bucket = the_cloud.new_bucket(versioned=True)
    destination = destination_at(the_line.url, bucket)
    first = send(destination, small)
    again = send(destination, replace(small, tried_before=True))
    assert the_line.count("PUT", small.object_id) == 1
    assert again["version_id"] == first["version_id"]


def test_other_bytes_under_the_key_are_replaced_not_believed(
    the_cloud: Cloud, bucket: str, small: Parcel
) -> None:
    the_cloud.client().put_object(
        Bucket=bucket,
        Key=object_key(small.object_id),
        Body=bytes(small.sealed_bytes),
        Metadata={"sha256": hashlib.sha256(small.sealed_path.read_bytes()).hexdigest()},
    )
    send(destination_at(the_cloud.url, bucket), replace(small, tried_before=True))
    assert the_cloud.get(bucket, object_key(small.object_id)) == small.sealed_path.read_bytes()


def test_an_upload_whose_answer_was_lost_is_found_not_repeated(
    the_line: Line, bucket: str, small: Parcel
) -> None:
    the_line.fault = lambda request: (
        Fault.LOSE_ANSWER if request.method == "PUT" and small.object_id in request.path else None
    )
    destination = destination_at(the_line.url, bucket)
    with pytest.raises(Transient):
        send(destination, small)
    the_line.fault = lambda _: None
    send(destination, replace(small, tried_before=True))
    assert the_line.count("PUT", small.object_id) == 1


def test_an_object_cut_short_on_disk_never_leaves(the_line: Line, bucket: str, small: Parcel) -> None:
    small.sealed_path.write_bytes(small.sealed_path.read_bytes()[:-1])
    with pytest.raises(Corrupt):
        send(destination_at(the_line.url, bucket), small)
    assert the_line.count("PUT", small.object_id) == 0


def test_an_object_gone_from_the_disk_is_corrupt(the_cloud: Cloud, bucket: str, small: Parcel) -> None:
    small.sealed_path.unlink()
    with pytest.raises(Corrupt):
        send(destination_at(the_cloud.url, bucket), small)


def test_a_document_is_written_and_read_back(the_cloud: Cloud, bucket: str) -> None:
    destination_at(the_cloud.url, bucket).put_document("keys/root.recovery", b"wrapped")
    assert the_cloud.get(bucket, "keys/root.recovery") == b"wrapped"


# --- Parts -----------------------------------------------------------------------------------------------------------


def in_parts(url: str, bucket: str) -> S3Destination:
    return replace(destination_at(url, bucket), uplink=SlowUplink())


def test_a_large_object_arrives_in_parts(
    the_cloud: Cloud, the_line: Line, bucket: str, large: Parcel
) -> None:
    receipt = send(in_parts(the_line.url, bucket), large)
    assert sum(each.is_part for each in the_line.requests) == 5
    assert the_cloud.get(bucket, object_key(large.object_id)) == large.sealed_path.read_bytes()
    assert receipt["sha256"] == hashlib.sha256(large.sealed_path.read_bytes()).hexdigest()
    assert the_cloud.uploads(bucket) == []


@pytest.mark.parametrize(
    "fault", [Fault.CUT, Fault.HANG_UP, Fault.LOSE_ANSWER, Fault.UNAVAILABLE, Fault.SKEWED]
)
def test_an_upload_goes_on_where_it_was_cut(
    the_cloud: Cloud, the_line: Line, bucket: str, large: Parcel, fault: Fault
) -> None:
    the_line.fault = lambda request: fault if request.is_part and "partNumber=3" in request.query else None
    with pytest.raises(Transient):
        send(in_parts(the_line.url, bucket), large)
    the_line.fault = lambda _: None
    with the_line.lock:
        the_line.requests.clear()
    send(in_parts(the_line.url, bucket), replace(large, tried_before=True))
    sent_again = {
        each.query.split("partNumber=")[1].split("&")[0] for each in the_line.requests if each.is_part
    }
    assert sent_again == ({"4", "5"} if fault is Fault.LOSE_ANSWER else {"3", "4", "5"})
    assert the_cloud.get(bucket, object_key(large.object_id)) == large.sealed_path.read_bytes()
    assert the_cloud.uploads(bucket) == []


def test_a_part_that_is_not_what_is_here_is_sent_again(the_cloud: Cloud, bucket: str, large: Parcel) -> None:
    client, key = the_cloud.client(), object_key(large.object_id)
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=bytes(5 * MIB))
    send(in_parts(the_cloud.url, bucket), replace(large, tried_before=True))
    assert the_cloud.get(bucket, key) == large.sealed_path.read_bytes()
    assert the_cloud.uploads(bucket) == []


def test_a_leftover_upload_without_a_usable_part_is_aborted(
    the_cloud: Cloud, bucket: str, large: Parcel
) -> None:
    client, key = the_cloud.client(), object_key(large.object_id)
    client.create_multipart_upload(Bucket=bucket, Key=key)
    send(in_parts(the_cloud.url, bucket), replace(large, tried_before=True))
    assert the_cloud.uploads(bucket) == []


def test_an_interrupted_upload_keeps_its_parts(
    the_cloud: Cloud, the_line: Line, bucket: str, large: Parcel
) -> None:
    sent = threading.Event()

    def fault(request: Request) -> None:
        if request.is_part and "partNumber=2" in request.query:
            sent.set()

    the_line.fault = fault
    with pytest.raises(Transient, match="goes on where it was"):
        send(in_parts(the_line.url, bucket), replace(large, keep_going=lambda: not sent.is_set()))
    assert the_cloud.uploads(bucket) == [object_key(large.object_id)]
    the_line.requests.clear()
    send(in_parts(the_line.url, bucket), replace(large, tried_before=True))
    assert sum(each.is_part for each in the_line.requests) == 3


def test_obsolete_uploads_are_aborted_and_owed_ones_kept(the_cloud: Cloud, bucket: str) -> None:
    client = the_cloud.client()
    owed, gone = ObjectId("a" * 32), ObjectId("b" * 32)
    for each in (owed, gone):
        client.create_multipart_upload(Bucket=bucket, Key=object_key(each))
    later = datetime.now(UTC) + timedelta(days=2)
    aborted = destination_at(the_cloud.url, bucket).abort_obsolete(lambda object_id: object_id == owed, later)
    assert aborted == 1
    assert the_cloud.uploads(bucket) == [object_key(owed)]


# --- A store that verifies -------------------------------------------------------------------------------------------


def test_a_store_that_verifies_is_not_asked_for_large_objects_again(
    the_line: Line, bucket: str, data_dir: Path
) -> None:
    # The server does not verify checksums; the line makes it look as if it did.
    def fault(request: Request) -> Fault | None:
        return (
            Fault.BAD_REQUEST
            if request.method == "PUT" and request.path.endswith("connection-test")
            else None
        )

    the_line.fault = fault
    with parcels_in(data_dir, [Instance(1, pixel_bytes=9 * MIB), Instance(2)]) as (big, small):
        destination = destination_at(the_line.url, bucket)
        destination.uplink.measured(64 * MIB, 1.0)
        assert send(destination, big)["proof"] == "checksum"
        assert send(destination, small)["proof"] == "read back"
        assert the_line.count("GET", big.object_id) == 0


def test_a_store_that_does_not_verify_has_everything_read_back(
    the_line: Line, bucket: str, data_dir: Path
) -> None:
    with parcels_in(data_dir, [Instance(1, pixel_bytes=9 * MIB)]) as (big,):
        destination = destination_at(the_line.url, bucket)
        destination.uplink.measured(64 * MIB, 1.0)
        assert send(destination, big)["proof"] == "read back"


# --- Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.UNAVAILABLE, Transient),
        (Fault.BROKEN, Transient),
        (Fault.HANG_UP, Transient),
        (Fault.CUT, Transient),
        (Fault.SKEWED, Transient),
        (Fault.FORBIDDEN, OperatorNeeded),
        (Fault.BAD_REQUEST, Refused),
    ],
)
def test_every_failure_says_who_acts_next(
    the_line: Line, bucket: str, small: Parcel, fault: Fault, kind: type[ApplianceError]
) -> None:
    destination = destination_at(the_line.url, bucket)
    the_line.fault = lambda request: (
        fault if request.method == "PUT" and small.object_id in request.path else None
    )
    with pytest.raises(kind) as error:
        send(destination, small)
    assert type(error.value) is kind
    assert small.object_id not in str(error.value)
    assert "tests" not in str(error.value)


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.HANG_UP])
def test_one_failure_is_one_request(the_line: Line, bucket: str, small: Parcel, fault: Fault) -> None:
    the_line.fault = lambda request: fault if small.object_id in request.path else None
    with pytest.raises(Transient):
        send(destination_at(the_line.url, bucket), small)
    assert the_line.per_object().total() == 1


def test_a_missing_bucket_needs_a_person(the_cloud: Cloud, small: Parcel) -> None:
    with pytest.raises(OperatorNeeded, match="404") as error:
        send(destination_at(the_cloud.url, "no-such-bucket"), small)
    assert "bucket" in error.value.hint


def test_a_bucket_name_that_cannot_be_needs_a_person(the_cloud: Cloud, small: Parcel) -> None:
    with pytest.raises(OperatorNeeded):
        send(destination_at(the_cloud.url, "No_Such Bucket!"), small)


def test_a_place_abroad_is_refused_before_anything_is_connected() -> None:
    with pytest.raises(Refused, match="not in Canada"):
        S3Destination.from_settings(
            DestinationSettings("x", "s3", "ciphertext", {"bucket": "b", "region": "us-east-1"})
        )


def test_an_access_key_without_its_secret_is_said() -> None:
    options: dict[str, str | int | bool] = {"bucket": "b", "region": REGION, "access_key_id": "K"}
    with pytest.raises(OperatorNeeded, match="without its secret"):
        S3Destination.from_settings(DestinationSettings("x", "s3", "ciphertext", options))


def test_the_secret_is_not_shown(the_cloud: Cloud) -> None:
    destination = S3Destination.from_settings(
        replace(settings(the_cloud.url, "b"), secret="very-secret-value")
    )
    assert "very-secret-value" not in repr(destination)
