"""The processes of `appliance run` are kept up, heard, and stopped; nobody is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from appliance.cli import supervisor
from appliance.cli.supervisor import Child, Supervisor

ROOT = Path(__file__).parent.parent.parent


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


class Stage:
    """A supervisor that is stopped by a signal once `until` holds, and what it showed."""

    def __init__(self, *children: Child) -> None:
        self.lines: list[tuple[str, str]] = []
        self.readied = 0
        self.supervisor = Supervisor(
            children,
            show=lambda name, line: self.lines.append((name, line)),
            ready=lambda: any("up" in line for _, line in self.lines),
            when_ready=self._count,
        )

    def _count(self) -> None:
        self.readied += 1

    def run_until(self, condition: Callable[[], bool], signals: int = 1) -> int:
        done = threading.Event()

        def interrupt() -> None:
            deadline = time.monotonic() + 60
            while not condition() and time.monotonic() < deadline and not done.is_set():
                time.sleep(0.02)
            for _ in range(signals):
                if not done.is_set():
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(0.2)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            return self.supervisor.run()
        finally:
            done.set()
            thread.join()

    def said(self, name: str, text: str) -> int:
        return sum(1 for who, line in self.lines if who == name and text in line)


def test_lines_are_shown_under_the_name_of_the_child_even_unfinished_ones() -> None:
    stage = Stage(
        Child(
            "one",
            python(
                "import time; print('up', flush=True); print('é' * 5, end='', flush=True); time.sleep(60)"
            ),
        ),
        Child(
            "two",
            python(
                "import sys; print('error', file=sys.stderr, flush=True); sys.stdin.read(); import time; time.sleep(60)"
            ),
        ),
    )
    assert stage.run_until(lambda: stage.said("one", "up") > 0 and stage.said("two", "error") > 0) == 0
    assert ("one", "up") in stage.lines
    assert ("one", "ééééé") in stage.lines
    assert ("two", "error") in stage.lines
    assert stage.readied == 1


def test_a_child_that_dies_is_started_again_later_each_time() -> None:
    stage = Stage(Child("frail", python("print('up', flush=True); raise SystemExit(3)")))
    assert stage.run_until(lambda: stage.said("frail", "up") >= 3) == 0
    pauses = [line for _, line in stage.lines if "starting it again" in line]
    assert pauses[0] == "ended with code 3; starting it again in 0.5 s"
    assert pauses[1] == "ended with code 3; starting it again in 1 s"


def test_a_child_killed_by_a_signal_is_started_again() -> None:
    stage = Stage(Child("frail", python("import os; print('up', flush=True); os.kill(os.getpid(), 9)")))
    assert stage.run_until(lambda: stage.said("frail", "up") >= 2) == 0
    assert stage.said("frail", "was ended by signal 9")


def test_all_children_are_gone_when_it_returns() -> None:
    code = "import time, os; print('up', os.getpid(), flush=True); time.sleep(600)"
    stage = Stage(Child("one", python(code)), Child("two", python(code)))
    assert stage.run_until(lambda: stage.said("one", "up") == 1 and stage.said("two", "up") == 1) == 0
    assert len(stage.lines) == 2
    for _, line in stage.lines:
        assert not psutil.pid_exists(int(line.split()[1]))


def test_a_second_signal_kills_a_child_that_will_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 3600.0)  # without the second it would not be over today
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    stage = Stage(Child("stubborn", python(code)))
    assert stage.run_until(lambda: stage.said("stubborn", "up") == 1, signals=2) == 0


def test_a_child_that_will_not_end_is_killed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.5)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    stage = Stage(Child("stubborn", python(code)))
    assert stage.run_until(lambda: stage.said("stubborn", "up") == 1) == 0
    assert stage.said("stubborn", "is killed") == 1


def test_a_child_that_needs_a_person_before_all_is_ready_ends_the_run() -> None:
    stage = Stage(
        Child("one", python("import time; time.sleep(600)")),
        Child("two", python("print('a person must act', flush=True); raise SystemExit(78)")),
    )
    assert stage.supervisor.run() == 78
    assert ("two", "a person must act") in stage.lines
    assert stage.readied == 0


def test_a_supervisor_that_is_killed_takes_its_children_with_it(eventually: Callable[..., object]) -> None:
    """`die_with`, as the verbs call it when they are started by `run`."""
    child = (
        "import os, time; from appliance.cli.supervisor import die_with; die_with(int(os.environ['PARENT']));"
        "print(os.getpid(), flush=True); time.sleep(600)"
    )
    parent = (
        "import os, subprocess, sys, time; os.environ['PARENT'] = str(os.getpid());"
        f"subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    code = "from appliance.cli.supervisor import die_with; die_with(1 << 22); print('still here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "")
