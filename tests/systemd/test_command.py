"""`/usr/bin/appliance`: what it hands on to the transient unit that carries out a verb."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from appliance.cli import session

COMMAND = Path(__file__).parents[2] / "systemd/libexec/appliance"


def handed_on(folder: Path, *words: str, **environment: str) -> list[str]:
    """The words for systemd-run, from a root of the test's own who stands in `folder`."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, script in (("id", "echo 0"), ("systemd-run", 'printf "%s\\n" "$@"'), ("systemctl", "exit 1")):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    done = subprocess.run(
        [COMMAND, *words],
        env={"PATH": f"{programs}:/usr/bin:/bin", **environment},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_audit_is_told_who_was_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = handed_on(tmp_path, "support", "open", SUDO_USER="marie")
    (name,) = [
        word.removeprefix("--setenv=SUDO_USER=") for word in said if word.startswith("--setenv=SUDO_USER")
    ]
    monkeypatch.setenv("SUDO_USER", name)
    assert session.actor() == "command line: marie"
    assert not [word for word in handed_on(tmp_path, "status") if "SUDO_USER" in word]


@pytest.mark.parametrize(
    "typed",
    [
        "$5 too much",
        "${HOME}",
        "a $HOME b",
        "$$",
        "$",
        "a$",
        "$b",
        "'$x' \"$y\" `z` \\$w",
        "*",
        "",
        " two  words ",
    ],
)
def test_what_is_typed_arrives_as_it_was_typed(typed: str, tmp_path: Path) -> None:
    said = handed_on(tmp_path, "support", "open", "--reason", typed, "--hours", "4", HOME="/root")
    *_, reason, _, hours = said
    assert said[-6:-2] == ["support", "open", "--reason", reason]
    assert hours == "4"
    assert as_systemd_reads(reason) == typed


def as_systemd_reads(word: str) -> str:
    """A word of what a unit runs (systemd.service(5), COMMAND LINES); that none of its variables is known is the worst that can be."""
    return re.sub(r"\$(\$|\{\w+\}|\w+)?", lambda found: "$" if found[1] in ("$", None) else "", word)


def test_a_file_is_looked_for_where_the_person_stands_and_left_where_they_see_it(tmp_path: Path) -> None:
    there = tmp_path / "two words"
    there.mkdir()
    said = handed_on(there, "import", "film1.dcm")
    assert f"--property=WorkingDirectory=-{there}" in said
    assert not [word for word in said if "PrivateTmp" in word or word.startswith("--working-directory")], (
        "what is written to a unit's own /tmp is gone with it"
    )
    assert said[said.index("import") :] == ["import", "film1.dcm"]
