"""The estimate: bytes by class from the receipts and the ages that the clinic chose, and list prices for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import settings as chosen
from appliance.box import Box
from appliance.catalog.columns import utc_text
from appliance.cli.command import main
from appliance.lifecycle import prices, storage
from appliance.lifecycle.storage_class import CLASSES, Ages
from appliance.settings import NotAccepted
from tests.backup.conftest import IMAGES
from tests.boxes import box_in, recorded
from tests.replication.cloud import settings
from tests.replication.depot import owe_everything_to
from tests.replication.parcels import take_in

NOW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    """Eleven images in a bucket: four came yesterday, four a hundred days ago, three two years ago."""
    with box_in(data_dir) as box:
        owe_everything_to(box, settings("http://127.0.0.1:1", "clinic"))
        take_in(box, IMAGES)
        with box.catalog.transaction() as tx:
            for number, row in enumerate(recorded(box)):
                at = NOW - timedelta(days=(1, 100, 730)[number // 4])
                tx.exec_driver_sql(
                    "UPDATE deliveries SET state = 'CONFIRMED', changed_utc = ? WHERE instance = ?",
                    (utc_text(at), row.id),
                )
        yield box


def choose(box: Box, warm: int, cold: int) -> None:
    with box.catalog.transaction() as tx:
        wanted = {"tiers.warm_days": warm, "tiers.cold_days": cold}
        chosen.change(tx, box.audit_key, wanted, actor="marie", now=NOW)


def by_class(box: Box) -> dict[str, int]:
    with box.catalog.reading() as conn:
        (found,) = storage.buckets(conn, NOW)
    return found.bytes_by_class


def test_everything_is_hot_until_the_clinic_chooses(box: Box) -> None:
    assert by_class(box) == {"STANDARD": sum(row.sealed_bytes for row in recorded(box))}


def test_each_image_counts_in_the_class_of_its_age(box: Box) -> None:
    sizes = [row.sealed_bytes for row in recorded(box)]
    choose(box, 60, 365)
    assert by_class(box) == {
        "STANDARD": sum(sizes[:4]),
        "STANDARD_IA": sum(sizes[4:8]),
        "GLACIER_IR": sum(sizes[8:]),
    }
    choose(box, 0, 90)
    assert by_class(box) == {"STANDARD": sum(sizes[:4]), "GLACIER_IR": sum(sizes[4:])}


@pytest.mark.parametrize(("warm", "cold"), [(29, 0), (1, 365), (60, 60), (60, 89)])
def test_ages_that_no_bucket_takes_are_refused(box: Box, warm: int, cold: int) -> None:
    with pytest.raises(NotAccepted):
        choose(box, warm, cold)


def test_the_command_line_says_it_is_an_estimate_and_prints_the_rule_for_it(
    box: Box, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    choose(box, 60, 365)
    box.close()
    monkeypatch.setenv("APPLIANCE_DATA", str(data_dir))
    assert main(["tiers", "costs", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["estimate"] == {
        "currency": "USD",
        "region": "ca-central-1",
        "as_of": prices.AS_OF,
        "source": prices.SOURCE,
    }
    assert told["buckets"][0]["name"] == "cloud"
    assert main(["tiers", "costs"]) == 0
    shown = capsys.readouterr().out
    assert "Estimate" in shown and prices.SOURCE in shown
    assert main(["destination", "policy", "cloud"]) == 0
    rules = json.loads(capsys.readouterr().out)["bucket_settings"]["LifecycleConfiguration"]["Rules"]
    assert [each["Transitions"] for each in rules if "Transitions" in each] == [
        [{"Days": 60, "StorageClass": "STANDARD_IA"}, {"Days": 365, "StorageClass": "GLACIER_IR"}]
    ]


# --- pure ------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(sorted(CLASSES)), st.integers(0, 10**15)))
def test_a_cheaper_class_never_costs_more_to_keep_and_never_less_to_read(held: dict[str, int]) -> None:
    total = {"STANDARD": sum(held.values())}
    assert prices.a_month(held) <= prices.a_month(total) + 1e-6
    assert prices.reading_all(held) >= prices.reading_all(total) - 1e-6


def test_every_class_has_its_price() -> None:
    assert {each.storage.name for each in prices.PRICES} == set(CLASSES)
    assert prices.a_month({"STANDARD": 10**12}) == pytest.approx(25.0)


@given(st.integers(0, 400), st.integers(0, 800))
def test_ages_without_trouble_go_one_way_and_leave_a_month_between(warm: int, cold: int) -> None:
    if not Ages(warm, cold).trouble():
        assert not warm or warm >= 30
        assert not (warm and cold) or cold >= warm + 30
