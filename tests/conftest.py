"""What every test may lean on: a clean environment, free ports, and waiting for a promise instead of sleeping."""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from argon2 import PasswordHasher
from hypothesis import HealthCheck, settings

from appliance.identity import passwords
from tests.new_catalogs import made_quickly
from tests.unrested import nobody_rests

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


# What the longest tests together hold at one time, and as much again for everything else that runs.
MEMORY_FOR_TEMPORARY_FILES_BYTES = 8 << 30


def pytest_configure() -> None:
    """Temporary folders lie in memory where there is plenty: half of the time would be the disk's, at every commit.

    Whether a disk keeps what it was told to keep is not asked of this machine's: `tests.campaigns.power` plays one that doesn't.
    """
    memory = Path("/dev/shm")
    free = min(shutil.disk_usage(memory).free, _available_bytes()) if memory.is_dir() else 0
    if free >= MEMORY_FOR_TEMPORARY_FILES_BYTES and os.access(memory, os.W_OK):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def _available_bytes() -> int:
    """Memory that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Campaigns only when asked for. Files that take a minute begin first; the order within a file stays."""
    if "campaign" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("campaign")])
        items[:] = [item for item in items if not item.get_closest_marker("campaign")]
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session", autouse=True)
def new_catalogs() -> Iterator[None]:
    """The revisions of the tables are gone through once, and not for each of thousands of boxes."""
    with made_quickly():
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[PasswordHasher]:
    """Argon2id with next to no work, in this process; gives the hasher of the product.

    What a hash costs on a box is held by `tests/identity/test_passwords.py`; here it would be a fifth of a second at each
    of thousands of sign-ins.
    """
    of_the_product = passwords._hasher
    passwords._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    yield of_the_product
    passwords._hasher = of_the_product


@pytest.fixture(scope="session", autouse=True)
def unrested() -> Iterator[None]:
    """Duties work on, though tests keep the machine busy."""
    with nobody_rests():
        yield


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
