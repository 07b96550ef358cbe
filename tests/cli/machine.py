"""A machine that was provisioned, as far as its administrator's shell goes: what a runbook says to type there is typed.

The shell is real, and so are `cp`, `rm` and `df`; the folders of the box and the disk that is plugged in are scratch folders, and a
line that names any other is not typed. systemd is a program that knows the units of the check-out and no others; the journal is an
empty one, which the real `journalctl` reads where there is one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

SYSTEMCTL = """#!/bin/sh
set -eu
verb=$1
shift
for unit; do
    known=
    for file in "$UNITS"/$unit "$UNITS"/$unit.service; do # a pattern, too
        if [ -f "$file" ]; then
            known=1
            echo "$verb ${file##*/}"
        fi
    done
    if [ -z "$known" ]; then
        echo "Unit $unit could not be found." >&2
        exit 5
    fi
done
case $verb in
start | stop | restart | list-units) ;;
*)
    echo "Unknown command verb $verb." >&2
    exit 1
    ;;
esac
"""

JOURNALCTL = """#!/bin/sh
set -eu
[ -x "$REAL" ] || exit 0
exec "$REAL" --directory="$JOURNAL" "$@"
"""


@dataclass
class Machine:
    """Its folders, and what was typed so far."""

    scratch: Path
    data: Path
    disk: Path
    typed: list[str] = field(default_factory=list)
    stopped: bool = False

    def __post_init__(self) -> None:
        for each in ("bin", "journal", "machine-seal"):
            (self.scratch / each).mkdir(parents=True, exist_ok=True)
        for name, program in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
            (self.scratch / "bin" / name).write_text(program)
            (self.scratch / "bin" / name).chmod(0o755)

    @property
    def seal(self) -> Path:
        """Where the seal of the machine is."""
        return self.scratch / "machine-seal"

    def placed(self, line: str) -> str:
        """The line with the scratch folders in the place of the machine's."""
        for there, here in (
            ("/var/lib/appliance", self.data),
            ("/var/lib/machine-seal", self.seal),
            ("/media/DISK", self.disk),
        ):
            line = re.sub(rf"{there}(?![\w-])", str(here), line)
        return line

    def keep(self, into: str, text: str) -> None:
        """Write what a command has printed into a file."""
        Path(into).write_text(text, "utf-8")

    def type(self, line: str, *more: object) -> str:
        """Type `line`, and `more` where it leaves off; what it printed. It must come to a good end."""
        words = " ".join([self.placed(line), *map(str, more)])
        ours = (str(self.scratch), str(self.data), str(self.disk))
        strange = [each for each in re.findall(r"(?:^|\s)(/\S*)", words) if not each.startswith(ours)]
        assert not strange, f"nothing is typed about {strange}"
        done = subprocess.run(
            ["bash", "-c", words],
            env=os.environ
            | {
                "PATH": f"{self.scratch / 'bin'}:{os.environ['PATH']}",
                "UNITS": str(ROOT / "systemd/system"),
                "JOURNAL": str(self.scratch / "journal"),
                "REAL": shutil.which("journalctl") or "",
                "LC_ALL": "C",
            },
            cwd=self.scratch,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        self.typed.append(line)
        if line.startswith("systemctl st") and "appliance.target" in done.stdout:
            self.stopped = line.startswith("systemctl stop")
        return done.stdout
