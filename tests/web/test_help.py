"""Help: in English and French alike, for every page, by links that lead somewhere, and found by searching."""

import re
from html.parser import HTMLParser

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance.web.console import web_ui
from appliance.web.help import PLACES, Book, fold, place_of

BOOKS = {code: Book.read(web_ui() / "help" / code, code) for code in ("en", "fr")}
TAGS = {"h1", "h2", "h3", "p", "ul", "ol", "li", "em", "strong", "code", "kbd", "a", "dl", "dt", "dd"}
NO_PAGE = {"api", "images", "live", "machine", "language", "static", "shell"}
"""Blueprints whose answers are no pages, or have no frame."""


def test_both_languages_have_the_same_topics_and_sections() -> None:
    english, french = (
        [(topic.name, [section.id for section in topic.sections]) for topic in book.topics]
        for book in BOOKS.values()
    )
    assert english == french
    assert len(english) >= 8


@pytest.mark.parametrize("code", list(BOOKS))
def test_a_help_file_has_a_title_and_sections_with_names_of_their_own(code: str) -> None:
    for path in (web_ui() / "help" / code).glob("*.html"):
        source = path.read_text("utf-8")
        assert source.startswith("<h1>"), path
        ids = re.findall(r'<h2 id="([a-z0-9-]+)">', source)
        assert ids, path
        assert len(ids) == len(set(ids)) == source.count("<h2"), path


@pytest.mark.parametrize("code", list(BOOKS))
def test_help_is_plain_and_every_tag_is_closed(code: str) -> None:
    for path in (web_ui() / "help" / code).glob("*.html"):
        open_tags: list[str] = []

        class Reader(HTMLParser):
            def handle_starttag(self, tag: str, attrs: object, path=path, open_tags=open_tags) -> None:
                assert tag in TAGS, f"{path}: {tag}"
                open_tags.append(tag)

            def handle_endtag(self, tag: str, path=path, open_tags=open_tags) -> None:
                assert open_tags and open_tags.pop() == tag, f"{path}: </{tag}>"

        Reader().feed(path.read_text("utf-8"))
        assert not open_tags, path


def test_every_page_of_the_console_has_its_help(app: Flask) -> None:
    blueprints = {
        rule.endpoint.partition(".")[0] for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())
    } - NO_PAGE
    assert blueprints <= {name.partition(".")[0] for name in PLACES}, blueprints
    for endpoint in [rule.endpoint for rule in app.url_map.iter_rules()]:
        topic, _, section = place_of(endpoint).partition("#")
        for book in BOOKS.values():
            found = book.topic(topic)
            assert found is not None, endpoint
            assert not section or section in {each.id for each in found.sections}, endpoint


@pytest.mark.parametrize("code", list(BOOKS))
def test_links_in_the_help_lead_somewhere(client: FlaskClient, code: str) -> None:
    html = client.get("/help", headers={"Accept-Language": code}).get_data(as_text=True)
    links = set(re.findall(r'href="(/help/[^"]+)"', html))
    for topic in BOOKS[code].topics:
        page = client.get(f"/help/{topic.name}", headers={"Accept-Language": code})
        assert page.status_code == 200
        links |= set(re.findall(r'href="(/help/[^"]+)"', page.get_data(as_text=True)))
    assert len(links) >= 20
    for link in links:
        address, _, section = link.partition("#")
        answer = client.get(address, headers={"Accept-Language": code})
        assert answer.status_code == 200, link
        assert not section or f'<section id="{section}"' in answer.get_data(as_text=True), link


def test_a_search_ignores_accents_and_wants_every_word() -> None:
    french = BOOKS["fr"]
    assert [each.id for each in french.search("appareil RADIOGRAPHIE admettre")] == ["admit"]
    assert french.search("hélène")[0].id == "find"
    assert french.search("zeppelin") == ()
    assert french.search("  ") == ()
    assert fold("Élève ŒUVRE") == "eleve œuvre"


def test_a_search_in_the_page_finds_and_says_when_it_does_not(client: FlaskClient) -> None:
    found = client.get("/help?q=forgotten password", headers={"Accept-Language": "en"}).get_data(as_text=True)
    assert "/help/door#forgotten" in found
    assert "<main" in found
    nothing = client.get(
        "/help?q=zeppelin", headers={"Accept-Language": "fr", "HX-Request": "true"}
    ).get_data(as_text=True)
    assert "Rien dans l’aide ne correspond" in nothing
    assert "<main" not in nothing


def test_a_page_leads_to_its_help_and_a_topic_that_is_not_there_says_so(signed_in: FlaskClient) -> None:
    assert 'href="/help/devices" data-help' in signed_in.get("/devices").get_data(as_text=True)
    assert signed_in.get("/help/nothing").status_code == 404


def test_a_language_without_help_gets_it_in_english_and_says_so(client: FlaskClient) -> None:
    html = client.get("/help/door", headers={"Accept-Language": "zh"}).get_data(as_text=True)
    assert '<html lang="zh-Hans"' in html
    assert '<div class="help" lang="en"' in html
