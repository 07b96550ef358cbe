"""What the processes say to systemd, heard on a real socket; and a port that systemd holds for them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance import supervision
from appliance.dicom import scp
from appliance.errors import OperatorNeeded
from tests.system.running import PATIENCE_SECONDS, wait_for


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(PATIENCE_SECONDS)
        yield ear


def environment(heard: socket.socket) -> dict[str, str]:
    return {"NOTIFY_SOCKET": heard.getsockname()}


def test_the_three_words_are_those_of_sd_notify(heard: socket.socket) -> None:
    supervision.ready("receiving on port 11112", environment(heard))
    supervision.alive(environment(heard))
    supervision.stopping("enough", environment(heard))
    assert [heard.recv(200) for _ in range(3)] == [
        b"READY=1\nSTATUS=receiving on port 11112",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=enough",
    ]


def test_an_abstract_address_is_understood() -> None:
    name = f"appliance-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(f"\0{name}")
        supervision.alive({"NOTIFY_SOCKET": f"@{name}"})
        assert ear.recv(200) == b"WATCHDOG=1"


def test_nobody_who_listens_is_no_reason_to_stop(tmp_path: Path) -> None:
    supervision.alive({})
    supervision.alive({"NOTIFY_SOCKET": str(tmp_path / "gone")})


HOLDS_ITS_LOCK = """
with stop._cond:
    signal.raise_signal(signal.SIGTERM)
"""
COMES_TO_ANOTHER_THREAD = """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize(
    "meanwhile", [HOLDS_ITS_LOCK, COMES_TO_ANOTHER_THREAD, "signal.raise_signal(signal.SIGINT)"]
)
def test_whoever_is_told_to_stop_hears_it_whatever_its_main_thread_does(meanwhile: str) -> None:
    """A handler that set the event would wait for the lock that its own thread holds, and for ever."""
    begins = "import os, signal, sys\nfrom appliance import supervision\nstop = supervision.told_to_stop()\n"
    ends = "\nsys.exit(0 if stop.wait() and stop.is_set() else 1)"
    told = subprocess.run(
        [sys.executable, "-c", begins + meanwhile + ends], timeout=PATIENCE_SECONDS, check=False
    )
    assert told.returncode == 0


def test_descriptors_meant_for_another_process_are_not_taken() -> None:
    assert supervision.handed_socket(11112, "DICOM", {"LISTEN_PID": "1", "LISTEN_FDS": "1"}) is None
    assert (
        supervision.handed_socket(11112, "DICOM", {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) is None
    )


def test_a_socket_on_another_port_than_the_configuration_is_refused_with_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        monkeypatch.setattr(supervision, "_FIRST_DESCRIPTOR", listening.fileno())
        handed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        with pytest.raises(OperatorNeeded, match=rf"port {port}, and the configuration says 11112"):
            supervision.handed_socket(11112, "DICOM", handed)
        taken = supervision.handed_socket(port, "DICOM", handed)
        assert taken is not None
        assert taken.getsockname() == listening.getsockname()
        taken.close()


def test_a_worker_that_hangs_silences_the_watchdog_and_one_that_is_restarted_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = scp.Loads(2)
    loads.set(0, 0, ready=True)
    loads.set(1, 3, ready=True)
    assert loads.none_is_silent()
    present = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: present + 120)
    assert not loads.none_is_silent()
    loads.seen(0)
    assert not loads.none_is_silent(), "the other one hangs still"
    loads.seen(1)
    assert loads.none_is_silent()
    monkeypatch.setattr(time, "monotonic", lambda: present + 240)
    loads.seen(0)
    loads.set(1, 0, ready=False)
    assert loads.none_is_silent(), "it has died and another is being started"


def echoscu(port: int) -> str:
    """What DCMTK's echoscu is told, as a caller that this box doesn't know."""
    found = shutil.which("echoscu", path="/usr/bin:/bin")
    assert found is not None, "echoscu is not installed: apt-get install dcmtk"
    command = [found, "-aet", "STRANGER", "-aec", "CLINICBOX", "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.slow
def test_reception_starts_on_the_port_that_systemd_holds_says_so_and_stops_in_order(
    tmp_path: Path, heard: socket.socket, free_port: Callable[[], int]
) -> None:
    """The tool that tries out socket units starts it at the first caller, who finds no closed door."""
    port = free_port()
    process = subprocess.Popen(
        [
            "systemd-socket-activate",
            f"--listen=127.0.0.1:{port}",
            *(
                f"--setenv={name}"
                for name in ("NOTIFY_SOCKET", "APPLIANCE_DATA", "APPLIANCE_DICOM_PORT", "PYTHONPATH")
            ),
            sys.executable,
            "-m",
            "appliance",
            "dicom",
        ],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("APPLIANCE_")},
            **environment(heard),
            "APPLIANCE_DATA": str(tmp_path / "data"),
            "APPLIANCE_DICOM_PORT": str(port),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: "Calling AE Title Not Recognized" in echoscu(port), "a stranger is answered")
        assert heard.recv(200) == f"READY=1\nSTATUS=receiving on port {port}".encode()
        assert heard.recv(200) == b"WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        while (said := heard.recv(200)) == b"WATCHDOG=1":
            pass
        assert said.startswith(b"STOPPING=1\n")
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
