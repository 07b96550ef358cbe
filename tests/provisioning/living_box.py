"""A box that lives for a test: its processes beat, its heartbeats go out, and what is wanted of it it does.

``python -m tests.provisioning.living_box DATA VERSIONS [ill|leaves|NEWER]``: `VERSIONS` is a folder with the software by version,
which its updater starts. One that falls `ill` has a process that doesn't run in the first version that was wanted of it; one that
`leaves` it says that it has tried it and gone back; one that is brought a `NEWER` one meanwhile starts that.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from appliance import __version__
from appliance.box import Box, open_box
from appliance.catalog import processes
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.fleet import pulse, taking
from appliance.fleet.wanted import is_older
from appliance.health import gathering

TURN_SECONDS = 2.0
WENT_ON = "LIVING_BOX_WENT_ON"
"""In the environment of one that its updater has started: the first version that it was."""


def beat(box: Box, started: datetime, now: datetime, *, stopped: str = "") -> None:
    """Its processes say that they run, but for one that is `stopped`."""
    workers = (f"dicom-{number}" for number in range(box.config.dicom.workers))
    with box.catalog.transaction() as tx:
        for name in (*workers, "courier", "jobs", "web"):
            if name == stopped:
                processes.forget(tx, name)
            else:
                processes.beat(tx, name, os.getpid(), started, now, {})


def live(box: Box, versions: Path, manner: str) -> None:
    """Beat until somebody ends this process, or another version is wanted."""
    started = datetime.now(UTC)
    while True:
        now = datetime.now(UTC)
        is_ill = manner == "ill" and os.environ.get(WENT_ON) == __version__
        beat(box, started, now, stopped="courier" if is_ill else "")
        with box.catalog.reading() as conn:
            wanted = taking.standing(conn)
        try:
            pulse.send(box, now)
        except ApplianceError as error:
            print(error, file=sys.stderr)
        if wanted.software and manner == "leaves":
            gathering.UPDATES = box.config.data.with_name(f"{box.config.data.name}-told")
            gathering.UPDATES.mkdir(exist_ok=True)
            (gathering.UPDATES / gathering.LEFT).write_text(f"{wanted.software}\n")
        elif wanted.software and is_older(__version__, wanted.software):
            starts = manner if (versions / manner).is_dir() and manner else wanted.software
            os.environ.setdefault(WENT_ON, starts)
            os.environ["PYTHONPATH"] = str(versions / starts)
            os.execv(sys.executable, [sys.executable, "-m", "tests.provisioning.living_box", *sys.argv[1:]])
        time.sleep(TURN_SECONDS)


if __name__ == "__main__":
    live(open_box(Config(data=Path(sys.argv[1]))), Path(sys.argv[2]), *(sys.argv[3:] or [""]))
