"""The machine checks: each finding is what the world is like, with no connection too."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from appliance.box import Box, open_box
from appliance.config import Config, DicomConfig, StoreConfig
from appliance.wizard import checks
from appliance.wizard.checks import Surroundings
from tests.boxes import config_in
from tests.seals import sealed_with
from tests.told_disk import told_disk

NOWHERE = ("127.0.0.1", 1)


@contextmanager
def hour_server(told: datetime) -> Iterator[tuple[str, int]]:
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(405)
            self.send_header("Date", format_datetime(told, usegmt=True))
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield ("127.0.0.1", server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    opened = open_box(config_in(tmp_path / "data"))
    yield opened
    opened.close()


def found(box: Box, **around: Any) -> dict[str, str]:
    settings = replace(Surroundings(way_out=NOWHERE), **around)
    return {each.subject: each.code for each in checks.look(box, settings)}


def test_a_box_without_a_line_says_so_and_still_judges_everything_else(box: Box, tmp_path: Path) -> None:
    codes = found(box, time_is_synchronised=tmp_path / "absent", tpm=tmp_path / "absent")
    assert codes["internet"] == "internet-down"
    assert codes["clock"] == "clock-alone"
    assert codes["tpm"] == "tpm-none"
    assert set(codes) == {"disk", "memory", "ports", "clock", "tpm", "internet"}


@pytest.mark.parametrize(
    ("skew", "code"),
    [(timedelta(), "clock-good"), (timedelta(hours=1), "clock-wrong"), (timedelta(days=-365), "clock-wrong")],
)
def test_the_clock_is_compared_with_the_hour_outside(box: Box, skew: timedelta, code: str) -> None:
    with hour_server(datetime.now(UTC) + skew) as way_out:
        codes = found(box, way_out=way_out)
    assert codes["internet"] == "internet-up"
    assert codes["clock"] == code


def test_a_clock_of_years_ago_is_told_without_any_line(box: Box) -> None:
    assert found(box, now=lambda: datetime(2009, 1, 1, tzinfo=UTC))["clock"] == "clock-past"


def test_a_clock_that_the_system_keeps_is_believed(box: Box, tmp_path: Path) -> None:
    (tmp_path / "synchronized").touch()
    assert found(box, time_is_synchronised=tmp_path / "synchronized")["clock"] == "clock-good"


def test_a_tpm_that_is_there_and_not_used_is_told_apart(box: Box, tmp_path: Path) -> None:
    assert found(box, tpm=tmp_path)["tpm"] == "tpm-unused"


@pytest.mark.parametrize(
    ("key", "without", "beside_one"),
    [
        ("host+tpm2", "tpm-good", "tpm-good"),
        ("host", "tpm-none", "tpm-unused"),
        (None, "tpm-none", "tpm-unused"),
    ],
)
def test_a_seal_that_no_tpm_made_is_told_like_a_key_file(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, without: str, beside_one: str
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", sealed_with(key, tmp_path / "given")["CREDENTIALS_DIRECTORY"])
    assert found(box, tpm=tmp_path / "absent")["tpm"] == without
    assert found(box, tpm=tmp_path)["tpm"] == beside_one
    with told_disk(tmp_path / "told") as root:
        root.says("none")
        assert found(box, tpm=tmp_path)["tpm"] == "tpm-good", "on the image's own disk, which is encrypted"


def test_little_memory_is_told(box: Box) -> None:
    assert found(box, memory_bytes=lambda: 1 << 30)["memory"] == "memory-small"
    assert found(box, memory_bytes=lambda: 8 << 30)["memory"] == "memory-good"


def test_a_disk_down_to_its_reserve_is_told(tmp_path: Path) -> None:
    full = open_box(Config(data=tmp_path / "data", store=StoreConfig(reserve_bytes=1 << 60)))
    assert found(full)["disk"] == "disk-full"
    full.close()


def test_a_port_nobody_listens_on_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        opened = open_box(Config(data=tmp_path / "data", dicom=DicomConfig(bind="127.0.0.1", port=port)))
        assert found(opened)["ports"] == "ports-good"
    assert found(opened)["ports"] == "ports-closed"
    opened.close()


def test_asking_again_and_again_does_not_knock_outside_again(box: Box) -> None:
    asked = []

    def now() -> datetime:
        asked.append(1)
        return datetime.now(UTC)

    remembered = checks.Remembered(Surroundings(way_out=NOWHERE, now=now))
    first = remembered.look(box)
    assert all(remembered.look(box) == first for _ in range(20))
    assert len(asked) == 1
    eager = checks.Remembered(Surroundings(way_out=NOWHERE, now=now), seconds=-1)
    eager.look(box)
    eager.look(box)
    assert len(asked) == 3
