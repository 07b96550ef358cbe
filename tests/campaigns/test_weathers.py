"""The short form: some of what can go wrong with a request, in each operation, and days of bad weather."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.campaigns import reachability, weathers
from tests.campaigns.remote_places import Bucket, a_bucket_of
from tests.campaigns.weathers import Outcome
from tests.replication.cloud import Cloud, cloud

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def remote_bucket(the_cloud: Cloud) -> Iterator[Bucket]:
    with a_bucket_of(the_cloud) as bucket:
        yield bucket


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=reachability.scratch(tmp_path)) as worlds:
        yield Path(worlds)


@pytest.mark.parametrize("operation", weathers.ATTEMPTS)
def test_it_is_whole_in_the_end_whatever_becomes_of_one_request(
    remote_bucket: Bucket, folder: Path, operation: str
) -> None:
    """`python -m tests.campaigns weathers` for all of them."""
    outcome = weathers.run(remote_bucket, folder, operation=operation, most=1)
    assert outcome.faults.total() == 1
    print(outcome)


@pytest.mark.parametrize("day", [pytest.param(weathers.losing, marks=pytest.mark.campaign), weathers.storm])
def test_a_clinic_does_all_that_it_does_in_bad_weather(
    remote_bucket: Bucket, folder: Path, day: Callable[[Bucket, Path], Outcome]
) -> None:
    outcome = day(remote_bucket, folder)
    assert outcome.faults.total() >= 3, "too few faults to mean anything"
    print(outcome)
