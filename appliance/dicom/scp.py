"""The ``appliance dicom`` process: a parent that holds the listening socket, and workers that serve on it.

Chose several processes on one socket, because Python runs one thread at a time: sealing and hashing overlap, parsing
does not. The parent opens the socket once and never reads from it, so a worker can die and be replaced while callers
queue in the kernel and notice nothing. Rejected threads alone (0.6 of the rate on two cores), and a pool that hands
connections over (the parent would be in the path of every association).

Workers share three numbers each, in anonymous memory: how many connections they serve, so that the next one goes to
whoever has fewest, whether they are ready, and when they last looked after themselves. The parent tells systemd that the
process is alive only while every worker that is ready has done so lately.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import mmap
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NoReturn

from appliance import logs, supervision
from appliance.audit import Entry
from appliance.box import Box, open_box
from appliance.catalog import processes
from appliance.config import Config
from appliance.dicom.association import Desk
from appliance.dicom.door import Door
from appliance.dicom.exchange import Tally
from appliance.dicom.listener import make_server
from appliance.errors import ApplianceError, OperatorNeeded, OutOfResources, Transient
from appliance.ingest import Arrival, Reception
from appliance.latency import LATENCY
from appliance.model import Origin, Uid
from appliance.store.succession import RESTART_CODE, is_announced

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 20.0
"""How long a message that is coming in may take to finish once the process is told to stop."""

BEAT_SECONDS: Final = 5.0
_TICK_SECONDS: Final = 0.5
_BACKLOG: Final = 128
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0  # until it is back, what it acknowledged last waits in its log
_SETTLED_SECONDS: Final = 2.0
_ALIVE_SECONDS: Final = 5.0
_SILENT_SECONDS: Final = 60.0  # longer than the catalog lets anybody wait for a write
_SWITCH_SECONDS: Final = 0.0005  # a thread that waits for the interpreter keeps its peer waiting
_PR_SET_PDEATHSIG: Final = 1
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def serve(config: Config) -> int:
    """Listen and receive until SIGTERM or SIGINT; the exit code: `RESTART_CODE` once a restored box takes the place of this.

    A stop lets every message that is coming in finish, for `DRAIN_SECONDS` at most. Call it from the main thread of a
    process that has no other. Raises `OperatorNeeded` if the port or the data folder cannot be used.
    """
    open_box(config).close()  # what only a person can mend is said here once, and not by each worker
    listening = supervision.handed_socket(config.dicom.port, "DICOM") or _listen(
        config.dicom.bind, config.dicom.port
    )
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        return _Crew(config, listening).run()
    finally:
        listening.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _listen(bind: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        return socket.create_server((bind, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OperatorNeeded(
            f"DICOM port {port} on {bind} cannot be opened ({error.strerror})",
            hint="stop the program that holds it, or set APPLIANCE_DICOM_PORT",
        ) from error


class Loads:
    """How many connections each worker serves, whether it is ready and when it was last seen, in shared memory.

    `at` is in seconds of the monotonic clock, which all processes of a machine share.
    """

    _SLOT: Final = struct.Struct("=iid")
    _SEEN: Final = struct.Struct("=d")
    _SEEN_OFFSET: Final = 8

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, self._SLOT.size * workers)
        self._workers = workers

    def set(self, worker: int, connections: int, *, ready: bool) -> None:
        now = time.monotonic()
        self._SLOT.pack_into(self._memory, self._SLOT.size * worker, connections, ready, now)

    def seen(self, worker: int) -> None:
        """The worker looks after itself: it does not hang."""
        self._SEEN.pack_into(self._memory, self._SLOT.size * worker + self._SEEN_OFFSET, time.monotonic())

    def none_is_silent(self) -> bool:
        """Whether every worker that is ready was seen lately; one that is being started again doesn't count."""
        since = time.monotonic() - _SILENT_SECONDS
        return all(at > since for _, ready, at in self._all() if ready)

    def _all(self) -> list[tuple[int, bool, float]]:
        return [self._SLOT.unpack_from(self._memory, self._SLOT.size * each) for each in range(self._workers)]

    def all_ready(self) -> bool:
        return all(ready for _, ready, _ in self._all())

    def another_has_fewer(self, worker: int) -> bool:
        loads = self._all()
        own = loads[worker][0]
        return any(ready and connections < own for connections, ready, _ in loads)


@dataclass
class _Worker:
    """One worker as the parent sees it."""

    number: int
    pid: int = 0
    started: float = 0.0
    start_at: float = 0.0
    pause_seconds: float = _FIRST_PAUSE_SECONDS


