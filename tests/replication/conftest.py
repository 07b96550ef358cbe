"""The cloud that the tests of this folder share: one server per run, a fresh bucket for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.replication.cloud import Cloud, Line, cloud, line


@pytest.fixture(scope="session")
def the_cloud() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture
def bucket(the_cloud: Cloud) -> str:
    return the_cloud.new_bucket()


@pytest.fixture
def the_line(the_cloud: Cloud) -> Iterator[Line]:
    """A line to the cloud that can be broken."""
    with line(the_cloud.port) as running:
        yield running
