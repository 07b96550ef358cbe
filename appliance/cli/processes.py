"""``appliance run`` and the four processes that it starts: ``dicom``, ``courier``, ``jobs``, ``web``.

On the image each of the four is a systemd unit of its own; `run` is for development and small installs.

When a restored box waits to take the place of the blank one (`appliance.store.succession`), each process ends by itself with
code 75, and `run` starts all four anew. A unit needs ``Restart=always`` and a ``RestartSec`` of a second or two; whichever
process comes first when the others have ended makes the exchange, and one that comes too early ends with 75 again.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import logs, supervision
from appliance.cli.arguments import Arguments, Parser, Verbs
from appliance.cli.supervisor import Child, Supervisor, die_with, verb
from appliance.config import Config, load_config
from appliance.errors import ApplianceError, OperatorNeeded, Transient

if TYPE_CHECKING:
    from appliance.box import Box

NAMES = ("dicom", "courier", "jobs", "web")
WAIT_SECONDS = 1.0
"""Between two looks for a restored box that is to take this one's place."""
_COLOURS = {"dicom": 36, "courier": 33, "jobs": 35, "web": 32}


def add_to(verbs: Verbs) -> None:
    """Add the five verbs."""
    verbs.add(
        "run",
        "start everything: reception, deliveries, upkeep, console",
        act=run,
        about="Starts all four processes, prints the addresses and the claim code, and stops them on Ctrl-C. "
        "On the appliance's own image systemd starts each of them instead.",
        examples=["appliance run", "APPLIANCE_DATA=/srv/clinic APPLIANCE_WEB_PORT=8081 appliance run"],
    )
    for name, summary, act in (
        ("dicom", "receive images from machines", run_dicom),
        ("courier", "deliver what is owed", run_courier),
        ("jobs", "regular upkeep: sweeps, health checks", run_jobs),
        ("web", "the console", run_web),
    ):
        parser: Parser = verbs.add(
            name, summary, act=act, about=f"{summary.capitalize()} until SIGTERM or Ctrl-C."
        )
        parser.add_argument("--child-of", type=int, default=0, help=argparse.SUPPRESS)


def run(arguments: Arguments) -> int:
    """Start the four processes and look after them until a signal."""
    del arguments
    config = load_config(os.environ)
    _prepare_folder(config.data)
    with _alone(config.data):
        for what, bind, port, variable in _listeners(config):
            _require_free(what, bind, port, variable)
        print(f"Starting with the data in {config.data.absolute()}", flush=True)
        while True:
            code, again = _supervised(config)
            if not again:
                break
            print("The restored box takes its place: starting again", flush=True)
    print("Stopped." if not code else "Stopped: see the line above.", flush=True)
    return code


