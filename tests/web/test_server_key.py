"""A NAS in the console: its key is shown and compared before anything is sent, and a changed one is never a click."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance.box import Box
from appliance.catalog import destinations, people
from appliance.identity import tokens
from appliance.model import DestinationSettings
from tests.replication.file_servers import PASSWORD, FileServer, openssh, private_key, proftpd
from tests.web.conftest import csrf_of


@pytest.fixture
def nas(tmp_path: Path) -> Iterator[FileServer]:
    with proftpd(tmp_path / "nas") as server:
        yield server


def add(signed_in: FlaskClient, server: FileServer, **typed: str) -> str:
    """The address of the page that follows."""
    csrf = csrf_of(signed_in.get("/destinations/new/sftp").get_data(as_text=True))
    data = {
        "csrf": csrf,
        "name": f"nas {server.port}",
        "address": "127.0.0.1",
        "port": str(server.port),
        "user": server.user,
        "folder": str(server.folder),
        "login": server.login,
        **typed,
    }
    answer = signed_in.post("/destinations/new/sftp", data=data)
    assert answer.status_code == 303, answer.get_data(as_text=True)
    return answer.headers["Location"]


def trust(signed_in: FlaskClient, page: str, fingerprint: str) -> tuple[int, str]:
    csrf = csrf_of(signed_in.get(page).get_data(as_text=True))
    answer = signed_in.post(page, data={"csrf": csrf, "fingerprint": fingerprint})
    return answer.status_code, answer.get_data(as_text=True)


def kept(box: Box, server: FileServer) -> DestinationSettings:
    with box.catalog.reading() as conn:
        found = destinations.destination(conn, f"nas {server.port}")
    assert found is not None
    return found


def test_the_key_is_compared_and_then_the_place_works(
    signed_in: FlaskClient, box: Box, nas: FileServer
) -> None:
    page = add(signed_in, nas, secret=PASSWORD)
    assert page.endswith("/key")
    html = signed_in.get(page).get_data(as_text=True)
    offered = re.search(r'name="fingerprint" value="([^"]+)"', html)
    assert offered is not None
    assert "host_key" not in kept(box, nas).options
    assert trust(signed_in, page, "SHA256:AAAA")[0] == 422
    assert "host_key" not in kept(box, nas).options
    assert trust(signed_in, page, offered[1])[0] == 303
    assert kept(box, nas).options["host_key"] == offered[1]
    assert f"nas {nas.port} works" in signed_in.get(page.removesuffix("/key")).get_data(as_text=True)
    assert "It is the key that you have trusted" in signed_in.get(page).get_data(as_text=True)
    with box.catalog.reading() as conn:
        from appliance import audit

        rows = {row["action"]: row for row in audit.recent(conn, limit=20)}
    assert {"destination:add", "destination:trust", "destination:test"} <= set(rows)
    assert not any(PASSWORD in str(dict(row)) for row in rows.values())


def test_saving_keeps_the_pinned_key_and_the_password_of_the_same_user(
    signed_in: FlaskClient, box: Box, nas: FileServer
) -> None:
    page = add(signed_in, nas, secret=PASSWORD)
    shown = re.search(r'name="fingerprint" value="([^"]+)"', signed_in.get(page).get_data(as_text=True))
    assert shown is not None
    trust(signed_in, page, shown[1])
    own = page.removesuffix("/key")

    def save(**typed: str) -> int:
        html = signed_in.get(own).get_data(as_text=True)
        form = html[html.rindex('<form method="post" action="/destinations/') :]
        data = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)) | {"secret": "", "login": "password"}
        return signed_in.post(own, data=data | typed).status_code

    assert save(folder=str(nas.folder) + "/") == 303
    assert (kept(box, nas).secret, kept(box, nas).options["host_key"]) == (PASSWORD, shown[1])
    assert save(user="somebody") == 422, "another user's password is another one"
    assert save(login="key") == 303
    assert "PRIVATE" in kept(box, nas).secret
    assert str(kept(box, nas).options["public_key"]) in signed_in.get(page).get_data(as_text=True)


def test_a_changed_key_is_typed_and_never_clicked(signed_in: FlaskClient, box: Box, tmp_path: Path) -> None:
    with openssh(tmp_path / "nas") as server:
        page = add(signed_in, server)
        html = signed_in.get(page).get_data(as_text=True)
        assert "ssh-ed25519 " in html, "the key of this box, to be copied"
        shown = str(server.trusted().options["host_key"])
        assert trust(signed_in, page, shown)[0] == 303
    assert "does not answer" in signed_in.get(page).get_data(as_text=True)
    with openssh(tmp_path / "nas", host_key=private_key()[0], port=server.port) as other:
        html = signed_in.get(page).get_data(as_text=True)
        assert "has changed" in html
        new = str(other.trusted().options["host_key"])
        assert f'value="{new}"' not in html, "nobody trusts it by a click"
        assert trust(signed_in, page, shown)[0] == 422
        assert kept(box, server).options["host_key"] == shown
        assert trust(signed_in, page, new)[0] == 303
        assert kept(box, server).options["host_key"] == new


@pytest.mark.parametrize("way", ["console", "interface"])
def test_the_password_is_asked_for_again_once_another_key_is_trusted(
    signed_in: FlaskClient, app: Flask, box: Box, nas: FileServer, way: str
) -> None:
    page = add(signed_in, nas, secret=PASSWORD)
    shown = str(nas.trusted().options["host_key"])
    name, before = f"nas {nas.port}", f"ssh-ed25519 SHA256:{'x' * 43}"
    with box.catalog.transaction() as tx:
        destinations.change(tx, name, {**kept(box, nas).options, "host_key": before})
    assert kept(box, nas).secret == PASSWORD
    if way == "console":
        assert trust(signed_in, page, shown)[0] == 303
        told = signed_in.get(page.removesuffix("/key")).get_data(as_text=True)
        assert "type the password of this user" in told.lower()
    else:
        with box.catalog.transaction() as tx:
            owner = next(each for each in people.people(tx) if each.role == "owner")
            scopes, made = ("console:use", "destinations:manage"), datetime.now(UTC)
            text, _ = tokens.make(tx, owner, name="desk", scopes=scopes, days=1, now=made)
        bearer = {"Authorization": f"Bearer {text}"}
        asked = "/api/v1" + page.removesuffix("/key") + "/trust"
        answer = app.test_client().post(asked, headers=bearer, json={"fingerprint": shown})
        assert (answer.status_code, answer.get_json()["secret"]) == (200, "none"), answer.get_data(
            as_text=True
        )
        assert answer.get_json()["state"] == "paused"
    after = kept(box, nas)
    assert (after.options["host_key"], after.secret, after.paused) == (shown, "", True)


def test_other_destinations_have_no_key(signed_in: FlaskClient, box: Box, tmp_path: Path) -> None:
    with box.catalog.transaction() as tx:
        number = destinations.add(
            tx, DestinationSettings("usb", "vault", "ciphertext", {"path": str(tmp_path)})
        )
    assert signed_in.get(f"/destinations/{number}/key").status_code == 404
