"""The DICOM destination, against DCMTK and Orthanc."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from appliance.dicom.part10 import read_part10
from appliance.dicom.scu import Timeouts
from appliance.errors import OperatorNeeded, Refused
from appliance.model import AETitle, DestinationSettings, Uid
from appliance.replication.destinations import Destination, Parcel
from appliance.replication.destinations.dicom import DicomDestination
from tests.replication.contract import DestinationContract, Place
from tests.replication.parcels import plain
from tests.replication.receivers import Receiver, free_port, orthanc, storescp

PRIVATE_CLASS = Uid("1.2.826.0.1.3680043.9.9999.1")
OURS = AETitle("CLINICBOX")
QUICK = Timeouts(connect_seconds=5, acse_seconds=10, network_seconds=20, response_seconds=30)


def destination_at(receiver: Receiver) -> DicomDestination:
    return replace(DicomDestination.from_settings(receiver.settings, calling=OURS), timeouts=QUICK)


class TestStorescp(DestinationContract):
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
class TestOrthanc(DestinationContract):
    @pytest.fixture
    def place(self) -> Iterator[Place]:
        with orthanc() as receiver, storescp("--refuse", verified=False) as closed:

            @contextmanager
            def refusing() -> Iterator[tuple[Destination, Callable[[Parcel], Parcel]]]:
                yield destination_at(receiver), lambda parcel: replace(parcel, sop_class_uid=PRIVATE_CLASS)

            def held(parcel: Parcel) -> bytes:
                import io
                import json

                (found,) = json.loads(receiver.orthanc("/instances")) and [
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
