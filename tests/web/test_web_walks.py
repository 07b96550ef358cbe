"""What must hold of every route, every template and every answer: walked, not sampled."""

import logging
import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance.web.console import web_ui
from appliance.web.security import HEADERS
from tests.web.conftest import browser_of, csrf_of
from tests.web.test_security import routes

ENDLESS = ("/events",)
TEMPLATES = sorted((web_ui() / "templates").rglob("*.html"))
OUR_OWN_ICONS = {"icons.html": 1}
"""The one place where text is not escaped: drawings that stand in the template itself."""


@pytest.fixture
def owner(app: Flask) -> FlaskClient:
    return browser_of(app, "owner")


def pages(app: Flask) -> list[str]:
    return [path for _, path in routes(app, "GET") if path not in ENDLESS]


def test_templates_escape_everything_but_our_own_icons(app: Flask) -> None:
    assert app.jinja_env.autoescape is True
    assert len(TEMPLATES) > 20
    for path in TEMPLATES:
        text = path.read_text("utf-8")
        found = len(re.findall(r"\|\s*safe\b|autoescape|Markup", text))
        assert found == OUR_OWN_ICONS.get(path.name, 0), path.name
    for module in Path(__file__).parents[2].joinpath("appliance", "web").rglob("*.py"):
        assert "render_template_string" not in module.read_text("utf-8"), module


def test_every_answer_of_every_route_carries_every_header(app: Flask, owner: FlaskClient) -> None:
    asked = 0
    for browser in (app.test_client(), owner):
        for path in [*pages(app), "/nothing", "/static/nothing", "/api/v1/nothing"]:
            for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS"):
                if method == "POST" and browser is owner:
                    continue  # without its token, as test_security asks; with it, it would act
                answer = browser.open(path, method=method)
                asked += 1
                for name, value in HEADERS.items():
                    assert answer.headers.get(name) == value, (method, path, name)
                assert "Server" not in answer.headers
                assert "X-Powered-By" not in answer.headers
    assert asked > 300


def test_over_tls_every_cookie_is_of_this_host_alone(app: Flask) -> None:
    page = app.test_client().get("/sign-in?lang=fr", base_url="https://localhost")
    cookies = page.headers.getlist("Set-Cookie")
    assert len(cookies) >= 2
    for cookie in cookies:
        assert cookie.startswith("__Host-console_"), cookie
        assert "Path=/" in cookie
        assert "Secure" in cookie
        assert "Domain" not in cookie
    plain = browser_of(app, "owner", "plain")
    kept = plain.get_cookie("console_session")
    assert kept is not None
    over_tls = app.test_client()
    over_tls.set_cookie("console_session", kept.value, domain="localhost", secure=True)
    answer = over_tls.get("/settings", base_url="https://localhost")
    assert answer.status_code == 303  # a cookie without the prefix could be another host's
    over_tls.set_cookie("__Host-console_session", kept.value, domain="localhost", secure=True)
    assert over_tls.get("/settings", base_url="https://localhost").status_code == 200


def test_over_tls_every_answer_asks_for_tls_from_then_on(app: Flask) -> None:
    browser = app.test_client()
    for path in [*pages(app), "/nothing", "/static/nothing"]:
        answer = browser.get(path, base_url="https://localhost")
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains", path
    assert "Strict-Transport-Security" not in browser.get("/sign-in").headers


def test_no_answer_lets_another_origin_in(app: Flask, owner: FlaskClient) -> None:
    for path in pages(app):
        for method in ("GET", "OPTIONS"):
            answer = owner.open(
                path,
                method=method,
                headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
            )
            assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")], path


def test_no_redirect_leads_away(app: Flask, owner: FlaskClient) -> None:
    for browser in (app.test_client(), owner):
        for path in [
            *pages(app),
            "//evil.example/x",
            "/%5cevil.example",
            "/sign-in?next=https://evil.example",
        ]:
            location = browser.get(path).headers.get("Location", "/")
            assert re.match(r"/(?![/\\])|http://localhost/", location), (path, location)


