"""The DICOM destination, against DCMTK and Orthanc."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from appliance.dicom.part10 import read_part10
from appliance.dicom.scu import Timeouts
from appliance.errors import OperatorNeeded, Refused
from appliance.model import AETitle, DestinationSettings, ObjectId, Uid
from appliance.replication.destinations import Destination, Parcel
from appliance.replication.destinations.dicom import DicomDestination
from tests.replication.contract import DestinationContract, Place, RefusalContract
from tests.replication.parcels import plain
from tests.replication.receivers import Receiver, free_port, orthanc, storescp

PRIVATE_CLASS = Uid("1.2.826.0.1.3680043.9.9999.1")
OURS = AETitle("CLINICBOX")
QUICK = Timeouts(connect_seconds=5, acse_seconds=10, network_seconds=20, response_seconds=30)


def destination_at(receiver: Receiver) -> DicomDestination:
    return replace(DicomDestination.from_settings(receiver.settings, calling=OURS), timeouts=QUICK)


class TestStorescp(DestinationContract, RefusalContract):
    @pytest.fixture
    def place(self) -> Iterator[Place]:
        with storescp() as receiver, storescp("--refuse", verified=False) as closed:

            @contextmanager
            def refusing() -> Iterator[tuple[Destination, Callable[[Parcel], Parcel]]]:
                yield destination_at(receiver), lambda parcel: replace(parcel, sop_class_uid=PRIVATE_CLASS)

            def held(parcel: Parcel) -> bytes:
                head = plain(parcel)
                with parcel.open() as file:
                    offset = read_part10(file).dataset_offset
                return head[:offset] + receiver.data_set(parcel.sop_instance_uid)

            nobody = Receiver(AETitle("NOBODY"), free_port(), receiver.folder)
            yield Place(
                destination=destination_at(receiver),
                unreachable=destination_at(nobody),
                closed_to_us=destination_at(closed),
                refusing=refusing,
                held=held,
                count=lambda: len(receiver.files()),
            )


@pytest.mark.slow
class TestOrthanc(DestinationContract, RefusalContract):
    @pytest.fixture
    def place(self) -> Iterator[Place]:
        with orthanc() as receiver, storescp("--refuse", verified=False) as closed:

            @contextmanager
            def refusing() -> Iterator[tuple[Destination, Callable[[Parcel], Parcel]]]:
                yield destination_at(receiver), lambda parcel: replace(parcel, sop_class_uid=PRIVATE_CLASS)

            def held(parcel: Parcel) -> bytes:
                (found,) = [
                    each
                    for each in json.loads(receiver.orthanc("/instances"))
                    if json.loads(receiver.orthanc(f"/instances/{each}"))["MainDicomTags"]["SOPInstanceUID"]
                    == parcel.sop_instance_uid
                ]
                file = receiver.orthanc(f"/instances/{found}/file")
                head = plain(parcel)
                with parcel.open() as ours:
                    offset = read_part10(ours).dataset_offset
                return head[:offset] + file[read_part10(io.BytesIO(file)).dataset_offset :]

            nobody = Receiver(AETitle("NOBODY"), free_port(), receiver.folder)
            yield Place(
                destination=destination_at(receiver),
                unreachable=destination_at(nobody),
                closed_to_us=destination_at(closed),
                refusing=refusing,
                held=held,
                count=lambda: receiver.orthanc("/instances").count(b'"') // 2,
            )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ae_title": "PACS", "address": "127.0.0.1"},
        {"ae_title": "PACS", "address": "127.0.0.1", "port": 0},
        {"ae_title": "PACS", "address": "127.0.0.1", "port": "104"},
        {"ae_title": "PACS", "address": "", "port": 104},
        {"ae_title": "", "address": "127.0.0.1", "port": 104},
    ],
)
def test_settings_that_cannot_be_right_are_said(options: dict[str, str | int | bool]) -> None:
    with pytest.raises(OperatorNeeded):
        DicomDestination.from_settings(DestinationSettings("x", "dicom", "dicom", options), calling=OURS)


def test_an_impossible_ae_title_is_refused() -> None:
    options: dict[str, str | int | bool] = {"ae_title": "A" * 17, "address": "127.0.0.1", "port": 104}
    with pytest.raises(Refused):
        DicomDestination.from_settings(DestinationSettings("x", "dicom", "dicom", options), calling=OURS)


# --- Re-encoding -----------------------------------------------------------------------------------------------------


def compressed_parcel(name: str) -> Parcel:
    """An object of the pydicom wheel, as it is stored."""
    file = (Path(pydicom.__file__).parent / "data" / "test_files" / name).read_bytes()
    head = read_part10(io.BytesIO(file))
    dataset = pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True)
    return Parcel(
        study_instance_uid=Uid(dataset.StudyInstanceUID),
        series_instance_uid=Uid(dataset.SeriesInstanceUID),
        sop_instance_uid=head.sop_instance_uid,
        sop_class_uid=head.sop_class_uid,
        transfer_syntax_uid=head.transfer_syntax_uid,
        object_id=ObjectId("0" * 32),
        size_bytes=len(file),
        sealed_bytes=0,
        sealed_path=Path("not-used"),
        open=lambda: io.BytesIO(file),
    )


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "SC_rgb_jpeg_gdcm.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm"]
)
@pytest.mark.parametrize(
    ("option", "arrives_as"),
    [("--implicit", "1.2.840.10008.1.2"), ("--prefer-little", "1.2.840.10008.1.2.1")],
)
def test_an_object_is_re_encoded_only_for_a_receiver_that_refuses_it(
    name: str, option: str, arrives_as: str
) -> None:
    parcel = compressed_parcel(name)
    with storescp(option) as receiver:
        with destination_at(receiver).open([parcel]) as session:
            receipt = session.send(parcel)
        assert receiver.transfer_syntax(parcel.sop_instance_uid) == arrives_as
        assert receipt["re_encoded"] is True
        arrived = pydicom.dcmread(receiver.files()[parcel.sop_instance_uid])
    with parcel.open() as file:
        expected = pydicom.dcmread(file)
    expected.decompress(as_rgb=False, generate_instance_uid=False)
    assert bytes(arrived.PixelData) == bytes(expected.PixelData)
    assert arrived.SOPInstanceUID == expected.SOPInstanceUID


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "SC_rgb_jpeg_gdcm.dcm", "JPEG2000.dcm", "MR_small_bigendian.dcm"]
)
def test_an_object_goes_as_it_is_stored_to_a_receiver_that_takes_it(name: str) -> None:
    parcel = compressed_parcel(name)
    with storescp("--accept-all") as receiver:
        with destination_at(receiver).open([parcel]) as session:
            receipt = session.send(parcel)
        assert receipt["re_encoded"] is False
        assert receiver.transfer_syntax(parcel.sop_instance_uid) == parcel.transfer_syntax_uid
        with parcel.open() as file:
            offset = read_part10(file).dataset_offset
        assert receiver.data_set(parcel.sop_instance_uid) == plain(parcel)[offset:]
