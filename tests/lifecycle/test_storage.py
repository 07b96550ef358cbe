"""The estimate: bytes by class from the receipts and the ages that the clinic chose, and list prices for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import settings as chosen
from appliance.box import Box
from appliance.catalog import destinations, tier_tags
from appliance.cli.command import main
from appliance.lifecycle import prices, storage
from appliance.lifecycle.storage_class import CLASSES, OF_TIER, Ages, Retrieval, Tier
from appliance.replication.destinations import bucket_policy
from appliance.settings import NotAccepted
from tests.backup.conftest import IMAGES
from tests.boxes import box_in, recorded
from tests.replication.cloud import settings
from tests.replication.depot import owe_everything_to
from tests.replication.parcels import take_in

NOW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture
def box(data_dir: Path) -> Iterator[Box]:
    """Eleven images of four studies in a bucket."""
    with box_in(data_dir) as box:
        owe_everything_to(box, settings("http://127.0.0.1:1", "clinic"))
        take_in(box, IMAGES)
        with box.catalog.transaction() as tx:
            tx.exec_driver_sql("UPDATE deliveries SET state = 'CONFIRMED'")
        yield box


def choose(box: Box, warm: int, cold: int, deep: int = 0) -> None:
    with box.catalog.transaction() as tx:
        wanted = {"tiers.warm_days": warm, "tiers.cold_days": cold, "tiers.deep_days": deep}
        chosen.change(tx, box.audit_key, wanted, actor="marie", now=NOW)


def by_class(box: Box) -> dict[str, int]:
    with box.catalog.reading() as conn:
        (found,) = storage.buckets(conn)
    return found.bytes_by_class


def test_everything_is_hot_until_the_clinic_chooses(box: Box) -> None:
    assert by_class(box) == {"STANDARD": sum(row.sealed_bytes for row in recorded(box))}


def test_each_image_counts_in_the_furthest_class_that_was_said_of_its_study(box: Box) -> None:
    sizes: dict[int, int] = {}
    for row in recorded(box):
        sizes[row.study_id] = sizes.get(row.study_id, 0) + row.sealed_bytes
    one, other, third, fourth = sorted(sizes)
    with box.catalog.transaction() as tx:
        (place,) = destinations.destinations(tx)
        for study, tiers in {one: [Tier.WARM], other: [Tier.COLD, Tier.HOT], third: [Tier.DEEP]}.items():
            for tier in tiers:
                tier_tags.begin(tx, place.id, study, tier, NOW)
    assert by_class(box) == {
        "STANDARD": sizes[fourth],
        "STANDARD_IA": sizes[one],
        "GLACIER_IR": sizes[other],
        "DEEP_ARCHIVE": sizes[third],
    }


@pytest.mark.parametrize(
    ("warm", "cold", "deep"),
    [(29, 0, 0), (1, 365, 0), (60, 60, 0), (60, 89, 0), (0, 0, 179), (0, 365, 454), (160, 0, 189)],
)
def test_ages_that_come_too_soon_are_refused(box: Box, warm: int, cold: int, deep: int) -> None:
    with pytest.raises(NotAccepted):
        choose(box, warm, cold, deep)


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
    assert bucket_policy.moves_of(rules) == {Tier.WARM, Tier.COLD}


# --- pure ------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(sorted(CLASSES)), st.integers(0, 10**15)))
def test_a_cheaper_class_never_costs_more_to_keep_and_never_less_to_read(held: dict[str, int]) -> None:
    total = {"STANDARD": sum(held.values())}
    assert prices.a_month(held) <= prices.a_month(total) + 1e-6
    assert prices.reading_all(held) >= prices.reading_all(total) - 1e-6


def test_every_class_has_its_price() -> None:
    assert {each.storage.name for each in prices.PRICES} == set(CLASSES)
    assert prices.a_month({"STANDARD": 10**12}) == pytest.approx(25.0)


def test_what_lies_deep_is_cheapest_brought_home_in_bulk() -> None:
    deep = {"DEEP_ARCHIVE": 10**12, "GLACIER": 10**12}
    assert prices.reading_all(deep, Retrieval.BULK) < prices.reading_all(deep, Retrieval.STANDARD)
    hot = {"STANDARD": 10**12, "GLACIER_IR": 10**12}
    assert prices.reading_all(hot, Retrieval.BULK) == prices.reading_all(hot, Retrieval.STANDARD)


@given(st.integers(0, 400), st.integers(0, 800), st.integers(0, 1500))
def test_ages_without_trouble_go_one_way_and_pay_for_no_class_twice(warm: int, cold: int, deep: int) -> None:
    ages = Ages(warm, cold, deep)
    if ages.trouble() is None:
        assert [days for days, _ in ages.steps] == sorted(days for days in (warm, cold, deep) if days)
        for (days, tier), (later, _) in pairwise(ages.steps):
            assert later - days >= OF_TIER[tier].least_days
        assert not warm or warm >= 30
        assert not deep or deep >= 180
