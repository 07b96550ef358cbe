"""The PIN of the disk in the console and over the interface: what it buys and costs, who may, and that it is told nowhere."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit, disk_key
from appliance.box import Box, open_box
from appliance.config import Config, StoreConfig
from appliance.identity import Role
from appliance.updates import noting
from appliance.web import create_app
from tests.told_disk import Root, told_disk
from tests.updates.image import image
from tests.web.conftest import LOGIN, PASSWORD, add_owner, browser_of, csrf_of, sign_in
from tests.web.second_factor import age_confirmation

KEY = "cbdefghi-jklnrtuv-cbdefghi-jklnrtuv-cbdefghi-jklnrtuv-cbdefghi-jklnrtuv"
PIN = "482709"


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
def root(tmp_path: Path) -> Iterator[Root]:
    with told_disk(tmp_path / "told") as told:
        yield told


def shown(browser: FlaskClient, path: str = "/disk-pin", language: str = "en", **headers: str) -> str:
    answer = browser.get(path, headers={"Accept-Language": language, **headers})
    assert answer.status_code == 200
    return in_words(answer.get_data(as_text=True))


def in_words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html.rsplit("<main", maxsplit=1)[-1]).split())


def send(browser: FlaskClient, path: str = "/disk-pin", **fields: str):
    token = csrf_of(browser.get("/help").get_data(as_text=True))
    return browser.post(path, data={"csrf": token, **fields}, headers={"Accept-Language": "en"})


def choose(browser: FlaskClient, pin: str = PIN, again: str | None = None, key: str = KEY):
    return send(browser, disk_key=key, pin=pin, again=pin if again is None else again)


def recorded(box: Box) -> list[tuple[str, str]]:
    with box.catalog.reading() as conn:
        rows = [row for row in audit.export(conn) if str(row["action"]).startswith("pin:")]
    return [(str(row["action"]), str(row["actor"])) for row in rows]


def test_a_debian_of_its_own_says_that_it_has_no_such_disk(owner: FlaskClient, root: Root, box: Box) -> None:
    said = shown(owner)
    assert "This machine has no disk that could ask for a PIN" in said
    assert "Ask for this PIN" not in said
    answer = choose(owner)
    assert answer.status_code == 422
    assert (root.asked(), recorded(box)) == ([], [])


def test_a_pin_is_chosen_with_the_key_on_paper_watched_and_taken_away(
    owner: FlaskClient, root: Root, box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    root.says("none")
    said = shown(owner)
    assert "starts by itself, without a PIN" in said
    assert "a stolen box opens its disk for whoever switches it on" in said
    assert "somebody must come to the box with a screen and a keyboard" in said
    assert "Take the PIN away" not in said
    assert choose(owner, key=KEY.upper().replace("-", " ")).headers["Location"] == "/disk-pin"
    assert root.asked()[1:] == ["choose", KEY, PIN]
    part = owner.get("/disk-pin", headers={"X-Refresh": "live", "HX-Request": "true"}).get_data(as_text=True)
    assert 'hx-get="/disk-pin"' in part
    assert "<form" not in part
    root.does("wanted")
    said = shown(owner)
    assert "asks for a PIN at each start" in said
    assert "The change is done" in said
    assert "Choose another PIN" in said
    assert "demande un NIP à chaque démarrage" in shown(owner, language="fr")
    assert send(owner, "/disk-pin/remove").status_code == 303
    assert root.asked()[1:] == ["remove", "", ""]
    root.does("none")
    assert "starts by itself, without a PIN" in shown(owner)
    assert recorded(box) == [("pin:choose", LOGIN), ("pin:remove", LOGIN)]
    for secret in (PIN, KEY):
        assert secret not in caplog.text
        assert secret not in said
        with box.catalog.reading() as conn:
            assert not any(secret in str(row.values()) for row in audit.export(conn))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"pin": "12"}, "6 to 12 digits"),
        ({"pin": "111111"}, "among the first that anybody tries"),
        ({"again": "482708"}, "the two PINs are not the same"),
        ({"key": "abc"}, "no recovery key of a disk"),
    ],
)
def test_a_slip_is_said_with_its_remedy_and_nothing_typed_comes_back(
    owner: FlaskClient, root: Root, fields: dict[str, str], says: str
) -> None:
    root.says("none")
    answer = choose(owner, **fields)
    html = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert says.lower() in in_words(html).lower()
    assert 'aria-invalid="true"' in html
    assert PIN not in html
    assert KEY not in html
    assert root.asked() == []


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        ("key", "that is not the disk’s recovery key"),
        ("chip", "The disk did not take the change"),
        ("refused", "Nothing was changed"),
    ],
)
def test_what_failed_is_said(owner: FlaskClient, root: Root, ended: str, says: str) -> None:
    root.says("none", "0123456789abcdef", ended)
    assert says in shown(owner)
    root.says("unfinished", "0123456789abcdef", ended)
    said = shown(owner)
    assert "The last change of the PIN was cut" in said
    assert "Take the PIN away" in said


def test_who_signed_in_long_ago_is_asked_again_and_no_pin_is_sent_back(
    owner: FlaskClient, root: Root, box: Box
) -> None:
    root.says("none")
    age_confirmation(box, LOGIN)
    html = choose(owner).get_data(as_text=True)
    assert "Is it still you?" in html
    assert PIN not in html
    assert KEY not in html
    assert root.asked() == []
    ticket = re.findall(r'name="held" value="([^"]+)"', html)[0]
    form = {"csrf": csrf_of(html), "held": ticket, "confirm_password": PASSWORD}
    assert owner.post("/disk-pin", data=form).status_code == 303
    assert root.asked()[1:] == ["choose", KEY, PIN]


def test_who_may_not_manage_keys_neither_sees_nor_chooses(app: Flask, root: Root, box: Box) -> None:
    root.says("none")
    browser = browser_of(app, Role.PRACTITIONER)
    assert browser.get("/disk-pin").status_code == 403
    assert choose(browser).status_code == 403
    assert root.asked() == []


def test_a_program_of_the_owner_asks_too(owner: FlaskClient, root: Root, box: Box) -> None:
    csrf = owner.get("/api/v1/me").get_json()["csrf"]

    def ask(path: str, body: dict[str, str] | None = None):
        return owner.post(f"/api/v1{path}", json=body, headers={"X-CSRF-Token": csrf})

    assert owner.get("/api/v1/disk-pin").get_json() == {"state": "elsewhere", "latest": "never"}
    body = {"pin": PIN, "disk_recovery_key": KEY}
    assert ask("/disk-pin", body).status_code == 422
    root.says("none")
    assert ask("/disk-pin", body | {"pin": "123456"}).status_code == 422
    answer = ask("/disk-pin", body)
    assert (answer.status_code, answer.get_json()) == (202, {"state": "none", "latest": "running"})
    root.does("none", "key")
    assert owner.get("/api/v1/disk-pin").get_json() == {"state": "none", "latest": "key"}
    assert ask("/disk-pin/remove").status_code == 202
    assert recorded(box) == [("pin:choose", LOGIN), ("pin:remove", LOGIN)]


def test_the_key_of_the_disk_goes_to_the_box_s_screen_and_to_no_page(
    owner: FlaskClient, root: Root, box: Box
) -> None:
    assert "Recovery key of the disk" not in shown(owner), "there is no such disk"
    root.says("none")
    said = shown(owner)
    assert "whoever sees the box’s screen can read it" in said
    assert "Take it off the screen" not in said
    assert send(owner, "/disk-pin/key").status_code == 303
    assert "The box’s screen shows it until" in shown(owner)
    assert "L’écran du boîtier la montre jusqu’au" in shown(owner, language="fr")
    assert owner.get("/api/v1/disk-key").get_json()["until_utc"] is not None
    assert send(owner, "/disk-pin/key/hide").status_code == 303
    assert "Show it on the box’s screen" in shown(owner)
    assert owner.get("/api/v1/disk-key").get_json() == {"until_utc": None}
    age_confirmation(box, LOGIN)
    assert "Is it still you?" in send(owner, "/disk-pin/key").get_data(as_text=True)
    assert owner.get("/api/v1/disk-key").get_json() == {"until_utc": None}


def test_who_may_not_manage_keys_has_no_key_shown(app: Flask, root: Root, box: Box) -> None:
    root.says("none")
    browser = browser_of(app, Role.PRACTITIONER)
    assert send(browser, "/disk-pin/key").status_code == 403
    assert send(browser, "/disk-pin/key/hide").status_code == 403
    assert browser.get("/api/v1/disk-key").status_code == 403
    with box.catalog.reading() as conn:
        assert disk_key.shown_until(conn, datetime.now(UTC)) is None


def test_while_a_pin_is_wanted_a_version_waits_for_somebody_at_the_box(
    owner: FlaskClient, root: Root, box: Box, tmp_path: Path
) -> None:
    with image(tmp_path / "versions") as says:
        says("1.0.0", waiting="1.1.0\n")
        noting.note(box, datetime.now(UTC))
        root.says("wanted")
        said = shown(owner, "/updates")
        assert "waits for a person, for as long as it takes" in said
        assert "starts by itself" not in said
        assert "asks for its PIN at its own screen: somebody must be there" in said
        assert owner.get("/api/v1/updates").get_json()["held"] == "pin"
        board = shown(owner, "/health")
        assert "waits for somebody to start it" in board
        assert "démarre pas d’elle-même" in shown(owner, "/updates", "fr")
        root.says("none")
        assert "starts by itself" in shown(owner, "/updates")
