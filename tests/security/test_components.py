"""What the product is made of: nothing known to be broken, nothing superfluous, nothing of the workshop."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.security import source
from tests.test_architecture import LOCKS, PYPROJECT, plain_name, requirements

MENDED_IN = {  # the version that mends the last advisory known to us, of what is locked
    "brotli": "1.2.0",  # CVE-2025-6176, a bomb
    "certifi": "2024.7.4",  # CVE-2024-39689, a distrusted root
    "cryptography": "44.0.1",  # CVE-2024-12797, in the OpenSSL it brings
    "flask": "3.1.1",  # CVE-2025-47278
    "fonttools": "4.60.2",  # CVE-2025-66034
    "jinja2": "3.1.6",  # CVE-2025-27516
    "pillow": "11.3.0",  # CVE-2025-48379
    "protobuf": "6.31.1",  # CVE-2025-4565
    "requests": "2.32.4",  # CVE-2024-47081
    "urllib3": "2.6.0",  # CVE-2025-66418, CVE-2025-66471
    "waitress": "3.0.1",  # CVE-2024-49768, CVE-2024-49769
    "weasyprint": "68.0",  # CVE-2025-68616, a redirect around the fetcher
    "werkzeug": "3.1.4",  # CVE-2025-66221
}
IMPORTED_AS = {
    "argon2-cffi": "argon2",
    "pillow": "PIL",
    "prometheus-client": "prometheus_client",
}


def version(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", text.split("+", maxsplit=1)[0])[:4])


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_component_is_older_than_the_mending_of_a_known_hole(lock: Path) -> None:
    locked = {plain_name(pin): pin.partition("==")[2] for pin in requirements(lock)}
    seen = set(locked) & set(MENDED_IN)
    assert len(seen) > 10
    old = {name: locked[name] for name in seen if version(locked[name]) < version(MENDED_IN[name])}
    assert not old, "run `make lock UPGRADE=1`"


def test_times_to_mend_are_documented() -> None:
    text = (source.ROOT / "CONTRIBUTING.md").read_text("utf-8")
    policy = re.search(r"### When a component has a hole\n(.*?)\n#", text, re.DOTALL)
    assert policy is not None
    for word in (
        "exploited",
        "critical",
        "high",
        "48 hours",
        "7 days",
        "30 days",
        "90 days",
        "every release",
    ):
        assert word in policy[1], word


def test_costly_functions_are_documented() -> None:
    text = (source.ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = re.search(r"### What costs much\n(.*?)\n#", text, re.DOTALL)
    assert table is not None
    rows = re.findall(r"^\| (?!what|---)(.+?) \|", table[1], re.MULTILINE)
    assert len(rows) >= 8
    for module in re.findall(r"`(appliance/[\w/.]+)`", table[1]):
        assert (source.ROOT / module).exists(), module


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    declared = {plain_name(each) for each in PYPROJECT["project"]["dependencies"]}
    declared.remove("python-gdcm")  # pydicom's decoders import it
    names = {IMPORTED_AS.get(each, each.replace("-", "_")) for each in declared}
    imported = {name.partition(".")[0] for _, name in source.imported()} - set(sys.stdlib_module_names)
    of_those = {"botocore", "jinja2", "markupsafe", "mypy_boto3_s3", "werkzeug", "_typeshed"}
    """What comes with Flask and boto3 by their own promise, and types for the checker only."""
    assert imported - {"appliance"} - of_those == names


def test_the_product_imports_nothing_of_the_tests() -> None:
    of_tests = {
        plain_name(each).replace("-", "_") for each in PYPROJECT["project"]["optional-dependencies"]["test"]
    }
    for module, name in source.imported():
        top = name.partition(".")[0]
        assert top != "tests", module
        assert top not in of_tests, (module, top)


def test_the_wheel_holds_the_product_and_nothing_else() -> None:
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["appliance"]
    assert wheel["artifacts"] == ["appliance/web/static/build/**"]
    assert set(wheel["force-include"]) == {"web-ui/templates", "web-ui/languages", "web-ui/help"}
    listed = subprocess.run(
        ["git", "ls-files", *wheel["packages"], *wheel["force-include"]],
        cwd=source.ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    kinds = {Path(name).suffix for name in listed} - {
        ".py",
        ".html",
        ".txt",
        ".json",
        ".mako",
        ".typed",
        ".svg",
    }
    assert not kinds
    assert not [
        name for name in listed if re.search(r"(^|/)(tests?|\.git|\.env|conftest|fixtures?)(/|\.|$)", name)
    ]


def test_nothing_of_version_control_can_be_asked_for(client: FlaskClient) -> None:
    for path in (
        "/.git/config", "/.git/HEAD", "/.svn/entries", "/.env", "/.gitignore", "/pyproject.toml", "/static/.git/config",
        "/static/../.git/config", "/static/%2e%2e/%2e%2e/pyproject.toml", "/static/manifest.json/../../../security.py",
    ):  # fmt: skip
        assert client.get(path).status_code == 404, path


def test_versions_are_compared_as_numbers() -> None:
    assert version("3.10.0") > version("3.9.9")
    assert version("2026.10.18") > version("2024.7.4")
