"""Whom the playbook is for: the box that a line of the help names, and of no line a box of an example."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from html import unescape
from pathlib import Path

import pytest
import yaml

from tests.provisioning.fleets import PROVISIONING, ROOT

pytestmark = pytest.mark.slow

HELP = [ROOT / "web-ui/help" / code / "runbooks.html" for code in ("en", "fr")]
WORDS = r"ansible-playbook\b[^\n<]*\bsite\.yml\b[^\n<]*"


def said_in(path: Path) -> list[str]:
    """Every line of a document that plays `site.yml`, as it stands there."""
    return [unescape(each) for each in re.findall(WORDS, path.read_text("utf-8"))]


LINES = sorted(
    {
        line
        for path in (*HELP, PROVISIONING / "README.md", PROVISIONING / "site.yml")
        for line in said_in(path)
    }
)


def folder(at: Path, *boxes: str) -> Path:
    """The playbooks as they are handed out, and of an operator the inventories: of `boxes`, and of a fleet."""
    made = at / "provisioning"
    shutil.copytree(PROVISIONING, made, ignore=shutil.ignore_patterns("*.key", "hosts.y*ml", "fleet.y*ml"))
    hosts = {"appliances": {"hosts": dict.fromkeys(boxes)}}
    (made / "inventory/hosts.yml").write_text(yaml.safe_dump(hosts, allow_unicode=True), "utf-8")
    fleet = {"plugin": "appliance_fleet", "board": str(at), "register": []}
    (made / "inventory/fleet.yml").write_text(yaml.safe_dump(fleet))
    return made


def typed(line: str, at: Path) -> str:
    """What comes of a line in a shell in the folder `at`; it must come to a good end."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = {
        "ANSIBLE_HOME": str(at.parent / "ansible"),
        "NO_COLOR": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": path,
    }
    done = subprocess.run(
        ["bash", "-c", line], cwd=at, env=os.environ | home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def named(line: str) -> str:
    """The box that a line names."""
    (name,) = re.findall(r" --limit (\S+)", line)
    return str(name)


def test_the_help_says_it_twice_in_each_language() -> None:
    for path in HELP:
        first, again = said_in(path)
        assert first == again


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_plays_it_names_one_box_and_reaches_no_other(line: str, tmp_path: Path) -> None:
    at = folder(tmp_path, "a-clinic", named(line), "z-clinic")
    told = typed(f"{line} --list-hosts", at)
    assert re.findall(r"hosts \((\d+)\):\n +(\S+)\n?$", told) == [("1", named(line))], told


@pytest.mark.parametrize("words", [(), ("-i", "inventory")])
def test_no_example_is_an_inventory_and_a_fleet_is_one_only_where_it_is_named(
    words: Sequence[str], tmp_path: Path
) -> None:
    told = json.loads(typed(" ".join(("ansible-inventory", *words, "--list")), folder(tmp_path, "clinic-a")))
    assert [each for group in told.values() for each in group.get("hosts", [])] == ["clinic-a"]
    assert ("fleet" in told["all"]["children"]) == bool(words)
