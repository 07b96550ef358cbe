"""A box with a clinic's morning in it, and a browser without a screen: Flask's own client."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance import identity, settings
from appliance.box import Box, open_box
from appliance.catalog import people
from appliance.config import Config, DicomConfig
from appliance.identity import Role
from appliance.ingest import import_file
from appliance.model import DestinationSettings, Intake, Origin
from appliance.replication.destinations import prepare
from appliance.web import create_app
from tests import synthetic
from tests.backup.conftest import IMAGES, Clinic, clinic_in

PASSWORD = "quatre lapins sur une horloge"
LOGIN = "mtremblay"


def fill(box: Box, *, seed: int = 1, scale: float = 0.1) -> None:
    """Import the synthetic dental set."""
    for ds in synthetic.dental_set(seed, scale=scale):
        out = BytesIO()
        ds.save_as(out, enforce_file_format=True)
        import_file(box, BytesIO(out.getvalue()), Origin(Intake.IMPORT, "tests"))


def add_owner(box: Box) -> None:
    """An owner, in a clinic that asks nobody for a second factor."""
    with box.catalog.transaction() as tx:
        settings.change(
            tx, box.audit_key, {"access.second_factor_roles": []}, actor="tests", now=datetime.now(UTC)
        )
        identity.add_user(
            tx,
            login=LOGIN,
            name="Marie Tremblay",
            role=Role.OWNER,
            password=PASSWORD,
            language="",  # as the browser asks
            now=datetime.now(UTC),
        )


def csrf_of(html: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', html)
    assert found is not None, "the page has no form"
    return found[1]


def sign_in(client: FlaskClient, password: str = PASSWORD, login: str = LOGIN):
    page = client.get("/sign-in").get_data(as_text=True)
    return client.post("/sign-in", data={"csrf": csrf_of(page), "login": login, "password": password})


def browser_of(app: Flask, role: str, login: str = "") -> FlaskClient:
    """A browser in which somebody of that role is signed in; the account is made if there is none of that login."""
    box: Box = app.extensions["console"].box
    login = login or role.replace("_", "-")
    moment = datetime.now(UTC)
    with box.catalog.transaction() as tx:
        person = people.person(tx, login) or people.add(
            tx, login=login, name=f"A {role}", role=role, password_hash="none", language="", now=moment
        )
        cookie = identity.open_session(tx, person.id, address="127.0.0.1", agent="tests", now=moment)
    browser = app.test_client()
    browser.set_cookie("console_session", cookie)
    return browser


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Nothing receives on its port, whatever runs on this machine: a box that does would be sent the images of an examination."""
    folder: Path = tmp_path_factory.mktemp("box")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        opened = open_box(Config(data=folder, dicom=DicomConfig(port=held.getsockname()[1])))
        add_owner(opened)
        fill(opened)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def app(box: Box) -> Iterator[Flask]:
    application = create_app(box)
    yield application
    application.extensions["console"].watcher.close()
    application.extensions["console"].darkroom.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser that has not signed in."""
    return app.test_client()


@pytest.fixture
def signed_in(app: Flask) -> FlaskClient:
    """A browser whose owner has signed in."""
    browser = app.test_client()
    assert sign_in(browser).status_code == 303
    return browser


@contextmanager
def kept_clinic(folder: Path, images: int) -> Iterator[Clinic]:
    """A box with an owner and so many images, whose ciphertext is on a USB disk."""
    (folder / "usb").mkdir()
    place = prepare(DestinationSettings("usb", "vault", "ciphertext", {"path": str(folder / "usb")}))
    with clinic_in(folder / "box", place) as made:
        add_owner(made.box)
        made.receive(*IMAGES[:images])
        made.deliver()
        yield made
