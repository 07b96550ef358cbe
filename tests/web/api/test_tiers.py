"""Storage tiers for programs: what the console's page shows, and the days are settings that they may set."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from appliance.box import Box
from appliance.catalog import settings as catalog_settings
from appliance.lifecycle import tier_rules
from tests.replication.cloud import settings
from tests.replication.depot import owe_everything_to
from tests.web.api.conftest import Caller


def test_what_is_chosen_where_it_lies_and_what_stands_in_the_way(owner: Caller, box: Box) -> None:
    place = settings("http://127.0.0.1:1", "clinic")
    number = owe_everything_to(box, place)
    assert (
        owner("PATCH", "/settings", {"tiers.warm_days": 60, "tiers.cold_days": 365}, If_Match="*").status_code
        == 200
    )
    found = owner("GET", "/tiers").get_json()
    assert (found["warm_days"], found["cold_days"], found["deep_days"]) == (60, 365, 0)
    assert (found["eviction"], found["away_images"]) == ("off", 0)
    (bucket,) = found["buckets"]
    assert (bucket["destination"], bucket["name"], bucket["hot_bytes"]) == (number, "cloud", 0)
    assert (bucket["tags"], bucket["rules"], bucket["missing_rules"]) == ("taken", "well", "")
    with box.catalog.transaction() as tx:
        at = tier_rules.address(place)
        catalog_settings.put(tx, "tier_tags", {"cloud": ["keeps none", "nothing", at]}, datetime.now(UTC))
        told = {"cloud": {"at": at, "moves": ["warm"]}}
        catalog_settings.put(tx, "tier_rules", told, datetime.now(UTC))
    (bucket,) = owner("GET", "/tiers").get_json()["buckets"]
    assert (bucket["tags"], bucket["cause"], bucket["rules"]) == ("not kept", "keeps none", "missing")
    assert [each["ID"] for each in json.loads(bucket["missing_rules"])] == ["images-cold"]
    refused = owner("PATCH", "/settings", {"tiers.cold_days": 61}, If_Match="*")
    assert refused.status_code == 422, "the same bounds as in the console"
