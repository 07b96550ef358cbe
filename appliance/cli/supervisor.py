"""Starts the processes of a small install as children, keeps them up, and stops them cleanly.

One thread, one loop over pipes and a wake-up descriptor: a child's lines are shown under its name, a child that dies is
started again after a pause that doubles with each early death, a signal begins the stop. A child is told its parent's
process id and asks the kernel for a signal when that parent dies, so that a killed `run` leaves nobody behind.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import IO

from appliance.errors import OperatorNeeded

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
SETTLED_SECONDS = 60.0
STOP_SECONDS = 30.0
TICK_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent does; end it now if `parent` is gone already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


@dataclass
class Child:
    """One process to be kept up: its name and its command line."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    pause_seconds: float = FIRST_PAUSE_SECONDS
    started: float = 0.0
    start_at: float = 0.0
    rest: bytes = b""


@dataclass
class Supervisor:
    """Keeps `children` up until told to stop.

    `show` gets each line, with the name of the child that said it. `ready` is asked until it answers yes once; then
    `when_ready` is called. `over` is asked at every look: a yes ends everything as a signal does, but leaves `stopping`
    as it is. They run between two looks at the pipes, so they must be quick.
    """

    children: Sequence[Child]
    show: Callable[[str, str], None]
    ready: Callable[[], bool]
    when_ready: Callable[[], None]
    over: Callable[[], bool] = lambda: False
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    stopping: bool = False
    is_ready: bool = False

    def run(self) -> int:
        """Run until SIGINT or SIGTERM, or until it is over, then stop every child and return 0.

        A child that needs a person before everything is ready (exit code of `OperatorNeeded`) stops the others, and
        its code is returned: its own line has said what to do.
        """
        code = 0
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        earlier_wakeup = signal.set_wakeup_fd(writer.fileno())
        earlier = {each: signal.signal(each, self._on_signal) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            with reader, writer, selectors.DefaultSelector() as pipes:
                pipes.register(reader, selectors.EVENT_READ)
                while not self.stopping and not code and not self.over():
                    code = self._look_after(pipes)
                    self._read(pipes, TICK_SECONDS)
                self._stop(pipes)
        finally:
            signal.set_wakeup_fd(earlier_wakeup)
            for each, action in earlier.items():
                signal.signal(each, action)
            self._kill()
        return code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.stopping:
            self._kill()
        self.stopping = True

    def _look_after(self, pipes: selectors.BaseSelector) -> int:
        """Start what is due, notice who died, ask whether all is ready."""
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                if now >= child.start_at:
                    self._start(child, pipes)
            elif (code := child.process.poll()) is not None:
                self._drain(child, pipes)
                if code == OperatorNeeded.exit_code and not self.is_ready:
                    return code
                self._schedule(child, code, now)
        if not self.is_ready and all(child.process for child in self.children) and self.ready():
            self.is_ready = True
            self.when_ready()
        return 0

    def _start(self, child: Child, pipes: selectors.BaseSelector) -> None:
        child.process = subprocess.Popen(
            child.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(self.environment),
            process_group=0,  # Ctrl-C reaches this process alone; it tells the children in its own time
        )
        child.started = time.monotonic()
        child.rest = b""
        out = _output(child)
        os.set_blocking(out.fileno(), False)
        pipes.register(out, selectors.EVENT_READ, child)

    def _schedule(self, child: Child, code: int, now: float) -> None:
        """Decide when a child that died is started again."""
        if now - child.started > SETTLED_SECONDS:
            child.pause_seconds = FIRST_PAUSE_SECONDS
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        self.show(child.name, f"{how}; starting it again in {child.pause_seconds:g} s")
        child.process = None
        child.start_at = now + child.pause_seconds
        child.pause_seconds = min(child.pause_seconds * 2, LONGEST_PAUSE_SECONDS)

    def _read(self, pipes: selectors.BaseSelector, seconds: float) -> None:
        """Show what the children have said within `seconds`."""
        for key, _ in pipes.select(seconds):
            if isinstance(key.data, Child):
                self._take(key.data, pipes)
            else:
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.recv(64)

    def _take(self, child: Child, pipes: selectors.BaseSelector) -> bool:
        """Show the whole lines that are there; False at the end of the stream."""
        out = _output(child)
        try:
            piece = os.read(out.fileno(), 65536)
        except BlockingIOError:
            return False
        *lines, child.rest = (child.rest + piece).split(b"\n")
        if not piece:
            pipes.unregister(out)
            if child.rest:
                lines, child.rest = [child.rest], b""
        for line in lines:
            self.show(child.name, line.decode("utf-8", "replace").rstrip("\r"))
        return bool(piece)

    def _drain(self, child: Child, pipes: selectors.BaseSelector) -> None:
        """Show the last words of a child that has ended, and close its pipe."""
        out = _output(child)
        if out.closed:
            return
        if out in pipes.get_map():
            while self._take(child, pipes):
                pass
        if out in pipes.get_map():  # a grandchild still holds the other end
            pipes.unregister(out)
        out.close()

    def _stop(self, pipes: selectors.BaseSelector) -> None:
        """Ask every child to end, wait, and insist."""
        for child in self._alive():
            assert child.process is not None
            child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while self._alive() and time.monotonic() < deadline:
            self._read(pipes, TICK_SECONDS)
        for child in self._alive():
            self.show(child.name, f"did not end within {STOP_SECONDS:.0f} s and is killed")
        self._kill()
        for child in self.children:
            if child.process is not None:
                child.process.wait()
                self._drain(child, pipes)

    def _kill(self) -> None:
        for child in self._alive():
            assert child.process is not None
            child.process.kill()

    def _alive(self) -> list[Child]:
        return [
            child for child in self.children if child.process is not None and child.process.poll() is None
        ]


def verb(name: str) -> list[str]:
    """The command line of this appliance's own verb `name`, as a child of this process."""
    return [sys.executable, "-m", "appliance", name, "--child-of", str(os.getpid())]


def _output(child: Child) -> IO[bytes]:
    assert child.process is not None
    assert child.process.stdout is not None
    return child.process.stdout