def test_no_page_with_a_patient_is_stored(app: Flask, owner: FlaskClient) -> None:
    for path in pages(app):
        answer = owner.get(path)
        cached = answer.headers["Cache-Control"]
        if answer.mimetype in ("text/html", "application/json", "application/problem+json"):
            assert cached == "no-store" or path.startswith(("/offline/", "/static/")), path
        elif path.startswith("/instances/"):
            assert cached == "no-store", path
        else:
            assert "public" not in cached or path.startswith(("/static/", "/manifest/", "/icon")), path


def test_no_method_is_overridden(app: Flask, owner: FlaskClient) -> None:
    for headers in ({"X-HTTP-Method-Override": "DELETE"}, {"X-Method-Override": "POST"}):
        assert owner.get("/api/v1/rules?_method=DELETE", headers=headers).status_code == 400
        assert owner.get("/api/v1/rules", headers=headers).status_code == 200


def test_no_route_answers_trace(app: Flask, owner: FlaskClient) -> None:
    for path in pages(app):
        for method in ("TRACE", "TRACK", "CONNECT", "PROPFIND"):
            answer = owner.open(path, method=method)
            assert answer.status_code in (404, 405), (method, path, answer.status_code)


def test_no_folder_is_listed(app: Flask, owner: FlaskClient) -> None:
    for path in (
        "/static/",
        "/static",
        "/static/assets/",
        "/static/../",
        "/static/%2e%2e/",
        "/static/..%2fapplication.py",
    ):
        answer = owner.get(path)
        assert answer.status_code in (404, 308), path
        assert "Index of" not in answer.get_data(as_text=True)


def test_nothing_is_in_debug_mode(app: Flask) -> None:
    assert app.debug is False
    assert app.testing is False
    assert app.config["PROPAGATE_EXCEPTIONS"] in (None, False)


def test_signing_out_is_on_every_page(app: Flask, owner: FlaskClient) -> None:
    seen = 0
    for path in pages(app):
        answer = owner.get(path)
        html = answer.get_data(as_text=True) if answer.mimetype == "text/html" else ""
        if answer.status_code == 200 and 'class="side"' in html:
            seen += 1
            assert 'action="/sign-out"' in html, path
    assert seen >= 8


def test_signing_out_clears_what_the_browser_keeps(app: Flask) -> None:
    browser = browser_of(app, "owner", "leaving")
    token = csrf_of(browser.get("/settings").get_data(as_text=True))
    answer = browser.post("/sign-out", data={"csrf": token})
    assert '"cache"' in answer.headers["Clear-Site-Data"]


def test_every_field_for_a_secret_is_masked_and_may_be_pasted() -> None:
    for path in TEMPLATES:
        text = path.read_text("utf-8")
        assert "onpaste" not in text, path.name
        for field in re.findall(r"<input[^>]*name=\"[^\"]*(?:password|secret)[^\"]*\"[^>]*>", text):
            assert 'type="password"' in field or 'type="hidden"' in field, (path.name, field)


def test_downloads_are_named_by_us(owner: FlaskClient) -> None:
    answer = owner.get("/settings/configuration/export?filename=evil%0d%0a.html&name=evil.html")
    assert re.fullmatch(
        r'attachment; filename="configuration-\d{4}-\d\d-\d\d\.json"', answer.headers["Content-Disposition"]
    )


def test_an_unexpected_error_is_logged_without_its_words(
    app: Flask, owner: FlaskClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("Tremblay^Marie")

    monkeypatch.setitem(app.view_functions, "settings.history", broken_with_permission(app, broken))
    caplog.set_level(logging.INFO)
    answer = owner.get("/settings/history")
    html = answer.get_data(as_text=True)
    assert answer.status_code == 500
    reference = re.search(r"\b[0-9A-F]{8}\b", html)
    assert reference is not None
    assert reference[0] in {getattr(each, "reference", "") for each in caplog.records}
    assert "ZeroDivisionError" in caplog.text
    for text in (html, caplog.text):
        assert "Tremblay" not in text
    assert "Traceback" not in html


def broken_with_permission(app: Flask, view: object) -> object:
    """`view` with what the real one declares, so that the error is its own."""
    vars(view).update(vars(app.view_functions["settings.history"]))
    vars(view).pop("__wrapped__", None)
    return view
