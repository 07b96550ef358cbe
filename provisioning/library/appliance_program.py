#!/usr/bin/python
"""Ansible module: the program in a Python environment that holds what its lock says, made beside the one in use.

Chose a new environment for each change: pip over one that is in use leaves what an older lock had, takes a file that a power cut has emptied
for installed, and can't follow Debian to its next Python.

    HOME/venvs/NAME/    an environment; NAME/installed says of what it was made
    HOME/venv           a link to the one in use; what starts, starts by it

All of a new one is on the disk before the link leads to it, in one step; whatever is cut before leaves the one in use as it was. Scripts in an
environment name it and not the link, so that a process goes on with the files that it began with, also with those that it reads only later.
Those no longer in use go by a second call (``tidy``), after the restart, and only where no process runs with them: a verb that an
administrator began keeps its own until the next run.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import umask
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: appliance_program
short_description: The program in a Python environment that holds what its lock says, made beside the one in use
options:
  home: {description: The folder of the program., type: path, required: true}
  lock: {description: "The requirements, each by its hash.", type: path, required: true}
  wheel: {description: The program's own wheel., type: path, required: true}
  wheelhouse: {description: "A folder with every wheel that the lock names; empty: they are fetched.", type: path, default: ""}
  python: {description: By which it is made., type: path, default: /usr/bin/python3}
  anew: {description: "Also where it is what is wanted: a run was cut.", type: bool, default: false}
  tidy: {description: "Install nothing, and remove what is not in use.", type: bool, default: false}
author: [the appliance's engineers]
"""

RETURN = """
due: {description: Whether it would be installed., returned: of a run that only looks, type: bool}
removed: {description: "What is no longer in use, by name.", returned: with `tidy`, type: list, elements: str}
"""

PYTHON = "/usr/bin/python3"
"""Debian's, whatever Ansible itself runs with."""
ROOM_BYTES = 1 << 30
"""What must be free: an environment, and something for whoever receives images meanwhile."""
BEFORE = "before-"
"""What the name of an environment begins with that was in use before there was a link."""
PATIENCE_SECONDS = 900.0
"""How long another run's installation is waited for."""


class CannotError(Exception):
    """Why it can't be installed, in words for the operator."""


