"""The receivers compared: Orthanc, storescp and the appliance, each a process of ours on a free port of loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from appliance.box import open_box
from appliance.catalog.totals import totals
from appliance.config import load_config

from .wire import PeerFailed, answers_echo

CALLING_AE = "PERFSCU"
READY_WITHIN_SECONDS = 60
STOPPED_WITHIN_SECONDS = 20
POLL_SECONDS = 0.1


@dataclass
class Receiver:
    """A running receiver; `folder` holds all that it writes, `process` is the parent of its processes."""

    name: str
    version: str
    called_ae: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    settles: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def processes(self) -> list[psutil.Process]:
        """The process and its living descendants."""
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree so far, ended children included."""
        total = 0.0
        for process in self.processes():
            try:
                total += sum(process.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue
        return total

    def rss_bytes(self) -> int:
        """Resident memory of the whole tree now, shared pages counted in each process."""
        total = 0
        for process in self.processes():
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def stop(self) -> None:
        """End the process and its descendants, by their ids."""
        family = self.processes()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOPPED_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for process in family:
            if process.is_running():
                process.kill()


def orthanc(folder: Path) -> Receiver:
    """Debian's Orthanc with TCP_NODELAY=1, its default fsync and its largest PDU; no HTTP, no plugins."""
    port = free_port()
    configuration = {
        "Name": "Bench",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "HttpServerEnabled": False,
        "MaximumPduLength": 131072,
        "Plugins": [],
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    process = _start(["Orthanc", str(path)], folder, {"TCP_NODELAY": "1"})
    version = _first_line(["Orthanc", "--version"]).removeprefix("Orthanc ")
    return _when_ready(Receiver("Orthanc +ND", version, "ORTHANC", port, folder, process))


def storescp(folder: Path) -> Receiver:
    """DCMTK's storescp with TCP_NODELAY=1: straight to disk in clear, no fsync, no index."""
    port = free_port()
    stored = folder / "stored"
    stored.mkdir()
    command = [
        "storescp",
        "--fork",
        "--bit-preserving",
        "--max-pdu",
        "131072",
        "--output-directory",
        str(stored),
        str(port),
    ]
    process = _start(command, folder, {"TCP_NODELAY": "1"})
    version = _first_line(["storescp", "--version"]).split()[2].removeprefix("v")
    return _when_ready(Receiver("storescp --fork +ND", version, "STORESCP", port, folder, process))


def appliance(folder: Path) -> Receiver:
    """Ours: sealed, synced and indexed, with everything at its default but the ports and the data directory."""
    port, tls_port, web_port = free_port(), free_port(), free_port()
    environment = {
        "APPLIANCE_DATA": str(folder / "data"),
        "APPLIANCE_DICOM_PORT": str(port),
        "APPLIANCE_DICOM_TLS_PORT": str(tls_port),
        "APPLIANCE_WEB_PORT": str(web_port),
    }
    (folder / "data").mkdir(mode=0o700)
    admitted = subprocess.run(
        [*APPLIANCE, "device", "add", "--ae-title", CALLING_AE, "--address", "127.0.0.1"],
        env=os.environ | environment,
        capture_output=True,
        check=False,
        text=True,
    )
    if admitted.returncode:
        raise PeerFailed(f"the appliance did not admit the sender: {admitted.stderr.strip()}")
    process = _start([*APPLIANCE, "dicom"], folder, environment)
    ready = Receiver(
        "appliance", _our_version(), "CLINICBOX", port, folder, process, settles=True, environment=environment
    )
    return _when_ready(ready)


@contextmanager
def catalogued(receiver: Receiver) -> Iterator[Callable[[], int]]:
    """A function that tells how many instances the appliance's catalog shows now.

    Reads the catalog itself: a call of `appliance studies` takes half a second, which is more than what is measured.
    """
    box = open_box(load_config(os.environ | receiver.environment))

    def count() -> int:
        with box.catalog.reading() as conn:
            return totals(conn).instances

    try:
        yield count
    finally:
        box.close()


APPLIANCE = (sys.executable, "-m", "appliance")
KINDS = {"orthanc": orthanc, "storescp": storescp, "appliance": appliance}


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _start(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "output.log").open("wb") as log:
        return subprocess.Popen(
            command,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _when_ready(receiver: Receiver) -> Receiver:
    """Wait until the receiver answers C-ECHO.

    Raises:
        PeerFailed: It ended, or does not answer in time.
    """
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline and receiver.process.poll() is None:
        if answers_echo(receiver.port, receiver.called_ae, CALLING_AE):
            return receiver
        time.sleep(POLL_SECONDS)
    receiver.stop()
    last = (receiver.folder / "output.log").read_text(errors="replace").strip().splitlines()[-3:]
    raise PeerFailed(f"{receiver.name} does not answer C-ECHO: {' / '.join(last)}")


def _first_line(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()[0]


def _our_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("clinic-edge-appliance")
    except PackageNotFoundError:
        return "source"
