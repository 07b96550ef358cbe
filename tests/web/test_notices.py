"""The bell, the history, preferences, rules and channels, as pages; who sees what, and what each act leaves behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit, settings
from appliance.box import Box, open_box
from appliance.catalog import alerts, notice_preferences, notices, outbox, people, webhooks
from appliance.config import Config
from appliance.identity.roles import Role
from appliance.notify import judging, mail
from appliance.notify.alerts import Condition
from appliance.notify.kinds import RULES, rule_for
from appliance.notify.telling import tell
from appliance.web import create_app
from tests.notify.conftest import use_mail
from tests.notify.mail_room import mail_room
from tests.notify.receiver import receiver
from tests.notify.test_telling import FULL
from tests.web.conftest import add_owner, browser_of, csrf_of, sign_in

PAGES = ("/notices", "/notices/preferences", "/notices/alerts", "/notices/channels")
LOW = Condition(
    "delivery-failed", "cloud refused 3 images", "check the connection; nothing is lost meanwhile", "cloud"
)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    opened = open_box(Config(data=tmp_path / "box"))
    add_owner(opened)
    yield opened
    opened.close()


@pytest.fixture
def app(box: Box) -> Iterator[Flask]:
    application = create_app(box)
    yield application
    application.extensions["console"].watcher.close()
    application.extensions["console"].darkroom.close()


@pytest.fixture
def owner(app: Flask) -> FlaskClient:
    browser = app.test_client()
    assert sign_in(browser).status_code == 303
    return browser


def page(browser: FlaskClient, path: str, language: str = "en", **headers: str) -> str:
    answer = browser.get(path, headers={"Accept-Language": language, **headers})
    assert answer.status_code == 200, path
    return answer.get_data(as_text=True)


def post(browser: FlaskClient, path: str, **data: str):
    token = csrf_of(page(browser, "/help"))
    return browser.post(path, data={"csrf": token, **data}, headers={"Accept-Language": "en"})


def count(browser: FlaskClient) -> int:
    found = re.search(r'class="only-spoken">Notices: (\d+) unread', page(browser, "/help"))
    assert found is not None
    return int(found[1])


def raise_full(box: Box) -> None:
    judging.apply(box.catalog, [FULL], datetime.now(UTC))


def rows(box: Box, action: str) -> list[str]:
    with box.catalog.reading() as conn:
        return [row["subject"] for row in audit.recent(conn, limit=50) if row["action"] == action]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_there_in_both_languages(owner: FlaskClient, box: Box, path: str) -> None:
    raise_full(box)
    for language, title in (("en", "Notices"), ("fr", "Avis")):
        html = page(owner, path, language)
        assert f"<h1>{title}</h1>" in html
        assert html.count("<h1>") == 1


def test_the_bell_is_on_every_page_and_counts(owner: FlaskClient, box: Box) -> None:
    assert count(owner) == 0
    raise_full(box)
    assert count(owner) == 1
    assert 'id="bell"' in page(owner, "/health")
    face = page(owner, "/notices/bell", **{"HX-Request": "true"})
    assert "The data disk is full: images are refused" in face
    assert "<html" not in face


def test_the_bell_is_not_on_pages_for_strangers(app: Flask) -> None:
    assert 'id="bell"' not in page(app.test_client(), "/sign-in")


def test_what_is_critical_stays_until_somebody_takes_it_in_hand(owner: FlaskClient, box: Box) -> None:
    raise_full(box)
    judging.apply(box.catalog, [FULL, LOW], datetime.now(UTC))
    assert count(owner) == 2
    post(owner, "/notices/read")
    assert count(owner) == 1
    panel = page(owner, "/notices/panel", **{"HX-Request": "true"})
    assert "I am taking care of it" in panel
    assert post(owner, "/notices/1/acknowledge").status_code == 303
    assert count(owner) == 0
    assert "Marie Tremblay is taking care of it" in page(owner, "/notices")
    assert rows(box, "notice:acknowledge") == ["1"]
    post(owner, "/notices/1/acknowledge")
    assert rows(box, "notice:acknowledge") == ["1"], "twice is once"


def test_the_panel_answers_a_click_in_itself(owner: FlaskClient, box: Box) -> None:
    raise_full(box)
    token = csrf_of(page(owner, "/help"))
    answer = owner.post("/notices/1/acknowledge", data={"csrf": token}, headers={"HX-Request": "true"})
    assert answer.status_code == 200
    assert "All is read" in answer.get_data(as_text=True)


def test_a_notice_is_shown_with_its_words_and_fix_in_french(owner: FlaskClient, box: Box) -> None:
    judging.apply(box.catalog, [LOW], datetime.now(UTC))
    html = page(owner, "/notices", "fr")
    assert "Une destination a refusé des images (cloud)" in html
    assert "vérifiez la connexion; rien n’est perdu entre-temps" in html.lower()


def test_the_history_is_filtered(owner: FlaskClient, box: Box) -> None:
    moment = datetime.now(UTC)
    judging.apply(box.catalog, [FULL, LOW], moment)
    judging.apply(box.catalog, [LOW], moment)
    judging.apply(box.catalog, [LOW], moment + timedelta(minutes=3))
    full, failed = "The data disk is full", "A destination refused images"
    for query, shown, hidden in (
        ("severity=critical", full, failed),
        ("severity=warning", failed, full),
        ("topic=delivery", failed, full),
        ("state=over", full, failed),
        ("state=standing", failed, full),
        ("before=2", full, failed),
    ):
        html = page(owner, f"/notices?{query}", **{"HX-Request": "true"})
        assert shown in html, query
        assert hidden not in html, query
    assert "No notice" in page(owner, "/notices?severity=information")
    assert full in page(owner, "/notices?severity=loud&topic=weather&state=x&before=x")


def test_a_long_history_has_more_pages(owner: FlaskClient, box: Box) -> None:
    with box.catalog.transaction() as tx:
        for number in range(60):
            tell(tx, "job", subject=f"job {number}", now=datetime.now(UTC))
    first = page(owner, "/notices")
    older = re.search(r'href="/notices\?(before=\d+)"', first)
    assert older is not None
    second = page(owner, f"/notices?{older[1]}")
    assert first.count("An upkeep job fails") + second.count("An upkeep job fails") >= 60
    assert "job 0)" in second


@pytest.mark.parametrize("role", [Role.ASSISTANT, Role.STUDENT, Role.REFERRER, Role.TECHNICIAN])
def test_what_was_told_to_others_is_not_shown(app: Flask, box: Box, role: Role) -> None:
    browser = browser_of(app, role)
    with box.catalog.transaction() as tx:
        tell(tx, "break-glass", subject="study:7", now=datetime.now(UTC))
    assert "study:7" not in page(browser, "/notices")
    assert "study:7" not in page(browser, "/notices/panel", **{"HX-Request": "true"})
    for act in ("read", "acknowledge"):
        assert post(browser, f"/notices/1/{act}").status_code == 403
    assert count(browser) == 0
    with box.catalog.reading() as conn:
        assert len(notices.unacknowledged(conn)) == 1


def test_what_somebody_was_told_of_the_own_account_is_not_shown_to_an_owner(
    app: Flask, owner: FlaskClient, box: Box
) -> None:
    browser_of(app, Role.ASSISTANT, "josee")
    moment = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        entry = audit.Entry("user:lock", "josee", "visitor", {}, address="10.0.0.9")
        audit.append(tx, box.audit_key, [entry], moment)
    judging.apply(box.catalog, [], moment)
    josee = browser_of(app, Role.ASSISTANT, "josee")
    told = "somebody tried too many wrong passwords or codes"
    assert told in page(josee, "/notices").lower()
    found = re.search(r"/notices/(\d+)/read", page(josee, "/notices"))
    assert found is not None
    assert told not in page(owner, "/notices").lower()
    assert post(owner, f"/notices/{found[1]}/read").status_code == 403


def test_what_is_written_in_a_notice_stays_text(owner: FlaskClient, box: Box) -> None:
    nasty = '"><script>alert(1)</script>'
    with box.catalog.transaction() as tx:
        tell(tx, "job", subject=nasty, words=nasty, fix=nasty, now=datetime.now(UTC))
    for path in ("/notices", "/help"):
        assert "<script>alert" not in page(owner, path)
    for path in ("/notices/panel", "/notices/bell"):
        assert "<script>alert" not in page(owner, path, **{"HX-Request": "true"})
        assert owner.get(path).headers["Location"] == "/notices", "a part is no page"


# --- preferences -----------------------------------------------------------------------------------------------------


def test_preferences_are_kept_shown_again_and_hold(owner: FlaskClient, box: Box) -> None:
    chosen = {
        "delivery.bell": "1",
        "storage.mail": "1",
        "mail_address": "marie@example.ca",
        "quiet_start": "22:00",
        "quiet_end": "07:00",
        "time_zone": "America/Toronto",
        "sound": "1",
    }
    assert post(owner, "/notices/preferences", **chosen).status_code == 303
    html = page(owner, "/notices/preferences")
    for name in ("delivery.bell", "storage.mail", "sound"):
        assert re.search(rf'name="{re.escape(name)}" value="1" checked', html), name
    for name in ("delivery.mail", "storage.bell", "desktop", "digest"):
        assert re.search(
            rf'name="{re.escape(name)}" value="1">|name="{re.escape(name)}" value="1" data', html
        ), name
    for value in ("marie@example.ca", "22:00", "07:00", '"America/Toronto" selected'):
        assert value in html
    assert rows(box, "notice:prefer") == ["mtremblay"]
    judging.apply(box.catalog, [LOW, FULL], datetime.now(UTC))
    with box.catalog.reading() as conn:
        sent = outbox.messages(conn)
    assert [each.address for each in sent] == ["marie@example.ca"], "storage by mail, deliveries not"
    assert count(owner) == 2, "what is critical rings whatever was chosen"


@pytest.mark.parametrize(
    "typed",
    [
        {"mail_address": "marie"},
        {"quiet_start": "22:00"},
        {"time_zone": "Mars/Olympus"},
        {"quiet_start": "x", "quiet_end": "y"},
    ],
)
def test_preferences_that_cannot_be_are_explained(
    owner: FlaskClient, box: Box, typed: dict[str, str]
) -> None:
    answer = post(owner, "/notices/preferences", **typed)
    assert answer.status_code == 422
    assert 'role="alert"' in answer.get_data(as_text=True)
    with box.catalog.reading() as conn:
        assert notice_preferences.choices(conn) == {}


# --- rules and escalation --------------------------------------------------------------------------------------------


def test_a_rule_is_changed_and_set_back(owner: FlaskClient, box: Box) -> None:
    changed = {
        "enabled": "1",
        "severity": "critical",
        "delay_minutes": "2,5",
        "repeat_hours": "0",
        "role.owner": "1",
        "channel.bell": "1",
        "persons": " MTREMBLAY ",
    }
    assert post(owner, "/notices/alerts/disk-low", **changed).status_code == 303
    with box.catalog.reading() as conn:
        rule = rule_for("disk-low", alerts.changes(conn)["disk-low"])
    assert (rule.severity, rule.delay_seconds, rule.repeat_seconds) == ("critical", 150, 0)
    assert (rule.roles, rule.persons, rule.channels) == (("owner",), ("mtremblay",), ("bell",))
    assert rule.calm_seconds == RULES["disk-low"].calm_seconds
    assert rows(box, "alert:change") == ["disk-low"]
    assert post(owner, "/notices/alerts/disk-low", reset="1").status_code == 303
    with box.catalog.reading() as conn:
        assert alerts.changes(conn) == {}


@pytest.mark.parametrize(
    ("kind", "typed", "status"),
    [
        ("disk-low", {"enabled": "1", "severity": "warning"}, 422),
        ("disk-low", {"enabled": "1", "severity": "critical", "role.owner": "1", "channel.mail": "1"}, 422),
        ("disk-low", {"enabled": "1", "severity": "loud", "role.owner": "1", "channel.bell": "1"}, 422),
        ("disk-low", {"enabled": "1", "severity": "warning", "persons": "nobody", "channel.bell": "1"}, 422),
        ("weather", {"enabled": "1"}, 404),
    ],
)
def test_a_rule_that_cannot_be_is_refused(
    owner: FlaskClient, box: Box, kind: str, typed: dict[str, str], status: int
) -> None:
    assert post(owner, f"/notices/alerts/{kind}", **typed).status_code == status
    with box.catalog.reading() as conn:
        assert alerts.changes(conn) == {}


def test_the_escalation_is_changed(owner: FlaskClient, box: Box) -> None:
    typed = {
        "0.minutes": "5",
        "0.role.owner": "1",
        "0.channel.bell": "1",
        "2.minutes": "20",
        "2.role.technician": "1",
        "2.channel.mail": "1",
    }
    assert post(owner, "/notices/escalation", **typed).status_code == 303
    with box.catalog.reading() as conn:
        steps = judging.chain(conn)
    assert [(step.after_seconds, step.roles, step.channels) for step in steps] == [
        (300, ("owner",), ("bell",)),
        (1200, ("technician",), ("mail",)),
    ]
    assert rows(box, "escalation:change") == [judging.ESCALATION]
    assert post(owner, "/notices/escalation", **{"0.minutes": "5"}).status_code == 422


# --- channels --------------------------------------------------------------------------------------------------------


def test_a_test_letter_shows_how_far_it_came_and_can_be_tried_again(owner: FlaskClient, box: Box) -> None:
    html = post(owner, "/notices/channels/mail-test", to="luc@example.ca").get_data(as_text=True)
    assert "No mail server is set" in html
    assert "Try again" in html
    with mail_room() as room:
        use_mail(box, room.port, security="none")
        room.answers = ["rcpt 550 no such mailbox"]
        html = post(owner, "/notices/channels/mail-test", to="luc@example.ca").get_data(as_text=True)
        assert re.search(r'class="good">Connected', html)
        assert re.search(r'class="bad">Letter taken', html)
        assert "The mail server refuses the reader (550 no such mailbox)" in html
        html = post(owner, "/notices/channels/mail-test", to="luc@example.ca").get_data(as_text=True)
        assert "The mail server took the letter for luc@example.ca" in html
        assert len(room.letters) == 1
    assert rows(box, "mail:test") == ["luc@example.ca"] * 3


def test_a_webhook_is_added_tried_and_removed_and_its_secret_is_shown_once(
    owner: FlaskClient, box: Box
) -> None:
    with receiver() as found:
        address = found.url(path="/hook?token=geheim")
        html = post(
            owner, "/notices/channels/webhooks", name="chat", url=address, format="slack", least="critical", on_lan="1"
        ).get_data(as_text=True)  # fmt: skip
        secret = re.search(r"whsec_[\w-]+", html)
        assert secret is not None
        html = page(owner, "/notices/channels")
        for hidden in (secret[0], "geheim"):
            assert hidden not in html
        assert post(owner, "/notices/channels/webhooks/1/test").status_code == 303
        assert len(found.bodies) == 1
        assert "chat answered (status 204)" in page(owner, "/notices/channels")
        found.answers = [404]
        post(owner, "/notices/channels/webhooks/1/test")
        assert "does not take what is posted there (status 404)" in page(owner, "/notices/channels")
    assert post(owner, "/notices/channels/webhooks/1/remove").status_code == 303
    assert post(owner, "/notices/channels/webhooks/1/remove").status_code == 404
    with box.catalog.reading() as conn:
        assert webhooks.webhooks(conn) == []
        everything = str(audit.recent(conn, limit=100))
    assert "geheim" not in everything
    assert secret[0] not in everything


def test_a_webhook_speaks_the_language_that_was_chosen_for_it(owner: FlaskClient, box: Box) -> None:
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, {"language.default": "fr"}, actor="t", now=datetime.now(UTC))
    html = page(owner, "/notices/channels")
    assert re.search(r'<option value="fr" lang="fr" selected>', html), "the clinic's language is suggested"
    with receiver() as found:
        asked = {"url": found.url(), "format": "slack", "least": "warning", "on_lan": "1"}
        for name, language in (("atelier", "fr"), ("taller", "es")):
            post(owner, "/notices/channels/webhooks", name=name, language=language, **asked)
        html = page(owner, "/notices/channels")
        for number, name in ((1, "Français"), (2, "Español")):
            assert name in html
            post(owner, f"/notices/channels/webhooks/{number}/test")
    said = [json.loads(body)["text"] for body in found.bodies]
    assert said == [
        "Boîtier clinique\xa0: essai\xa0: Ceci est un essai",
        "Caja clínica: prueba: Esto es una prueba",
    ]
    refused = post(owner, "/notices/channels/webhooks", name="x", language="tlh", **asked)
    assert refused.status_code == 422
    html = refused.get_data(as_text=True)
    assert 'name="name" value="x"' in html, "what was typed stays"
    assert re.search(r'<option value="slack" selected>', html)
    with box.catalog.reading() as conn:
        assert [each.options["language"] for each in webhooks.webhooks(conn)] == ["fr", "es"]


@pytest.mark.parametrize(
    "typed",
    [
        {"url": "http://hooks.example.ca/"},
        {"url": "https://hooks.example.ca/", "format": "sms"},
        {"url": "https://hooks.example.ca/", "name": ""},
    ],
)
def test_a_webhook_that_cannot_work_is_explained(owner: FlaskClient, typed: dict[str, str]) -> None:
    asked = {"name": "chat", "format": "json", "least": "warning"} | typed
    answer = post(owner, "/notices/channels/webhooks", **asked)
    assert answer.status_code == 422
    assert 'role="alert"' in answer.get_data(as_text=True)


@pytest.mark.parametrize("role", [each for each in Role if each is not Role.OWNER])
def test_only_those_who_may_change_settings_change_alerts_and_channels(app: Flask, role: Role) -> None:
    browser = browser_of(app, role)
    for path in ("/notices/alerts/disk-low", "/notices/escalation", "/notices/channels/webhooks", "/notices/channels/mail-test"):  # fmt: skip
        assert post(browser, path).status_code == 403, path


def test_messages_are_listed_with_what_came_of_them(owner: FlaskClient, box: Box) -> None:
    with box.catalog.transaction() as tx:
        settings.change(
            tx, box.audit_key, {"clinic.name": "Clinique du Parc"}, actor="t", now=datetime.now(UTC)
        )
        mail.enqueue(
            tx, to="luc@example.ca", letter="password-reset", language="fr", link="https://box/geheim", now=datetime.now(UTC)
        )  # fmt: skip
        assert people.anybody(tx)
    html = page(owner, "/notices/channels")
    assert "luc@example.ca" in html
    assert "waiting" in html
    assert "geheim" not in html
