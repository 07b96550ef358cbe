"""The README is held to the code: what it names exists, and what exists is named."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from appliance.cli.arguments import Parser
from appliance.cli.command import parser
from appliance.config import ENVIRONMENT

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def code_spans() -> list[str]:
    return re.findall(r"`([^`\n]+)`", README)


def commands() -> list[str]:
    """Every ``appliance …`` line, in a code span or a block."""
    inline = [span for span in code_spans() if span.startswith("appliance ")]
    blocks = re.findall(r"^ *(appliance [a-z].*)$", README, re.MULTILINE)
    return [re.sub(r"\s*<.*", "", line) for line in [*inline, *blocks]]


def test_every_command_it_shows_is_understood() -> None:
    root: Parser = parser()
    shown = [line for line in commands() if "VERB" not in line and "--help" not in line]
    assert len(shown) >= 8
    for line in shown:
        words = line.split()[1:]
        if words[0] in {"run", "status", "key", "device", "destination", "rule"} and len(words) >= 1:
            root.parse_args(words)


def test_every_path_it_names_exists() -> None:
    paths = {span for span in code_spans() if re.fullmatch(r"\.?[\w.-]+(/[\w.-]+)*/?", span) and "/" in span}
    paths |= {span for span in code_spans() if re.fullmatch(r"[\w-]+\.(lock|toml|md)", span)}
    inside_the_data_folder = {
        "keys/",
        "intake/",
        "backups/",
        "arriving/",
        "logs/",
        "tls/",
        "server.pem",
        "clinic-ca.pem",
    }
    missing = {path for path in paths - inside_the_data_folder if not (ROOT / path).exists()} - {"./var"}
    assert not missing


def test_every_package_is_on_the_map() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "appliance"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    tops = {"/".join(path.split("/")[:2]) + ("/" if path.count("/") > 1 else "") for path in listed}
    tops -= {"appliance/__init__.py", "appliance/__main__.py"}
    named = set(code_spans())
    missing = {
        top
        for top in tops
        if top not in named and not any(span.startswith(top.rstrip("/") + "/") for span in named)
    }
    assert not missing, "give these a line in README's map"


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_setting_of_the_environment_is_in_it() -> None:
    assert set(re.findall(r"APPLIANCE_[A-Z_]+", README)) == {*ENVIRONMENT, "APPLIANCE_CONFIG"}


def test_every_dependency_has_its_reason() -> None:
    table = README.split("## Dependencies, and why")[1].split("\n## ")[0]
    for wanted in PYPROJECT["project"]["dependencies"]:
        name = re.match(r"[A-Za-z0-9_.-]+", wanted)
        assert name is not None
        assert re.search(rf"\b{re.escape(name[0])}\b", table), f"why {name[0]}?"


@pytest.mark.parametrize("code", [64, 65, 75, 76, 78])
def test_the_exit_codes_it_names_are_those_of_the_errors(code: int) -> None:
    from appliance import errors
    from appliance.cli.arguments import WrongCommand

    kinds = [WrongCommand, errors.Refused, errors.Transient, errors.Corrupt, errors.OperatorNeeded]
    assert code in {kind.exit_code for kind in kinds}
    assert re.search(rf"\b{code}\b", README)
    assert errors.OperatorNeeded.exit_code == os.EX_CONFIG
