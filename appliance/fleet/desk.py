"""The desk: the only place where remote support meets the box. It is there while a session is open, and not otherwise.

::

    line (another account) ──▶ desk: where to dial, keys, how long; held open: when it closes, the line dies
    counter (a caller)     ──▶ desk: certificate, then lines ──▶ words ──▶ verbs in children ──▶ cut, recorded, shown

A session that is over, by the clinic, by the vendor, by the clock on the wall or by the clock that nobody sets, is noticed
within a second: the desk kills what runs for a caller and closes every socket, and the line's processes end with that. Its
end by the latter outlasts this process, and it is over once the machine has started anew (`support.ends`).

Nothing that may wait stands before an end. Both clocks are looked at by a thread that knows when the session ends and asks the
catalog nothing, since another process may hold that for minutes; another reads what whoever ends it has left in the data folder
(`appliance.fleet.farewell`). First everything is closed, then the recordings, the catalog and the audit get their end, tried
until they have it. Chose this over a shorter patience with the catalog, because a read may wait, too.

What is typed and shown is in the catalog before it has an effect, but for the word that ends the session; the checksum of
each visit's recording goes into the audit.

The certificate is looked at here once more, because sshd runs where a hole in it may be used: the desk believes the
authority's signature and not sshd. And sshd asks only at the log-in whether it has ended: who is in with one that ends before the
session is put out with it, by the same two clocks. Every text that is shown goes through `appliance.fleet.markers`.

The socket is in ``/run/appliance-desk`` where systemd starts the line (``support-line.path`` waits for it), else in the data
folder, and then the line is a child of this process.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from appliance import audit, logs
from appliance.audit import Entry, Outcome
from appliance.box import Box
from appliance.catalog import support_sessions
from appliance.errors import ApplianceError, NotAuthorised
from appliance.fleet import farewell, known, support
from appliance.fleet.caller import Caller
from appliance.fleet.certificate import certificate_of
from appliance.fleet.farewell import Farewell
from appliance.fleet.markers import Markers
from appliance.fleet.session import (
    Ending,
    Session,
    admit,
    principals,
)
from appliance.health import kernel_clock

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
UNIT_FOLDER = Path("/run/appliance-desk")
MOST_RECORDED_IN_SESSION = 16_000_000
MOST_CONNECTIONS = 16
VERB_SECONDS = 300.0


@dataclass
class Desk:
    """Looks for a session every second; `wall`, `monotonic` and `boot` are arguments so that a test can let them part.

    `monotonic` counts seconds from the start of the machine that `boot` names, asleep or awake.
    """

    box: Box
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    boot: Callable[[], str] = kernel_clock.boot
    _open: OpenDesk | None = None

    def __post_init__(self) -> None:
        self._over: dict[int, Farewell] = {}  # how sessions ended here, whatever the catalog could be told
        self._leaving: list[OpenDesk] = []  # closed, and what was typed there may still be written down
        self._failed: dict[str, str] = {}
        self._stop = threading.Event()
        self._gate = threading.Lock()  # over whether there is an open desk: two threads may close it
        self._threads = [  # none of them waits for what another one asks
            threading.Thread(target=act, name=name, daemon=True)
            for name, act in (
                ("support-clock", lambda: self._repeat("close", self.put_out)),
                ("support-note", lambda: self._repeat("close as it was told", self._heed)),
                ("support-desk", self._run),
            )
        ]

    def start(self) -> None:
        """Begin. What was cut with the process before is closed first."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; whoever is in is put out, and a session that is open goes on with the next start of the process."""
        self._stop.set()
        self._close()
        for thread in self._threads:
            thread.join()
        self._close()
        self._see_off()

    def put_out(self, note: Farewell | None = None) -> None:
        """Close the desk if its session is over by a clock, or ended by the vendor or as `note` says. Asks the catalog nothing."""
        with self._gate:
            current = self._open
            if current is None:
                return
            ended = note is not None and note.ends(current.session)
            if (end := note if ended else current.end_of_it()) is not None:
                self._shut(current)
                self._over[current.session.id] = end
            else:
                current.put_out_late()

    def _heed(self) -> None:
        self.put_out(farewell.left(self.box))

    def look(self) -> None:
        """Close the desk if its session is over, write down what is over, and open the desk for a session that is not."""
        note = farewell.left(self.box)
        self.put_out(note)
        with self.box.catalog.reading() as conn:
            session = support_sessions.standing(conn)
            is_cut = self._open is None and bool(support_sessions.visits(conn))
        if (current := self._open) is not None and (session is None or session.id != current.session.id):
            self._close()
        self._see_off()
        if self._open is not None:
            return
        now = self.wall()
        if is_cut:  # by the end of a process, or because the catalog could not be told when a visit ended
            support.close_left_open(self.box, now)
        if session is None:
            if note is not None:
                farewell.forget(self.box)
        elif (end := self._end(session, note, now)) is not None:
            with self.box.catalog.transaction() as tx:
                farewell.record(tx, self.box, end, now)
        else:
            self._admit(session, now)

    def _end(self, session: Session, note: Farewell | None, now: datetime) -> Farewell | None:
        """How a session ended of which the catalog knows no end; None if it is open."""
        if (end := self._over.get(session.id)) is not None:
            return end
        if note is not None and note.ends(session):
            return note
        return None if session.is_open(now) else farewell.expired(session, now)

    def _admit(self, session: Session, now: datetime) -> None:
        """Open the desk, unless the session is over by what an earlier process has kept, or has been ended while that was asked."""
        ends = support.ends(self.box, session, self.boot(), self.monotonic(), now)
        opening, now = OpenDesk(self.box, session, self.wall, self.monotonic, ends), self.wall()
        if (end := self._end(session, farewell.left(self.box), now) or opening.end_of_it()) is None:
            opening.start()
            self._open = opening
            return
        opening.close()
        self._over[session.id] = end
        with self.box.catalog.transaction() as tx:
            farewell.record(tx, self.box, end, now)

    def _close(self) -> None:
        """Close the desk, if it is open."""
        with self._gate:
            if self._open is not None:
                self._shut(self._open)

    def _shut(self, current: OpenDesk) -> None:
        current.put_out()
        self._open = None
        self._leaving.append(current)

    def _see_off(self) -> None:
        """Wait until all that was typed where it is closed now is written down, or could not be."""
        while self._leaving:
            self._leaving[0].join()
            del self._leaving[0]

    def _run(self) -> None:
        # What a process that was killed has left lies there: systemd would start the line for it again and again.
        self._try("clear its place", lambda: place(self.box).unlink(missing_ok=True))
        self._try("close recordings", lambda: support.close_left_open(self.box, self.wall()))
        self._repeat("look", self.look)

    def _repeat(self, what: str, act: Callable[[], object]) -> None:
        while not self._stop.is_set():
            self._try(what, act)
            self._stop.wait(LOOK_SECONDS)

    def _try(self, what: str, act: Callable[[], object]) -> bool:
        """Whether `act` came to its end. Whatever stops it, this thread goes on: nobody else ends a session in time."""
        try:
            act()
        except ApplianceError as error:
            said = f"{what}: {error}"
        except Exception as error:  # noqa: BLE001  # as the docstring says
            said = f"{what}: {type(error).__name__} in {' < '.join(logs.places(error))}"
        else:
            self._failed.pop(what, None)
            return True
        if self._failed.get(what) != said:  # once, and not every second
            log.error("the desk of support could not %s", said)
        self._failed[what] = said
        return False


