"""What a process says to systemd, the sockets that it gets from there, and its word that the process is to stop.

The protocol is a datagram of ``KEY=value`` lines to the socket named by ``NOTIFY_SOCKET`` (sd_notify(3)), and file
descriptors from 3 on, counted by ``LISTEN_FDS`` (sd_listen_fds(3)). Outside a unit neither variable is set, and nothing
here does anything: `appliance run` and the tests use the same code.

Chose these thirty lines over a library: those on the package index are unmaintained, or bind to libsystemd for nothing
that is needed here.

Every process sends `alive` from the loop that does its work, never from a thread of its own: a watchdog that is fed
while the work hangs watches nothing. With ``WatchdogSec=`` systemd ends and restarts a process that falls silent.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Mapping
from typing import Final

from appliance.errors import OperatorNeeded

_FIRST_DESCRIPTOR: Final = 3
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)


def ready(words: str, environ: Mapping[str, str] = os.environ) -> None:
    """The process does its work from now on; `words` are what ``systemctl status`` shows."""
    _tell(f"READY=1\nSTATUS={words}", environ)


def alive(environ: Mapping[str, str] = os.environ) -> None:
    """The loop that does the work has come round once more."""
    _tell("WATCHDOG=1", environ)


def stopping(words: str, environ: Mapping[str, str] = os.environ) -> None:
    """The process finishes what it has begun and takes nothing new."""
    _tell(f"STOPPING=1\nSTATUS={words}", environ)


def handed_socket(port: int, what: str, environ: Mapping[str, str] = os.environ) -> socket.socket | None:
    """The listening socket that systemd holds for this process, if it does; callers queue there while it restarts.

    Raises `OperatorNeeded` when it listens on another port than the configuration's `port`.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()) or environ.get("LISTEN_FDS", "0") == "0":
        return None
    handed = socket.socket(fileno=os.dup(_FIRST_DESCRIPTOR))
    handed.set_inheritable(False)
    listens_on = handed.getsockname()[1]
    if listens_on != port:
        handed.close()
        raise OperatorNeeded(
            f"the socket unit for {what} listens on port {listens_on}, and the configuration says {port}",
            hint=f"give both the same port: ListenStream={port} in a drop-in of the socket unit",
        )
    return handed


def told_to_stop() -> threading.Event:
    """An event that SIGTERM and SIGINT set from now on. Call it once, from the main thread.

    Not by a handler that sets it: Python runs one between two steps of the main thread, which may at that moment hold the lock
    of that very event, as it does when it begins to wait for it, and would then wait for itself until it is killed. What
    Python writes into the wakeup descriptor at the signal itself is read by a thread, whichever thread the signal came to.
    """
    told = threading.Event()
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    for number in _STOPS:
        signal.signal(number, lambda *_: None)  # without a handler of Python's nothing is written

    def listen() -> None:
        with reading, writing:  # for as long as the process lives: the next signal is written there too
            while True:
                if set(reading.recv(64)) & set(_STOPS):
                    told.set()

    threading.Thread(target=listen, name="told to stop", daemon=True).start()
    return told


def _tell(lines: str, environ: Mapping[str, str]) -> None:
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.connect(address)
            out.sendall(lines.encode())
        except OSError:
            return  # who restarts this process cannot be reached: no reason to stop working
