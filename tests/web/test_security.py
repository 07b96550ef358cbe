"""Closed by default: every route without a session, every form without its token, every answer with its headers."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit
from appliance.box import Box
from appliance.web.security import CONTENT_SECURITY_POLICY, OPEN, is_our_name
from tests.web.conftest import LOGIN, PASSWORD, csrf_of, sign_in

SAMPLES = {"int": "1", "path": "nothing.js", "string": "s3", "default": "s3"}


def routes(app: Flask, method: str) -> Iterator[tuple[str, str]]:
    """Every rule that takes `method`, with a sample in each of its places."""
    for rule in app.url_map.iter_rules():
        if method in (rule.methods or set()):
            yield rule.endpoint, re.sub(r"<(?:(\w+):)?\w+>", lambda m: SAMPLES[m[1] or "default"], rule.rule)


def test_every_route_asks_for_a_session_unless_it_is_listed_as_open(app: Flask, client: FlaskClient) -> None:
    closed = 0
    for endpoint, path in routes(app, "GET"):
        answer = client.get(path)
        if endpoint in OPEN:
            continue
        closed += 1
        assert answer.status_code in (303, 401), f"{endpoint} is open"
        if answer.status_code == 303:
            assert answer.headers["Location"] == "/sign-in"
    assert closed >= 15


def test_every_post_without_its_token_is_refused_even_when_signed_in(
    app: Flask, signed_in: FlaskClient
) -> None:
    posts = list(routes(app, "POST"))
    assert len(posts) >= 14
    for endpoint, path in posts:
        assert signed_in.post(path).status_code == 400, endpoint
        assert signed_in.post(path, data={"csrf": "x" * 43}).status_code == 400, endpoint


def test_every_post_without_a_session_is_refused(app: Flask, client: FlaskClient) -> None:
    token = csrf_of(client.get("/sign-in").get_data(as_text=True))
    for endpoint, path in routes(app, "POST"):
        if endpoint not in OPEN:
            assert client.post(path, data={"csrf": token}).status_code == 401, endpoint


def test_the_token_of_one_browser_is_no_good_in_another(app: Flask, signed_in: FlaskClient) -> None:
    other = app.test_client()
    token = csrf_of(other.get("/sign-in").get_data(as_text=True))
    assert signed_in.post("/studies", data={"csrf": token}).status_code == 400


def test_a_form_from_another_site_is_refused(signed_in: FlaskClient) -> None:
    token = csrf_of(signed_in.get("/studies").get_data(as_text=True))
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert signed_in.post("/studies", data={"csrf": token}, headers=headers).status_code == 403
    assert (
        signed_in.post("/studies", data={"csrf": token}, headers={"Origin": "http://localhost"}).status_code
        == 200
    )


def test_every_answer_carries_the_policy(app: Flask, client: FlaskClient, signed_in: FlaskClient) -> None:
    for browser in (client, signed_in):
        for _, path in routes(app, "GET"):
            if path == "/events":
                continue
            answer = browser.get(path)
            assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY, path
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert "Server" not in answer.headers
            assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_neither_pages_nor_pictures_are_stored_by_browsers(signed_in: FlaskClient) -> None:
    pictures = ("/instances/1/image", "/instances/1/image?inverted=1", "/instances/1/thumbnail")
    for path in ("/studies", "/studies/1", "/deliveries", "/api/v1/studies", "/nothing", *pictures):
        answer = signed_in.get(path)
        assert answer.headers["Cache-Control"] == "no-store", path
        assert path not in pictures or "ETag" not in answer.headers  # nothing to be kept under


def test_a_picture_is_shown_to_who_is_signed_in_only(app: Flask) -> None:
    browser = app.test_client()
    sign_in(browser)
    assert browser.get("/instances/1/image").status_code == 200
    token = csrf_of(browser.get("/studies").get_data(as_text=True))
    browser.post("/sign-out", data={"csrf": token})
    assert browser.get("/instances/1/image", headers={"If-None-Match": "*"}).status_code == 401


def test_no_page_holds_anything_inline(app: Flask, signed_in: FlaskClient) -> None:
    for _, path in routes(app, "GET"):
        if path in ("/events", "/static/nothing.js"):
            continue
        html = signed_in.get(path).data.decode("latin-1")
        assert not re.search(
            r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|javascript:|https?://(?!www\.w3\.org)", html
        ), path


def test_cookies_are_strict_and_out_of_reach_of_scripts(app: Flask) -> None:
    browser = app.test_client()
    page = browser.get("/sign-in?lang=fr")
    answer = browser.post(
        "/sign-in", data={"csrf": csrf_of(page.get_data(as_text=True)), "login": LOGIN, "password": PASSWORD}
    )
    cookies = page.headers.getlist("Set-Cookie") + answer.headers.getlist("Set-Cookie")
    assert len(cookies) == 3
    for cookie in cookies:
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
    over_tls = app.test_client().get("/sign-in", base_url="https://localhost")
    assert all("Secure" in cookie for cookie in over_tls.headers.getlist("Set-Cookie"))


def test_a_name_that_is_not_ours_is_not_answered(client: FlaskClient) -> None:
    assert client.get("/sign-in", base_url="http://evil.example").status_code == 421
    assert is_our_name("192.168.1.5")
    assert is_our_name("localhost")
    assert not is_our_name("localhost.evil.example")
    assert not is_our_name("")


def test_signing_out_ends_the_session_for_its_cookie_too(app: Flask) -> None:
    browser, thief = app.test_client(), app.test_client()
    sign_in(browser)
    cookie = browser.get_cookie("console_session")
    assert cookie is not None
    thief.set_cookie("console_session", cookie.value)
    assert thief.get("/studies").status_code == 200
    token = csrf_of(browser.get("/studies").get_data(as_text=True))
    assert browser.post("/sign-out", data={"csrf": token}).status_code == 303
    assert thief.get("/studies").status_code == 303


def test_signing_in_changes_the_session_so_that_none_can_be_planted(app: Flask) -> None:
    browser = app.test_client()
    sign_in(browser)
    first = browser.get_cookie("console_session")
    token = csrf_of(browser.get("/studies").get_data(as_text=True))
    browser.post("/sign-in", data={"csrf": token, "login": LOGIN, "password": PASSWORD})
    second = browser.get_cookie("console_session")
    assert first is not None
    assert second is not None
    assert first.value != second.value


def test_a_page_that_refreshes_by_itself_keeps_no_session_alive(
    app: Flask, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.web import security

    browser = app.test_client()
    sign_in(browser)
    token = csrf_of(browser.get("/studies").get_data(as_text=True))
    real = vars(security)["now"]
    for minutes in (10, 20, 29):
        monkeypatch.setattr(security, "now", lambda minutes=minutes: real() + timedelta(minutes=minutes))
        live = browser.post(
            "/studies", data={"csrf": token}, headers={"X-Refresh": "live", "HX-Request": "true"}
        )
        assert live.status_code == 200
        assert browser.get("/events/pulse").status_code == 200
    monkeypatch.setattr(security, "now", lambda: real() + timedelta(minutes=31))
    answer = browser.post("/studies", data={"csrf": token}, headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"] == "/sign-in"


def test_a_form_that_is_too_large_is_refused(signed_in: FlaskClient) -> None:
    token = csrf_of(signed_in.get("/studies").get_data(as_text=True))
    assert signed_in.post("/studies", data={"csrf": token, "text": "x" * 100_000}).status_code == 413
    assert signed_in.post("/studies", data={"csrf": token, "text": "x" * 600}).status_code == 422


def test_wrong_passwords_are_counted_and_then_not_even_tried(app: Flask, box: Box) -> None:
    browser = app.test_client()
    for _ in range(5):
        assert sign_in(browser, "wrong password here", "stranger@clinic.ca").status_code == 422
    assert sign_in(browser, "wrong password here", "stranger@clinic.ca").status_code == 429
    with box.catalog.reading() as conn:
        rows = audit.recent(conn, limit=10)
    assert sum(row["action"] == "user:login-fail" for row in rows) >= 5
    assert not any("stranger" in str(row) for row in rows)


def test_no_address_names_a_person_or_a_uid(app: Flask, signed_in: FlaskClient) -> None:
    for path in ("/studies", "/studies/1", "/deliveries"):
        html = signed_in.get(path).get_data(as_text=True)
        for address in re.findall(r'(?:href|src|action|hx-\w+)="([^"]*)"', html):
            assert "2.25." not in address
            assert "1.2." not in address
            assert "%5E" not in address
    get_forms = re.findall(
        r'<form[^>]*method="get"[^>]*action="([^"]*)"', signed_in.get("/studies").get_data(as_text=True)
    )
    assert get_forms == []


def test_metrics_are_for_this_machine_or_the_bearer_of_the_token(client: FlaskClient, box: Box) -> None:
    away = {"REMOTE_ADDR": "192.168.1.9"}
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", headers={"X-Forwarded-For": "192.168.1.9"}).status_code == 403
    assert client.get("/metrics", environ_base=away).status_code == 403
    token = box.config.data / "metrics.token"
    token.write_text("a-long-random-token\n")
    bearer = {"Authorization": "Bearer a-long-random-token"}
    assert client.get("/metrics", headers=bearer, environ_base=away).status_code == 200
    assert client.get("/metrics", headers={"Authorization": "Bearer x"}, environ_base=away).status_code == 403
    token.unlink()
