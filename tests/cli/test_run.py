"""`appliance run`: four processes come up, are kept up, are alone on their data, and go without a trace."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]

WITHIN_SECONDS = 90


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that has ended may wait for ever to be reaped where nobody plays init."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Running:
    """`appliance run` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.dicom_port, self.web_port = free_port(), free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("APPLIANCE_")},
            "APPLIANCE_DATA": str(folder / "data"),
            "APPLIANCE_DICOM_BIND": "127.0.0.1",
            "APPLIANCE_DICOM_PORT": str(self.dicom_port),
            "APPLIANCE_WEB_PORT": str(self.web_port),
        }
        self.log = folder / "run.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "appliance", "run"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def text(self) -> str:
        return self.log.read_text("utf-8")

    def ready(self) -> bool:
        assert self.process.poll() is None, self.text()
        return "Ready.\n" in self.text()

    def say(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "appliance", *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def child(self, verb: str) -> psutil.Process:
        (found,) = [child for child in psutil.Process(self.process.pid).children() if verb in child.cmdline()]
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A ready appliance, for the tests that leave it so."""
    started = Running(tmp_path_factory.mktemp("run"))
    yield started
    started.stop()


@pytest.fixture
def appliance(running: Running, eventually: Callable[..., object]) -> Running:
    eventually(running.ready, within_seconds=WITHIN_SECONDS, what="ready")
    return running


@pytest.mark.timeout(300)
def test_it_prints_where_everything_is_and_the_claim_code(appliance: Running) -> None:
    text = appliance.text()
    assert f"http://localhost:{appliance.web_port}" in text
    assert f"AE title CLINICBOX, port {appliance.dicom_port}" in text
    assert re.search(r"Claim code [0-9A-Z]{4}-[0-9A-Z]{4}", text)
    assert "show-recovery" in text


@pytest.mark.timeout(300)
def test_status_health_and_metrics_agree_that_it_is_ready(appliance: Running) -> None:
    status = json.loads(appliance.say("status", "--json").stdout)
    assert status["ready"] is True, status["problems"]
    base = f"http://127.0.0.1:{appliance.web_port}"
    with urllib.request.urlopen(f"{base}/health/ready", timeout=30) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{base}/health/live", timeout=30) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{base}/metrics", timeout=30) as answer:
        assert "appliance_ready 1.0" in answer.read().decode()


@pytest.mark.timeout(300)
def test_a_second_run_on_the_same_data_is_refused(appliance: Running) -> None:
    second = appliance.say("run")
    assert second.returncode == 78
    assert (
        f"already runs on {appliance.environment['APPLIANCE_DATA']} (process {appliance.process.pid})"
        in second.stderr
    )
    assert second.stderr.count("\n") == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("verb", ["dicom", "courier", "jobs", "web"])
def test_a_process_that_is_killed_is_started_again(
    appliance: Running, eventually: Callable[..., object], verb: str
) -> None:
    killed = appliance.child(verb).pid
    os.kill(killed, signal.SIGKILL)

    def replaced() -> bool:
        try:
            return appliance.child(verb).pid != killed
        except (ValueError, psutil.Error):
            return False

    eventually(replaced, within_seconds=WITHIN_SECONDS)
    eventually(
        lambda: json.loads(appliance.say("status", "--json").stdout)["ready"],
        within_seconds=WITHIN_SECONDS,
        what="ready again",
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_and_leaves_nobody_behind(
    tmp_path: Path, eventually: Callable[..., object], number: signal.Signals
) -> None:
    running = Running(tmp_path)
    try:
        eventually(running.ready, within_seconds=WITHIN_SECONDS)
        family = psutil.Process(running.process.pid).children(recursive=True)
        assert len(family) >= 4
        assert running.stop(number) == 0
    finally:
        running.stop()
    eventually(lambda: not [each for each in family if alive(each)])
    assert running.text().rstrip().endswith("Stopped.")
    assert "killed" not in running.text()
    with socket.create_server(("127.0.0.1", running.dicom_port)):
        pass


@pytest.mark.timeout(300)
def test_it_can_be_started_again_on_the_same_data_after_a_kill(
    tmp_path: Path, eventually: Callable[..., object]
) -> None:
    first = Running(tmp_path)
    eventually(first.ready, within_seconds=WITHIN_SECONDS)
    family = psutil.Process(first.process.pid).children(recursive=True)
    first.process.kill()
    first.process.wait()
    eventually(lambda: not [each for each in family if alive(each)], what="the children end with it")
    second = Running(tmp_path)
    try:
        eventually(second.ready, within_seconds=WITHIN_SECONDS)
    finally:
        assert second.stop() == 0


@pytest.mark.parametrize("what", ["dicom", "web"])
def test_a_port_that_is_taken_is_said_with_its_remedy(tmp_path: Path, what: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        environment = {
            **os.environ,
            "APPLIANCE_DATA": str(tmp_path / "data"),
            "APPLIANCE_DICOM_BIND": "127.0.0.1",
            "APPLIANCE_DICOM_PORT": str(free_port()),
            "APPLIANCE_WEB_PORT": str(free_port()),
            f"APPLIANCE_{what.upper()}_PORT": str(holder.getsockname()[1]),
        }
        done = subprocess.run(
            [sys.executable, "-m", "appliance", "run"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 78
    assert f"set APPLIANCE_{what.upper()}_PORT to another port" in done.stderr
    assert done.stderr.count("\n") == 1
