"""What a page asks of the catalog, counted at the driver: every page is asked for all day, by everybody at once.

A bound here is a ratchet: what is asked less is written down, what is asked more must say what for.
"""

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, event

from appliance import audit, settings
from appliance.box import Box
from appliance.catalog import people
from appliance.imaging import View
from appliance.web.console import Pictures
from tests.backup.conftest import eventually
from tests.web.conftest import browser_of, csrf_of

PAGE = {"Accept": "text/html,application/xhtml+xml"}
PICTURE = {"Accept": "image/*"}
SETTINGS = re.compile(r"\b(operator_settings|settings|users|web_sessions)\b")

MOST = {
    "/studies": 10,
    "/health": 36,  # the hour of the first image among them, where nothing was ever read again; whether the clock is to be trusted, and for
    # that the newest receipt; whether holds were looked at since a restore; and which destructions are not done everywhere
    "/deliveries": 9,
    "/devices": 8,
    "/settings": 7,
    "/destinations": 10,
    "/users": 6,
    "/audit": 17,
}
"""Statements of a page that was opened before; two of them are the gate's, one is the bell's, one the setup's."""
MOST_OF_A_STUDY, MOST_OF_A_PICTURE, MOST_OF_A_PULSE = 33, 3, 3
"""Of a study also when its patient was last seen, and which other study it is that keeps it."""


class Asked:
    """What the catalog was asked since `begin`."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.begun = self.writers = 0

    def begin(self) -> None:
        self.statements.clear()
        self.begun = self.writers = 0


@pytest.fixture
def asked(box: Box) -> Iterator[Asked]:
    """Everything that goes to the catalog's connections, whoever sends it."""
    found = Asked()
    engine = box.catalog._engine

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        found.statements.append(" ".join(statement.split()))

    def begin(connection: Connection) -> None:
        found.begun += 1
        found.writers += "IMMEDIATE" in connection.get_execution_options()["begin"]

    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine, "begin", begin)
    yield found
    event.remove(engine, "before_cursor_execute", note)
    event.remove(engine, "begin", begin)


@pytest.fixture
def owner(app: Flask) -> FlaskClient:
    """An owner's browser, whose pages hold the most, while the box is judged by nobody else's request."""
    browser = browser_of(app, "owner")
    watcher = app.extensions["console"].watcher
    watcher.judgement()  # for the next seconds this is known; the page of a test that takes longer would judge anew
    watcher._judged = None
    return browser


def opened(browser: FlaskClient, asked: Asked, path: str, headers: dict[str, str]) -> list[str]:
    """The statements of a page that was opened before, so that what is written once a visit has been written."""
    assert browser.get(path, headers=headers).status_code == 200
    asked.begin()
    assert browser.get(path, headers=headers).status_code == 200
    return list(asked.statements)


@pytest.mark.parametrize("path", sorted(MOST))
def test_a_page_asks_no_more_of_the_catalog_than_it_did(owner: FlaskClient, asked: Asked, path: str) -> None:
    found = opened(owner, asked, path, PAGE)
    assert len(found) <= MOST[path], "\n".join(found)
    assert asked.begun <= 7


def test_a_study_and_its_pictures_ask_no_more_than_they_did(owner: FlaskClient, asked: Asked) -> None:
    page = owner.get("/studies").get_data(as_text=True)
    study, picture = (
        re.findall(pattern, page)[0]
        for pattern in (r'href="(/studies/\d+)"', r'"(/instances/\d+/thumbnail)"')
    )
    found = opened(owner, asked, study, PAGE)
    assert len(found) <= MOST_OF_A_STUDY, "\n".join(found)
    found = opened(owner, asked, picture, PICTURE)
    assert len(found) <= MOST_OF_A_PICTURE, "\n".join(found)
    found = opened(owner, asked, "/events/pulse", {"X-Refresh": "live"})
    assert len(found) <= MOST_OF_A_PULSE, "\n".join(found)


def test_the_checks_before_a_view_are_one_reading_of_two_statements(owner: FlaskClient, asked: Asked) -> None:
    owner.get("/help")
    asked.begin()
    assert owner.get("/help", headers={"HX-Request": "true"}).status_code == 200
    assert len(asked.statements) == 2, "\n".join(asked.statements)
    assert asked.begun == 1


