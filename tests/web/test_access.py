"""Every route says what it needs; whoever lacks it is refused, and sees no way there."""

import re

import pytest
from flask import Blueprint, Flask

from appliance import audit
from appliance.box import Box
from appliance.identity.permissions import Permission, permissions_of
from appliance.identity.roles import Role
from appliance.web import create_app
from appliance.web.access import needed_by
from appliance.web.pages import SECTIONS
from appliance.web.security import OPEN
from appliance.web.views.start import LOOKS_AFTER_THE_BOX
from tests.web.conftest import browser_of, csrf_of
from tests.web.test_security import routes


def test_every_route_is_open_or_says_what_it_needs(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        declared = needed_by(app.view_functions[rule.endpoint])
        assert (rule.endpoint in OPEN) != (declared is not None), rule.endpoint


def test_a_route_that_says_nothing_is_refused_even_to_an_owner(box: Box) -> None:
    app = create_app(box)
    forgotten = Blueprint("forgotten", __name__)
    forgotten.get("/forgotten")(lambda: "everything about everybody")
    app.register_blueprint(forgotten)
    answer = browser_of(app, Role.OWNER).get("/forgotten")
    assert answer.status_code == 403
    assert b"everything" not in answer.data
    app.extensions["console"].darkroom.close()


@pytest.mark.parametrize("role", Role)
def test_each_role_opens_what_the_table_says_and_nothing_else(app: Flask, role: Role) -> None:
    browser = browser_of(app, role)
    for method in ("GET", "POST"):
        token = csrf_of(browser.get("/help").get_data(as_text=True))
        for endpoint, path in routes(app, method):
            if endpoint in OPEN or endpoint in ("live.stream", "door.sign_out"):
                continue
            if needed_by(app.view_functions[endpoint]) in permissions_of(role):
                if method == "GET":
                    assert browser.get(path).status_code not in (401, 403), (endpoint, role)
                continue
            answer = browser.open(path, method=method, data={"csrf": token} if method == "POST" else None)
            assert answer.status_code == 403, (endpoint, role)


@pytest.mark.parametrize("role", Role)
def test_the_navigation_leads_only_where_one_may_go(app: Flask, role: Role) -> None:
    browser = browser_of(app, role)
    page = browser.get("/help").get_data(as_text=True)
    side = page[page.index('class="side"') : page.index("<main")]
    shown = re.findall(r'href="/(\w+)"', side)
    shown = list(dict.fromkeys(shown))  # on a phone, those that do not fit are under a button, too
    assert shown == [name for name, needed in SECTIONS.items() if needed in permissions_of(role)]
    start = browser.get("/")
    if role in LOOKS_AFTER_THE_BOX:
        assert "data-dashboard" in start.get_data(as_text=True)
    else:
        assert start.headers["Location"] == f"/{next(each for each in shown if each != 'health')}"
    for name in shown:
        assert browser.get(f"/{name}").status_code == 200


@pytest.mark.parametrize("role", [Role.ASSISTANT, Role.PRIVACY_OFFICER, Role.VENDOR_SUPPORT, Role.TECHNICIAN])
def test_no_page_offers_an_act_that_would_be_refused(app: Flask, role: Role) -> None:
    browser = browser_of(app, role)
    adapter = app.url_map.bind("localhost")
    for name, needed in SECTIONS.items():
        if needed not in permissions_of(role):
            continue
        html = browser.get(f"/{name}").get_data(as_text=True)
        for action in re.findall(r'<form[^>]*method="post"[^>]*action="([^"]+)"', html):
            endpoint, _ = adapter.match(action, method="POST")
            wanted = needed_by(app.view_functions[endpoint])
            assert endpoint in OPEN or wanted in permissions_of(role), action


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "Your role does not include this"), ("fr", "Votre rôle ne comprend pas cela")],
)
def test_a_refusal_is_said_in_plain_words_and_audited_once(
    app: Flask, box: Box, language: str, said: str
) -> None:
    browser = browser_of(app, Role.VENDOR_SUPPORT, f"support-{language}")
    for _ in range(3):
        answer = browser.get(f"/studies/1?lang={language}")
        assert answer.status_code == 403
        assert said in answer.get_data(as_text=True)
    with box.catalog.reading() as conn:
        rows = [row for row in audit.recent(conn, limit=20) if row["actor"] == f"support-{language}"]
    assert [(row["action"], row["subject"]) for row in rows] == [("access:refuse", "studies.study")]


def test_a_refusal_of_the_interface_for_machines_is_json(app: Flask) -> None:
    answer = browser_of(app, Role.STUDENT).get("/api/v1/deliveries")
    assert answer.status_code == 403
    assert answer.get_json()["code"] == "forbidden"


def test_a_role_that_is_no_role_opens_nothing(app: Flask) -> None:
    browser = browser_of(app, "janitor")
    for endpoint, path in routes(app, "GET"):
        if endpoint not in OPEN:
            assert browser.get(path).status_code == 403, endpoint


def test_what_is_needed_is_one_of_the_permissions(app: Flask) -> None:
    used = {needed_by(view) for view in app.view_functions.values()} - {None}
    assert used <= set(Permission)
    assert len(used) >= 9
