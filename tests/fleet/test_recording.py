"""A recording of support that somebody has tampered with: the command line and the page say so, by the audit alone."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask

from appliance import audit
from appliance.audit import Entry
from appliance.box import Box, open_box
from appliance.catalog import Transaction, support_sessions
from appliance.catalog.support_sessions import Event
from appliance.cli import main
from appliance.config import load_config
from appliance.fleet import recording, support
from appliance.fleet.session import Ending, Scope
from appliance.web.application import create_app
from tests.web.conftest import add_owner, browser_of

BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
CHANGE = "UPDATE support_events SET text = 'nothing' WHERE id = (SELECT min(id) FROM support_events)"
ALTERED = {
    "an event is changed": [CHANGE],
    "an event is taken out": ["DELETE FROM support_events WHERE id = (SELECT max(id) FROM support_events)"],
    "an event is put in": [
        "INSERT INTO support_events (visit, at_milliseconds, kind, text) VALUES (1, 5, 'o', 'x')"
    ],
    "another is said to have come": ["UPDATE support_visits SET person = 'Bob Roy'"],
    "it is said to go on": [CHANGE, "UPDATE support_visits SET sha256 = '', ended_utc = NULL"],
    "its row of the audit is gone": ["DELETE FROM audit WHERE action = 'support:leave'"],
}


def enter(tx: Transaction, box: Box, session: int, person: str, serial: str) -> int:
    """Somebody comes in, as the desk writes it."""
    visit = support_sessions.begin_visit(tx, session, person, serial, BEGAN)
    details = {"session": session, "person": person, "serial": serial, "scope": str(Scope.DIAGNOSE)}
    audit.append(tx, box.audit_key, [Entry("support:enter", str(visit), support.ACTOR, details)], BEGAN)
    return visit


@pytest.fixture
def box(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A box on which somebody of the vendor has come in, and left."""
    monkeypatch.setenv("APPLIANCE_DATA", str(data_dir))
    with closing(open_box(load_config(os.environ))) as opened:
        add_owner(opened)
        with opened.catalog.transaction() as tx:
            session = support_sessions.add(
                tx,
                reason="a test",
                scope=Scope.DIAGNOSE,
                by="owner",
                now=BEGAN,
                expires_utc=BEGAN + timedelta(hours=2),
            )
            visit = enter(tx, opened, session.id, "Ana Roy", "1")
            for at, kind, text in ((0, "i", "status\n"), (40, "o", "Kept: 3\n"), (90, "i", "leave\n")):
                support_sessions.add_event(tx, visit, Event(at, kind, text))
            support.end_visit(tx, opened, visit, BEGAN + timedelta(minutes=1))
            support_sessions.end(tx, session.id, Ending.VENDOR, "Ana Roy", BEGAN + timedelta(minutes=2))
        yield opened


def alter(box: Box, *statements: str) -> None:
    """As whoever has the key of the catalog could."""
    with box.catalog.transaction() as tx:
        for each in ("DROP TRIGGER IF EXISTS audit_no_delete", *statements):
            tx.exec_driver_sql(each)


def shown(app: Flask) -> str:
    return browser_of(app, "owner").get("/support/recordings/1").get_data(as_text=True)


@pytest.fixture
def app(box: Box) -> Iterator[Flask]:
    application = create_app(box)
    yield application
    application.extensions["console"].watcher.close()
    application.extensions["console"].darkroom.close()


def test_what_nobody_has_touched_is_whole(box: Box, app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["support", "recording", "1"]) == 0
    assert "Unchanged since it ended" in capsys.readouterr().out
    assert "Unchanged since it ended, as the audit proves." in shown(app)


@pytest.mark.parametrize("how", ALTERED)
def test_what_was_tampered_with_is_said_to_be(
    box: Box, app: Flask, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    alter(box, *ALTERED[how])
    assert main(["support", "recording", "1"]) == 76
    told = capsys.readouterr()
    assert "this recording was changed" in told.err
    assert "Unchanged" not in told.out
    page = shown(app)
    assert "This recording was changed after it ended." in page
    assert "as the audit proves" not in page


TAKEN = {
    "the visit": ["DELETE FROM support_events", "DELETE FROM support_visits"],
    "and the row that it ended": [
        "DELETE FROM support_events",
        "DELETE FROM support_visits",
        "DELETE FROM audit WHERE action = 'support:leave'",
    ],
    "and the session": [
        "DELETE FROM support_events",
        "DELETE FROM support_visits",
        "DELETE FROM support_sessions",
    ],
}


@pytest.mark.parametrize("how", TAKEN)
def test_a_visit_that_was_taken_away_whole_is_said_to_be(
    box: Box, app: Flask, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    assert "there no more" not in browser_of(app, "owner").get("/support").get_data(as_text=True)
    alter(box, *TAKEN[how])
    with box.catalog.reading() as conn:
        assert not audit.verify(conn, box.audit_key) or "the row" in how
        (gone,) = support.lost(conn)
    assert (gone.id, gone.session, gone.person, gone.began_utc) == (1, 1, "Ana Roy", BEGAN)
    assert main(["support", "recording", "1"]) == 76
    assert "Ana Roy came in, and the recording of it was taken away" in capsys.readouterr().err
    assert main(["support", "sessions", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["session"], row["visit"], row["person"], row["recording"]) == (1, 1, "Ana Roy", "lost")
    for page in (shown(app), browser_of(app, "owner").get("/support").get_data(as_text=True)):
        assert "the recording of it is there no more" in page
        assert "Ana Roy" in page
    assert main(["support", "recording", "2"]) not in (0, 76), "where nobody came in nothing is missed"


def test_the_number_of_a_visit_that_was_taken_away_hides_nothing_when_another_gets_it(box: Box) -> None:
    alter(box, *TAKEN["the visit"], "DELETE FROM sqlite_sequence WHERE name = 'support_visits'")
    with box.catalog.transaction() as tx:
        assert enter(tx, box, 1, "Bob Roy", "2") == 1
    with box.catalog.reading() as conn:
        assert [(each.id, each.person) for each in support.lost(conn)] == [(1, "Ana Roy")]
        assert support.recorded(conn, 1)[2] is support.Proof.CHANGED, "the end of another stands there"


def test_a_checksum_that_was_changed_with_it_helps_nobody(
    box: Box, app: Flask, capsys: pytest.CaptureFixture[str]
) -> None:
    alter(box, CHANGE)
    with box.catalog.transaction() as tx:
        forged = recording.checksum(support_sessions.visit(tx, 1), support_sessions.events(tx, 1))
        tx.exec_driver_sql("UPDATE support_visits SET sha256 = ?", (forged,))
    assert main(["support", "recording", "1"]) == 76
    assert "this recording was changed" in capsys.readouterr().err
    assert "This recording was changed after it ended." in shown(app)
