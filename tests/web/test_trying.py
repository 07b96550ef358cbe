"""The sample study and the guided tour: offered, used, and out of the way."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit
from appliance.box import Box
from appliance.web import trying
from tests.web.conftest import browser_of, csrf_of


def post(client: FlaskClient, path: str):
    token = csrf_of(client.get("/help").get_data(as_text=True))
    return client.post(path, data={"csrf": token})


def page(client: FlaskClient, path: str) -> str:
    return client.get(path, headers={"Accept-Language": "en"}, follow_redirects=True).get_data(as_text=True)


def test_the_sample_is_imported_marked_and_taken_from_view(box: Box, signed_in: FlaskClient) -> None:
    before = page(signed_in, "/studies").count('class="study"')
    opened = post(signed_in, "/sample/load")
    assert opened.status_code == 303
    html = page(signed_in, opened.location)
    assert "Sample, no patient" in html
    assert "No person was exposed" in html
    listed = page(signed_in, "/studies")
    assert listed.count('class="study"') == before + 1
    assert "Sample, no patient" in listed
    assert post(signed_in, "/sample/load").location == opened.location, "there is one sample, not many"

    assert post(signed_in, "/sample/hide").status_code == 303
    listed = page(signed_in, "/studies")
    assert listed.count('class="study"') == before
    assert "no longer in view" in listed
    with box.catalog.reading() as conn:
        actions = [row["action"] for row in audit.recent(conn, limit=20)]
        assert trying.samples(conn) == ()
    assert "study:import" in actions
    assert "study:hide" in actions
    assert post(signed_in, "/sample/load").location != opened.location, "a new one can be had"
    post(signed_in, "/sample/hide")


def test_taking_the_sample_from_view_hides_nothing_else(signed_in: FlaskClient) -> None:
    before = page(signed_in, "/studies").count('class="study"')
    post(signed_in, "/sample/hide")
    assert page(signed_in, "/studies").count('class="study"') == before


@pytest.mark.parametrize("role", ["student", "referrer", "privacy_officer"])
def test_who_may_not_bring_images_in_may_not_load_the_sample(app: Flask, role: str) -> None:
    browser = browser_of(app, role)
    assert post(browser, "/sample/load").status_code == 403
    assert post(browser, "/sample/hide").status_code == 403
    assert "/sample/load" not in page(browser, "/help")


def test_the_tour_is_offered_to_each_person_until_taken_or_declined(app: Flask) -> None:
    one, other = browser_of(app, "assistant", "one"), browser_of(app, "assistant", "other")
    assert "data-tour-offer" in page(one, "/studies")
    assert post(one, "/tour").status_code == 303
    assert "data-tour-offer" not in page(one, "/studies")
    assert "data-tour-offer" not in page(browser_of(app, "assistant", "one"), "/studies")
    assert "data-tour-offer" in page(other, "/studies")
    assert 'href="/studies#tour"' in page(one, "/help"), "it can be taken again"
