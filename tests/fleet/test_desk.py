"""The desk by itself, over its socket: whatever comes to it and whatever fails, it goes on, and shows nothing of anybody."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.box import Box
from appliance.catalog import support_sessions
from appliance.errors import NotAuthorised, OperatorNeeded, Transient
from appliance.fleet import caller, known, line, support
from appliance.fleet import desk as desks
from appliance.fleet.caller import first_lines, last_lines, without_people
from appliance.fleet.certificate import certificate_of
from appliance.fleet.desk import Desk, OpenDesk, place
from appliance.fleet.markers import Markers
from appliance.fleet.session import Ending, Scope, Session
from tests.fleet.visiting import AUTHORITY, certificate, clinic, let_in, public, rows, talking, visit
from tests.synthetic.patients import HELENE

Eventually = Callable[..., Any]
TOKEN = "sk-ssh-ed25519-cert-v01@openssh.com AAAA"
"""A certificate of a key on a security token, of which the library says that it knows no such kind."""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with closing(clinic(tmp_path_factory.mktemp("box"))) as opened:
        yield opened


@pytest.fixture
def units(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As under systemd: the line is started by somebody else, when it sees the socket."""
    folder = tmp_path_factory.mktemp("u")
    monkeypatch.setattr(desks, "UNIT_FOLDER", folder)
    return folder


@pytest.fixture
def session(box: Box) -> Iterator[Session]:
    made = let_in(box)
    yield made
    with box.catalog.transaction() as tx:
        support_sessions.end(tx, made.id, Ending.CLINIC, "tests", datetime.now(UTC))


@pytest.fixture
def open_desk(box: Box, units: Path, session: Session) -> Iterator[OpenDesk]:
    made = OpenDesk(box, session, lambda: datetime.now(UTC), time.monotonic, time.monotonic() + 3600)
    made.start()
    yield made
    made.close()


def test_a_certificate_of_a_kind_that_nobody_can_verify_is_refused_and_recorded(
    box: Box, open_desk: OpenDesk
) -> None:
    before = len(rows(box, "support:refuse"))
    assert "the certificate cannot be believed" in visit(box, shown=TOKEN)
    assert len(rows(box, "support:refuse")) == before + 1


def test_a_name_in_a_certificate_drives_no_terminal() -> None:
    told = certificate_of(
        certificate("\x1b]0;x\x07Ana\r\n \u202eRoy\u0000".encode() + b"z" * 200), public(AUTHORITY)
    )
    assert told.person == ("]0;xAna Roy" + "z" * 200)[:100]
    assert not certificate_of(certificate(b"\x1b\n "), public(AUTHORITY)).person, (
        "who is nobody is let in nowhere"
    )


def test_a_session_that_was_ended_a_moment_ago_lets_nobody_in(
    box: Box, open_desk: OpenDesk, session: Session
) -> None:
    with box.catalog.transaction() as tx:
        support_sessions.end(tx, session.id, Ending.CLINIC, "m", datetime.now(UTC))
    assert "no session of support is open" in visit(box, "status")


def test_the_people_of_the_clinic_are_not_shown(box: Box, open_desk: OpenDesk) -> None:
    said = visit(box, "settings", "history")
    assert "support.host" in said
    assert "clinic.province" in said
    for piece in ("plan.", "poêle", "clinic.phone", "555-0142"):
        assert piece not in said


