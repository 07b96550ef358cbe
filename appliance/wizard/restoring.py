"""Restoring a box instead of setting up a new one: from where this version can, and what to do for each.

`appliance.backup.restoring` is the engine. It makes a *blank* data folder the old box, and a console that runs has a
data folder that is not blank any more; so this version restores at the box's own command line, with the console
stopped, and the page says exactly how. Rejected: a button that stops the console it stands in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Source:
    """Somewhere that a box can come back from: a word for the languages (``restore.NAME``), and its command line."""

    name: str
    command: str


SOURCES: Final = (
    Source(
        "bucket",
        "appliance restore s3 --bucket BUCKET --region ca-central-1 --access-key-id KEY-ID --secret-file secret.txt",
    ),
    Source("disk", "appliance restore folder --path /mnt/disk"),
)
"""What this version has. The recovery key is asked for, and typed where nobody sees it."""
