"""Real receivers on loopback: DCMTK's storescp and Orthanc, as other clinics run them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.dicom.part10 import read_part10
from appliance.dicom.scu import Timeouts, echo
from appliance.errors import ApplianceError
from appliance.model import AETitle, DestinationSettings

PATIENCE_SECONDS = 30.0
STORESCP = "/usr/bin/storescp"
ORTHANC = "/usr/sbin/Orthanc"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Receiver:
    """A running receiver; `files` gives the data sets that it keeps, by SOP Instance UID."""

    ae_title: AETitle
    port: int
    folder: Path
    http_port: int = 0

    @property
    def settings(self) -> DestinationSettings:
        options: dict[str, str | int | bool] = {
            "ae_title": self.ae_title,
            "address": "127.0.0.1",
            "port": self.port,
        }
        return DestinationSettings("pacs", "dicom", "dicom", options)

    def files(self) -> dict[str, Path]:
        """What storescp has written, by SOP Instance UID."""
        found = {}
        for path in self.folder.iterdir():
            with path.open("rb") as file:
                found[str(read_part10(file).sop_instance_uid)] = path
        return found

    def data_set(self, sop_instance_uid: str) -> bytes:
        path = self.files()[sop_instance_uid]
        with path.open("rb") as file:
            offset = read_part10(file).dataset_offset
        return path.read_bytes()[offset:]

    def transfer_syntax(self, sop_instance_uid: str) -> str:
        with self.files()[sop_instance_uid].open("rb") as file:
            return str(read_part10(file).transfer_syntax_uid)

    def orthanc(self, path: str) -> bytes:
        """What Orthanc's REST interface says."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.http_port}{path}", timeout=PATIENCE_SECONDS
        ) as answer:
            return bytes(answer.read())


@contextmanager
def storescp(*options: str, ae_title: str = "RECEIVER", verified: bool = True) -> Iterator[Receiver]:
    """storescp, writing data sets exactly as they come; `options` are its own."""
    if not Path(STORESCP).exists():
        pytest.fail("storescp is not installed: apt-get install dcmtk")
    folder = Path(tempfile.mkdtemp(prefix="storescp-"))
    port = free_port()
    command = [STORESCP, "--quiet", "-dhl", "--bit-preserving", "--aetitle", ae_title, "-od", str(folder)]
    process = subprocess.Popen(
        [*command, *options, str(port)],
        env={**os.environ, "TCP_NODELAY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        receiver = Receiver(AETitle(ae_title), port, folder)
        _wait(process, port, receiver.ae_title if verified else None)
        yield receiver
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def orthanc(**configuration: object) -> Iterator[Receiver]:
    """Orthanc with its own defaults, but for `configuration`."""
    if not Path(ORTHANC).exists():
        pytest.fail("Orthanc is not installed: apt-get install orthanc")
    folder = Path(tempfile.mkdtemp(prefix="orthanc-"))
    port, http_port = free_port(), free_port()
    path = folder / "orthanc.json"
    path.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "index"),
                "DicomAet": "ORTHANC",
                "DicomPort": port,
                "HttpPort": http_port,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "Plugins": [],
            }
            | configuration
        )
    )
    process = subprocess.Popen(
        [ORTHANC, str(path)],
        env={**os.environ, "TCP_NODELAY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        receiver = Receiver(AETitle("ORTHANC"), port, folder, http_port)
        _wait(process, port, receiver.ae_title)
        yield receiver
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], port: int, ae_title: AETitle | None) -> None:
    """Wait until the receiver answers; one that is told to refuse only until it listens."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert process.poll() is None, "the receiver has ended"
        try:
            if ae_title is None:
                socket.create_connection(("127.0.0.1", port), 1).close()
            else:
                echo("127.0.0.1", port, ae_title, AETitle("TESTS"), timeouts=Timeouts(1, 5, 5, 5))
            return
        except (OSError, ApplianceError):
            assert time.monotonic() < deadline, "the receiver does not answer"
            time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def uids(parcels: Sequence[object]) -> set[str]:
    """The SOP Instance UIDs of `parcels`."""
    return {str(each.sop_instance_uid) for each in parcels}  # type: ignore[attr-defined]
