"""The real ``appliance dicom`` process, on a data folder of its own, with a look into its catalog."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from appliance.box import Box, open_box
from appliance.catalog import devices, processes
from appliance.catalog.instances import InstanceRow
from appliance.config import Config, load_config
from appliance.model import Device, ae_title
from tests.boxes import data_set_of, recorded

from .conftest import eventually
from .peers import Closed, Peer, Rejected

CALLERS = ("MODALITY", "STORESCU", "PYNETDICOM")


class ReceivingAppliance:
    """Start it, call it, look at what it recorded, stop it."""

    def __init__(self, folder: Path, port: int, *, workers: int = 2, reserve_bytes: int = 0) -> None:
        self.data = folder / "data"
        self.port = port
        self._settings = folder / "appliance.toml"
        self._settings.write_text(
            f'data = "{self.data}"\n[dicom]\nbind = "127.0.0.1"\nport = {port}\nworkers = {workers}\n'
            f"[store]\nreserve_bytes = {reserve_bytes}\nlog_bytes = {16 << 20}\n"
        )
        self.config: Config = load_config({"APPLIANCE_CONFIG": str(self._settings)})
        self.box: Box = open_box(self.config)
        self._log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def admit(self, title: str, address: str = "127.0.0.1") -> None:
        with self.box.catalog.transaction() as tx:
            devices.add_device(tx, Device(ae_title(title), address), datetime.now(UTC))

    def launch(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "APPLIANCE_CONFIG": str(self._settings), "TMPDIR": str(self.data.parent)}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "appliance", "dicom"], env=environment, stdout=log, stderr=log
            )
        return self.process

    def start(self) -> None:
        since = datetime.now(UTC)
        self.launch()
        eventually(
            lambda: self.workers_beating(since) == self.config.dicom.workers, f"not ready:\n{self.log()}"
        )

    def workers_beating(self, since: datetime) -> int:
        return sum(1 for row in self.beats() if row.started_utc >= since)

    def beats(self) -> list[processes.ProcessRow]:
        with self.box.catalog.reading() as reading:
            return [row for row in processes.processes(reading) if row.name.startswith("dicom-")]

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def close(self) -> None:
        if self.process is not None:
            self.stop()
        self.box.close()

    def peer(self) -> Peer:
        return Peer(self.port)

    def recorded(self, count: int) -> list[InstanceRow]:
        """All instances, once there are `count` of them."""
        eventually(
            lambda: len(recorded(self.box)) >= count, f"{count} instances were not recorded:\n{self.log()}"
        )
        rows = recorded(self.box)
        assert len(rows) == count
        return rows

    def digests(self, count: int) -> list[tuple[str, str]]:
        """SOP Instance UID and SHA-256 of the data set of each instance, sorted."""
        return sorted(
            (row.sop_instance_uid, sha256(data_set_of(self.box, row))) for row in self.recorded(count)
        )

    def answers(self) -> bool:
        try:
            with self.peer() as peer:
                peer.associate()
                peer.release()
                return True
        except (Closed, Rejected, OSError):
            return False


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def receiving(folder: Path, port: int, **settings: int) -> Iterator[ReceivingAppliance]:
    """An appliance that knows `CALLERS` at loopback and is ready."""
    appliance = ReceivingAppliance(folder, port, **settings)
    try:
        for title in CALLERS:
            appliance.admit(title)
        appliance.start()
        yield appliance
    finally:
        appliance.close()


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
