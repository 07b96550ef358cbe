"""A session that is over ends at once, while another process has the catalog's write lock; its record follows when that is free."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from appliance.box import Box
from appliance.catalog import Reading, database, support_sessions
from appliance.cli import main
from appliance.errors import NotAuthorised
from appliance.fleet import desk as desks
from appliance.fleet import farewell, support
from appliance.fleet.desk import LOOK_SECONDS, Desk, place
from appliance.fleet.farewell import Farewell
from appliance.fleet.session import Ending, Session
from appliance.web.application import create_app
from tests.fleet.visiting import certificate, clinic, held, let_in, rows, talking
from tests.web.conftest import browser_of, csrf_of

Eventually = Callable[..., Any]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with closing(clinic(tmp_path_factory.mktemp("box"))) as opened:
        yield opened


@dataclass
class Clinic:
    """A box with an open session: its desk, with clocks that a test sets, and somebody who is in."""

    box: Box
    desk: Desk
    session: Session
    talk: socket.socket
    past: dict[str, float] = field(default_factory=lambda: {"wall": 0.0, "monotonic": 0.0})

    def shown(self, until: str) -> str:
        """What is shown until that is, or the end."""
        said = b""
        while not said.endswith(until.encode()) and (piece := self.talk.recv(1)):
            said += piece
        return said.decode()

    def is_shut(self) -> bool:
        return not place(self.box).exists() and self.desk._open is None

    def recorded(self) -> Session:
        with self.box.catalog.reading() as conn:
            return support_sessions.session(conn, self.session.id)

    def is_sealed(self) -> bool:
        """Whether it is recorded how the session ended, and that everybody has left."""
        with self.box.catalog.reading() as conn:
            visits = support_sessions.visits(conn, self.session.id)
        return self.recorded().ending is not None and all(each.sha256 for each in visits)


@pytest.fixture
def open_clinic(
    box: Box, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clinic]:
    """Its desk is opened by a first look; a test goes on looking, or starts it. Nobody here ever loses patience with the catalog."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 3600)
    monkeypatch.setattr(desks, "UNIT_FOLDER", tmp_path_factory.mktemp("u"))
    session = let_in(box)
    past = {"wall": 0.0, "monotonic": 0.0}
    desk = Desk(
        box,
        wall=lambda: session.opened_utc + timedelta(seconds=past["wall"]),
        monotonic=lambda: past["monotonic"],
        boot=lambda: "one",
    )
    desk.look()
    with ExitStack() as stack:
        talk = stack.enter_context(talking(box))
        made = Clinic(box, desk, session, talk, past)
        talk.sendall(json.dumps({"ask": "counter", "certificate": certificate()}).encode() + b"\n")
        assert "Everything is recorded" in made.shown("> ")
        yield made
    desk._close()
    desk._see_off()
    with box.catalog.transaction() as tx:
        support_sessions.end(tx, session.id, Ending.CLINIC, "tests", datetime.now(UTC))


@pytest.mark.parametrize("clock", ["wall", "monotonic"])
def test_one_look_after_its_time_everything_is_gone_whoever_has_the_catalog(
    open_clinic: Clinic, clock: str
) -> None:
    """A look is a second after the one before, and asks the catalog nothing: that is within the five seconds of the promise."""
    assert 2 * LOOK_SECONDS < 5
    box, desk = open_clinic.box, open_clinic.desk
    room = desk._open
    assert room is not None
    expired = len(rows(box, "support:expire"))
    with room.child(["courier"], "Ana Roy") as child:
        with held(box):
            open_clinic.past[clock] = 3599.0
            desk.put_out()
            assert not open_clinic.is_shut()
            assert child.poll() is None
            open_clinic.past[clock] = 3600.0
            desk.put_out()
            assert open_clinic.is_shut()
            assert child.wait() == -signal.SIGKILL
            assert open_clinic.shown("> ") == "", "and whoever was in is out"
            with pytest.raises(NotAuthorised, match="is over"), room.child(["status"], "Ana Roy"):
                pass
            assert open_clinic.recorded().ending is None, "nobody could be told"
        desk.look()
    assert open_clinic.is_sealed()
    assert open_clinic.recorded().ending is Ending.EXPIRED
    assert len(rows(box, "support:expire")) == expired + 1


@pytest.mark.parametrize("clock", ["wall", "monotonic"])
def test_who_is_in_with_a_certificate_that_ends_is_put_out_and_who_has_another_stays(
    open_clinic: Clinic, clock: str
) -> None:
    box, desk = open_clinic.box, open_clinic.desk
    room, short = desk._open, certificate(b"Bo Lee", lives_seconds=600)
    assert room is not None
    with talking(box) as talk:
        late = Clinic(box, desk, open_clinic.session, talk)
        talk.sendall(json.dumps({"ask": "counter", "certificate": short}).encode() + b"\n")
        assert "Everything is recorded" in late.shown("> ")
        open_clinic.past[clock] = 500.0
        desk.put_out()
        talk.sendall(b"help\n")
        assert "leave" in late.shown("> "), "while it lasts all is answered"
        open_clinic.past[clock] = 1200.0
        talk.sendall(b"help\n")
        assert "the certificate has ended" in late.shown("> "), "between two looks, too"
        desk.put_out()
        assert late.shown("> ") == "", "the next look has put the visitor out"
    open_clinic.talk.sendall(b"help\n")
    assert "leave" in open_clinic.shown("> ")
    assert desk._open is room, "and the session goes on"
    assert open_clinic.recorded().ending is None


