"""What the image is made of: the packages that it must have, and its bill of materials.

    inventory.py compare MANIFEST LOCK        say what differs; 1 if anything does
    inventory.py lock MANIFEST LOCK           write the lock
    inventory.py sbom MANIFEST OUT            CycloneDX 1.6, of Debian's packages and the wheels
    inventory.py merge MANIFEST OTHER         take in what another manifest has: that of what starts before the root is there

Chose to write CycloneDX ourselves over a generator, because mkosi's manifest and the lock of the wheels already say
everything, with versions and hashes; a scanner would guess it back out of files. The format:
https://cyclonedx.org/docs/1.6/json/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tomllib
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).parents[1]
WHEELS = ROOT / "requirements-3.13-box.lock"
HEAD = "# Every package of the image and its version. `image-build/build lock` writes it; the build says what differs.\n"

# Libraries inside wheels that no list of packages shows; whoever follows vulnerabilities must follow them too.
INSIDE_WHEELS: dict[str, Any] = tomllib.loads((ROOT / "image-build" / "inside-wheels.toml").read_text())


def main() -> int:
    """Parse the arguments and do it."""
    parser = argparse.ArgumentParser(prog="inventory.py", description=__doc__)
    parser.add_argument("act", choices=["compare", "lock", "sbom", "merge"])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("other", type=Path)
    arguments = parser.parse_args()
    manifest = json.loads(arguments.manifest.read_text())
    if arguments.act == "lock":
        lines = [f"{name} {version}\n" for name, version in sorted(packages(manifest).items())]
        arguments.other.write_text(HEAD + "".join(lines))
    elif arguments.act == "sbom":
        arguments.other.write_text(json.dumps(sbom(manifest, WHEELS.read_text()), indent=1) + "\n")
    elif arguments.act == "merge":
        merged = merge(manifest, json.loads(arguments.other.read_text()))
        arguments.manifest.write_text(json.dumps(merged, indent=2) + "\n")
    else:
        found = differences(packages(manifest), locked(arguments.other.read_text()))
        for line in found:
            print(line)
        return 1 if found else 0
    return 0


def packages(manifest: dict[str, Any]) -> dict[str, str]:
    """Debian's packages of mkosi's manifest: name → version."""
    return {each["name"]: each["version"] for each in manifest["packages"] if each["type"] == "deb"}


def merge(manifest: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`manifest` with the packages that `other` has alone. Raises `ValueError` for a package of which both have another version."""
    there, found = packages(manifest), list(manifest["packages"])
    for each in other["packages"]:
        name, version = each["name"], each["version"]
        if name not in there:
            found.append(each)
        elif there[name] != version:
            raise ValueError(f"{name} is {there[name]} here and {version} there: build again from nothing")
    return manifest | {"packages": sorted(found, key=lambda each: (str(each["name"]), str(each["type"])))}


def locked(text: str) -> dict[str, str]:
    """The lock: name → version."""
    rows = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {name: version for name, version, *_ in rows}


def differences(built: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """One line for each package that is new, gone, or of another version."""
    found = []
    for name in sorted({*built, *wanted}):
        was, now = wanted.get(name), built.get(name)
        if was == now:
            continue
        found.append(f"{name}: {was or 'not locked'} → {now or 'not in the image'}")
    return found


def wheels(lock: str) -> Iterator[tuple[str, str, list[str]]]:
    """The locked wheels: name, version, SHA-256 of each file that pip would accept."""
    for block in re.split(r"\n(?=[a-z0-9])", lock):
        if found := re.match(r"([a-z0-9._-]+)==(\S+)", block):
            yield found[1], found[2], re.findall(r"--hash=sha256:([0-9a-f]{64})", block)


def sbom(manifest: dict[str, Any], lock: str) -> dict[str, Any]:
    """The bill of materials of the image that `manifest` describes. The same image has the same one."""
    config = manifest["config"]
    program = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = list(wheels(lock))
    inside = {_address(name, version): list(_inside(name, version)) for name, version, _ in sorted(found)}
    components = [
        *_debian(each for each in manifest["packages"] if each["type"] == "deb"),
        *_python(found),
        {
            "type": "application",
            "bom-ref": f"pkg:pypi/{program['name']}@{program['version']}",
            "name": program["name"],
            "version": program["version"],
            "purl": f"pkg:pypi/{program['name']}@{program['version']}",
        },
    ]
    shipped = sorted(each["bom-ref"] for each in components)
    components += [each for held in inside.values() for each in held]
    digest = hashlib.sha256(json.dumps(components, sort_keys=True).encode()).digest()
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(_epoch(), UTC).isoformat().replace("+00:00", "Z"),
            "component": {
                "type": "operating-system",
                "bom-ref": "image",
                "name": config.get("name", "appliance"),
                "version": str(config.get("version") or program["version"]),
            },
        },
        "components": components,
        "dependencies": [
            {"ref": "image", "dependsOn": shipped},
            *(
                {"ref": wheel, "dependsOn": sorted(each["bom-ref"] for each in held)}
                for wheel, held in inside.items()
                if held
            ),
        ],
    }


def _epoch() -> int:
    return int(os.environ.get("SOURCE_DATE_EPOCH", "0"))


def _debian(found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in sorted(found, key=lambda package: str(package["name"])):
        # Of a purl's version a colon stays, and a plus does not: https://github.com/package-url/purl-spec.
        version, architecture = quote(each["version"], safe=".:~-"), each["architecture"]
        purl = f"pkg:deb/debian/{quote(each['name'], safe='.-')}@{version}?arch={architecture}&distro=trixie"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": each["name"],
            "version": each["version"],
            "purl": purl,
        }


def _python(found: Iterable[tuple[str, str, list[str]]]) -> Iterator[dict[str, Any]]:
    for name, version, hashes in sorted(found):
        purl = _address(name, version)
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
        }
        if len(hashes) == 1:
            component["hashes"] = [{"alg": "SHA-256", "content": hashes[0]}]
        yield component


def _address(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def _inside(wheel: str, version: str) -> Iterator[dict[str, Any]]:
    """What a wheel holds, each as a component of its own beside it: not every scanner looks into a component for others."""
    known = INSIDE_WHEELS["wheels"].get(wheel, {})
    crates = (each.split() for each in known.get("crates", []))
    rows = [
        *known.get("holds", []),
        *({"name": name, "version": number, "purl": f"pkg:cargo/{name}"} for name, number in crates),
    ]
    for row in rows:
        number = row.get("version", "")
        base = row.get("purl", f"pkg:generic/{row['name']}")
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": f"{_address(wheel, version)}#{base.removeprefix('pkg:')}",
            "name": row["name"],
            "purl": f"{base}@{number}" if number else base,
            "properties": [{"name": "appliance:inside", "value": wheel}],
        }
        if number:
            component["version"] = number
        if row.get("cpe"):
            component["cpe"] = f"cpe:2.3:a:{row['cpe']}:{number}:*:*:*:*:*:*:*"
        if row.get("built_from"):
            component["properties"].append({"name": "appliance:built-from", "value": row["built_from"]})
        yield component


if __name__ == "__main__":
    sys.exit(main())
