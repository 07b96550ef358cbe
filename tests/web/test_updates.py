"""The page of updates: which version runs, which waits and what for, what became of others, and who may start one at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit, settings
from appliance.box import Box, open_box
from appliance.catalog import processes
from appliance.catalog import settings as kept_settings
from appliance.catalog.known_clock import Running
from appliance.config import Config, StoreConfig
from appliance.fleet import consent, taking
from appliance.health import gathering, kernel_clock, looks
from appliance.health.checks.updates import UNTOLD
from appliance.identity import Role
from appliance.updates import noting, restarting
from appliance.web import create_app
from tests.updates.image import Says
from tests.updates.image import image as an_image
from tests.web.conftest import LOGIN, add_owner, browser_of, csrf_of, sign_in
from tests.web.second_factor import age_confirmation

VENDOR = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKX4Bzl4JQhJHLcQZMmtmDGxNnOjq0sYk0l0Xr0vWb1d"

HEARTBEATS = {
    "heartbeat.address": "https://localhost:1/heartbeats",
    "heartbeat.on_lan": True,
    "heartbeat.authority": VENDOR,
}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    opened = open_box(Config(data=tmp_path / "box", store=StoreConfig(reserve_bytes=0)))
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


@pytest.fixture
def image(tmp_path: Path, box: Box) -> Iterator[Says]:
    """Lets the image say which version runs, waits and was left, and the box note it."""
    with an_image(tmp_path / "told") as says:

        def says_and_notes(running: str, waiting: str = "", left: str = "", chosen: str = "") -> None:
            says(running, waiting, left, chosen)
            noting.note(box, datetime.now(UTC))

        yield says_and_notes


def shown(browser: FlaskClient, language: str = "en") -> str:
    answer = browser.get("/updates", headers={"Accept-Language": language})
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True).split("<main")[1]))


def restart(browser: FlaskClient, language: str = "en") -> int:
    token = csrf_of(browser.get("/help").get_data(as_text=True))
    sent = browser.post("/updates/restart", data={"csrf": token}, headers={"Accept-Language": language})
    return sent.status_code


def receive(box: Box, connections: int) -> None:
    """So many associations are open."""
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        processes.beat(tx, "dicom-0", os.getpid(), now, now, {"open": connections})


def asked(box: Box) -> bool:
    return (box.config.data / restarting.ASKED).exists()


def restarts(box: Box) -> list[tuple[str, str]]:
    with box.catalog.reading() as conn:
        rows = [row for row in audit.export(conn) if row["action"] == "update:restart"]
    return [(str(row["subject"]), str(row["actor"])) for row in rows]


def test_a_debian_of_its_own_says_that_its_system_takes_updates(owner: FlaskClient, box: Box) -> None:
    said = shown(owner)
    assert "takes its updates from its system" in said
    assert "Restart now" not in said
    assert 'href="/updates"' in owner.get("/health").get_data(as_text=True)
    assert restart(owner) == 303
    assert "No version waits for a restart" in shown(owner)
    assert not asked(box)


def test_a_version_that_waits_says_when_it_starts_and_what_would_hold_it(
    owner: FlaskClient, box: Box, image: Says
) -> None:
    image("1.0.0")
    assert "No new version waits" in shown(owner)
    image("1.0.0", waiting="1.1.0\n")
    said = shown(owner)
    assert "Version 1.1.0 waits" in said
    assert "starts by itself between 04:30 and 06:00, while" in said
    assert "the clock of the box is in doubt" in said
    receive(box, 1)
    assert "its start would wait: images are being received" in shown(owner)
    board = owner.get("/health").get_data(as_text=True)
    problem = board.split('data-problem="update-waiting"')[1].split("</li>")[0]
    assert 'href="/updates"' in problem


def test_a_version_that_was_chosen_for_every_start_is_said_and_the_help_says_how_to_undo_it(
    owner: FlaskClient, image: Says
) -> None:
    image("1.1.0", left="1.0.9\n")
    image("1.0.0", chosen="1.0.0\n")
    said = shown(owner)
    assert "Version 1.0.0 was chosen for every start" in said and "No new version waits" not in said
    assert "1.0.0 Chosen" in said and "1.1.0 Ran" in said
    board = owner.get("/health").get_data(as_text=True)
    problem = board.split('data-problem="version-chosen"')[1].split("</li>")[0]
    assert "/help/problems#version-chosen" in problem
    assert 'href="/help/runbooks#kept-choice"' in owner.get("/help/problems").get_data(as_text=True)
    assert '<section id="kept-choice"' in owner.get("/help/runbooks").get_data(as_text=True)
    image("1.1.0")
    assert "No new version waits" in shown(owner)
    assert "version-chosen" not in owner.get("/health").get_data(as_text=True)


def test_the_page_says_when_the_box_looked_and_what_came_of_it(owner: FlaskClient, image: Says) -> None:
    def told(word: str) -> None:
        at = int(datetime.now(UTC).timestamp())
        (gathering.UPDATES / looks.FILE).write_text(f"{at} {word}\n")
        image("1.0.0")

    image("1.0.0")
    assert "Looked last" not in shown(owner)
    for came, words in {
        "none": "nothing newer is offered",
        "refused": "not signed by the vendor; nothing was taken",
        "unreachable": "no list of versions could be had",
    }.items():
        told(came)
        said = shown(owner)
        assert "Looked last" in said and words in said
        assert "between two and four Eastern time" in said
    told("no-address")
    said = shown(owner)
    assert "No address of updates came with the version that runs" in said
    assert "one of them may bring an address; nobody can enter one here" in said
    assert "between two and four" not in said
    assert "n’est venue avec la version qui tourne" in shown(owner, "fr-CA")


def test_the_page_says_what_came_of_a_stick_which_counts_as_no_look(
    owner: FlaskClient, box: Box, image: Says
) -> None:
    image("1.0.0")
    assert "Stick read last" not in shown(owner)
    at = int(datetime.now(UTC).timestamp())
    for came, words in {
        "none": "nothing newer is on it",
        "taken": "a version was taken",
        "refused": "what is on it is not signed by the vendor; nothing was taken",
        "unreachable": "(SHA256SUMS) cannot be read on it; nothing was taken",
        "unfinished": "a file is missing or damaged",
    }.items():
        (gathering.UPDATES / looks.FILE_OF_STICK).write_text(f"{at} {came}\n")
        image("1.0.0")
        said = shown(owner)
        assert "Stick read last" in said and words in said
        assert "Looked last" not in said
        for language in ("fr-CA", "es", "zh"):
            assert "updates.stick" not in shown(owner, language)
    with box.catalog.reading() as conn:
        found = noting.looked(conn)
    assert found is None or (found.refused, found.failed, found.came) == (0, 0, None)
    for nothing in ("", f"{at} held\n", f"{at} no-address\n", "soon taken\n"):
        (gathering.UPDATES / looks.FILE_OF_STICK).write_text(nothing)
        assert "Stick read last" not in shown(owner)


def test_each_version_says_what_became_of_it(owner: FlaskClient, image: Says) -> None:
    image("1.0.0")
    image("1.0.0", waiting="1.1.0\n")
    image("1.0.0", left="1.1.0\n")
    image("1.0.0", waiting="1.2.0\n", left="1.1.0\n")
    image("1.0.0", waiting="1.3.0\n", left="1.1.0\n")
    said = shown(owner).split("What became of each version")[1]
    outcomes = re.findall(r"(1\.\d\.0) (Waits|Replaced|Left|Runs|Ran) ", said)
    assert outcomes == [("1.3.0", "Waits"), ("1.2.0", "Replaced"), ("1.1.0", "Left"), ("1.0.0", "Runs")]
    assert "did not prove itself on this machine" in said
    image("1.3.0", left="1.1.0\n")
    after = re.findall(r"(1\.\d\.0) (Waits|Replaced|Left|Runs|Ran) ", shown(owner))
    assert after[0] == ("1.3.0", "Runs")
    assert after[-1] == ("1.0.0", "Ran")


def test_a_box_that_is_held_says_why(owner: FlaskClient, box: Box, image: Says) -> None:
    image("1.0.0")
    assert "The newest that is offered and signed" in shown(owner)
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, HEARTBEATS, actor="tests", now=now)
        consent.agree(tx, consent.terms(tx), "marie", now)
        kept_settings.put(tx, taking.KEPT, {"number": 1, "software": "1.4.0", "came": "taken"}, now)
    said = shown(owner)
    assert "1.4.0, which whoever looks after the box has named, and no other" in said
    assert "The vendor has named version 1.4.0. Until another is named" in said, "since when was not kept"
    assert "No version is taken over the line" not in said
    with box.catalog.transaction() as tx:
        elsewhere = {"heartbeat.address": "https://localhost:2/heartbeats"}
        settings.change(tx, box.audit_key, elsewhere, actor="tests", now=now)
    assert "No version is taken over the line" in shown(owner)
    assert 'href="/support/heartbeat"' in owner.get("/updates").get_data(as_text=True)


@pytest.mark.parametrize(
    ("language", "line"),
    [
        (
            "en",
            "The vendor has named version 1.4.0 (since: Nov 20, 2026, 14:30). Until another is named, the box takes no other",
        ),
        ("fr-CA", "Le fournisseur a nommé la version 1.4.0 (depuis : 20 nov. 2026, 14 h 30)"),
        ("es", "El proveedor ha nombrado la versión 1.4.0 (desde: 20 nov 2026, 14:30)"),
        ("zh", "供应商已指定版本 1.4.0（自 2026年11月20日 14:30 起）"),
    ],
)
def test_a_box_that_is_held_to_a_version_says_which_and_since_when_and_not_that_all_is_well(
    owner: FlaskClient, box: Box, image: Says, language: str, line: str
) -> None:
    """It asks no address any more, so that no version waits says nothing of what there is."""
    image("1.4.0")
    assert 'class="note good"' in owner.get("/updates").get_data(as_text=True)
    now = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, HEARTBEATS, actor="tests", now=now)
        consent.agree(tx, consent.terms(tx), "marie", now)
        named = {"number": 3, "software": "1.4.0", "came": "taken", "named_utc": "2026-11-20T14:30:00+00:00"}
        kept_settings.put(tx, taking.KEPT, named, now)
    (gathering.UPDATES / looks.FILE).write_text(f"{int(now.timestamp())} held\n")
    image("1.4.0")
    said = shown(owner, language).replace("\u00a0", " ").replace("\u202f", " ")
    assert line in said
    assert "updates." not in said
    if language == "en":
        assert "between two and four" not in said, "it looks for none"
    page = owner.get("/updates").get_data(as_text=True)
    assert 'class="note wait"' in page and 'class="note good"' not in page


def test_it_is_started_at_once_and_the_audit_tells_of_it_but_not_while_images_come(
    owner: FlaskClient, box: Box, image: Says
) -> None:
    image("1.0.0", waiting="1.1.0\n")
    receive(box, 1)
    assert restart(owner, "fr-CA") == 303
    french = shown(owner, "fr-CA")
    assert "Des images arrivent : le boîtier ne redémarre pas maintenant" in french
    assert "updates." not in french
    assert not asked(box)
    assert restarts(box) == []
    receive(box, 0)
    assert restart(owner) == 303
    assert asked(box)
    assert restarts(box) == [("1.1.0", LOGIN)]
    assert "The box starts again, with version 1.1.0" in shown(owner)


def test_nothing_is_started_while_another_is_fetched(owner: FlaskClient, box: Box, image: Says) -> None:
    image("1.0.0", waiting="1.1.0\n")
    (gathering.UPDATES / noting.FETCHING).write_text(f"{int(datetime.now(UTC).timestamp())}\n")
    headers = {"X-CSRF-Token": owner.get("/api/v1/me").get_json()["csrf"]}
    assert owner.post("/api/v1/updates/restart", headers=headers).status_code == 422
    assert restart(owner, "fr-CA") == 303
    assert "Une version est cherchée et téléchargée : le boîtier ne redémarre pas" in shown(owner, "fr-CA")
    assert (asked(box), restarts(box)) == (False, [])


@pytest.mark.parametrize(
    ("on_for", "said"), [(UNTOLD / 2, "are not known yet"), (UNTOLD, "The versions cannot be found out")]
)
def test_an_image_that_does_not_say_its_versions_is_not_waited_for_without_end(
    owner: FlaskClient, image: Says, monkeypatch: pytest.MonkeyPatch, on_for: timedelta, said: str
) -> None:
    image("1.0.0")
    (gathering.UPDATES / gathering.WAITING).unlink()
    monkeypatch.setattr(kernel_clock, "running", lambda: Running("a", on_for))
    assert said in shown(owner)


@pytest.mark.parametrize("role", [Role.PRACTITIONER, Role.TECHNICIAN, Role.PRIVACY_OFFICER])
def test_others_see_it_and_cannot_start_it(app: Flask, box: Box, image: Says, role: Role) -> None:
    image("1.0.0", waiting="1.1.0\n")
    browser = browser_of(app, role)
    said = shown(browser)
    assert "Version 1.1.0 waits" in said
    assert "Restart now" not in said
    assert restart(browser) == 403
    assert not asked(box)


def test_who_starts_it_proves_again_who_it_is(owner: FlaskClient, box: Box, image: Says) -> None:
    image("1.0.0", waiting="1.1.0\n")
    age_confirmation(box, LOGIN)
    assert restart(owner) == 200, "the form that asks who it is"
    assert not asked(box)


def test_a_program_reads_the_same_and_starts_it(owner: FlaskClient, box: Box, image: Says) -> None:
    nothing = owner.get("/api/v1/updates").get_json()
    assert (nothing["running"], nothing["waiting"], nothing["history"]) == (None, None, [])
    image("1.0.0", waiting="1.1.0\n", left="0.9.0\n")
    told = owner.get("/api/v1/updates").get_json()
    assert (told["running"], told["waiting"], told["left"]) == ("1.0.0", "1.1.0", ["0.9.0"])
    assert (told["window"], len(told["days"]), told["fetching_since_utc"]) == ("04:30-06:00", 7, None)
    assert (told["held"], told["named"], told["waits_for_consent"]) == ("clock", None, False)
    assert {each["version"]: each["outcome"] for each in told["history"]} == {
        "1.1.0": "waits",
        "1.0.0": "started",
        "0.9.0": "left",
    }
    headers = {"X-CSRF-Token": owner.get("/api/v1/me").get_json()["csrf"]}
    receive(box, 1)
    refused = owner.post("/api/v1/updates/restart", headers=headers)
    assert (refused.status_code, asked(box)) == (422, False)
    receive(box, 0)
    assert owner.post("/api/v1/updates/restart", headers=headers).get_json() == {"version": "1.1.0"}
    assert asked(box)
    assert restarts(box) == [("1.1.0", LOGIN)]


def test_the_hours_are_the_clinics_and_a_fetch_says_since_when(
    owner: FlaskClient, box: Box, image: Says, tmp_path: Path
) -> None:
    image("1.0.0", waiting="1.1.0\n")
    chosen = {"updates.window": "22:00-23:30", "updates.days": ["saturday", "sunday"]}
    with box.catalog.transaction() as tx:
        settings.change(tx, box.audit_key, chosen, actor="tests", now=datetime.now(UTC))
    (tmp_path / "told" / noting.FETCHING).write_text(f"{int(datetime.now(UTC).timestamp())}\n")
    said = shown(owner)
    assert "starts by itself between 22:00 and 23:30 (Saturday and Sunday), while" in said
    assert "A version has been looked for and fetched since" in said
    assert 'href="/settings/updates"' in owner.get("/updates").get_data(as_text=True)
    french = shown(owner, "fr-CA")
    assert "entre 22 h 00 et 23 h 30 (samedi et dimanche)" in french.replace("\u00a0", " ")
    assert "updates." not in french


def test_how_far_a_version_is_stands_on_the_page_and_is_unknown_where_it_is(
    owner: FlaskClient, image: Says, tmp_path: Path
) -> None:
    image("1.0.0")
    fetching, began = tmp_path / "told" / noting.FETCHING, int(datetime.now(UTC).timestamp())
    assert "<progress" not in owner.get("/updates").get_data(as_text=True)
    fetching.write_text(f"{began}\n")
    page = owner.get("/updates").get_data(as_text=True)
    assert re.search(r'<progress max="100" aria-label=', page), "a bar without a figure"
    assert "How far it is, is not known" in shown(owner)
    figures = ("fetching_version", "fetching_percent", "fetching_size_bytes")
    told = owner.get("/api/v1/updates").get_json()
    assert told["fetching_since_utc"] and [told[each] for each in figures] == [None, None, None]
    fetching.write_text(f"{began}\n1.1.0 41 310000000\n")
    live = {"HX-Request": "true", "X-Refresh": "live", "Accept-Language": "en"}
    part = owner.get("/updates", headers=live).get_data(as_text=True)
    assert "<html" not in part and 'hx-trigger="every 5s"' in part
    assert '<progress max="100" value="41"' in part
    said = shown(owner)
    assert "Version 1.1.0 has been coming since" in said and "41% of 310 MB" in said
    for language, words in {
        "fr-CA": "41 % de 310 Mo",
        "es": "41 % de 310 MB",
        "zh": "已完成 41%，共 310 MB",
    }.items():
        told_there = shown(owner, language).replace("\u00a0", " ").replace("\u202f", " ")
        assert words in told_there and "updates." not in told_there, told_there
    told = owner.get("/api/v1/updates").get_json()
    assert [told[each] for each in figures] == ["1.1.0", 41, 310_000_000]
