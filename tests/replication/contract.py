"""What every destination promises. A kind of destination passes by providing a `Place` as the fixture ``place``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from appliance.errors import Corrupt, OperatorNeeded, Refused, Transient
from appliance.replication.destinations import Destination, Parcel
from appliance.replication.destinations.parcel import WouldReplace
from tests.instances import Instance
from tests.replication.parcels import parcels_in, plain

INSTANCES = [Instance(1), Instance(2, pixel_bytes=700_000), Instance(3, study=2, pixel_bytes=2_500_000)]


@dataclass
class Place:
    """A destination that works, those that do not, and a look at what has arrived."""

    destination: Destination
    unreachable: Destination
    closed_to_us: Destination
    refusing: Callable[[], AbstractContextManager[tuple[Destination, Callable[[Parcel], Parcel]]]] | None
    held: Callable[[Parcel], bytes]
    count: Callable[[], int]


class DestinationContract:
    """The suite."""

    @pytest.fixture
    def parcels(self, data_dir: Path) -> Iterator[list[Parcel]]:
        with parcels_in(data_dir, INSTANCES) as parcels:
            yield parcels

    def test_what_arrives_is_what_was_stored(self, place: Place, parcels: list[Parcel]) -> None:
        with place.destination.open(parcels) as session:
            for parcel in parcels:
                session.send(parcel)
        for parcel in parcels:
            expected = (
                parcel.sealed_path.read_bytes() if place.destination.takes == "ciphertext" else plain(parcel)
            )
            assert place.held(parcel) == expected

    def test_a_receipt_is_evidence_that_json_can_hold(self, place: Place, parcels: list[Parcel]) -> None:
        with place.destination.open(parcels) as session:
            receipt = session.send(parcels[0])
        assert receipt["at_utc"]
        assert receipt.get("sha256") or receipt.get("status") == "0000"
        assert all(isinstance(value, str | int | bool) for value in receipt.values())
        assert not any(
            uid in str(receipt) for uid in (parcels[0].study_instance_uid, parcels[0].sop_instance_uid)
        )

    def test_sending_again_ends_as_one_object(self, place: Place, parcels: list[Parcel]) -> None:
        with place.destination.open(parcels) as session:
            first = session.send(parcels[1])
        before = place.count()
        with place.destination.open(parcels) as session:
            again = session.send(replace(parcels[1], tried_before=True))
        assert place.count() == before
        assert again.get("sha256") == first.get("sha256")

    def test_sending_again_without_knowing_ends_as_one_object(
        self, place: Place, parcels: list[Parcel]
    ) -> None:
        for _ in range(2):
            with place.destination.open(parcels) as session:
                session.send(parcels[0])
        assert place.count() == 1

    def test_a_session_goes_on_after_a_corrupt_object(self, place: Place, parcels: list[Parcel]) -> None:
        sealed = bytearray(parcels[0].sealed_path.read_bytes())
        sealed[len(sealed) // 2] ^= 1
        parcels[0].sealed_path.write_bytes(sealed)
        with place.destination.open(parcels) as session:
            with pytest.raises(Corrupt):
                session.send(parcels[0])
            session.send(parcels[1])
        assert place.count() == 1

    def test_a_connection_test_says_what_works(self, place: Place) -> None:
        said = place.destination.check()
        assert said.endswith(".")
        assert len(said.split()) > 3

    def test_a_connection_test_leaves_no_object(self, place: Place) -> None:
        place.destination.check()
        place.destination.check()
        assert place.count() == 0

    def test_a_place_out_of_reach_is_tried_again(self, place: Place, parcels: list[Parcel]) -> None:
        with pytest.raises(Transient), place.unreachable.open(parcels) as session:
            session.send(parcels[0])
        with pytest.raises(Transient):
            place.unreachable.check()

    def test_a_place_that_is_closed_to_us_needs_a_person_who_is_told_what_to_do(
        self, place: Place, parcels: list[Parcel]
    ) -> None:
        with pytest.raises(OperatorNeeded) as sending, place.closed_to_us.open(parcels) as session:
            session.send(parcels[0])
        with pytest.raises(OperatorNeeded) as checking:
            place.closed_to_us.check()
        assert sending.value.hint
        assert checking.value.hint

    def test_errors_say_nothing_of_the_patient(self, place: Place, parcels: list[Parcel]) -> None:
        with pytest.raises(Transient) as error, place.unreachable.open(parcels) as session:
            session.send(parcels[0])
        for secret in ("MARK0001", "Marqueur", parcels[0].sop_instance_uid, parcels[0].study_instance_uid):
            assert secret not in str(error.value)


class NamesContract:
    """What a destination that keeps each object under its name promises besides; a peer by DICOM names them itself."""

    @pytest.mark.parametrize("tried_before", [False, True], ids=["first", "again"])
    def test_nothing_is_written_over_where_nothing_may_be_replaced(
        self, place: Place, parcels: list[Parcel], tried_before: bool
    ) -> None:
        first = parcels[0]
        other = replace(
            parcels[1],
            object_id=first.object_id,
            study_instance_uid=first.study_instance_uid,
            replaces="nothing",
            tried_before=tried_before,
        )
        with place.destination.open(parcels) as session:
            receipt = session.send(first)
            kept = place.held(first)
            with pytest.raises(WouldReplace):
                session.send(other)
            assert place.held(first) == kept
            assert session.send(replace(first, replaces="nothing")).get("sha256") == receipt.get("sha256")
            session.send(replace(parcels[1], replaces="nothing"))
        assert place.count() == 2


class RefusalContract:
    """What a destination that looks at an object, or at its name, promises besides; a folder takes anything."""

    def test_an_object_that_is_refused_is_not_tried_again(self, place: Place, parcels: list[Parcel]) -> None:
        assert place.refusing is not None
        with place.refusing() as (destination, unwelcome):
            bad = unwelcome(parcels[0])
            with destination.open([bad, parcels[1]]) as session:
                with pytest.raises(Refused):
                    session.send(bad)
                session.send(parcels[1])
