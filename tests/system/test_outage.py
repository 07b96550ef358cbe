"""The short form of R5: a third of a minute of bad weather between the box and its cloud."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.campaigns import outage


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_bad_weather_disturbs_no_reception_and_everything_arrives_once(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    outcome = outage.run(
        tmp_path / "box",
        free_port,
        outage_seconds=8,
        storm_seconds=4,
        faulty_seconds=9,
        uplink_bytes_per_second=100e6,  # how fast it drains is judged by the campaign, on a machine that does nothing else
        seed=1,
    )
    assert outcome.acknowledged > 50
    print(outcome)