def test_what_an_error_says_is_looked_through(
    box: Box, open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> str:
        raise NotAuthorised(f"{HELENE.family_name} is in the way")

    monkeypatch.setattr(caller.Caller, "_logs", fails)
    assert "[cut: name] is in the way" in visit(box, "logs web")


def test_a_name_on_the_edge_of_what_is_shown_is_not_shown_in_part(
    box: Box, open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = box.config.data / "logs"
    folder.mkdir(exist_ok=True)
    (folder / "web.log").write_text(f"found {HELENE.family_name} here\nan event\n")
    monkeypatch.setattr(caller.Caller, "_note", lambda *_: None)
    with socket.socket() as talk:
        visitor = caller.Caller(open_desk, talk, 0, "x", Scope.DIAGNOSE, lambda: False)
        for characters in range(1, 40):
            monkeypatch.setattr(caller, "MOST_LOG_CHARACTERS", characters)
            assert visitor._logs("web") in ("", "an event\n", "found [cut: name] here\nan event\n")


@given(st.lists(st.text("ab", max_size=5), max_size=6), st.integers(1, 30))
def test_no_line_is_ever_broken(lines: list[str], most: int) -> None:
    text = "".join(f"{line}\n" for line in lines)
    left = last_lines(text, most)
    assert len(left) <= most
    assert text.endswith(left)
    assert left in ("", text) or text[: -len(left)].endswith("\n")
    *whole, told = first_lines(text.encode()[:most], whole=False).splitlines()
    assert whole == lines[: len(whole)]
    assert told.startswith("(The rest")
    assert first_lines(text.encode(), whole=True) == text


def test_settings_of_people_are_known_by_their_names() -> None:
    table = "SETTING VALUE\nplan.phones x\n12 2026 m clinic.name a b\nclinic.province QC\nmail.host h\n"
    assert without_people(table) == "SETTING VALUE\nclinic.province QC\nmail.host h\n"


def test_the_markers_are_made_once_and_again_when_somebody_has_come(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Markers] = []
    make = known.markers

    def counting(*given: Any) -> Markers:
        made.append(make(*given))
        return made[-1]

    monkeypatch.setattr(known, "markers", counting)
    lookout = known.Lookout(box)
    assert lookout.markers() is lookout.markers()
    with box.catalog.transaction() as tx:
        tx.exec_driver_sql(
            "INSERT INTO patients (patient_id, issuer, name, name_folded, birth_date, sex) "
            "VALUES ('X1', '', 'Quesnel^Aurore', 'quesnel aurore', '', '')"
        )
    assert "Quesnel" not in lookout.markers().cut("Quesnel")[0]
    assert len(made) == 2
    monkeypatch.setattr(known, "LONGEST_KEPT_SECONDS", -1.0)
    lookout.markers()
    assert len(made) == 3


def test_nobody_waits_for_the_markers_to_be_made(
    box: Box, open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes into the catalog can, while the names of all patients are folded for a visitor."""
    make, began, go_on = known.markers, threading.Event(), threading.Event()

    def slow(*given: Any) -> Markers:
        began.set()
        assert go_on.wait(120)
        return make(*given)

    monkeypatch.setattr(known, "markers", slow)
    visiting = threading.Thread(target=visit, args=(box, "logs nothing"))
    visiting.start()
    try:
        assert began.wait(120)
        with box.catalog.transaction() as tx:
            support_sessions.standing(tx)
    finally:
        go_on.set()
        visiting.join()


def test_sixteen_may_be_connected(box: Box, open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "MOST_CONNECTIONS", 1)
    with talking(box) as first, talking(box) as second:
        assert second.recv(1) == b""  # closed
        first.sendall(b'{"ask": "line"}\n')
        assert json.loads(first.recv(65536))["host"] == "192.0.2.1"


class _Closing:
    """A listening socket that accepts somebody at the moment at which the desk closes and has swept."""

    def __init__(self, desk: OpenDesk, talk: socket.socket) -> None:
        self.desk, self.talk = desk, talk

    def accept(self) -> tuple[socket.socket, str]:
        self.desk.over.set()
        return self.talk, ""

    def close(self) -> None:
        self.talk.close()


def test_who_comes_while_the_desk_closes_is_put_out(box: Box, units: Path, session: Session) -> None:
    desk = OpenDesk(box, session, lambda: datetime.now(UTC), time.monotonic, time.monotonic() + 3600)
    desk._listening.close()
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.settimeout(120)
        desk._listening = _Closing(desk, ours)  # type: ignore[assignment]
        desk._accept()
        assert not desk._threads
        assert theirs.recv(1) == b""


def test_a_recording_is_bounded_for_the_session_and_not_only_for_a_visit(
    box: Box, open_desk: OpenDesk, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "MOST_RECORDED_IN_SESSION", 500)
    assert visit(box, "help", "help", "help").count("what was chosen; no secret") == 1
    assert "the recording of this session is full" in visit(box, "help")
    with box.catalog.reading() as conn:
        assert support_sessions.recorded_characters(conn, session.id) == open_desk._recorded >= 500
    open_desk.close()
    again = OpenDesk(box, session, lambda: datetime.now(UTC), time.monotonic, time.monotonic() + 3600)
    again.start()  # as after a restart of the process
    try:
        assert "the recording of this session is full" in visit(box, "help")
    finally:
        again.close()


@pytest.mark.parametrize("left_behind", [False, True])
def test_a_line_that_no_desk_answers_waits_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_behind: bool
) -> None:
    """Or systemd starts it for a socket that a killed process has left, again and again, without a pause."""
    waited: list[float] = []
    monkeypatch.setattr("appliance.fleet.line.time.sleep", waited.append)
    with socket.socket(socket.AF_UNIX) as left:
        if left_behind:
            left.bind(str(tmp_path / "desk"))
    with pytest.raises(Transient, match="no session of support is open"):
        line.run(tmp_path / "desk")
    assert waited == [line.WITHOUT_DESK_SECONDS]


def test_what_a_killed_process_left_is_cleared_away(box: Box, units: Path, eventually: Eventually) -> None:
    """Or systemd starts the line for it, which finds nobody, without end."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place(box)))
    desk = Desk(box)
    desk.start()
    try:
        eventually(lambda: not place(box).exists())
    finally:
        desk.stop()


def test_the_desk_goes_on_when_it_could_not_be_opened(
    box: Box, units: Path, session: Session, eventually: Eventually
) -> None:
    """Something stands in the way of the socket; once it is gone, the session has its desk, and then its end."""
    now, past = datetime.now(UTC), [timedelta()]
    place(box).mkdir()
    (place(box) / "x").touch()
    desk = Desk(box, wall=lambda: now + timedelta(seconds=1) + past[0])
    desk.start()
    try:
        eventually(lambda: "look" in desk._failed)
        assert desk._open is None
        (place(box) / "x").unlink()
        place(box).rmdir()
        eventually(lambda: place(box).is_socket())
        eventually(lambda: "look" not in desk._failed)
        past[0] = timedelta(hours=2)
        eventually(lambda: not place(box).exists())
        # It closes first, and writes that down afterwards.
        eventually(lambda: ending(box, session) is Ending.EXPIRED)
    finally:
        desk.stop()


def test_the_desk_closes_in_time_whatever_fails(
    box: Box, units: Path, session: Session, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = [0.0]
    desk = Desk(box, monotonic=lambda: time.monotonic() + past[0])
    desk.start()
    try:
        eventually(lambda: place(box).exists())

        def fails(*_: object) -> None:
            raise OSError("the disk is gone")

        monkeypatch.setattr(support_sessions, "standing", fails)
        past[0] = 7200.0
        eventually(lambda: not place(box).exists())
        eventually(lambda: desk._open is None)
    finally:
        desk.stop()


def ending(box: Box, session: Session) -> Ending | None:
    with box.catalog.reading() as conn:
        return support_sessions.session(conn, session.id).ending


def test_a_process_that_starts_anew_makes_no_session_longer(box: Box, units: Path, session: Session) -> None:
    """Nor does a clock that somebody sets back meanwhile, as far as the session's beginning."""
    expired, seconds, at = len(rows(box, "support:expire")), [5000.0], [session.opened_utc]

    def started() -> Desk:
        desk = Desk(box, wall=lambda: at[0], monotonic=lambda: seconds[0], boot=lambda: "one")
        desk.look()
        return desk

    for _ in range(3):
        desk = started()
        assert desk._open is not None
        assert desk._open.ends == 8600.0
        desk._open.close()
        seconds[0] += 1000
    seconds[0] = 8600.0
    assert started()._open is None
    assert ending(box, session) is Ending.EXPIRED
    assert len(rows(box, "support:expire")) == expired + 1


@pytest.mark.parametrize("then", ["another", ""])
def test_a_session_is_over_when_the_machine_starts_anew(
    box: Box, units: Path, session: Session, then: str
) -> None:
    expired = len(rows(box, "support:expire"))
    desk = Desk(box, monotonic=lambda: 5000.0, boot=lambda: "one")
    desk.look()
    assert desk._open is not None
    desk._open.close()
    again = Desk(box, monotonic=lambda: 20.0, boot=lambda: then)
    again.look()
    assert again._open is None
    assert not place(box).exists()
    assert ending(box, session) is Ending.EXPIRED
    assert len(rows(box, "support:expire")) == expired + 1


def test_a_system_without_openssh_opens_no_session(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendor is entered, and still nobody could come in."""
    with box.catalog.reading() as conn:
        assert support.readiness(conn) is support.Readiness.READY
        monkeypatch.setattr(line, "_PATH", "/nowhere")
        assert support.readiness(conn) is support.Readiness.NOT_HERE
    with (
        box.catalog.transaction() as tx,
        pytest.raises(OperatorNeeded, match="cannot work on this system"),
    ):
        support.open_session(
            tx, box, reason="r", scope=Scope.DIAGNOSE, hours=1, by="m", now=datetime.now(UTC)
        )


def test_a_line_that_the_desk_starts_itself_speaks_to_systemd_for_nobody(
    box: Box, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words would be those of a process that systemd does not know."""
    started: list[Mapping[str, str]] = []

    def stand_in(_: list[str], *, env: Mapping[str, str] | None = None, **options: Any) -> Any:
        started.append(os.environ if env is None else env)
        return starts(["sleep", "3600"], **options)

    starts = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", stand_in)
    monkeypatch.setattr(desks, "UNIT_FOLDER", tmp_path / "absent")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    made = OpenDesk(box, session, lambda: datetime.now(UTC), time.monotonic, time.monotonic() + 3600)
    made.start()
    made.close()
    (given_to_it,) = started
    assert "NOTIFY_SOCKET" not in given_to_it
    assert given_to_it["PATH"] == os.environ["PATH"]