@dataclass
class Program:
    """What is wanted in `home`, and by which Python."""

    home: Path
    lock: Path
    wheel: Path
    wheelhouse: str = ""
    python: str = PYTHON
    patience_seconds: float = PATIENCE_SECONDS
    processes: Path = Path("/proc")
    _turn: list[int] = field(default_factory=list)

    @property
    def link(self) -> Path:
        return self.home / "venv"

    @property
    def places(self) -> Path:
        return self.home / "venvs"

    def is_there(self) -> bool:
        """Whether the environment in use was made of what is wanted, by the Python that there is."""
        if not (self.link.is_symlink() and self.lock.exists() and self.wheel.exists()):
            return False
        said = self.link / "installed"
        return said.exists() and said.read_text() == self.wanted()

    def wanted(self) -> str:
        """Of what an environment is made."""
        asked = [self.python, "-I", "-c", "import sys; print('python %d.%d' % sys.version_info[:2])"]
        python = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        files = [f"{hashlib.sha256(each.read_bytes()).hexdigest()}\n" for each in (self.lock, self.wheel)]
        return "".join([python, *files])

    def install(self, *, anew: bool) -> bool:
        """Make it unless it is there, and lead the link to it; whether anything was done. Raises `CannotError`."""
        self.places.mkdir(mode=0o755, exist_ok=True)
        with self._in_turn():
            if not anew and self.is_there():
                return False
            self._lead_back()
            for each in self._unused():
                shutil.rmtree(each)
            self._find_room()
            made = Path(tempfile.mkdtemp(prefix=f"{self.wheel.name.split('-')[1]}-", dir=self.places))
            try:
                made.chmod(0o755)
                self._fill(made)
                (made / "installed").write_text(self.wanted())
                self._run("sync", "-f", str(made))
                self._lead_to(made)
            except BaseException:
                if not (self.link.is_symlink() and self.link.resolve() == made.resolve()):
                    shutil.rmtree(made, ignore_errors=True)
                    self._lead_back()
                raise
            self._run("sync", "-f", str(self.home))
            return True

    def tidy(self, *, check: bool) -> list[str]:
        """Remove environments that no process runs with, and wheels of other versions; which ones."""
        with self._in_turn():
            unused = [
                *(self._unused() if self.link.exists() else ()),
                *(each for each in self.home.glob("*.whl") if each != self.wheel),
            ]
            for each in unused if not check else ():
                if each.is_dir():
                    shutil.rmtree(each)
                else:
                    each.unlink()
            return sorted(each.name for each in unused)

    def _fill(self, made: Path) -> None:
        self._run(self.python, "-I", "-m", "venv", str(made))
        pip = [str(made / "bin/python"), "-I", "-m", "pip", "--disable-pip-version-check"]
        install = [*pip, "install", "--quiet", "--no-cache-dir", "--no-deps"]
        near = ["--no-index", "--find-links", self.wheelhouse] if self.wheelhouse else []
        self._run(*install, "--require-hashes", "--requirement", str(self.lock), *near)
        self._run(*install, "--no-index", str(self.wheel))
        self._run(*pip, "check")
        # Nothing is installed into it any more.
        self._run(*pip, "uninstall", "--quiet", "--yes", "pip")

    def _lead_to(self, made: Path) -> None:
        following = self.home / "venv.next"
        following.unlink(missing_ok=True)
        following.symlink_to(made.relative_to(self.home))
        if self.link.is_dir() and not self.link.is_symlink():
            # From before there was a link. Once in a box's life there is nothing for a moment: what starts just then is started again.
            self.link.rename(self.places / f"{BEFORE}{made.name}")
        following.replace(self.link)

    def _lead_back(self) -> None:
        """Where a cut has left that moment to be for good, what was in use then is again, before anything of it is taken for unused."""
        if not self.link.exists() and (before := sorted(self.places.glob(f"{BEFORE}*"))):
            self.link.unlink(missing_ok=True)
            self.link.symlink_to(before[-1].relative_to(self.home))

    def _unused(self) -> list[Path]:
        """Environments other than the one in use that no process names, nor has a library of."""
        if not self.places.is_dir():
            return []
        current = self.link.resolve()
        others = [each for each in self.places.iterdir() if each.is_dir() and each.resolve() != current]
        return [each for each in others if not self._is_run(each)] if others else []

    def _is_run(self, place: Path) -> bool:
        named = f"{place}/".encode()
        for process in self.processes.glob("[0-9]*"):
            for told in ("cmdline", "maps"):
                try:
                    if named in (process / told).read_bytes():
                        return True
                except OSError:  # it has ended meanwhile
                    continue
        return False

    def _find_room(self) -> None:
        free = shutil.disk_usage(self.home).free
        if free < ROOM_BYTES:
            raise CannotError(
                f"{free >> 20} MiB are free where {self.home} is, and {ROOM_BYTES >> 20} are needed: nothing was changed"
            )

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Wait while another run installs. pip holds the turn too: it goes on where the line to the run that began it drops."""
        with (self.home / ".installing").open("w") as turn:
            deadline = time.monotonic() + self.patience_seconds
            while True:
                try:
                    fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise CannotError("another run is installing, and does not end") from error
                    time.sleep(0.2)
            self._turn = [turn.fileno()]
            try:
                yield
            finally:
                self._turn = []

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, pass_fds=self._turn
        )
        if done.returncode:
            raise CannotError(f"{_short(words)}: {(done.stdout + done.stderr)[-2000:].strip()}")


def _short(words: Sequence[str]) -> str:
    return " ".join(words)[:200]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "lock": {"type": "path", "required": True},
            "wheel": {"type": "path", "required": True},
            "wheelhouse": {"type": "path", "default": ""},
            "python": {"type": "path", "default": PYTHON},
            "anew": {"type": "bool", "default": False},
            "tidy": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    told = module.params
    umask(0o022)  # whoever the program runs as must read it, whatever root's own habit is
    program = Program(
        Path(told["home"]), Path(told["lock"]), Path(told["wheel"]), told["wheelhouse"], told["python"]
    )
    try:
        if told["tidy"]:
            removed = program.tidy(check=module.check_mode) if program.home.is_dir() else []
            module.exit_json(changed=bool(removed), removed=removed)
        elif module.check_mode:
            due = told["anew"] or not program.is_there()
            module.exit_json(changed=due, due=due)
        else:
            module.exit_json(changed=program.install(anew=told["anew"]))
    except (CannotError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
