"""The bill of materials as whoever reads it does: by CycloneDX's own schema, with each package's address parsed, and each reference followed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from tests.image.test_configuration import BUILD, ROOT, script


@pytest.fixture
def bill(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """That of an image of every package that is pinned."""
    inventory = script("inventory")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764000000")
    manifest = {
        "config": {"name": "appliance", "version": "1.2.3"},
        "packages": [
            {"type": "deb", "name": name, "version": version, "architecture": "amd64"}
            for name, version in inventory.locked((BUILD / "packages.lock").read_text()).items()
        ],
    }
    found: dict[str, Any] = inventory.sbom(manifest, (ROOT / "requirements-3.13-box.lock").read_text())
    return found


def complaint(bill: dict[str, Any]) -> str:
    """What CycloneDX 1.6 has against it; empty if nothing."""
    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill))
    return "" if found is None else str(found)


def test_it_is_what_the_schema_asks_for(bill: dict[str, Any]) -> None:
    assert complaint(bill) == ""


@pytest.mark.parametrize("what", ["serialNumber", "type", "hashes", "unknown"])
def test_the_schema_would_say_so_if_it_were_not(bill: dict[str, Any], what: str) -> None:
    hashed = next(each for each in bill["components"] if "hashes" in each)
    match what:
        case "serialNumber":
            bill["serialNumber"] = "1"
        case "type":
            del hashed["type"]
        case "hashes":
            hashed["hashes"][0]["content"] = "short"
        case _:
            bill["unheard"] = "of"
    assert complaint(bill) != ""


def test_every_package_has_an_address_that_leads_back_to_it(bill: dict[str, Any]) -> None:
    for each in bill["components"]:
        address = PackageURL.from_string(each["purl"])
        assert (address.name, address.version) == (each["name"], each["version"]), each
        assert (address.type, address.namespace) in (("deb", "debian"), ("pypi", None)), each
        assert address.to_string() == each["purl"], "as the specification writes it"
        if address.type == "deb":
            assert address.qualifiers == {"arch": "amd64", "distro": "trixie"}


def test_every_reference_is_unique_and_leads_somewhere(bill: dict[str, Any]) -> None:
    references = [bill["metadata"]["component"]["bom-ref"], *(each["bom-ref"] for each in bill["components"])]
    assert len(references) == len(set(references))
    for each in bill["dependencies"]:
        assert {each["ref"], *each["dependsOn"]} <= set(references)
    assert [each["ref"] for each in bill["dependencies"]] == ["image"], "which all the rest is of"
    assert datetime.fromisoformat(bill["metadata"]["timestamp"]) == datetime(2025, 11, 24, 16, tzinfo=UTC)