@dataclass
class _Crew:
    """The parent's side: keeps the workers up until told to stop."""

    config: Config
    listening: socket.socket
    workers: list[_Worker] = field(init=False)
    loads: Loads = field(init=False)

    def __post_init__(self) -> None:
        self.workers = [_Worker(number) for number in range(self.config.dicom.workers)]
        self.loads = Loads(len(self.workers))

    def run(self) -> int:
        announced = False
        told = 0.0
        code = 0
        while not code:
            for worker in self.workers:
                if not worker.pid and time.monotonic() >= worker.start_at:
                    self._start(worker)
            caught = signal.sigtimedwait(_SIGNALS, _TICK_SECONDS if announced else 0.05)
            if caught is not None and caught.si_signo != signal.SIGCHLD:
                break
            code = self._reap()
            if is_announced(self.config.data.absolute()):
                code = RESTART_CODE
            if not announced and self.loads.all_ready():
                announced = True
                address, port = self.listening.getsockname()[:2]
                log.info("listening: address=%s port=%d workers=%d", address, port, len(self.workers))
                supervision.ready(f"receiving on port {port}")
            if announced and time.monotonic() - told > _ALIVE_SECONDS and self.loads.none_is_silent():
                supervision.alive()
                told = time.monotonic()
        supervision.stopping("messages that are coming in may finish")
        self._stop()
        return code

    def _start(self, worker: _Worker) -> None:
        gc.collect()
        gc.freeze()  # pages that the collector does not touch stay shared with the parent
        parent = os.getpid()
        worker.pid = os.fork()
        if worker.pid == 0:
            _become_worker(self.config, self.listening, self.loads, worker.number, parent)
        worker.started = time.monotonic()

    def _reap(self) -> int:
        """Note who has died; the exit code to stop with, if a worker needs a person."""
        for worker in self.workers:
            if not worker.pid:
                continue
            pid, wait_status = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            code = os.waitstatus_to_exitcode(wait_status)
            worker.pid = 0
            self.loads.set(worker.number, 0, ready=False)
            if code == OperatorNeeded.exit_code:
                return code
            now = time.monotonic()
            if now - worker.started > _SETTLED_SECONDS:
                worker.pause_seconds = _FIRST_PAUSE_SECONDS
            how = f"signal {-code}" if code < 0 else f"code {code}"
            log.error("worker dicom-%d ended with %s: starting another", worker.number, how)
            worker.start_at = now + worker.pause_seconds
            worker.pause_seconds = min(worker.pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
        return 0

    def _stop(self) -> None:
        """Tell every worker, wait for them, and end those who do not come to an end."""
        log.info("stopping: messages that are coming in may finish")
        for worker in self.workers:
            if worker.pid:
                os.kill(worker.pid, signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_SECONDS + 5
        while any(worker.pid for worker in self.workers):
            late = time.monotonic() > deadline
            for worker in self.workers:
                if worker.pid and late:
                    os.kill(worker.pid, signal.SIGKILL)
                if worker.pid and os.waitpid(worker.pid, 0 if late else os.WNOHANG)[0]:
                    worker.pid = 0
            signal.sigtimedwait([signal.SIGCHLD], 0.05)


def _become_worker(
    config: Config, listening: socket.socket, loads: Loads, number: int, parent: int
) -> NoReturn:
    """The child's side of the fork. Never returns into the parent's code."""
    code = 70
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() == parent:
            code = _work(config, listening, loads, number)
    except ApplianceError as error:
        code = error.exit_code
        log.error("worker dicom-%d: %s", number, error)
    except BaseException as error:  # noqa: BLE001 - the process ends here, and its parent starts another
        where = "".join(traceback.format_tb(error.__traceback__))
        log.critical("worker dicom-%d ended in %s\n%s", number, type(error).__name__, where)
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _work(config: Config, listening: socket.socket, loads: Loads, number: int) -> int:
    stopping = supervision.told_to_stop()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which says when
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    sys.setswitchinterval(_SWITCH_SECONDS)
    name = f"dicom-{number}"
    logs.configure(name, config.log_level, config.log_format, config.data.absolute())
    box = open_box(config)
    box.catalog.give_way()  # what it writes was acknowledged before: nobody waits for it
    try:
        if number == 0:
            _settle_former_workers(box, config.dicom.workers)
        intake = _Intake(box, name)
        door = Door(box)
        tally = Tally()
        desk = Desk(
            config.dicom,
            config.ae_title,
            intake,
            door,
            tally=tally,
            stopping=stopping,
            give_way=lambda: loads.another_has_fewer(number),
            report_connections=lambda connections: loads.set(number, connections, ready=True),
        )
        server = make_server(desk, listening.dup())
        accepting = threading.Thread(target=server.serve_forever, name="accepting", daemon=True)
        accepting.start()
        loads.set(number, 0, ready=True)
        _say(box, "appliance:start", name)
        _look_after(box, name, door, tally, intake, stopping, seen=lambda: loads.seen(number))
        server.shutdown_accepting()
        deadline = time.monotonic() + DRAIN_SECONDS
        while tally.open_now and time.monotonic() < deadline:
            time.sleep(0.02)
        server.server_close()
        intake.close()
        _say(box, "appliance:stop", name)
    finally:
        box.close()
    return 0


def _say(box: Box, action: str, name: str) -> None:
    """Let the audit tell when a worker ran; one that cannot write at this moment must run all the same."""
    try:
        box.record([Entry(action, name, f"appliance:{name}")], datetime.now(UTC))
    except ApplianceError as error:
        log.warning("%s of %s is not in the audit: %s", action, name, error)


def _look_after(
    box: Box,
    name: str,
    door: Door,
    tally: Tally,
    intake: _Intake,
    stopping: threading.Event,
    *,
    seen: Callable[[], None],
) -> None:
    """Until told to stop: say that this worker lives, write down who called, keep the intake open."""
    started = datetime.now(UTC)
    next_beat = 0.0
    silent = False
    while True:
        seen()
        intake.reopen()
        beat_due = time.monotonic() >= next_beat
        if beat_due or door.has_notes():
            try:
                now = datetime.now(UTC)
                with box.catalog.transaction() as tx:
                    door.write_notes(tx, now)
                    processes.beat(tx, name, os.getpid(), started, now, _detail(tally))
                next_beat = time.monotonic() + BEAT_SECONDS
                silent = False
            except Transient as error:
                if not silent:
                    log.warning("no heartbeat: %s", error.message)
                silent = True
        if stopping.wait(_TICK_SECONDS):
            return


def _detail(tally: Tally) -> dict[str, object]:
    return {
        "received": tally.received,
        "refused": tally.refused,
        "bytes": tally.received_bytes,
        "associations": tally.associations,
        "turned_away": tally.turned_away,
        "open": tally.open_now,
        LATENCY: tally.latencies(),
    }


def _settle_former_workers(box: Box, workers: int) -> None:
    """There were more workers once: accept what their logs still hold, and expect no heartbeat of them."""
    current = {f"dicom-{number}" for number in range(workers)}
    logs = {
        match[1] for each in box.intake_folder.glob("dicom-*.log") if (match := _LOG_NAME.match(each.name))
    }
    for name in logs - current:
        try:
            Reception(box, name).close()
        except Transient as error:
            log.warning("the intake log of %s waits for the next start: %s", name, error.message)
    with box.catalog.reading() as reading:
        beating = {row.name for row in processes.processes(reading) if row.name.startswith("dicom-")}
    if beating - current:
        with box.catalog.transaction() as tx:
            for name in beating - current:
                processes.forget(tx, name)


_LOG_NAME: Final = re.compile(r"(dicom-\d+)-")


class _Intake:
    """The worker's `Reception`, or the wait for one: with a full disk, callers are told to come back later.

    Rejected: to end the worker until there is room. Callers would hang in a queue that nobody serves.
    """

    def __init__(self, box: Box, name: str) -> None:
        self._box = box
        self._name = name
        self._reception: Reception | None = None
        self._why = "not ready yet"
        self.reopen()

    def reopen(self) -> None:
        """Open the reception if it is not. Raises `OperatorNeeded` and `Corrupt`.

        One whose settler has died accepts nothing any more: this worker ends, and another replays its log.
        """
        if self._reception is not None:
            if not self._reception.is_settling:
                raise RuntimeError("the settler has died")
            return
        try:
            self._reception = Reception(self._box, self._name)
        except Transient as error:
            if error.message != self._why:
                log.warning("nothing can be received: %s", error.message)
            self._why = error.message

    def admit(self, *, own: bool = False) -> None:
        self._opened().admit(own=own)

    def begin(
        self, origin: Origin, *, sop_class_uid: Uid, sop_instance_uid: Uid, transfer_syntax_uid: Uid
    ) -> Arrival:
        return self._opened().begin(
            origin,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
        )

    def close(self) -> None:
        if self._reception is not None:
            self._reception.close()

    def _opened(self) -> Reception:
        if self._reception is None:
            raise OutOfResources(self._why)
        return self._reception
