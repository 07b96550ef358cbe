"""The sample of the ransomware guard's own count is of what is here, all over it, however much has left the disk."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from appliance.catalog import Catalog, instances
from appliance.catalog.lifecycle_tables import evictions
from appliance.lifecycle import census
from tests.catalog.arrivals import NOW, received

IMAGES, SAMPLE, RUN = 600, 40, 4
AWAY = 540
"""Images that left, the oldest; nine of ten."""


@pytest.fixture
def large(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    monkeypatch.setattr(census, "SAMPLE", SAMPLE)
    monkeypatch.setattr(census, "RUN", RUN)
    with catalog.transaction() as tx:
        instances.record_many(tx, [(received(), 0) for _ in range(IMAGES)])
        let_leave(tx, range(1, AWAY + 1))
    return catalog


def let_leave(tx, rows) -> None:
    tx.execute(
        evictions.insert(),
        [
            {
                "instance": row,
                "study": 1,
                "whereabouts": "away",
                "dataset_sha256": "",
                "sealed_sha256": "",
                "places": [],
                "changed_utc": NOW,
            }
            for row in rows
        ],
    )


def test_where_most_has_left_the_sample_is_as_large_and_as_even_as_elsewhere(large: Catalog) -> None:
    dice, counted, sizes = random.Random(8), Counter[int](), []
    with large.reading() as conn:
        for _ in range(300):
            drawn = [row[0] for row in census.drawn(conn, dice)]
            assert len(drawn) == len(set(drawn)) <= SAMPLE
            sizes.append(len(drawn))
            counted.update(drawn)
    assert set(counted) == set(range(AWAY + 1, IMAGES + 1))
    assert sum(sizes) / len(sizes) > SAMPLE / 2, "runs overlap now and then"
    assert max(counted.values()) < 1.5 * sum(counted.values()) / len(counted), (
        "none is looked at for the others"
    )


def test_what_is_left_on_a_disk_is_looked_at_whole_when_it_is_little(large: Catalog) -> None:
    with large.transaction() as tx:
        let_leave(tx, range(AWAY + 1, IMAGES - SAMPLE + 1))
    with large.reading() as conn:
        drawn = census.drawn(conn, random.Random(8))
    assert [row[0] for row in drawn] == list(range(IMAGES - SAMPLE + 1, IMAGES + 1))
