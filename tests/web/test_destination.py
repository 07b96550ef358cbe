"""A destination's page: its place, its key and its rules, as the command line has them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from appliance import audit
from appliance.box import Box
from appliance.catalog import destinations, devices, rules
from appliance.model import DestinationId, DestinationSettings, Device, ae_title
from tests.web.conftest import browser_of, csrf_of
from tests.web.walk import NOW

SECRET = "a-secret-that-nobody-may-see"


@pytest.fixture
def owner(app: Flask) -> FlaskClient:
    return browser_of(app, "owner")


@pytest.fixture
def cloud(box: Box) -> Iterator[DestinationId]:
    """Cloud storage that came by an import: paused, because its secret is not here."""
    options = {"bucket": "clinic", "region": "ca-central-1", "access_key_id": "AK1"}
    with box.catalog.transaction() as tx:
        number = destinations.add(tx, DestinationSettings("cloud", "s3", "ciphertext", options, paused=True))
    yield number
    with box.catalog.transaction() as tx:
        destinations.remove(tx, "cloud", NOW)


def fields(html: str) -> dict[str, str]:
    form = html[html.rindex('<form method="post" action="/destinations/') :]
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)) | {"secret": ""}


def save(browser: FlaskClient, number: int, **changed: str) -> TestResponse:
    html = browser.get(f"/destinations/{number}").get_data(as_text=True)
    return browser.post(f"/destinations/{number}", data=fields(html) | changed)


def kept(box: Box) -> DestinationSettings:
    with box.catalog.reading() as conn:
        found = destinations.destination(conn, "cloud")
    assert found is not None
    return found


def test_a_secret_is_given_replaced_and_kept_but_never_shown(
    owner: FlaskClient, box: Box, cloud: DestinationId
) -> None:
    refused = save(owner, cloud)
    assert refused.status_code == 422
    assert "An access key needs its secret" in refused.get_data(as_text=True)
    assert save(owner, cloud, secret=SECRET).status_code == 303
    assert kept(box).secret == SECRET
    assert not kept(box).paused, "it waited for its secret only"
    assert save(owner, cloud, bucket="other-clinic").status_code == 303
    assert (kept(box).secret, kept(box).options["bucket"]) == (SECRET, "other-clinic")
    assert SECRET not in owner.get(f"/destinations/{cloud}").get_data(as_text=True)
    with box.catalog.reading() as conn:
        rows = [row for row in audit.recent(conn, limit=20) if row["action"] == "destination:change"]
    assert len(rows) == 2
    assert not any(SECRET in str(dict(row)) for row in rows)


def test_another_key_needs_its_own_secret(owner: FlaskClient, box: Box, cloud: DestinationId) -> None:
    save(owner, cloud, secret=SECRET)
    answer = save(owner, cloud, access_key_id="AK2")
    assert answer.status_code == 422
    assert 'href="#field-secret"' in answer.get_data(as_text=True)
    assert kept(box).options["access_key_id"] == "AK1"
    assert save(owner, cloud, access_key_id="AK2", secret="another").status_code == 303
    assert kept(box).secret == "another"


def test_a_bucket_outside_canada_is_refused(owner: FlaskClient, box: Box, cloud: DestinationId) -> None:
    answer = save(owner, cloud, region="us-east-1", secret=SECRET)
    assert answer.status_code == 422
    assert 'value="us-east-1"' in answer.get_data(as_text=True)
    assert kept(box).options["region"] == "ca-central-1"


def test_of_two_who_change_it_the_second_is_told(owner: FlaskClient, box: Box, cloud: DestinationId) -> None:
    stale = fields(owner.get(f"/destinations/{cloud}").get_data(as_text=True))
    assert save(owner, cloud, bucket="first-clinic", secret=SECRET).status_code == 303
    answer = owner.post(f"/destinations/{cloud}", data=stale | {"bucket": "second-clinic"})
    html = answer.get_data(as_text=True)
    assert answer.status_code == 409
    assert "Now: first-clinic" in html
    assert 'value="second-clinic"' in html
    assert kept(box).options["bucket"] == "first-clinic"
    assert owner.post(f"/destinations/{cloud}", data=fields(html)).status_code == 303


def test_what_is_refused_in_between_does_not_hide_the_change_of_a_colleague(
    owner: FlaskClient, box: Box, cloud: DestinationId
) -> None:
    save(owner, cloud, secret=SECRET)
    stale = fields(owner.get(f"/destinations/{cloud}").get_data(as_text=True))
    assert save(owner, cloud, bucket="first-clinic").status_code == 303
    refused = owner.post(f"/destinations/{cloud}", data=stale | {"bucket": ""})
    assert refused.status_code == 422
    again = fields(refused.get_data(as_text=True)) | {"bucket": "second-clinic"}
    assert owner.post(f"/destinations/{cloud}", data=again).status_code == 409
    assert kept(box).options["bucket"] == "first-clinic"


def test_the_mark_of_canada_and_the_secret_are_compared_too(
    owner: FlaskClient, box: Box, cloud: DestinationId
) -> None:
    save(owner, cloud, secret=SECRET)
    stale = fields(owner.get(f"/destinations/{cloud}").get_data(as_text=True))
    assert save(owner, cloud, canadian="1", endpoint_url="https://s3.clinic.ca").status_code == 303
    html = owner.post(f"/destinations/{cloud}", data=stale).get_data(as_text=True)
    assert 'href="#field-canadian"' in html
    assert "Now: yes" in html
    assert "The one that the box has now stays" in html
    stale = fields(html)
    assert save(owner, cloud, canadian="1", secret="of-a-colleague").status_code == 303
    answer = owner.post(f"/destinations/{cloud}", data=stale | {"canadian": "1", "secret": SECRET})
    assert answer.status_code == 409, "a secret that was changed meanwhile is a change"
    html = answer.get_data(as_text=True)
    assert "type the secret again" in html
    assert SECRET not in html and "of-a-colleague" not in html
    assert kept(box).secret == "of-a-colleague"


def test_a_disk_that_is_mounted_elsewhere_stays_the_disk_that_it_was(
    owner: FlaskClient, box: Box, tmp_path: Path
) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    made = owner.post(
        "/destinations/new/vault",
        data={"csrf": csrf_of(owner.get("/destinations/new/vault").get_data(as_text=True)), "name": "usb"}
        | {"path": str(first)},
    )
    assert made.status_code == 303
    with box.catalog.reading() as conn:
        before = destinations.destination(conn, "usb")
    assert before is not None
    first.rename(second)
    assert save(owner, before.id, path=str(second)).status_code == 303
    with box.catalog.reading() as conn:
        after = destinations.destination(conn, "usb")
    assert after is not None
    assert after.options == {"path": str(second), "mark": before.options["mark"]}
    assert "usb works" in owner.get(f"/destinations/{before.id}").get_data(as_text=True)


def test_rules_are_made_listed_in_words_and_removed(
    owner: FlaskClient, box: Box, cloud: DestinationId
) -> None:
    with box.catalog.transaction() as tx:
        devices.add_device(tx, Device(ae_title("PANO7"), "192.168.1.47", "Panoramic, room 7"), NOW)
    page = owner.get(f"/destinations/{cloud}").get_data(as_text=True)
    assert "Nothing is sent there yet" in page
    csrf = csrf_of(page)

    def add(**typed: str) -> int:
        return owner.post(f"/destinations/{cloud}/rules", data={"csrf": csrf, **typed}).status_code

    assert add(modality="PX", device="PANO7", priority="5") == 303
    assert add(modality="PX", device="PANO7", priority="9") == 422, "there is such a rule already"
    assert add(modality="", device="", priority="") == 303
    assert add(modality="PX", priority="101") == 422
    assert add(modality="Panoramic!") == 422
    page = owner.get(f"/destinations/{cloud}").get_data(as_text=True)
    assert "Panoramic, from Panoramic, room 7 (PANO7)" in page
    assert "Everything that arrives" in page
    with box.catalog.reading() as conn:
        own = [each for each in rules.rules(conn) if each.destination_id == cloud]
    assert [(each.modality, each.device, each.priority, each.takes) for each in own] == [
        ("PX", "PANO7", 5, "ciphertext"),
        (None, None, 0, "ciphertext"),
    ]
    gone = owner.post(f"/destinations/{cloud}/rules/{own[0].id}/remove", data={"csrf": csrf})
    assert gone.status_code == 303
    again = owner.post(f"/destinations/{cloud}/rules/{own[0].id}/remove", data={"csrf": csrf})
    assert again.status_code == 404
    other = owner.post(f"/destinations/{cloud + 1}/rules/{own[1].id}/remove", data={"csrf": csrf})
    assert other.status_code == 404


def test_who_may_only_look_sees_the_rules_and_no_form(app: Flask, cloud: DestinationId) -> None:
    looker = browser_of(app, "technician")
    html = looker.get(f"/destinations/{cloud}").get_data(as_text=True)
    assert "What goes there" in html
    assert "AK1" not in html
    assert (
        looker.post(
            f"/destinations/{cloud}", data={"csrf": csrf_of(looker.get("/me").get_data(as_text=True))}
        ).status_code
        == 403
    )
