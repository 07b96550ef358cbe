"""A machine whose root says whether its disk asks for a PIN; the tests run on one that says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from appliance import disk_pin, system


@dataclass
class Root:
    """What root was asked, and what it says."""

    folder: Path

    def says(self, state: str, attempt: str = "", ended: str = "") -> None:
        (self.folder / "pin").write_text(f"{state}\n{attempt} {ended}\n")

    def asked(self) -> list[str]:
        """The lines of what was asked for; empty for nothing."""
        file = self.folder / disk_pin.ASKED
        return file.read_text().splitlines() if file.exists() else []

    def does(self, state: str, ended: str = "done") -> str:
        """As `disk-pin` does: what was asked is taken, and what became of it said; the number of the attempt."""
        attempt = self.asked()[0]
        (self.folder / disk_pin.ASKED).unlink()
        self.says(state, attempt, ended)
        return attempt


@contextmanager
def told_disk(folder: Path) -> Iterator[Root]:
    """Root that works in `folder`, for as long as this lasts; until it has said something there is no such disk."""
    folder.mkdir(exist_ok=True)
    with (
        patch.object(disk_pin, "FOLDER", folder),
        patch.object(disk_pin, "TOLD", folder / "pin"),
        patch.object(system, "DISK_TOLD", folder / "pin"),
    ):
        yield Root(folder)
