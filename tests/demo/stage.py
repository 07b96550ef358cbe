"""What the demonstration plays on: an S3 server, a specialist's workstation, and the appliance, on free ports."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config as BotoConfig
from pynetdicom import AE, evt
from pynetdicom.presentation import AllStoragePresentationContexts, VerificationPresentationContexts

from appliance.box import Box, open_box
from appliance.catalog import deliveries
from appliance.catalog.deliveries import DeliveryRow
from appliance.config import load_config
from tests.demo.proxy import Cable

BUCKET = "demo-clinic"
REGION = "ca-central-1"
MODALITY = "DEMOXRAY"
SPECIALIST = "SPECIALIST"
ACCESS_KEY = "demo-access-key"
SECRET = "demo-secret-key"
PATIENCE_SECONDS = 120.0


class Broken(Exception):
    """Something is not as promised; the message says what."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Return once `condition` holds; raise `Broken` if it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Broken(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


@dataclass
class Bucket:
    """A local S3 server behind a cable that can be cut."""

    port: int
    cable: Cable

    def objects(self) -> dict[str, int]:
        """Key and size of everything in the bucket, asked behind the cable's back."""
        pages = _s3(self.port).get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}


@contextmanager
def s3_server() -> Iterator[Bucket]:
    """A running S3 server with the clinic's bucket in it."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: _accepts(port), "the S3 server answers")
        _s3(port).create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        cable = Cable(port)
        yield Bucket(port, cable)
        cable.cut()
    finally:
        server.terminate()
        server.wait()


def _s3(port: int) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
        config=BotoConfig(proxies={}, retries={"total_max_attempts": 1}),
    )


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@dataclass
class Workstation:
    """A specialist's DICOM receiver; it counts what it is given."""

    port: int
    seen: set[str] = field(default_factory=set)


@contextmanager
def workstation() -> Iterator[Workstation]:
    """A running receiver for every storage class, in the syntaxes that any workstation reads."""
    ae = AE(SPECIALIST)
    ae.supported_contexts = [*AllStoragePresentationContexts, *VerificationPresentationContexts]
    port = free_port()
    station = Workstation(port)

    def on_store(event: evt.Event) -> int:
        station.seen.add(str(event.file_meta.MediaStorageSOPInstanceUID))
        return 0x0000

    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    assert server is not None
    try:
        yield station
    finally:
        server.shutdown()


@dataclass
class Appliance:
    """The appliance under demonstration, spoken to by its own command line, as a clinic tech would."""

    data: Path
    dicom_port: int
    web_port: int
    process: subprocess.Popen[str] | None = None
    opened: Box | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What its processes see: nothing of the settings of whoever runs the demonstration."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("APPLIANCE_", "AWS_"))
        }
        return kept | {
            "APPLIANCE_DATA": str(self.data),
            "APPLIANCE_DICOM_BIND": "127.0.0.1",
            "APPLIANCE_DICOM_PORT": str(self.dicom_port),
            "APPLIANCE_WEB_PORT": str(self.web_port),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def say(self, *words: str, typed: str | None = None) -> str:
        """Run one verb and return what it printed; `typed` goes to its standard input. Raises `Broken` if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "appliance", *words],
            env=self.environment,
            input=typed,
            stdin=subprocess.DEVNULL if typed is None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Broken(f"'appliance {' '.join(words)}' ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def ask(self, *words: str) -> Any:
        """Run one listing and return its rows."""
        return json.loads(self.say(*words, "--json"))

    def deliveries(self) -> list[DeliveryRow]:
        """What ``appliance deliveries --json`` lists, read from the catalog itself so that it can be asked all the time."""
        self.opened = self.opened or open_box(load_config(self.environment))
        with self.opened.catalog.reading() as conn:
            return deliveries.list_deliveries(conn)

    def ready(self) -> bool:
        """Whether its console says so."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.web_port}/health/ready", timeout=10
            ) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def alive(self) -> bool:
        """Whether its supervisor still runs."""
        return self.process is not None and self.process.poll() is None


@contextmanager
def appliance(folder: Path) -> Iterator[Appliance]:
    """The appliance, running on an empty data folder; stopped cleanly afterwards."""
    box = Appliance(folder / "data", free_port(), free_port())
    log = folder / "appliance.log"
    with log.open("w", encoding="utf-8") as out:
        box.process = subprocess.Popen(
            [sys.executable, "-m", "appliance", "run"],
            env=box.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            wait_for(lambda: not box.alive() or "Ready." in log.read_text("utf-8"), "the appliance is ready")
            if not box.alive():
                raise Broken("the appliance did not start")
            yield box
        finally:
            if box.opened is not None:
                box.opened.close()
            box.process.terminate()
            try:
                code = box.process.wait(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                box.process.kill()
                box.process.wait()
                code = -9
        if code != 0:
            raise Broken(f"the appliance did not stop cleanly: exit code {code}")


def remove(folder: Path) -> None:
    """Remove the demonstration's folder."""
    shutil.rmtree(folder, ignore_errors=True)
