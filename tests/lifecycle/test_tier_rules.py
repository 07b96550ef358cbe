"""Days that the clinic has chosen move nothing without a rule of the bucket: what it lacks is said, with the rules to add."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import settings as chosen
from appliance.box import Box
from appliance.catalog import destinations
from appliance.lifecycle import tier_rules
from appliance.lifecycle.storage_class import Tier
from appliance.lifecycle.tier_rules import Missing
from appliance.model import DestinationSettings
from appliance.replication.destinations import bucket_policy, build
from tests.boxes import box_in
from tests.replication.cloud import Cloud, Fault, Line, cloud, line, settings

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def the_line(the_cloud: Cloud) -> Iterator[Line]:
    with line(the_cloud.port) as there:
        yield there


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with box_in(tmp_path) as opened:
        yield opened


@pytest.fixture
def place(box: Box, the_cloud: Cloud, the_line: Line) -> DestinationSettings:
    wanted = settings(the_line.url, the_cloud.new_bucket())
    with box.catalog.transaction() as tx:
        return replace(wanted, id=destinations.add(tx, wanted))


def choose(box: Box, **days: int) -> None:
    with box.catalog.transaction() as tx:
        wanted = {f"tiers.{name}_days": count for name, count in days.items()}
        chosen.change(tx, box.audit_key, wanted, actor="marie", now=NOW)


def look(box: Box, place: DestinationSettings) -> Missing | None:
    found = tier_rules.look(box, place, build(place, box), NOW)
    assert found == kept(box, place), "a page says what the test said"
    return found


def kept(box: Box, place: DestinationSettings) -> Missing | None:
    with box.catalog.reading() as conn:
        return tier_rules.missing(conn, place)


def give(cloud: Cloud, place: DestinationSettings, rules: list[dict[str, object]]) -> None:
    cloud.client().put_bucket_lifecycle_configuration(
        Bucket=place.options["bucket"], LifecycleConfiguration={"Rules": rules}
    )


def test_what_is_missing_is_said_with_the_rules_that_mend_it(
    box: Box, place: DestinationSettings, the_cloud: Cloud
) -> None:
    choose(box, warm=60, cold=365)
    found = look(box, place)
    assert found == Missing((Tier.WARM, Tier.COLD), is_told=True)
    give(the_cloud, place, json.loads(found.rules))
    assert look(box, place) is None
    choose(box, deep=800)
    assert kept(box, place) == Missing((Tier.DEEP,), is_told=True), "by the days of now, without asking anew"


def test_a_rule_of_the_clinics_own_that_goes_by_the_tag_is_enough_and_one_by_age_is_none(
    box: Box, place: DestinationSettings, the_cloud: Cloud
) -> None:
    choose(box, cold=365)
    moved = {"Status": "Enabled", "Transitions": [{"Days": 3, "StorageClass": "GLACIER_IR"}]}
    tag = {"Key": bucket_policy.TAG, "Value": "cold"}
    give(the_cloud, place, [{"ID": "by-age", "Filter": {"Prefix": "objects/"}, **moved}])
    assert look(box, place) == Missing((Tier.COLD,), is_told=True)
    give(the_cloud, place, [{"ID": "ours", "Filter": {"Tag": tag}, **moved}])
    assert look(box, place) is None
    for spoilt in (
        {"Filter": {"Tag": tag | {"Value": "warm"}}},
        {"Filter": {"And": {"Prefix": "manifests/", "Tags": [tag]}}},
        {"Status": "Disabled"},
        {"Transitions": [{"Days": 3, "StorageClass": "STANDARD_IA"}]},
    ):
        give(the_cloud, place, [{"ID": "ours", "Filter": {"Tag": tag}, **moved, **spoilt}])
        assert look(box, place) == Missing((Tier.COLD,), is_told=True), spoilt


@pytest.mark.parametrize("fault", [Fault.FORBIDDEN, Fault.NOT_IMPLEMENTED])
def test_rules_that_may_not_be_read_are_neither_there_nor_missing(
    box: Box, place: DestinationSettings, the_line: Line, fault: Fault
) -> None:
    choose(box, warm=60)
    the_line.fault = lambda asked: fault if "lifecycle" in asked.query else None
    found = look(box, place)
    assert found == Missing((Tier.WARM,), is_told=False)
    assert "STANDARD_IA" in found.rules


def test_nothing_is_asked_without_days_nor_said_of_another_bucket(
    box: Box, place: DestinationSettings, the_line: Line
) -> None:
    assert look(box, place) is None
    assert not the_line.requests
    choose(box, warm=60)
    assert look(box, place) is not None
    assert kept(box, replace(place, options={**place.options, "bucket": "another"})) is None
