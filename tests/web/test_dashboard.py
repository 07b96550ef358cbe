"""The dashboard and the performance page: problems first, nobody's name, and a cost that doesn't grow with the box."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from appliance import health
from appliance.audit.vouching import vouched
from appliance.backup import homecoming
from appliance.box import Box
from appliance.catalog import deliveries, destinations, devices, instances, samples, settings
from appliance.catalog.samples import Arrived, Cursor
from appliance.figures import Figures
from appliance.health import CODES
from appliance.identity import Role
from appliance.imaging import Darkroom, NotShown
from appliance.imaging.recorded import Reason
from appliance.ingest import import_file
from appliance.latency import Histogram
from appliance.logs import JsonLines
from appliance.model import AETitle, DestinationSettings, Device, InstanceId, Intake, Origin, Owed
from appliance.replication.delivery import Breaker
from appliance.web.acts import WAYS
from appliance.web.console import web_ui
from appliance.web.help import Book
from appliance.web.language import Languages
from appliance.web.live import Watcher
from appliance.web.views.dashboard import judgement_mark
from tests import synthetic
from tests.web.conftest import browser_of, csrf_of

NOW = datetime.now(UTC)
NAMES = ("Côté", "Lévesque", "Hélène", "Gagné", "Bélanger", "CÔTÉ", "2.25.")
"""Of the synthetic patients that the box of these tests holds."""


def text_of(browser: FlaskClient, path: str = "/health", language: str = "en", partial: bool = False) -> str:
    headers = {"Accept-Language": language, **({"HX-Request": "true"} if partial else {})}
    answer = browser.get(path, headers=headers)
    assert answer.status_code == 200
    return unescape(answer.get_data(as_text=True))


def measured(*seconds: float) -> Histogram:
    made = Histogram()
    for each in seconds:
        made.observe(each)
    return made


@pytest.fixture(scope="module")
def busy(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Box:
    """The box with a machine, two destinations in trouble, and two weeks of figures."""
    with box.catalog.transaction() as tx:
        devices.add_device(tx, Device(AETitle("PANO1"), "10.0.0.4", "Panoramic, room 2"), NOW)
        cloud = destinations.add(
            tx, DestinationSettings("cloud", "folder", "ciphertext", {"path": "/nowhere"})
        )
        pacs = destinations.add(tx, DestinationSettings("pacs", "folder", "dicom", {"path": "/nowhere"}))
        destinations.set_breaker(tx, cloud, Breaker(3, NOW + timedelta(hours=1), "no route"))
        for number in (1, 2, 3):
            deliveries.owe(tx, InstanceId(number), [Owed(cloud, 0), Owed(pacs, 0)], NOW - timedelta(hours=5))
        for each in deliveries.claim(tx, pacs, now=NOW, lease_seconds=60, limit=2):
            deliveries.fail(tx, each.id, each.attempts, reason="will not have it", now=NOW)
        for ago in range(14):
            at = (NOW - timedelta(days=ago)).replace(hour=12)
            if at > NOW:
                at = NOW - timedelta(minutes=1)
            figures = Figures(
                received=100 + ago,
                received_bytes=10**9,
                delivered=ago,
                free_bytes=500 * 10**9 + ago * 10**9,
                latencies={"receive": measured(0.01, 0.02, 0.9), "page": measured(0.03)},
            )
            samples.write(tx, at, figures, Arrived(), samples.end(tx))
    folder: Path = tmp_path_factory.mktemp("films")
    (file,) = synthetic.write(iter([synthetic.panoramic(5, scale=0.05)]), folder)
    with file.open("rb") as stream:
        import_file(box, stream, Origin(Intake.DICOM, "PANO1", "10.0.0.4"))
    return box


@pytest.fixture
def owner(app: Flask, busy: Box) -> FlaskClient:
    return browser_of(app, Role.OWNER, "owner-of-dashboard")


@pytest.mark.parametrize("language", ["en", "fr"])
def test_problems_come_first_each_with_its_fix_and_its_help(
    owner: FlaskClient, busy: Box, language: str
) -> None:
    html = text_of(owner, language="en")
    found = re.findall(r'data-problem="([a-z-]+)"', html)
    expected = [each.code for each in health.status(busy, datetime.now(UTC)).problems]
    assert found == expected
    assert {"dicom-stopped", "destination-down", "delivery-failed", "recovery-key"} <= set(found)
    assert html.index("data-problem") < html.index("data-figure") < html.index("data-chart")
    book = Book.read(web_ui() / "help" / language, language).topic("problems")
    assert book is not None
    sections = {each.id for each in book.sections}
    assert all(f"/help/problems#{code}" in html and code in sections for code in found)


def test_the_help_has_a_section_for_every_code_and_for_none_that_is_not() -> None:
    for language in ("en", "fr"):
        topic = Book.read(web_ui() / "help" / language, language).topic("problems")
        assert topic is not None
        assert {each.id for each in topic.sections} == {"how", "box", *CODES}
        assert all(len(each.body) > 60 for each in topic.sections)


def test_what_helps_is_offered_to_those_who_may_and_works(app: Flask, owner: FlaskClient, busy: Box) -> None:
    html = text_of(owner)
    with busy.catalog.reading() as conn:
        numbers = {each.name: int(each.id) for each in destinations.destinations(conn)}
    retry, test = f"/destinations/{numbers['pacs']}/retry", f"/destinations/{numbers['cloud']}/test"
    assert f'action="{retry}"' in html
    assert f'action="{test}"' in html
    assert "/deliveries?state=FAILED&destination=pacs" in html
    officer = text_of(browser_of(app, Role.PRIVACY_OFFICER, "officer-of-dashboard"))
    assert retry not in officer
    assert "/deliveries?state=FAILED&destination=pacs" in officer
    try:
        answer = owner.post(retry, data={"csrf": csrf_of(owner.get("/help").get_data(as_text=True))})
        assert answer.status_code == 303
        assert "delivery-failed" not in text_of(owner)
    finally:
        with busy.catalog.transaction() as tx:
            place = destinations.destination(tx, "pacs")
            assert place is not None
            for each in deliveries.claim(tx, place.id, now=datetime.now(UTC), lease_seconds=60, limit=2):
                deliveries.fail(tx, each.id, each.attempts, reason="will not have it", now=NOW)


def test_every_act_leads_to_a_route_that_needs_what_is_asked(app: Flask) -> None:
    from appliance.health import Act, Problem
    from appliance.web.access import needed_by

    adapter = app.url_map.bind("localhost")
    problem = Problem("a", "b", "c", subject="cloud")
    for verb, way in WAYS.items():
        path = way.address(Act(verb, 7), problem).partition("?")[0]
        endpoint, _ = adapter.match(path, method=way.method.upper())
        assert needed_by(app.view_functions[endpoint]) is way.needs, verb


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("path", ["/health", "/performance?period=month"])
def test_nobody_is_named(owner: FlaskClient, path: str, language: str) -> None:
    html = text_of(owner, path, language)
    assert not [name for name in NAMES if name in html]


def test_figures_are_those_of_the_box(owner: FlaskClient) -> None:
    html = text_of(owner)
    shown = dict(re.findall(r'data-figure="(\w+)">.*?tile-value number">([^<]*)<', html, re.DOTALL))
    assert int(shown["today"]) >= 1
    assert shown["waiting"] == "4"
    assert shown["lag"] == "5\u00a0hours"
    assert shown["backup"] == shown["drill"] == "Never"
    machine = html[html.index("<strong>Panoramic, room 2</strong>") :]
    assert re.search(r'data-label="Received today">(\d+)<', machine)[1] == "1"  # type: ignore[index]
    assert "data-outlook" in html


def test_a_backup_that_was_made_is_shown_with_its_hour(owner: FlaskClient, busy: Box) -> None:
    made = {
        "at_utc": NOW.isoformat(),
        "outcome": "failed",
        "succeeded_utc": (NOW - timedelta(days=1)).isoformat(),
    }
    with busy.catalog.transaction() as tx:
        settings.put(tx, f"{health.BACKUP}.cloud", made, NOW)
    try:
        html = text_of(owner)
        assert "The latest attempt failed" in html
        assert 'data-problem="backup-failed"' in html
    finally:
        with busy.catalog.transaction() as tx:
            settings.remove(tx, f"{health.BACKUP}.cloud")


def test_the_tile_of_drills_names_the_archive_that_is_worst(owner: FlaskClient, busy: Box) -> None:
    made = {"at_utc": NOW.isoformat(), "outcome": "succeeded"}

    def put(name: str, days: int, outcome: str = "succeeded") -> None:
        at, key = (NOW - timedelta(days=days)).isoformat(), f"{health.DRILL}.{name}"
        record = {"at_utc": at, "outcome": outcome, "succeeded_utc": at, "reason": ""}
        with busy.catalog.transaction() as tx:
            settings.put(tx, f"{health.BACKUP}.{name}", made, NOW)
            settings.put(tx, key, vouched(busy.audit_key, key, record), NOW)

    def tile(language: str) -> str:
        return text_of(owner, language=language).partition('data-figure="drill"')[2].partition("</div>")[0]

    with busy.catalog.transaction() as tx:
        destinations.add(tx, DestinationSettings("usb", "vault", "ciphertext", {"path": "/nowhere"}))
    try:
        for language in ("en", "fr", "es", "zh"):
            words = Languages(web_ui() / "languages").words(language)
            put("cloud", 1)
            put("usb", 12)
            shown = tile(language)
            assert words.moment(NOW - timedelta(days=12)) in shown
            assert words("dashboard.drill_oldest", archives="usb") in shown
            put("usb", 12, "failed")
            assert words("dashboard.drill_failed", archives="usb") in tile(language)
            with busy.catalog.transaction() as tx:
                destinations.pause(tx, "usb")
            shown = tile(language)
            assert words.moment(NOW - timedelta(days=1)) in shown and "usb" not in shown
            with busy.catalog.transaction() as tx:
                destinations.resume(tx, "usb")
    finally:
        with busy.catalog.transaction() as tx:
            destinations.remove(tx, "usb", NOW)
            for key in (health.BACKUP, health.DRILL):
                settings.remove(tx, f"{key}.cloud")


def test_images_on_their_way_home_have_a_bar(owner: FlaskClient, busy: Box) -> None:
    """Of a box that was restored: how far it is, until all have come, and nothing then."""
    with busy.catalog.reading() as conn:
        all_ = instances.last_id(conn)
    told = {"at_utc": NOW.isoformat(), "from": "usb", "last": all_, "missing": 0, "home": False}
    try:
        for done in (0, all_ - 1, all_):
            with busy.catalog.transaction() as tx:
                settings.put(tx, homecoming.LAST, told | {"below": all_ + 1 - done}, NOW)
            tile = text_of(owner).partition('data-figure="home"')[2].partition("</div>")[0]
            assert f'<progress max="100" value="{100 * done // all_}" aria-label="' in tile
            assert f"{done} of {all_}" in tile
        with busy.catalog.transaction() as tx:
            settings.put(tx, homecoming.LAST, told | {"below": 1, "home": True}, NOW)
        assert 'data-figure="home"' not in text_of(owner)
        for ended in ({"below": 2, "stopped": True}, {"below": 1, "stayed": 1, "home": True}):
            with busy.catalog.transaction() as tx:
                settings.put(tx, homecoming.LAST, told | ended, NOW)
            tile = text_of(owner).partition('data-figure="home"')[2].partition("</div>")[0]
            assert "<progress" not in tile
            assert "The older images stay in usb" in tile
            assert f"{all_ - 1} of {all_}" in tile
        passed = {"below": all_ + 1, "passed": True, "awaited": [[2, 2, 1]]}
        for missing, note in ((0, "One image lies in deep archive"), (1, "One image is in no archive")):
            with busy.catalog.transaction() as tx:
                settings.put(tx, homecoming.LAST, told | passed | {"missing": missing}, NOW)
            tile = text_of(owner).partition('data-figure="home"')[2].partition("</div>")[0]
            assert f"{all_ - 1 - missing} of {all_}" in tile, "another pass does not begin anew"
            assert note in tile
    finally:
        with busy.catalog.transaction() as tx:
            settings.remove(tx, homecoming.LAST)


@pytest.mark.parametrize(
    "path", ["/health", "/performance", "/performance?period=week", "/performance?period=month"]
)
@pytest.mark.parametrize("language", ["en", "fr"])
def test_what_a_chart_draws_is_what_its_table_says(owner: FlaskClient, path: str, language: str) -> None:
    html = text_of(owner, path, language)
    charts = re.findall(r'<figure class="card chart".*?</figure>', html, re.DOTALL)
    assert charts
    for each in charts:
        drawn = re.findall(r'data-shown="([^"]*)"', each)
        table = re.findall(r'<td class="number">([^<]*)</td>', each)
        assert drawn
        assert drawn == [shown for shown in table if shown != "—"]
        assert re.findall(r"<title>[^<]*: ([^<]*)</title>", each) == drawn


def test_a_refresh_gets_the_inside_alone(owner: FlaskClient) -> None:
    part = text_of(owner, partial=True)
    assert "<html" not in part
    assert "data-problem" in part


def test_percentiles_are_those_that_were_measured(owner: FlaskClient) -> None:
    html = text_of(owner, "/performance?period=month")
    rows = {
        row[0]: [" ".join(cell.split()) for cell in row[1:]]
        for row in re.findall(
            r"<strong>(\w+)</strong>.*?" + r'class="number"[^>]*>([^<]*)</td>.*?' * 5, html, re.DOTALL
        )
    }
    every = measured(*[0.01, 0.02, 0.9] * 14)
    half, most = every.percentile(0.5), every.percentile(0.95)
    assert half is not None
    assert most is not None
    assert rows["Receive"][0] == "42"
    assert rows["Receive"][2].startswith(f"{half * 1000:.3g}")
    assert rows["Receive"][3].startswith(f"{most:.3g}")
    assert rows["Draw"][2:] == ["—", "—", "—"]
    assert text_of(owner, "/performance?period=nonsense").count('aria-current="page">Today') == 1


def test_who_treats_patients_starts_at_the_studies_and_who_looks_after_the_box_here(
    app: Flask, busy: Box
) -> None:
    del busy
    for role in Role:
        start = browser_of(app, role, f"start-{role}").get("/", headers={"Accept-Language": "en"})
        if role in (Role.OWNER, Role.PRIVACY_OFFICER, Role.TECHNICIAN, Role.VENDOR_SUPPORT):
            assert b"data-dashboard" in start.data
        else:
            assert start.status_code == 303


def test_the_console_measures_its_own_pages_pictures_and_searches(app: Flask, owner: FlaskClient) -> None:
    def counted() -> dict[str, int]:
        detail = app.extensions["console"].timings.as_detail()
        return {stage: Histogram.of_detail(each).total for stage, each in detail.items()}

    before = counted()
    owner.get("/studies")
    owner.get("/instances/1/thumbnail")
    owner.get("/events/pulse")
    after = counted()
    assert {stage: after[stage] - before[stage] for stage in after} == {"render": 1, "query": 1, "page": 1}


def test_the_number_on_an_error_page_finds_its_line_in_the_log(
    owner: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        html = owner.get("/studies/999999", headers={"Accept-Language": "en"}).get_data(as_text=True)
    number = re.search(r'Reference for support: <span class="code">(\w+)<', html)
    assert number is not None
    (record,) = [each for each in caplog.records if getattr(each, "reference", "") == number[1]]
    told = json.loads(JsonLines("web").format(record))
    assert told["reference"] == number[1]
    assert "studies.study" in told["event"]


@pytest.mark.parametrize("address", ["127.0.0.1", "192.168.1.50"])
def test_the_deep_examination_is_for_this_machine_and_for_those_who_may(
    app: Flask, busy: Box, address: str
) -> None:
    del busy
    stranger = app.test_client().get("/health/deep", environ_base={"REMOTE_ADDR": address})
    assert stranger.status_code == (503 if address == "127.0.0.1" else 403)
    technician = browser_of(app, Role.TECHNICIAN, "technician-of-dashboard")
    answer = technician.get("/health/deep", environ_base={"REMOTE_ADDR": address})
    assert answer.status_code == 503
    assert answer.get_json()["sound"] is False
    causes = {each["name"]: each["cause"] for each in answer.get_json()["steps"]}
    assert "cannot be reached" in causes.pop("reception"), "nothing receives here"
    assert causes == {"store": "", "catalog": "", "pictures": ""}
    student = browser_of(app, Role.STUDENT, "student-of-dashboard")
    assert student.get("/health/deep", environ_base={"REMOTE_ADDR": "192.168.1.50"}).status_code == 403


@pytest.mark.parametrize(
    ("reason", "is_told"), [("crashed", True), ("malformed", True), ("timeout", False), ("busy", False)]
)
def test_that_no_picture_can_be_drawn_is_found(
    app: Flask, monkeypatch: pytest.MonkeyPatch, reason: Reason, is_told: bool
) -> None:
    """Within the walls of a unit each had ended before it began, and a version was good that showed no image. That others want theirs
    is no fault of it."""

    def ended(*_: object) -> bytes:
        raise NotShown(reason)

    monkeypatch.setattr(Darkroom, "render", ended)
    monkeypatch.setattr(app.extensions["console"].examiner, "_last", None)  # it was examined a moment ago
    steps = app.test_client().get("/health/deep").get_json()["steps"]
    (cause,) = (each["cause"] for each in steps if each["name"] == "pictures")
    assert cause == (f"the image cannot be shown: {reason}" if is_told else "")


def test_a_page_carries_the_numbers_that_were_true_before_it_was_made(owner: FlaskClient) -> None:
    """What changes before its stream is open differs from them, so nothing goes untold."""
    page = owner.get("/health", headers={"Accept": "text/html"}).get_data(as_text=True)
    carried = re.search(r'data-live="([^"]*)"', page)
    assert carried is not None
    assert json.loads(unescape(carried[1])) == owner.get("/events/pulse").get_json()


def test_open_pages_are_told_when_the_judgement_changes(busy: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.web.live.JUDGE_SECONDS", 0.0)
    watcher = Watcher(busy.catalog, lambda: judgement_mark(busy))
    stream = watcher.follow(lambda: False, lambda: False, lambda pulse: pulse)
    try:
        before = json.loads(next(stream).partition("data: ")[2])
        with busy.catalog.transaction() as tx:
            settings.put(tx, health.VERIFICATION, {"damaged": 3}, NOW)
        told = json.loads(next(stream).removeprefix("data: "))
        assert told == {**before, "health": told["health"]}
        assert told["health"] != before["health"]
    finally:
        stream.close()
        watcher.close()
        with busy.catalog.transaction() as tx:
            settings.remove(tx, health.VERIFICATION)


@pytest.fixture
def asked(busy: Box) -> Iterator[list[tuple[str, object]]]:
    """Every statement that is put to the catalog while the test runs."""
    engine = busy.catalog._engine
    heard: list[tuple[str, object]] = []

    def hear(conn: object, cursor: object, statement: str, parameters: object, *rest: object) -> None:
        del conn, cursor, rest
        heard.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", hear)
    yield heard
    event.remove(engine, "before_cursor_execute", hear)


GREAT = ("instances", "studies", "series", "patients", "deliveries", "delivery_events", "audit", "samples")
SMALL_PARTS = ("ix_studies_conflict", "ix_deliveries_open", "ix_deliveries_sending", "ix_deliveries_waiting")
"""Partial indexes, which hold what is not done or not right only."""


@pytest.mark.parametrize(
    "path", ["/health", "/performance?period=month", "/metrics", "/health/ready", "/events/pulse"]
)
def test_no_page_here_reads_a_table_that_grows_with_what_is_kept(
    owner: FlaskClient, busy: Box, asked: list[tuple[str, object]], path: str
) -> None:
    with busy.catalog.transaction() as tx:  # or the series made a moment ago would be remembered
        samples.write(tx, datetime.now(UTC), Figures(), Arrived(), Cursor(0, 0))
    asked.clear()
    assert owner.get(path).status_code in (200, 503)
    heard = [
        (statement, parameters) for statement, parameters in asked if statement.lstrip().startswith("SELECT")
    ]
    assert heard
    with busy.catalog.reading() as conn:
        for statement, parameters in heard:
            plan = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()  # type: ignore[arg-type]
            for step in (str(row[3]) for row in plan):
                table = re.match(r"SCAN (\w+)(?! VIRTUAL)", step)
                if table and table[1] in GREAT:
                    assert any(part in step for part in SMALL_PARTS), (step, statement)
