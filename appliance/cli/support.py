"""``appliance support``: what leads to whoever supports the box."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.cli.arguments import Arguments, Verbs
from appliance.cli.session import now, opened_box, record
from appliance.errors import OperatorNeeded


def add_to(verbs: Verbs) -> None:
    """Add the noun with its own verbs."""
    support = verbs.add(
        "support",
        "the support file",
        about="A support file says how the box does: problems, versions, units, configuration, counts, logs. Whatever "
        "names a patient is looked for in it and cut out. Nothing is sent: you give it to whoever helps you.",
        examples=["appliance support file --to /media/usb"],
    )
    own = Verbs(support)
    make = own.add(
        "file",
        "write a support file, without anything of a patient",
        act=make_file,
        about="Writes an archive into the folder; its READ-ME.txt says what was cut out of it. If the setting "
        "support.reader_key has the vendor's key, only the vendor can open it (with the command age).",
        examples=["appliance support file --to .", "appliance support file --to . --open"],
    )
    make.add_argument("--to", type=Path, metavar="FOLDER", required=True, help="where it goes")
    make.add_argument(
        "--open", action="store_true", help="as an archive that you can look into, whatever the setting says"
    )


def make_file(arguments: Arguments) -> int:
    """Write a support file, and say what was cut."""
    from appliance.fleet import bundle

    with opened_box() as box:
        made = bundle.make(box, now())
        with box.catalog.transaction() as tx:
            reader = "" if arguments.open else bundle.reader_of(tx)
            data = made.sealed_for(reader) if reader else made.data
            details = {"cut": sum(made.cut.values()), "sealed": bool(reader)}
            record(tx, box, "support:file", made.name, details)
            record(tx, box, "support:take", made.name, details)
    path = arguments.to / (made.name + bundle.suffix(reader))
    _write(path, data)
    print(
        f"{path}: {len(data)} bytes; only the vendor can open it" if reader else f"{path}: {len(data)} bytes"
    )
    cut = ", ".join(f"{kind} {count}" for kind, count in sorted(made.cut.items()))
    print(f"Cut out of it: {cut}." if cut else "Nothing had to be cut out of it.")
    if not reader:
        print("Look into it before you give it away: tar xzf FILE")
    return 0


def _write(path: Path, data: bytes) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
    except OSError as error:
        raise OperatorNeeded(
            f"{path} cannot be written ({error.strerror})", hint="name a folder that you may write to"
        ) from error
