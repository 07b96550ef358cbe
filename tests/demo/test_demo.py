"""The demonstration keeps its promises, and would say so if it didn't."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import synthetic
from tests.demo.__main__ import marker_in
from tests.demo.proxy import Cable
from tests.demo.stage import Broken, wait_for

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_demonstration_runs_to_its_end(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.demo", "--scale", "0.25"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything was as promised." in done.stdout
    assert "Console: http://localhost:" in done.stdout
    assert "\033[" not in done.stdout, "plain text where there is no terminal"
    assert list(tmp_path.glob("appliance-demo-*")) == [], "the temporary folder is gone"


def test_a_cut_cable_breaks_what_goes_through_it_and_a_mended_one_carries_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        cable = Cable(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", cable.port), timeout=30) as near:
            far, _ = server.accept()
            with far:
                near.sendall(b"question")
                assert far.recv(100) == b"question"
                far.sendall(b"answer")
                assert near.recv(100) == b"answer"
                cable.cut()
                assert near.recv(100) == b""
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", cable.port), timeout=30)
        cable.mend()
        with socket.create_connection(("127.0.0.1", cable.port), timeout=30):
            server.accept()[0].close()
        cable.cut()


def test_waiting_in_vain_is_a_broken_promise() -> None:
    with pytest.raises(Broken, match="the moon rises"):
        wait_for(lambda: False, "the moon rises", seconds=0.1)


@pytest.mark.parametrize("marker", sorted(synthetic.marker_bytes()))
def test_a_name_in_clear_is_found_wherever_it_lies(tmp_path: Path, marker: bytes) -> None:
    (tmp_path / "objects" / "ab").mkdir(parents=True)
    (tmp_path / "objects" / "ab" / "one.sealed").write_bytes(os.urandom(5000))
    assert marker_in(tmp_path) is None
    leak = tmp_path / "objects" / "log"
    leak.write_bytes(os.urandom(500) + marker + os.urandom(500))
    assert marker_in(tmp_path) == leak
