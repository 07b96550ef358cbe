"""Whether a start is good: the script, with a console that answers as it is told and a systemctl that knows which units are up.

What becomes of a start that isn't is the unit's to say: its time ends the script, and its failure starts the machine again
(`tests.image.test_updates` reads both).
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.image.test_configuration import EXTRA

PROGRAM = EXTRA / "usr/lib/appliance/libexec/boot-check"
UNITS = (
    *(f"appliance-{name}.service" for name in ("dicom", "courier", "jobs", "web")),
    *("nginx.service", "nftables.service"),
)
STEPS = ("receive", "record", "read", "open")
PATIENCE_ROUNDS = 3
"""After so many looks the unit's time is up."""

# As systemctl(1) has it: of several units one that is active is enough.
SYSTEMCTL = """#!/bin/sh
for word; do
  case $word in -*|is-active) ;; *) ! grep -qxF "$word" {up} || exit 0 ;; esac
done
exit 3
"""
SLEEP = """#!/bin/sh
echo round >>{rounds}
[ "$(wc -l <{rounds})" -lt {patience} ] || kill -TERM "$PPID"
"""


class Console(HTTPServer):
    """Answers at the address of the deep look; each of `answers` once, the last one for ever. Each names the step that fails, or nothing."""

    answers: list[str]

    def told(self) -> str:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Console)
        failing = self.server.told() if self.path == "/health/deep" else "no such page"
        steps = [{"name": each, "cause": "it did not work" if each == failing else ""} for each in STEPS]
        body = json.dumps({"steps": steps}).encode()
        self.send_response(503 if failing else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *told: object) -> None:
        """Nothing is printed."""


@contextmanager
def console(*answers: str) -> Iterator[int]:
    """The port of one that answers so."""
    with Console(("127.0.0.1", 0), Answering) as server:
        server.answers = list(answers)
        serving = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join()


def judged(folder: Path, port: int, up: tuple[str, ...] = UNITS) -> subprocess.CompletedProcess[str]:
    """Run the script, until it is content or its time is up."""
    (folder / "up").write_text("".join(f"{each}\n" for each in up))
    for name, text in (
        ("systemctl", SYSTEMCTL.format(up=folder / "up")),
        ("sleep", SLEEP.format(rounds=folder / "rounds", patience=PATIENCE_ROUNDS)),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    text = PROGRAM.read_text()
    for there, here in (
        ("/usr/lib/appliance/venv/bin/python", sys.executable),
        ("127.0.0.1:8080", f"127.0.0.1:{port}"),
    ):
        assert text.count(there) == 1
        text = text.replace(there, here)
    return subprocess.run(
        ["sh", "-c", text],
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_start_is_good_once_everything_is_up_and_an_image_went_through(tmp_path: Path) -> None:
    with console("") as port:
        said = judged(tmp_path, port)
    assert (said.returncode, said.stdout) == (0, "this start is good\n"), said.stderr
    assert not (tmp_path / "rounds").exists(), "at the first look"


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_until_the_time_is_up_is_named_and_the_start_is_not_good(
    step: str, tmp_path: Path
) -> None:
    with console(step) as port:
        said = judged(tmp_path, port)
    assert said.returncode != 0, "the unit fails, and the machine starts again"
    assert "good" not in said.stdout
    assert said.stderr.count(f"{step}: it did not work") == PATIENCE_ROUNDS


def test_what_comes_late_is_waited_for(tmp_path: Path) -> None:
    with console("receive", "") as port:
        said = judged(tmp_path, port)
    assert (said.returncode, said.stdout) == (0, "this start is good\n"), said.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_one_unit_that_is_not_up_is_enough_for_a_bad_start(unit: str, tmp_path: Path) -> None:
    with console("") as port:
        said = judged(tmp_path, port, up=tuple(each for each in UNITS if each != unit))
    assert said.returncode != 0
    assert "good" not in said.stdout
    assert f"{unit} is not up" in said.stderr


def test_a_console_that_does_not_answer_is_no_good_start(tmp_path: Path) -> None:
    with console("") as port:
        pass
    said = judged(tmp_path, port)
    assert said.returncode != 0
    assert "the console does not answer" in said.stderr


def test_a_start_without_a_cable_has_most_of_its_time_left_for_what_waits_for_the_line() -> None:
    units = EXTRA / "usr/lib/systemd/system"
    waits = (units / "systemd-networkd-wait-online.service.d/appliance.conf").read_text()
    judged = (units / "boot-check.service").read_text()
    seconds = int(waits.partition("--timeout=")[2].split()[0])
    assert 6 * seconds <= int(judged.partition("TimeoutStartSec=")[2].split()[0])