def test_more_studies_on_the_list_are_not_more_statements(owner: FlaskClient, asked: Asked) -> None:
    """One statement a row would be fast here, and slow in a clinic."""
    csrf = csrf_of(owner.get("/studies").get_data(as_text=True))
    counts = {}
    for text in ("", "", "Gagné", "Gagné"):  # the second time, nothing is left to be written of the visit
        asked.begin()
        page = owner.post("/studies", data={"csrf": csrf, "text": text}, headers={"HX-Request": "true"})
        counts[page.get_data(as_text=True).count('href="/studies/')] = len(asked.statements)
    assert len(counts) == 2, counts
    assert len(set(counts.values())) == 1, counts


# --- many at once ------------------------------------------------------------------------------------------------------

CROWD = 12


def test_a_crowd_that_opens_a_list_is_written_in_few_transactions(app: Flask, box: Box, asked: Asked) -> None:
    """Each has a session to be noted and a row for the audit; while somebody else writes, they gather, and share."""
    browsers = [browser_of(app, "owner", f"crowd-{number}") for number in range(CROWD)]
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    with box.catalog.transaction() as tx:
        for each in people.session_ids(tx):
            people.see_session(tx, each, long_ago)
    statuses: list[int] = []

    def open_list(browser: FlaskClient) -> None:
        statuses.append(browser.get("/studies", headers=PAGE).status_code)

    uses = app.extensions["console"].uses
    asked.begin()
    with box.catalog.transaction():
        threads = [threading.Thread(target=open_list, args=(each,)) for each in browsers]
        for thread in threads:
            thread.start()
        eventually(lambda: len(uses._line) >= CROWD - 1)  # the first of them waits for its turn to write
        assert not statuses, "somebody was shown what was not recorded yet"
    for thread in threads:
        thread.join(120)
    assert statuses == [200] * CROWD
    written = [each for each in asked.statements if each.startswith("INSERT INTO audit_head")]
    seen = [each for each in asked.statements if each.startswith("UPDATE web_sessions")]
    assert len(seen) == CROWD
    assert asked.writers <= 1 + 2 + len(written)
    assert len(audit_rows(box, "study:list", "crowd-")) == CROWD


def audit_rows(box: Box, action: str, actor: str) -> list[str]:
    with box.catalog.reading() as conn:
        rows = audit.export(conn)
        return [row["actor"] for row in rows if row["action"] == action and row["actor"].startswith(actor)]


def test_a_picture_that_many_want_is_drawn_once() -> None:
    pictures, view = Pictures(), View()
    drawn: list[bytes] = []
    together = threading.Barrier(CROWD)

    def want() -> None:
        together.wait(120)
        with pictures.turn(1, view):
            if pictures.get(1, view) is None:
                drawn.append(b"a picture")
                pictures.keep(1, view, drawn[-1])

    threads = [threading.Thread(target=want) for _ in range(CROWD)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    assert drawn == [b"a picture"]
    assert not pictures._turns, "something is remembered of every picture there was"


# --- nothing is kept for the next request ------------------------------------------------------------------------------


def test_what_the_clinic_decides_holds_from_the_next_request_on(app: Flask, box: Box) -> None:
    def decide(key: str, value: object) -> None:
        with box.catalog.transaction() as tx:
            settings.change(tx, box.audit_key, {key: value}, actor="tests", now=datetime.now(UTC))

    browser = browser_of(app, "owner")
    elsewhere = {"REMOTE_ADDR": "192.168.1.9"}
    assert browser.get("/devices", environ_base=elsewhere).status_code == 200
    decide("access.allowed_addresses", ["10.9.8.7"])
    try:
        assert browser.get("/devices", environ_base=elsewhere).status_code == 403
    finally:
        decide("access.allowed_addresses", None)
    assert browser.get("/devices").status_code == 200
    decide("language.default", "fr")
    try:
        assert 'lang="fr' in browser.get("/devices").get_data(as_text=True)
    finally:
        decide("language.default", None)
    assert 'lang="en' in browser.get("/devices").get_data(as_text=True)


def test_a_role_and_a_session_that_are_taken_away_are_gone_at_the_next_request(app: Flask, box: Box) -> None:
    browser = browser_of(app, "owner", "short-lived")
    assert browser.get("/users").status_code == 200
    with box.catalog.transaction() as tx:
        person = people.person(tx, "short-lived")
        assert person is not None
        people.change(
            tx,
            person.id,
            login=person.login,
            name=person.name,
            role="student",
            language="",
            now=datetime.now(UTC),
        )
    assert browser.get("/users").status_code == 403
    with box.catalog.transaction() as tx:
        people.set_active(tx, person.id, False, datetime.now(UTC))
    assert browser.get("/studies").headers["Location"] == "/sign-in"
