"""`make audit`, with a pip-audit that says what it is told: found, nothing found, and not having been able to look are three things."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.security import source
from tests.test_architecture import BOX_LOCKS, LOCKS, plain_name, requirements

AUDIT_LOCK = source.ROOT / "requirements-audit.lock"
COULD_NOT_LOOK = 75

PIP_AUDIT = """#!{python}
import json, pathlib, sys
told = {told!r}
name = sys.argv[sys.argv.index("--requirement") + 1]
asked = pathlib.Path({asked!r})
asked.write_text((asked.read_text() if asked.exists() else "") + name + "\\n")
assert "--strict" in sys.argv and "--require-hashes" in sys.argv
if told is None:
    sys.exit("no network")
pathlib.Path(sys.argv[sys.argv.index("--output") + 1]).write_text(json.dumps({{"dependencies": told}}))
sys.exit(any(each["vulns"] for each in told))
"""


def asked(
    folder: Path, told: object, command: tuple[str, ...] = (str(source.ROOT / ".ci/audit"),)
) -> subprocess.CompletedProcess[str]:
    program = folder / "pip-audit"
    program.write_text(
        PIP_AUDIT.format(python=sys.executable, told=told, asked=str(folder / "asked")), encoding="utf-8"
    )
    program.chmod(0o755)
    return subprocess.run(
        command,
        cwd=source.ROOT,
        env={"PATH": "/usr/bin:/bin", "PIP_AUDIT": str(program), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


def known(*holes: dict[str, object]) -> list[dict[str, object]]:
    return [{"name": "flask", "version": "3.0.0", "vulns": list(holes)}]


def test_of_every_lock_nothing_is_known(tmp_path: Path) -> None:
    said = asked(tmp_path, known())
    assert said.returncode == 0, said.stderr
    assert set((tmp_path / "asked").read_text().split()) == {each.name for each in (*LOCKS, *BOX_LOCKS)}


def test_a_hole_is_named_with_what_mends_it(tmp_path: Path) -> None:
    said = asked(tmp_path, known({"id": "PYSEC-0", "fix_versions": ["3.0.1"]}))
    assert said.returncode == 1
    assert f"{LOCKS[0].name}: flask 3.0.0: PYSEC-0, mended in 3.0.1" in said.stdout


def test_not_having_looked_is_said_and_is_neither(tmp_path: Path) -> None:
    said = asked(tmp_path, None)
    assert said.returncode == COULD_NOT_LOOK
    assert "could not look" in said.stderr
    assert "nothing is known" not in said.stdout


def test_a_job_each_night_fails_for_a_hole_and_never_for_a_network(tmp_path: Path) -> None:
    """The line of CONTRIBUTING.md, as a CI's shell runs it; what prepares the machine has done so."""
    line = re.search(r"^\.ci/setup && (.*)$", (source.ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert line is not None
    job = ("bash", "-e", "-c", line[1])
    assert asked(tmp_path, known(), job).returncode == 0
    assert asked(tmp_path, known({"id": "PYSEC-0", "fix_versions": []}), job).returncode != 0
    nobody = asked(tmp_path, None, job)
    assert (nobody.returncode, "could not look" in nobody.stderr) == (0, True)


def test_make_cannot_tell_a_hole_from_a_network_so_the_job_asks_by_itself() -> None:
    told = (source.ROOT / "CONTRIBUTING.md").read_text()
    assert "make audit ||" not in told
    assert "75" not in re.findall(r"^audit: .*", (source.ROOT / "Makefile").read_text(), re.MULTILINE)[0]


def test_the_tool_is_pinned_by_hash_and_is_in_no_other_lock() -> None:
    pinned = requirements(AUDIT_LOCK)
    assert "pip-audit" in {plain_name(each) for each in pinned}
    text = AUDIT_LOCK.read_text()
    blocks = re.split(r"\n(?=[a-z0-9])", text)
    assert all("--hash=sha256:" in each for each in blocks)
    for lock in (*LOCKS, *BOX_LOCKS):
        assert "pip-audit" not in {plain_name(each) for each in requirements(lock)}, lock.name


def test_no_test_asks_the_network_for_advisories() -> None:
    makefile = (source.ROOT / "Makefile").read_text()
    target = re.search(r"^test: (.*?) ##.*\n((?:\t.*\n)*)", makefile, re.MULTILINE)
    assert target is not None
    assert "audit" not in target[1] + target[2]
    assert re.search(r"^audit: .*##", makefile, re.MULTILINE)
