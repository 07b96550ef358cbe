"""Key folders to test on: new ones, confirmed ones, and those that a kill has left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from appliance.store import keys
from appliance.store.keys import RootKey
from appliance.store.recovery import RecoveryKey

CONTEXT = b"0123456789abcdef0123456789abcdef"
NO_CREDENTIAL: dict[str, str] = {}


def confirmed(directory: Path, environ: dict[str, str] = NO_CREDENTIAL) -> tuple[RootKey, RecoveryKey]:
    root = keys.create_keys(directory, environ)
    paper = keys.show_recovery(directory, root)
    keys.check_recovery(directory, root, str(paper))
    return root, paper


DYING = """
import os, shutil, signal, sys
from pathlib import Path
from appliance.store import keys
from appliance.store.recovery import RecoveryKey

prepared, results, action, environ = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], {}

def act(directory):
    if action == "create":
        keys.create_keys(directory, environ)
    elif action.startswith("reseal "):
        keys.reseal(directory, action[7:], environ)
    else:
        root = keys.open_keys(directory, environ)
        if action == "rotate":
            keys.rotate(directory, root, environ)
        elif action.startswith("root "):
            keys.rotate_root(directory, root, action[5:], environ)
        else:
            keys.check_recovery(directory, root, action)

for step in range(1, 1000):
    data = results / str(step)
    shutil.copytree(prepared, data)
    child = os.fork()
    if child == 0:
        left = step
        def die(event, arguments):
            global left
            if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and str(data) in str(arguments[0]):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(die)
        act(data / "keys")
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def interrupted(prepared: Path, results: Path, action: str) -> Iterator[Path]:
    """The key directories left by `action` when it is killed before each of its steps on files, and once not at all."""
    results.mkdir()
    subprocess.run([sys.executable, "-c", DYING, prepared, results, action], check=True, timeout=100)
    left = sorted(results.iterdir(), key=lambda path: int(path.name))
    assert len(left) > 4, "nothing was interrupted"
    return (data / "keys" for data in left)
