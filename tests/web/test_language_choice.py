"""Whose language a page is in, how it is changed, and that Arabic runs from right to left where it is offered."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit
from appliance.box import Box
from appliance.catalog import people
from appliance.web.console import web_ui
from appliance.web.language import Languages
from appliance.web.manner import MANNERS
from tests.web.conftest import LOGIN, csrf_of
from tests.web.translations import LANGUAGES, faults


def tag_of(client: FlaskClient, path: str, accepted: str = "en") -> str:
    html = client.get(path, headers={"Accept-Language": accepted}).get_data(as_text=True)
    found = re.search(r'<html lang="([^"]+)"', html)
    assert found is not None
    return found[1]


def choose(client: FlaskClient, code: str, back: str = "/help"):
    token = csrf_of(client.get("/sign-in", follow_redirects=True).get_data(as_text=True))
    return client.post("/language", data={"csrf": token, "lang": code, "back": back})


@pytest.fixture
def forget(box: Box):
    """The owner has no language of her own before and after."""
    yield
    with box.catalog.transaction() as tx:
        person = people.person(tx, LOGIN)
        assert person is not None
        people.set_language(tx, person.id, "", person.created_utc)


@pytest.mark.usefixtures("forget")
def test_a_persons_language_is_kept_with_the_person_and_goes_before_the_browsers(
    app: Flask, box: Box, signed_in: FlaskClient
) -> None:
    assert tag_of(signed_in, "/help", "en") == "en"
    answer = choose(signed_in, "fr", "/deliveries")
    assert (answer.status_code, answer.location) == (303, "/deliveries")
    signed_in.delete_cookie("console_language")
    assert tag_of(signed_in, "/help", "en") == "fr"
    with box.catalog.reading() as conn:
        person = people.person(conn, LOGIN)
        row = next(row for row in audit.recent(conn, limit=5) if row["action"] == "user:change")
    assert person is not None
    assert person.language == "fr"
    assert (row["subject"], row["actor"]) == (LOGIN, LOGIN)
    assert tag_of(app.test_client(), "/sign-in", "en") == "en"


def test_a_visitors_language_is_kept_by_the_browser(client: FlaskClient) -> None:
    assert choose(client, "zh", "/sign-in").status_code == 303
    assert tag_of(client, "/sign-in", "fr") == "zh-Hans"


@pytest.mark.parametrize(
    "back", ["//elsewhere.example", "https://elsewhere.example", "/\\elsewhere", "", "/a\nb"]
)
def test_changing_the_language_leads_to_no_other_site(client: FlaskClient, back: str) -> None:
    answer = choose(client, "fr", back)
    assert (answer.status_code, answer.location) == (303, "/")


def test_a_language_that_is_not_there_is_refused(client: FlaskClient) -> None:
    assert choose(client, "tlh").status_code == 422


def test_arabic_pages_run_from_right_to_left_and_are_whole(
    app: Flask, signed_in: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    arabic = LANGUAGES.words("ar")
    asked: set[str] = set()
    monkeypatch.setattr(type(arabic), "__call__", _listening(type(arabic).__call__, asked))
    for client, path in ((app.test_client(), "/sign-in"), (signed_in, "/studies")):
        html = client.get(path, headers={"Accept-Language": "ar"}).get_data(as_text=True)
        assert '<html lang="ar" dir="rtl">' in html
        assert "العربية" in html
    wrong = {
        key: fault
        for key in asked
        if (fault := faults("ar", key, LANGUAGES.words("en").sentences[key], arabic.sentences.get(key)))
    }
    assert not wrong
    assert len(asked) > 30


def _listening(plain, asked: set[str]):
    def call(self, key, **values):
        asked.add(key)
        return plain(self, key, **values)

    return call


def test_a_page_is_never_half_in_another_language(signed_in: FlaskClient) -> None:
    assert tag_of(signed_in, "/devices", "ar, fr;q=0.5") == "fr"
    assert "العربية" not in signed_in.get("/devices").get_data(as_text=True)
    assert tag_of(signed_in, "/studies/999999", "ar") == "en"
    assert Languages.choose("ar", endpoint="devices.overview") == "en"
    assert set(MANNERS["ar"].offered_at or ()) <= set(signed_in.application.view_functions)


def test_styles_know_no_left_and_right() -> None:
    """What has a direction follows the language: start and end, not left and right."""
    physical = re.compile(
        r"^\s*((left|right)|(margin|padding|border)-(left|right)[\w-]*)\s*:"
        r"|(text-align|float|clear):\s*(left|right)\b",
        re.MULTILINE,
    )
    for path in (web_ui() / "styles").glob("*.css"):
        found = physical.search(path.read_text("utf-8"))
        assert found is None, path.name
