"""A share in the console and the API: its server is asked before anything is kept, and a password is for one place."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import audit
from appliance.box import Box
from appliance.catalog import destinations, people
from appliance.identity import tokens
from appliance.model import DestinationSettings
from tests.replication.shares import NAME, PASSWORD, SHARE, ShareServer, samba
from tests.web.conftest import csrf_of


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShareServer]:
    with samba(tmp_path_factory.mktemp("nas")) as server:
        yield server


def typed_for(server: ShareServer, **typed: str) -> dict[str, str]:
    return {
        "name": secrets.token_hex(4),
        "address": "127.0.0.1",
        "port": str(server.port),
        "share": SHARE,
        "user": server.user,
        "secret": PASSWORD,
        **typed,
    }


def add(signed_in: FlaskClient, server: ShareServer, **typed: str) -> tuple[int, str]:
    csrf = csrf_of(signed_in.get("/destinations/new/smb").get_data(as_text=True))
    answer = signed_in.post("/destinations/new/smb", data={"csrf": csrf, **typed_for(server, **typed)})
    return answer.status_code, answer.get_data(as_text=True)


def save(signed_in: FlaskClient, number: int, **typed: str) -> tuple[int, str]:
    own = f"/destinations/{number}"
    html = signed_in.get(own).get_data(as_text=True)
    form = html[html.rindex('<form method="post" action="/destinations/') :]
    data = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)) | {"secret": "", **typed}
    answer = signed_in.post(own, data=data)
    return answer.status_code, answer.get_data(as_text=True)


def kept(box: Box) -> DestinationSettings:
    """The one that is newest."""
    with box.catalog.reading() as conn:
        return max(destinations.destinations(conn), key=lambda each: each.id)


def test_a_share_is_added_once_its_server_has_let_the_box_in(
    signed_in: FlaskClient, box: Box, nas: ShareServer
) -> None:
    refused, page = add(signed_in, nas, name="closed to us", secret="another password")
    assert (refused, "does not let" in page, "another password" in page) == (422, True, False)
    with box.catalog.reading() as conn:
        assert destinations.destination(conn, "closed to us") is None
    assert add(signed_in, nas)[0] == 303
    place = kept(box)
    assert (place.options["server_name"], place.secret) == (NAME, PASSWORD)
    assert f"{place.name} works" in signed_in.get("/destinations").get_data(as_text=True)
    page = signed_in.get(f"/destinations/{place.id}").get_data(as_text=True)
    assert f"calls itself {NAME}" in page
    assert PASSWORD not in page
    with box.catalog.reading() as conn:
        rows = [row for row in audit.recent(conn, limit=20) if row["action"].startswith("destination:")]
    assert not any(PASSWORD in str(dict(row)) for row in rows)


def test_a_password_stays_for_the_same_user_at_the_same_address_alone(
    signed_in: FlaskClient, box: Box, nas: ShareServer
) -> None:
    add(signed_in, nas)
    place = kept(box)
    (nas.data / "clinic").mkdir(exist_ok=True)
    assert save(signed_in, place.id, folder="clinic")[0] == 303
    changed = kept(box)
    assert (changed.secret, changed.options["folder"], changed.options["server_name"]) == (
        PASSWORD,
        "clinic",
        NAME,
    )
    for other in ({"address": "127.0.0.2"}, {"user": "somebody"}, {"domain": "CLINIC"}, {"port": "1445"}):
        status, page = save(signed_in, place.id, **other)
        assert (status, "needs a password" in page) == (422, True), other
    assert kept(box) == changed


def test_another_server_is_known_once_its_password_is_typed(
    signed_in: FlaskClient, box: Box, nas: ShareServer, tmp_path: Path
) -> None:
    add(signed_in, nas)
    place = kept(box)
    with samba(tmp_path, name="OTHERNAS") as other:
        assert save(signed_in, place.id, port=str(other.port), secret="another password")[0] == 422
        assert kept(box) == place
        assert save(signed_in, place.id, port=str(other.port), secret=PASSWORD)[0] == 303
    changed = kept(box)
    assert changed.options["server_name"] == "othernas"


def test_the_interface_adds_and_changes_it(
    signed_in: FlaskClient, app: Flask, box: Box, nas: ShareServer
) -> None:
    del signed_in  # a box with an owner
    with box.catalog.transaction() as tx:
        owner = next(each for each in people.people(tx) if each.role == "owner")
        scopes, made = ("console:use", "destinations:view", "destinations:manage"), datetime.now(UTC)
        text, _ = tokens.make(tx, owner, name="desk", scopes=scopes, days=1, now=made)
    bearer, program = {"Authorization": f"Bearer {text}"}, app.test_client()
    wanted = {**typed_for(nas), "port": nas.port}
    wrong = program.post("/api/v1/destinations/smb", headers=bearer, json={**wanted, "secret": "another"})
    assert (wrong.status_code, "does not let" in wrong.get_data(as_text=True)) == (422, True)
    added = program.post("/api/v1/destinations/smb", headers=bearer, json=wanted)
    assert added.status_code == 201, added.get_data(as_text=True)
    assert (added.get_json()["options"]["server_name"], added.get_json()["secret"]) == (NAME, "given")
    own = f"/api/v1/destinations/{added.get_json()['id']}"

    def change(**body: object) -> tuple[int, str]:
        tag = program.get(own, headers=bearer).headers["ETag"]
        answer = program.patch(own, headers={**bearer, "If-Match": tag}, json={"options": {}, **body})
        return answer.status_code, answer.get_data(as_text=True)

    assert change(options={"folder": "elsewhere"})[0] == 200
    assert change(secret="another")[0] == 422
    assert change(options={"user": "somebody"})[0] == 422, "another user's password is another one"
    assert change(options={"folder": None}, secret=PASSWORD)[0] == 200
    place = kept(box)
    assert (place.secret, place.options["user"], place.options.get("folder")) == (PASSWORD, nas.user, None)