def test_a_desk_at_work_ends_a_session_while_its_other_thread_waits_for_the_catalog(
    open_clinic: Clinic, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a reading, which waits for nobody that writes, and may still wait."""
    waits, go_on = threading.Event(), threading.Event()
    standing = support_sessions.standing

    def slow(conn: Reading) -> Session | None:
        waits.set()
        assert go_on.wait(120)
        return standing(conn)

    monkeypatch.setattr(support_sessions, "standing", slow)
    open_clinic.desk.start()
    try:
        with held(open_clinic.box):
            assert waits.wait(120)
            open_clinic.past["monotonic"] = 3600.0
            eventually(open_clinic.is_shut)
            go_on.set()
            assert open_clinic.recorded().ending is None
        eventually(open_clinic.is_sealed)
        assert open_clinic.recorded().ending is Ending.EXPIRED
    finally:
        go_on.set()
        open_clinic.desk.stop()


def test_the_vendor_ends_a_session_whoever_has_the_catalog(
    open_clinic: Clinic, eventually: Eventually
) -> None:
    open_clinic.desk.start()
    try:
        with held(open_clinic.box):
            open_clinic.talk.sendall(b"end\n")
            assert open_clinic.shown("> ") == "The session is ended.\n"
            eventually(open_clinic.is_shut)
            assert open_clinic.recorded().ending is None
        eventually(open_clinic.is_sealed)
    finally:
        open_clinic.desk.stop()
    ended = open_clinic.recorded()
    assert (ended.ending, ended.ended_by) == (Ending.VENDOR, "support: Ana Roy")
    with open_clinic.box.catalog.reading() as conn:
        (visit,) = support_sessions.visits(conn, ended.id)
        events = support_sessions.events(conn, visit.id)
        assert support.proof(conn, visit, events) is support.Proof.WHOLE
    assert [each.text for each in events][-2:] == ["end\n", "The session is ended.\n"]
    assert json.loads(str(rows(open_clinic.box, "support:close")[-1]["details"]))["person"] == "Ana Roy"


@pytest.mark.parametrize("way", ["console", "command"])
def test_the_clinic_ends_a_session_whoever_has_the_catalog(
    open_clinic: Clinic, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    box, number = open_clinic.box, open_clinic.session.id
    monkeypatch.setenv("APPLIANCE_DATA", str(box.config.data))
    closed, done = len(rows(box, "support:close")), list[int]()
    with ExitStack() as stack:
        if way == "console":
            app = create_app(box)
            stack.callback(app.extensions["console"].darkroom.close)
            stack.callback(app.extensions["console"].watcher.close)
            browser = browser_of(app, "owner")
            token = {"csrf": csrf_of(browser.get("/support").get_data(as_text=True))}
            post = lambda: browser.post(f"/support/sessions/{number}/end", data=token).status_code  # noqa: E731
            acting = threading.Thread(target=lambda: done.append(post()))
        else:
            acting = threading.Thread(target=lambda: done.append(main(["support", "close"])))
        open_clinic.desk.start()
        stack.callback(open_clinic.desk.stop)
        with held(box):
            acting.start()
            eventually(open_clinic.is_shut)
            assert open_clinic.recorded().ending is None
        acting.join()
        eventually(open_clinic.is_sealed)
        eventually(lambda: farewell.left(box) is None)
    assert done == [303 if way == "console" else 0]
    assert open_clinic.recorded().ending is Ending.CLINIC
    assert len(rows(box, "support:close")) == closed + 1, "once, whoever was the first to write it"


@pytest.mark.parametrize("ending", [Ending.CLINIC, Ending.VENDOR])
def test_an_end_that_nobody_could_write_down_holds_for_the_next_process(
    open_clinic: Clinic, ending: Ending
) -> None:
    box, session = open_clinic.box, open_clinic.session
    open_clinic.desk._close()
    open_clinic.desk._see_off()
    farewell.leave(box, Farewell(session.id, ending, "m", session.opened_utc, "192.0.2.7"))
    again = Desk(box, wall=lambda: session.opened_utc, monotonic=lambda: 5.0, boot=lambda: "one")
    again.look()
    assert again._open is None
    assert not place(box).exists()
    assert open_clinic.recorded().ending is ending
    row = rows(box, "support:close")[-1]
    assert (row["subject"], row["actor"]) == (str(session.id), "m" if ending is Ending.CLINIC else "jobs")
    again.look()
    assert farewell.left(box) is None


@pytest.mark.parametrize("number, seconds", [(-1, 0), (0, -1)])
def test_a_note_of_another_session_ends_none(open_clinic: Clinic, number: int, seconds: int) -> None:
    session = open_clinic.session
    at = session.opened_utc + timedelta(seconds=seconds)
    farewell.leave(open_clinic.box, Farewell(session.id + number, Ending.CLINIC, "m", at))
    open_clinic.desk.look()
    assert not open_clinic.is_shut()
    assert open_clinic.recorded().ending is None


@pytest.mark.parametrize("kept", ["", "{", "[]", "7", '{"session": 1}', '{"session": "x"}'])
def test_what_is_no_note_ends_nothing(box: Box, kept: str) -> None:
    (box.config.data / farewell.NOTE).write_text(kept)
    assert farewell.left(box) is None
    farewell.forget(box)


def test_what_a_verb_has_started_is_killed_with_it_also_after_it_has_ended_itself() -> None:
    with subprocess.Popen(
        ["sh", "-c", "sleep 3600 & echo $!"], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        started = psutil.Process(int(process.stdout.readline()))
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        desks._kill(process)  # type: ignore[arg-type]  # text or bytes, it asks neither
        psutil.wait_procs([started], timeout=60)
        assert not started.is_running() or started.status() == psutil.STATUS_ZOMBIE
