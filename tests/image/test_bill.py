"""The bill of materials as whoever reads it does: by CycloneDX's own schema, with each package's address parsed, and each reference followed."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
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
        assert (address.name, address.version) == (each["name"], each.get("version")), each
        kinds: list[tuple[str, str | None]] = [("deb", "debian"), ("pypi", None)]
        if "properties" in each:
            kinds = [("generic", None), ("cargo", None), ("github", "p-h-c")]
        assert (address.type, address.namespace) in kinds, each
        assert address.to_string() == each["purl"], "as the specification writes it"
        if address.type == "deb":
            assert address.qualifiers == {"arch": "amd64", "distro": "trixie"}


def test_every_reference_is_unique_and_leads_somewhere(bill: dict[str, Any]) -> None:
    references = [bill["metadata"]["component"]["bom-ref"], *(each["bom-ref"] for each in bill["components"])]
    assert len(references) == len(set(references))
    for each in bill["dependencies"]:
        assert {each["ref"], *each["dependsOn"]} <= set(references)
    of_image, *of_wheels = bill["dependencies"]
    assert of_image["ref"] == "image", "which all the rest is of"
    depended = [each for row in (of_image, *of_wheels) for each in row["dependsOn"]]
    assert sorted(depended) == sorted(references[1:]), "each has its place, and one alone"
    assert datetime.fromisoformat(bill["metadata"]["timestamp"]) == datetime(2025, 11, 24, 16, tzinfo=UTC)


# --- what wheels hold beside their own code --------------------------------------------------------------------------

inventory = script("inventory")
KNOWN: dict[str, dict[str, Any]] = inventory.INSIDE_WHEELS["wheels"]
OWN_CODE: list[str] = inventory.INSIDE_WHEELS["own_code"]
LOCKED: dict[str, str] = {
    name: version for name, version, _ in inventory.wheels((ROOT / "requirements-3.13-box.lock").read_text())
}


def installed() -> dict[str, Distribution]:
    """The wheels of the box that are here in the version that it has; another Python may have another one of some."""
    found = {}
    for name, version in LOCKED.items():
        try:
            here = distribution(name)
        except PackageNotFoundError:
            continue
        if here.version == version:
            found[name] = here
    assert found.keys() >= {"cryptography", "pillow", "python-gdcm", "sqlcipher3"}, "nothing to look into"
    return found


def compiled(wheel: Distribution) -> list[Path]:
    """The compiled code of a wheel, its own and others'."""
    return [
        Path(str(wheel.locate_file(each)))
        for each in wheel.files or ()
        if re.search(r"\.so(\.|$)", each.name)
    ]


def papers(wheel: Distribution) -> list[Path]:
    """What a wheel says of itself."""
    return [
        Path(str(wheel.locate_file(each)))
        for each in wheel.files or ()
        if each.name == "METADATA" or "/sboms/" in str(each)
    ]


def test_what_a_wheel_holds_was_looked_up_in_the_version_that_is_locked() -> None:
    assert {name: each["version"] for name, each in KNOWN.items()} == {
        name: LOCKED[name] for name in KNOWN
    }, "look into the new one, and write down what it holds"


def test_every_wheel_with_compiled_code_is_known() -> None:
    with_code = {name for name, each in installed().items() if compiled(each)}
    assert with_code - KNOWN.keys() - set(OWN_CODE) == set(), "say what it holds, in inside-wheels.toml"
    assert set(OWN_CODE) <= LOCKED.keys()
    assert not set(OWN_CODE) & KNOWN.keys()


def test_every_library_that_a_wheel_brings_is_named() -> None:
    seen = set()
    for name, wheel in installed().items():
        known = KNOWN.get(name, {})
        named = {each for row in known.get("holds", []) for each in row.get("files", [])}
        brought = {
            re.split(r"-[0-9a-f]{8}|\.so", path.name)[0]
            for path in compiled(wheel)
            if path.name.startswith("lib")
        }
        seen |= {path.parent.name for path in compiled(wheel)}
        assert brought - set(known.get("own_files", [])) == named, (
            f"{name}: say which library it is, or is not any more"
        )
    assert {"pillow.libs", "python_gdcm.libs", "_gdcm"} <= seen


def test_every_version_is_the_one_that_the_wheel_says() -> None:
    for name, wheel in installed().items():
        known = KNOWN.get(name)
        if known is None:
            continue
        said = b"\n".join(path.read_bytes() for path in (*compiled(wheel), *papers(wheel)))
        said += "\n".join(path.name for path in compiled(wheel)).encode()
        for row in known.get("holds", []):
            assert row.get("version", "").encode() in said, f"{name}: {row['name']}"
        crates = {
            match[1].decode() + " " + match[2].decode()
            for match in re.finditer(
                rb"/registry/src/[^/]+/([A-Za-z0-9_-]+)-(\d+\.\d+\.\d+[0-9A-Za-z.+-]*)/", said
            )
        }
        assert crates == set(known.get("crates", [])), name


def test_a_scanner_can_follow_each(bill: dict[str, Any]) -> None:
    """By a number of the National Vulnerability Database where it has the library, by Rust's registry, or not at all."""
    inside = [each for each in bill["components"] if "properties" in each]
    (old,) = [each for each in inside if each.get("cpe") == "cpe:2.3:a:openssl:openssl:1.1.1k:*:*:*:*:*:*:*"]
    assert {"name": "appliance:inside", "value": "python-gdcm"} in old["properties"]
    (of_wheel,) = [each for each in bill["dependencies"] if each["ref"] == "pkg:pypi/python-gdcm@3.2.6"]
    assert old["bom-ref"] in of_wheel["dependsOn"]
    cpe = re.compile(r"cpe:2\.3:a:[a-z0-9_-]+:[a-z0-9_-]+:[0-9a-z.]+(:\*){7}")
    for each in inside:
        assert "cpe" not in each or cpe.fullmatch(each["cpe"]), each
    assert {each["purl"] for each in inside} >= {"pkg:cargo/openssl@0.10.81", "pkg:generic/sqlite@3.53.4"}