def place(box: Box) -> Path:
    """Where the socket of the desk is."""
    by_unit = UNIT_FOLDER.is_dir() and os.access(UNIT_FOLDER, os.W_OK)
    return (UNIT_FOLDER if by_unit else box.config.data.absolute()) / "desk"


@dataclass
class OpenDesk:
    """The desk during one session. `ends` is on the monotonic clock."""

    box: Box
    session: Session
    wall: Callable[[], datetime]
    monotonic: Callable[[], float]
    ends: float
    over: threading.Event = field(default_factory=threading.Event)
    _said: Farewell | None = None
    _talks: set[socket.socket] = field(default_factory=set)
    _late: dict[socket.socket, Callable[[], bool]] = field(default_factory=dict)
    _children: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _threads: list[threading.Thread] = field(default_factory=list)
    _line: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._path = place(self.box)
        self._lookout = known.Lookout(self.box)
        self._recorded = 0
        self._listening = socket.socket(socket.AF_UNIX)

    def start(self) -> None:
        """Let the line and callers come. If that fails, nothing is left open, and it may be tried again with another."""
        try:
            with self.box.catalog.reading() as conn:
                self._recorded = support_sessions.recorded_characters(conn, self.session.id)
            self._path.unlink(missing_ok=True)
            self._listening.bind(str(self._path))
            self._path.chmod(0o660)
            self._listening.listen(8)
            self._listening.settimeout(LOOK_SECONDS)
            self._begin(self._accept)
            if self._path.parent != UNIT_FOLDER:
                words = [sys.executable, "-m", "appliance", "support", "line", "--desk", str(self._path)]
                # To systemd it is no process of this unit's.
                given = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
                self._line = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=given
                )
        except BaseException:
            self.close()
            raise
        log.info("support session %d: the desk is open, scope %s", self.session.id, self.session.scope)

    def end_of_it(self) -> Farewell | None:
        """How it ended, if it is over: as the vendor said, or because its time has gone by on either of the clocks."""
        if self._said is not None:
            return self._said
        now = self.wall()
        if self.monotonic() >= self.ends or not self.session.is_open(now):
            return farewell.expired(self.session, now)
        return None

    def put_out(self) -> None:
        """Put everybody out, at once: nothing here waits for the catalog, or for anybody who does."""
        self.over.set()
        with self._lock:
            for child in self._children:
                _kill(child)
            with suppress(OSError):  # before the line learns of it, or systemd starts that again
                self._path.unlink(missing_ok=True)
            for talk in self._talks:
                with suppress(OSError):
                    talk.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        if self._line is not None:
            self._line.terminate()
            try:
                self._line.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                self._line.kill()
                self._line.wait()
        log.info("support session %d: the desk is closed", self.session.id)

    def put_out_late(self) -> None:
        """Put out whose certificate has ended. A verb that runs goes on to its end; what it says is kept, and shown to nobody."""
        with self._lock:
            for talk in [talk for talk, is_late in self._late.items() if is_late()]:
                with suppress(OSError):
                    talk.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        """Wait until what was typed is written down, and each recording has its end, or could not be given one."""
        with self._lock:
            threads = self._threads
        for thread in threads:
            thread.join()

    def close(self) -> None:
        """Put everybody out, and wait for their recordings."""
        self.put_out()
        self.join()

    def _begin(self, act: Callable[[], None]) -> None:
        thread = threading.Thread(target=act, name="support", daemon=True)
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                talk, _ = self._listening.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            talk.settimeout(None)
            with self._lock:  # whoever comes while the desk closes is put out with the others, or not let in
                if self.over.is_set() or len(self._talks) >= MOST_CONNECTIONS:
                    talk.close()
                    continue
                self._talks.add(talk)
                self._begin(lambda talk=talk: self._answer(talk))  # type: ignore[misc]

    def _answer(self, talk: socket.socket) -> None:
        """One connection, to its end."""
        with talk, self._noted(talk):
            try:
                lines = _lines(talk)
                asked = json.loads(next(lines, "{}"))
                if asked.get("ask") == "line":
                    self._give_line(talk)
                elif asked.get("ask") == "counter":
                    self._receive(talk, lines, str(asked.get("certificate", "")))
            except ApplianceError as error:
                log.warning("support session %d: %s", self.session.id, error)
            except (OSError, ValueError, AttributeError):
                pass  # the other side has left, or is none of ours

    @contextmanager
    def _noted(self, talk: socket.socket) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._talks.discard(talk)
                self._late.pop(talk, None)

    def _give_line(self, talk: socket.socket) -> None:
        """Say what the line needs, then wait with it for the end."""
        with self.box.catalog.transaction() as tx:
            endpoint = support.endpoint(tx)
            keys = support.keys_of(tx, self.box, self.wall())
        told = {
            "host": endpoint.host,
            "port": endpoint.port,
            "user": endpoint.user,
            "host_key": endpoint.host_key,
            "authority": endpoint.authority,
            "forward_port": endpoint.forward_port,
            "dialling": keys.dialling,
            "own": keys.own,
            "principals": principals(self.session.scope),
            "seconds": max(0.0, self.ends - self.monotonic()),
        }
        talk.sendall(json.dumps(told).encode() + b"\n")
        while talk.recv(64):
            pass

    def _receive(self, talk: socket.socket, lines: Iterator[str], certificate: str) -> None:
        """Let one caller in, or say why not; the audit hears of both."""
        now = self.wall()
        try:
            with self.box.catalog.reading() as conn:
                found = certificate_of(certificate, support.endpoint(conn).authority)
                session = support_sessions.session(conn, self.session.id)  # it may have been ended since
            scope = admit(session, found, now)
            if self._recorded >= MOST_RECORDED_IN_SESSION:
                raise NotAuthorised(
                    "the recording of this session is full", hint="ask the clinic to open another session"
                )
        except ApplianceError as refusal:
            entry = Entry(
                "support:refuse",
                str(self.session.id),
                support.ACTOR,
                {"why": refusal.message},
                outcome=Outcome.REFUSED,
            )
            self.box.record([entry], now)
            talk.sendall(f"{refusal}\n".encode())
            return
        with self.box.catalog.transaction() as tx:
            if self.over.is_set():  # it has waited for the catalog meanwhile
                return
            visit = support_sessions.begin_visit(tx, self.session.id, found.person, str(found.serial), now)
            details = {"session": self.session.id, "person": found.person, "serial": str(found.serial)}
            audit.append(
                tx,
                self.box.audit_key,
                [Entry("support:enter", str(visit), support.ACTOR, details | {"scope": str(scope)})],
                now,
            )
        ends, before = self.monotonic() + (found.before_utc - now).total_seconds(), found.before_utc
        caller = Caller(
            self, talk, visit, found.person, scope, lambda: self.monotonic() >= ends or self.wall() >= before
        )
        with self._lock:
            self._late[talk] = caller.is_late
        try:
            caller.serve(lines)
        finally:
            now = self.wall()
            with self.box.catalog.transaction() as tx:
                support.end_visit(tx, self.box, visit, now)

    def markers(self) -> Markers:
        """What is cut out of all that is shown."""
        return self._lookout.markers()

    def count(self, characters: int) -> bool:
        """Count what is recorded; whether there is room for more in this session, whoever comes in and however often."""
        with self._lock:
            self._recorded += characters
            return self._recorded < MOST_RECORDED_IN_SESSION

    def end(self, person: str) -> None:
        """Let the vendor end the session: at once, and the catalog is told when it can be."""
        self._said = Farewell(self.session.id, Ending.VENDOR, person, self.wall())
        self.over.set()
        farewell.leave(self.box, self._said)

    @contextmanager
    def child(self, words: list[str], person: str) -> Iterator[subprocess.Popen[bytes]]:
        """One of the appliance's own verbs, in a group of its own, which the end of the session kills."""
        if self.over.is_set():
            raise NotAuthorised("the session is over")
        environment = {**os.environ, "SUDO_USER": f"support ({person})"}
        environment["APPLIANCE_DATA"] = str(self.box.config.data.absolute())
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        with self._lock:
            self._children.add(process)
            if self.over.is_set():
                _kill(process)
        deadline = threading.Timer(VERB_SECONDS, _kill, (process,))
        deadline.start()
        try:
            yield process
        finally:
            deadline.cancel()
            _kill(process)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
            with self._lock:
                self._children.discard(process)


def _lines(talk: socket.socket) -> Iterator[str]:
    """What comes, line by line; a line that has no end is one."""
    kept = b""
    while piece := talk.recv(65536):
        kept += piece
        while b"\n" in kept:
            line, _, kept = kept.partition(b"\n")
            yield line.decode("utf-8", "replace")[:65536]
        if len(kept) > 65536:
            return


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a child and all that it has started, also if it has ended itself and they have not."""
    if process.returncode is None:  # while nobody has asked how it ended, its number is nobody else's
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
