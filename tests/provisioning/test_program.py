"""How the program is installed on a provisioned Debian: the environment holds what the lock says, whatever was there before or was cut between."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.provisioning.test_playbooks import PROVISIONING, defaults, tasks, tool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

OURS = "clinic_edge_appliance"
READS_LATER = """\
import sys
import needed
print(needed.X, flush=True)
sys.stdin.readline()
import needed.later
print(needed.later.X, flush=True)
sys.stdin.readline()
"""


def module() -> Any:
    spec = importlib.util.spec_from_file_location(
        "appliance_program", PROVISIONING / "library" / "appliance_program.py"
    )
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["appliance_program"] = found
    spec.loader.exec_module(found)
    return found


def wheel(folder: Path, name: str, version: str, **more: str) -> Path:
    """A wheel with one package, whose `X` is its version."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"X = {version!r}\n",
        f"{name}/later.py": f"X = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more.get('needs', '')}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for path, text in files.items()
    )
    made = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as packed:
        for path, text in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            packed.writestr(path, text)
    return made


class Box:
    """The folder of the program, and what is to be in it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        (self.home / "wheels").mkdir(parents=True)
        self.module = module()
        self.brings()

    def brings(self, version: str = "1.0", *names: str, needs: str = "") -> None:
        """The wheel of `version`, and a lock that names `needed` of the same and `names`."""
        lines = []
        for name in ("needed", *names):
            there = wheel(self.home / "wheels", name, version)
            lines.append(
                f"{name}=={version} --hash=sha256:{hashlib.sha256(there.read_bytes()).hexdigest()}\n"
            )
        (self.home / "requirements.lock").write_text("".join(lines))
        self.wheel = wheel(self.home, OURS, version, needs=needs)

    def program(self, **more: Any) -> Any:
        lock, wheels = self.home / "requirements.lock", str(self.home / "wheels")
        return self.module.Program(self.home, lock, self.wheel, wheels, sys.executable, **more)

    def installs(self, *, anew: bool = False) -> bool:
        return bool(self.program().install(anew=anew))

    def says(self, what: str) -> str:
        """What a process that starts now is told."""
        words = [str(self.home / "venv/bin/python"), "-I", "-c", f"import {what}; print({what}.X)"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.stdout.strip() or done.stderr.splitlines()[-1].partition(":")[0]

    def places(self) -> list[str]:
        return sorted(each.name for each in (self.home / "venvs").iterdir())


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_it_holds_what_the_lock_says_whatever_was_there_before(box: Box) -> None:
    box.brings("1.0", "dropped")
    assert box.installs()
    assert (box.says("needed"), box.says(OURS), box.says("dropped")) == ("1.0", "1.0", "1.0")
    assert box.says("pip") == "ModuleNotFoundError"
    assert not box.installs(), "a second run changes nothing"

    box.brings("2.0")
    assert box.installs()
    assert (box.says("needed"), box.says(OURS), box.says("dropped")) == ("2.0", "2.0", "ModuleNotFoundError")
    assert not box.installs(), "what an older lock had is gone, and all is as it should be"

    (emptied,) = box.home.glob("venv/lib/*/site-packages/needed/__init__.py")
    emptied.write_text("")
    shutil.rmtree(emptied.parent / "__pycache__", ignore_errors=True)
    assert box.says("needed") == "AttributeError"
    assert box.installs(anew=True), "after a power cut"
    assert box.says("needed") == "2.0"

    said = box.home / "venv/installed"
    said.write_text(said.read_text().replace(f"python 3.{sys.version_info.minor}\n", "python 3.2\n"))
    assert box.installs(), "Debian has gone on to its next Python"
    assert not box.installs()

    made = (box.home / "venv").resolve()
    (box.home / "venv").unlink()
    made.rename(box.home / "venv")
    assert box.installs(), "from before there was a link"
    assert (box.home / "venv").is_symlink()
    assert box.says("needed") == "2.0"
    box.program().tidy(check=False)
    assert box.places() == [(box.home / "venv").resolve().name]


def test_who_runs_goes_on_with_the_files_that_it_began_with_and_they_go_after_it(box: Box) -> None:
    box.installs()
    before = (box.home / "venv").resolve()
    old = box.wheel
    # As a unit starts: by the link, and a script of the environment says which Python.
    script = box.home / "venv/bin/started"
    script.write_text(f"#!{before}/bin/python -I\n{READS_LATER}")
    script.chmod(0o755)
    with subprocess.Popen([script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runs:
        assert runs.stdin is not None and runs.stdout is not None
        assert runs.stdout.readline() == "1.0\n"
        box.brings("2.0")
        box.installs()
        assert box.says("needed") == "2.0", "who starts now gets the new one"
        assert box.program().tidy(check=False) == [old.name]
        assert before.name in box.places()
        runs.stdin.write("\n")
        runs.stdin.flush()
        assert runs.stdout.readline() == "1.0\n", "what it reads only now is of the version that it is"
    assert box.program().tidy(check=True) == [before.name]
    assert before.name in box.places()
    assert box.program().tidy(check=False) == [before.name]
    assert box.program().tidy(check=False) == []
    assert box.places() == [(box.home / "venv").resolve().name]
    assert sorted(each.name for each in box.home.glob("*.whl")) == [box.wheel.name]


def _spoils_the_lock(box: Box) -> None:
    lock = box.home / "requirements.lock"
    lock.write_text(re.sub("sha256:.{4}", "sha256:0000", lock.read_text()))


def test_what_can_not_be_installed_leaves_what_is_in_use(box: Box) -> None:
    box.installs()
    before = box.places()
    ways: list[tuple[Callable[[], object], str]] = [
        (lambda: box.brings("2.0", needs="Requires-Dist: needed>=3\n"), "needed>=3"),
        (lambda: _spoils_the_lock(box), "HASH"),
        (lambda: setattr(box.module, "ROOM_BYTES", 1 << 60), "are free where"),
    ]
    for spoils, words in ways:
        spoils()
        with pytest.raises(box.module.CannotError, match=words):
            box.installs()
        assert box.says("needed") == "1.0"
        assert box.places() == before, "nor does the disk fill with what was begun"


def test_a_run_that_was_cut_leaves_nothing_that_is_taken_for_an_environment(box: Box) -> None:
    box.installs()
    before = (box.home / "venv").resolve()
    (box.home / "venvs/1.0-cut").mkdir()
    (box.home / "venv.next").symlink_to("venvs/1.0-cut")
    box.brings("2.0")
    assert box.installs()
    assert box.says("needed") == "2.0"
    assert "1.0-cut" not in box.places()
    assert not (box.home / "venv.next").is_symlink()
    assert before.name in box.places(), "what may still be run goes after the restart"


def test_a_cut_between_the_folder_that_was_in_use_and_the_first_link_leaves_the_version_before(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.installs()
    (box.home / "venv").unlink()
    (old,) = (box.home / "venvs").iterdir()
    old.rename(box.home / "venv")
    box.brings("2.0")
    with monkeypatch.context() as cut:
        cut.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            box.installs()
    assert box.says(OURS) == "1.0", "who could still say so has put it back at once"
    (box.home / "venv").unlink()  # as the power leaves it
    box.program().tidy(check=False)
    monkeypatch.setattr(box.module, "ROOM_BYTES", 1 << 62)
    with pytest.raises(box.module.CannotError):
        box.installs()
    assert box.says(OURS) == "1.0", "nothing of it was taken for unused before the next was there"
    monkeypatch.undo()
    assert box.installs()
    assert box.says(OURS) == "2.0"


def test_two_runs_do_not_meet(box: Box) -> None:
    with (box.home / ".installing").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with pytest.raises(box.module.CannotError, match="another run is installing"):
            box.program(patience_seconds=0.5).install(anew=True)


def test_what_is_no_longer_run_goes_when_all_that_runs_was_started_anew() -> None:
    """Handlers come before post_tasks, which are not come to where one of them fails."""
    (play,) = yaml.safe_load((PROVISIONING / "site.yml").read_text())
    assert "tasks/site-last.yml" in [each.get("ansible.builtin.import_tasks") for each in play["post_tasks"]]
    (last,) = yaml.safe_load((PROVISIONING / "tasks/site-last.yml").read_text())
    assert last["appliance_program"]["tidy"] is True
    installs = tasks("appliance")["It is installed, each package by its hash"]
    assert installs["notify"] == "Restart the appliance"
    for name in ("home", "lock", "wheel"):
        assert installs["appliance_program"][name] == last["appliance_program"][name]
    units = [
        path.read_text() for path in (PROVISIONING.parent / "systemd/system").glob("appliance-*.service")
    ]
    assert all(
        f"ExecStart={defaults('appliance')['appliance_home']}/venv/bin/appliance " in text for text in units
    )


def test_wheels_are_looked_at_where_they_are_to_be_installed() -> None:
    """Each is a question of its own to the box, of which there are sixty."""
    does = tasks("appliance")
    looks = does["Whether it is to be installed"]
    assert (
        looks["appliance_program"] == does["It is installed, each package by its hash"]["appliance_program"]
    )
    assert looks["check_mode"] is True
    wheels = does["The wheels that it needs"]
    assert wheels["when"] == f"appliance_wheelhouse | length > 0 and {looks['register']}.due"
    assert [*does].index("The program and its lock") < [*does].index("Whether it is to be installed")


def asked(box: Box, *more: str, **values: object) -> dict[str, Any]:
    """What Ansible itself says of the module's work."""
    told = {
        "home": str(box.home),
        "lock": str(box.home / "requirements.lock"),
        "wheel": str(box.wheel),
        "wheelhouse": str(box.home / "wheels"),
        "python": sys.executable,
        **values,
    }
    done = subprocess.run(
        [
            *(
                tool("ansible"),
                "localhost",
                "-i",
                "localhost,",
                "-c",
                "local",
                "-o",
                "-m",
                "appliance_program",
            ),
            *("-e", f"ansible_python_interpreter={sys.executable}", "-a", json.dumps(told), *more),
        ],
        cwd=PROVISIONING,
        env=os.environ | {"ANSIBLE_HOME": str(box.home.parent / "ansible"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "SUCCESS" in done.stdout or "CHANGED" in done.stdout, done.stdout + done.stderr
    return dict(json.loads(done.stdout[done.stdout.index("{") :]))


def test_a_run_that_only_looks_says_what_is_so(box: Box) -> None:
    assert asked(box, "--check")["due"], "so that the wheels are looked at"
    assert asked(box, "--check")["changed"]
    assert not (box.home / "venv").exists()
    assert asked(box)["changed"]
    found = asked(box, "--check")
    assert not found["changed"]
    assert not found["due"]
    assert asked(box, "--check", anew=True)["due"]
    assert not asked(box)["changed"]
    box.brings("2.0")
    assert asked(box, "--check")["changed"]
    assert box.says("needed") == "1.0"
