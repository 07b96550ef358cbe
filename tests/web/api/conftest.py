"""A caller of the interface: a session with its CSRF token, JSON in and out."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.web.conftest import app, box, browser_of, client, signed_in  # noqa: F401 -- fixtures


@dataclass
class Caller:
    """Somebody of a role who calls ``/api/v1``."""

    browser: FlaskClient
    csrf: str

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        sent = {"X-CSRF-Token": self.csrf} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        data = None if body is None else json.dumps(body)
        return self.browser.open(
            f"/api/v1{path}",
            method=method,
            data=data,
            content_type=None if body is None else "application/json",
            headers=sent,
        )


@pytest.fixture
def caller(app: Flask) -> Callable[[str], Caller]:  # noqa: F811
    """A function that gives a caller of a role."""

    def of(role: str) -> Caller:
        browser = browser_of(app, role)
        return Caller(browser, browser.get("/api/v1/me").get_json()["csrf"])

    return of


@pytest.fixture
def owner(caller: Callable[[str], Caller]) -> Caller:
    return caller("owner")
