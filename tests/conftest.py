"""What every test may lean on: a clean environment, free ports, and waiting for a promise instead of sleeping."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

T = TypeVar("T")

# The same examples on every machine and at any speed; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile(
    "steady",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("search", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take a minute begin first; the order within a file stays."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The appliance's settings and a cloud account of the person who runs the tests stay out of them."""
    for name in os.environ:
        if name.startswith(("APPLIANCE_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that gives a TCP port of 127.0.0.1 which nobody listens on; each call gives another one.

    For peers that can't be told to bind port 0 and say which they got.
    """
    given: set[int] = set()

    def next_port() -> int:
        while True:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return next_port


@pytest.fixture
def eventually() -> Callable[..., T]:
    """A function that waits until ``condition()`` is true and returns what it gave.

    ``eventually(condition, within_seconds=30)`` raises AssertionError, with what was last seen, at the deadline.
    """

    def wait(condition: Callable[[], T], *, within_seconds: float = 30, what: str = "") -> T:
        deadline = time.monotonic() + within_seconds
        pause_seconds = 0.01
        while not (seen := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not within {within_seconds} s: {what or condition}; last seen: {seen!r}"
                )
            time.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 1.5, 0.25)
        return seen

    return wait


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty, private folder for the appliance's data, outside the checkout."""
    path = tmp_path / "appliance-data"
    path.mkdir(mode=0o700)
    return path
