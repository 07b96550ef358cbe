"""A device is an AE title at an address; whoever else knocks is remembered, within bounds."""

from datetime import timedelta

import pytest

from appliance.catalog import Catalog, devices
from appliance.errors import Unknown
from appliance.model import Device, ae_title
from tests.catalog.arrivals import NOW

CT1, CT2 = ae_title("CT1"), ae_title("CT2")


def test_title_and_address_both_count(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        added = devices.add_device(tx, Device(CT1, "10.0.0.7", "Scanner", 104), NOW)
    with catalog.reading() as reading:
        assert devices.is_known(reading, CT1, "10.0.0.7")
        assert not devices.is_known(reading, CT1, "10.0.0.8")
        assert not devices.is_known(reading, CT2, "10.0.0.7")
        assert not devices.is_known(reading, ae_title("ct1"), "10.0.0.7")
        assert devices.devices(reading) == [added]
        assert added == Device(CT1, "10.0.0.7", "Scanner", 104, added.id)


def test_admitting_again_renames_and_does_not_double(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        first = devices.add_device(tx, Device(CT1, "10.0.0.7", "Old"), NOW)
        again = devices.add_device(tx, Device(CT1, "10.0.0.7", "New", 11112), NOW)
        assert again.id == first.id
        assert [(each.name, each.port) for each in devices.devices(tx)] == [("New", 11112)]


def test_a_removed_device_is_known_no_more(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        devices.add_device(tx, Device(CT1, "10.0.0.7"), NOW)
        devices.remove_device(tx, CT1, "10.0.0.7")
        assert not devices.is_known(tx, CT1, "10.0.0.7")
        with pytest.raises(Unknown):
            devices.remove_device(tx, CT1, "10.0.0.7")


def test_it_is_told_when_a_device_last_called(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        number = devices.add_device(tx, Device(CT1, "10.0.0.7"), NOW).id
        assert devices.last_seen(tx) == {number: None}
        devices.device_seen(tx, CT1, "10.0.0.7", NOW)
        assert devices.last_seen(tx) == {number: NOW}


def test_unknown_callers_are_counted_until_admitted(catalog: Catalog) -> None:
    later = NOW + timedelta(minutes=5)
    with catalog.transaction() as tx:
        assert devices.seen_at_door(tx, CT1, "10.0.0.7", NOW)
        assert not devices.seen_at_door(tx, CT1, "10.0.0.7", later)
        assert devices.seen_at_door(tx, CT2, "10.0.0.7", NOW)
        first, second = devices.visitors(tx)
        assert (first.ae_title, first.calls, first.first_seen_utc, first.last_seen_utc) == (
            CT1,
            2,
            NOW,
            later,
        )
        assert second.ae_title == CT2
        devices.add_device(tx, Device(CT1, "10.0.0.7"), NOW)
        devices.forget_visitor(tx, CT2, "10.0.0.7")
        assert devices.visitors(tx) == []


def test_the_door_remembers_no_more_than_its_bound(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        for number in range(devices.MOST_VISITORS + 5):
            devices.seen_at_door(tx, ae_title(f"X{number}"), "10.0.0.9", NOW + timedelta(seconds=number))
        remembered = devices.visitors(tx)
    assert len(remembered) == devices.MOST_VISITORS
    assert remembered[0].ae_title == f"X{devices.MOST_VISITORS + 4}"
    assert remembered[-1].ae_title == "X5"
