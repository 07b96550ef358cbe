"""The OpenAPI document says exactly what is routed, checked and answered; the help page is made of it."""

import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # comes with schemathesis
import pytest
from flask import Flask

from appliance.identity.permissions import Permission
from appliance.web.access import needed_by
from appliance.web.api import problem
from tests.web.api.conftest import Caller


def document_of(app: Flask) -> dict[str, Any]:
    found: dict[str, Any] = app.extensions["openapi"]
    return found


def test_every_route_of_the_interface_is_described_and_the_reverse(app: Flask) -> None:
    routed = {
        (re.sub(r"<int:(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/") and rule.endpoint != "reference.described"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {
        (path, method.upper()) for path, methods in document_of(app)["paths"].items() for method in methods
    }
    assert routed == described
    assert len(described) >= 85


def test_the_scope_that_is_described_is_the_permission_that_is_asked(app: Flask) -> None:
    for path, methods in document_of(app)["paths"].items():
        for method, said in methods.items():
            assert needed_by(app.view_functions[f"api.{said['operationId']}"]) == Permission(
                said["security"][0]["token"][0]
            )
            session = said["security"][1]
            assert ("csrf" in session) is (method != "get"), path


def test_every_schema_is_json_schema_and_every_reference_leads_somewhere(app: Flask) -> None:
    document = document_of(app)
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for name in re.findall(r"#/components/schemas/(\w+)", str(document)):
        assert name in schemas
    assert {each["operationId"] for methods in document["paths"].values() for each in methods.values()}


def test_every_operation_has_words_and_the_bodies_have_examples(app: Flask) -> None:
    for methods in document_of(app)["paths"].values():
        for said in methods.values():
            assert said["summary"].endswith(".")
            assert len(said["summary"]) > 10


@pytest.mark.parametrize(
    "path",
    [
        "/studies",
        "/deliveries",
        "/destinations",
        "/rules",
        "/devices",
        "/door",
        "/alerts",
        "/escalation",
        "/webhooks",
        "/verification",
        "/root-key",
        "/disk-pin",
        "/guard",
        "/tiers",
        "/updates",
        "/plan",
        "/settings",
        "/health",
        "/me",
        "/audit",
    ],
)
def test_answers_are_as_described(app: Flask, owner: Caller, path: str) -> None:
    document = document_of(app)
    said = document["paths"][f"/api/v1{path}"]["get"]["responses"]["200"]
    schema = said["content"]["application/json"]["schema"] | {"components": document["components"]}
    jsonschema.validate(owner("GET", path).get_json(), schema)


def test_problems_are_as_described(owner: Caller) -> None:
    jsonschema.validate(owner("GET", "/studies?limit=x").get_json(), dict(problem.SCHEMA))
    jsonschema.validate(owner("GET", "/nothing").get_json(), dict(problem.SCHEMA))


def test_the_help_page_names_every_operation_and_every_code(app: Flask, owner: Caller) -> None:
    for language in ("en", "fr"):
        html = owner.browser.get(f"/help/api/reference?lang={language}").get_data(as_text=True)
        for methods in document_of(app)["paths"].values():
            for said in methods.values():
                assert f'id="{said["operationId"]}"' in html
        for code in problem.CODES:
            assert f'id="{code}"' in html