def _supervised(config: Config) -> tuple[int, bool]:
    """Look after the four processes until a signal: the exit code, and whether to start anew in a restored box."""
    from appliance.store.succession import is_announced

    data = config.data.absolute()
    box = _opened(config)
    try:
        started = datetime.now(UTC) - timedelta(seconds=1)
        supervisor = Supervisor(
            [Child(name, verb(name)) for name in NAMES],
            show=_show,
            ready=lambda: _all_ready(box, started),
            when_ready=lambda: _announce(box),
            over=lambda: is_announced(data),
            environment={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        code = supervisor.run()
    finally:
        box.close()
    return code, not code and not supervisor.stopping and is_announced(data)


def _opened(config: Config) -> Box:
    """The box; while a restored one waits for some command line to let go of the old one, wait too."""
    from appliance.box import open_box
    from appliance.store.succession import is_announced

    waited = False
    while True:
        try:
            return open_box(config)
        except Transient as error:
            if not is_announced(config.data.absolute()):
                raise
            if not waited:
                print(f"Waiting: {error}", flush=True)
            waited = True
            time.sleep(WAIT_SECONDS)


def run_dicom(arguments: Arguments) -> int:
    """The process that speaks DICOM."""
    with loading():
        from appliance.dicom import scp

    return scp.serve(_as_process(arguments, "dicom"))


def run_courier(arguments: Arguments) -> int:
    """The process that meets obligations."""
    with loading():
        from appliance import watch
        from appliance.replication import courier

    with _process(arguments, "courier") as (box, stop):
        box.catalog.give_way()
        with watch.kept(box):
            courier.run(box, stop)
    return _code_of(box)


def run_jobs(arguments: Arguments) -> int:
    """The process that looks after the box."""
    with loading():
        from appliance import jobs

    with _process(arguments, "jobs") as (box, stop):
        box.catalog.give_way()
        jobs.run(box, stop)
    return _code_of(box)


def run_web(arguments: Arguments) -> int:
    """The process that shows the console."""
    with loading():
        from appliance import web
        from appliance.web import locked

    with _process(arguments, "web", locked.opened) as (box, stop):
        web.serve(box, stop)
    return _code_of(box)


@contextmanager
def loading() -> Iterator[None]:
    """For what a process imports as it begins: the collector looks through none of it, neither meanwhile nor later.

    It stays until the process ends, and looking it through again and again was a sixth of the time that it took to begin.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _as_process(arguments: Arguments, name: str) -> Config:
    """Become one process of the appliance: tied to its parent, logging to standard error."""
    if arguments.child_of:
        die_with(arguments.child_of)
    config = load_config(os.environ)
    logs.configure(name, config.log_level, config.log_format, config.data.absolute())
    return config


def _open(config: Config, stop: threading.Event) -> Box:
    from appliance.box import open_box

    del stop
    return open_box(config)


@contextmanager
def _process(
    arguments: Arguments, name: str, opened: Callable[[Config, threading.Event], Box] = _open
) -> Iterator[tuple[Box, threading.Event]]:
    """The box, and the event that SIGTERM, SIGINT and a restored box set, for a process that runs until then.

    `opened` opens the box, and may take its time over it: the event is set meanwhile as it is later.
    """
    config = _as_process(arguments, name)
    stop = supervision.told_to_stop()
    box = opened(config, stop)
    threading.Thread(target=_stop_when_replaced, args=(box, stop), name="succession", daemon=True).start()
    try:
        _say(box, "appliance:start", name)
        yield box, stop
        _say(box, "appliance:stop", name)
    finally:
        box.close()


def _stop_when_replaced(box: Box, stop: threading.Event) -> None:
    """Let the process come to its end once a restored box is to take the place of `box`."""
    from appliance.store.succession import is_announced

    while not is_announced(box.config.data.absolute()):
        if stop.wait(WAIT_SECONDS):
            return
    stop.set()


def _code_of(box: Box) -> int:
    """What a process ends with that has come to its end: code 75 asks to be started again."""
    from appliance.store.succession import RESTART_CODE, is_announced

    return RESTART_CODE if is_announced(box.config.data.absolute()) else 0


def _say(box: Box, action: str, process: str) -> None:
    """Let the audit tell when a process ran; one that cannot write at this moment must run all the same."""
    from appliance.audit import Entry

    try:
        box.record([Entry(action, process, f"appliance:{process}")], datetime.now(UTC))
    except ApplianceError as error:
        logging.getLogger(__name__).warning("%s of %s is not in the audit: %s", action, process, error)


def _prepare_folder(data: Path) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OperatorNeeded(
            f"the data folder {data} cannot be made ({error.strerror})",
            hint="set APPLIANCE_DATA to a folder of yours",
        ) from error


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Hold the data folder's run lock; `OperatorNeeded` if another `run` does."""
    try:
        descriptor = os.open(data / "run.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise OperatorNeeded(
            f"the data folder {data} cannot be written to ({error.strerror})",
            hint="check its owner and permissions",
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise OperatorNeeded(
                f"an appliance already runs on {data} (process {holder})",
                hint="stop that one first, or set APPLIANCE_DATA to another folder",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _listeners(config: Config) -> list[tuple[str, str, int, str]]:
    return [
        ("DICOM", config.dicom.bind, config.dicom.port, "APPLIANCE_DICOM_PORT"),
        ("the console", config.web.bind, config.web.port, "APPLIANCE_WEB_PORT"),
    ]


def _require_free(what: str, bind: str, port: int, variable: str) -> None:
    """Raise `OperatorNeeded` unless a server could listen there."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
            probe.listen(1)
        except PermissionError as error:
            raise OperatorNeeded(
                f"port {port} for {what} is reserved for the system",
                hint=f"set {variable} to 1024 or more, or give the process CAP_NET_BIND_SERVICE",
            ) from error
        except OSError as error:
            raise OperatorNeeded(
                f"port {port} for {what} cannot be used on {bind} ({error.strerror})",
                hint=f"stop the program that holds it, or set {variable} to another port",
            ) from error


def _all_ready(box: Box, started: datetime) -> bool:
    """Whether all of them have reported since `started`; the console does so while it answers."""
    from appliance.catalog import processes

    with box.catalog.reading() as conn:
        beating = {each.name for each in processes.processes(conn) if each.beat_utc >= started}
    expected = {*(f"dicom-{number}" for number in range(box.config.dicom.workers)), "courier", "jobs", "web"}
    return expected <= beating


def _reachable(bind: str) -> str:
    """An address at which a server bound to `bind` is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)


def _announce(box: Box) -> None:
    """Say that everything is up, and the one thing to do next."""
    from appliance import health, identity

    config = box.config
    host = _reachable(config.web.bind).replace("127.0.0.1", "localhost")
    lines = [
        "Ready.",
        f"  Console   http://{host}:{config.web.port}",
        f"  DICOM     AE title {config.ae_title}, port {config.dicom.port}",
    ]
    if code := identity.claim_code(box):
        lines.append(f"  Claim code {code}: type it in the console to become this box's owner")
    if health.recovery_is_pending(box):
        lines.append("  Recovery key not yet written down: run 'appliance key show-recovery', then print it")
    print("\n".join(lines), flush=True)


def _show(name: str, line: str) -> None:
    if line.startswith("{"):  # an event as JSON, which says itself whose it is
        print(line, flush=True)
        return
    label = f"{name:<8}"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        label = f"\033[{_COLOURS.get(name, 37)}m{label}\033[0m"
    print(f"{label}| {line}", flush=True)
