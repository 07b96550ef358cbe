"""``appliance import``: DICOM files from a disk, a USB stick or a folder, by the same straight line as those received."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from appliance.cli.arguments import Arguments, Verbs
from appliance.cli.listing import safe
from appliance.cli.session import actor, opened_box, record
from appliance.errors import Refused, Unknown
from appliance.model import Intake, Origin


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add(
        "import",
        "take in DICOM files from a disk or a folder",
        act=import_paths,
        about="Folders are taken whole, with what is below them. A file that is no DICOM image is named and "
        "skipped; the exit code is then 65. What is here already is not stored twice.",
        examples=["appliance import /media/usb", "appliance import film1.dcm film2.dcm"],
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files and folders")


def import_paths(arguments: Arguments) -> int:
    """Import every file; names what was skipped on standard error."""
    from appliance.ingest import import_file

    missing = [path for path in arguments.paths if not path.exists()]
    if missing:
        raise Unknown(f"there is no {safe(str(missing[0]))}", hint="nothing was imported; check the name")
    taken = skipped = 0
    with opened_box() as box:
        origin = Origin(Intake.IMPORT, actor())
        for path in _files(arguments.paths):
            name = safe(str(path))
            if not path.is_file():  # a pipe would be waited for, a device never ends
                skipped += 1
                print(f"appliance: skipped {name}: it is no file", file=sys.stderr)
                continue
            try:
                with path.open("rb") as stream:
                    import_file(box, stream, origin)
            except Refused as error:
                skipped += 1
                print(f"appliance: skipped {name}: {error}", file=sys.stderr)
            except OSError as error:
                skipped += 1
                print(f"appliance: skipped {name}: it cannot be read ({error.strerror})", file=sys.stderr)
            else:
                taken += 1
        with box.catalog.transaction() as tx:
            record(tx, box, "study:import", "files", {"taken": taken, "skipped": skipped})
    print(f"{taken} images taken in, {skipped} files skipped.")
    return Refused.exit_code if skipped else 0


def _files(paths: list[Path]) -> Iterator[Path]:
    """The files named and those below the folders named, in order; a medium's DICOMDIR is an index, not an image."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                if name != "DICOMDIR":
                    yield Path(folder, name)
