"""Small values are kept as they are; heartbeats tell who lives."""

from datetime import timedelta

import pytest

from appliance.catalog import Catalog, processes, settings
from appliance.catalog.columns import canonical_json, utc_moment
from tests.catalog.arrivals import NOW


@pytest.mark.parametrize("value", [True, 0, "é", [1, "a"], {"b": 1, "a": [None]}])
def test_json_values_come_back(catalog: Catalog, value: object) -> None:
    with catalog.transaction() as tx:
        settings.put(tx, "key", "before", NOW)
        settings.put(tx, "key", value, NOW)
    with catalog.reading() as reading:
        assert settings.get(reading, "key", "absent") == value


def test_nothing_is_the_same_as_absent(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        settings.put(tx, "key", 1, NOW)
        settings.put(tx, "key", None, NOW)
        assert settings.get(tx, "key", "absent") == "absent"


def test_an_absent_setting_is_its_default(catalog: Catalog) -> None:
    with catalog.transaction() as tx:
        settings.put(tx, "key", 1, NOW)
        settings.remove(tx, "key")
        assert settings.get(tx, "key", 7) == 7


def test_canonical_json_is_one_text_per_value() -> None:
    assert canonical_json({"b": 1, "a": {"é": None}}) == '{"a":{"é":null},"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_other_text_is_no_moment() -> None:
    with pytest.raises(ValueError, match="moment"):
        utc_moment("2026-11-22")


def test_the_latest_heartbeat_counts(catalog: Catalog) -> None:
    later = NOW + timedelta(seconds=10)
    with catalog.transaction() as tx:
        processes.beat(tx, "courier", 11, NOW, NOW)
        processes.beat(tx, "dicom-0", 12, NOW, NOW)
        processes.beat(tx, "courier", 13, later, later, {"sending": 2})
    with catalog.reading() as reading:
        courier, dicom = processes.processes(reading)
    assert courier == processes.ProcessRow("courier", 13, later, later, {"sending": 2})
    assert dicom.pid == 12
    with catalog.transaction() as tx:
        processes.forget(tx, "dicom-0")
        assert [each.name for each in processes.processes(tx)] == ["courier"]
