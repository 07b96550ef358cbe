"""The console on a real port, over a filled box, with somebody signed in: for what knocks from outside."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from appliance import identity, web
from appliance.box import Box, open_box
from appliance.catalog import deliveries, destinations, devices, people, rules
from appliance.config import Config, WebConfig
from appliance.identity import Role, limits
from appliance.model import DestinationSettings, Device, InstanceId, Owed, Rule, ae_title
from appliance.web import rates
from tests.web.conftest import fill

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
REACHES_OUT = ("test_destination", "echo_device", "test_webhook")
"""Operations that call other machines: with invented addresses they would wait, or knock at a stranger's door."""
ENDS_ITSELF = ("end_user_sessions",)
"""Operations that sign out whoever asks, when they ask it of themselves: all that follows would be refused."""


MANY = 1_000_000


@dataclass(frozen=True)
class Served:
    """A running console, and the headers of somebody who is signed in."""

    box: Box
    port: int
    cookie: str
    csrf: str

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def served(data: Path, *, threads: int = 16, role: Role = Role.OWNER) -> Iterator[Served]:
    """The console of a box in `data`, until the block ends; ends with an assertion that every thread has stopped."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = replace(Config(), data=data, web=WebConfig(port=port, threads=threads))
    box = open_box(config)
    moment = datetime.now(UTC)
    fill(box)
    with box.catalog.transaction() as tx:
        person = people.add(
            tx, login="prober", name="A prober", role=role, password_hash="none", language="en", now=moment
        )
        cookie = identity.open_session(tx, person.id, address="127.0.0.1", agent="tests", now=moment)
        devices.add_device(tx, Device(ae_title("PANO1"), "192.168.1.40"), moment)
        found = identity.find_session(tx, cookie, moment)
        assert found is not None
        place = destinations.add(
            tx, DestinationSettings("shelf", "folder", "dicom", {"path": str(data)}, paused=True)
        )
        rules.add_rule(tx, Rule(place, "shelf", "dicom"))
        for number in range(1, 6):
            deliveries.owe(tx, InstanceId(number), [Owed(place, 0)], moment)
    stop = threading.Event()
    # Invented tokens come by the hundred here; that they lock their sender out is shown in tests/web/test_tokens.py,
    # and that an account may ask for so much in tests/web/test_rates.py.
    unlimited = patch.multiple(limits, HERE=MANY, LOGIN=MANY, ADDRESS=MANY)
    unpaced = patch.multiple(rates, RATES={})
    unlimited.start()
    unpaced.start()
    serving = threading.Thread(target=web.serve, args=(box, stop), name="served", daemon=True)
    serving.start()
    try:
        _wait_for(port)
        yield Served(box, port, cookie, found.csrf)
    finally:
        stop.set()
        serving.join(60)
        unlimited.stop()
        unpaced.stop()
        box.close()
        assert not serving.is_alive()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the console does not answer"
            threading.Event().wait(0.05)


def ask_everything(
    there: Served, *, examples: int, seed: int, phases: str = "examples,coverage,fuzzing,stateful"
) -> subprocess.CompletedProcess[str]:
    """Schemathesis with all its checks against a running console; the exit code is 0 if nothing was wrong."""
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "--config-file",
            str(CONFIGURATION),
            "run",
            f"{there.address}/api/v1/openapi.json",
            f"--header=Cookie: console_session={there.cookie}",
            f"--header=X-CSRF-Token: {there.csrf}",
            "--checks=all",
            "--mode=all",
            f"--phases={phases}",
            f"--max-examples={examples}",
            f"--seed={seed}",
            "--generation-database=none",
            "--request-timeout=30",
            "--suppress-health-check=all",
            "--continue-on-failure",
            *(f"--exclude-operation-id={name}" for name in (*REACHES_OUT, *ENDS_ITSELF)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=there.box.config.data,
    )
