"""``appliance verify``: every object that the catalog knows is here, and opens to what was stored."""

from __future__ import annotations

import sys
from collections import Counter

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import actor, opened_box
from appliance.errors import Corrupt

COLUMNS = {"object_id": "OBJECT", "problem": "PROBLEM", "words": "WHAT"}


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add(
        "verify",
        "check that every stored image is whole",
        act=verify,
        about="Without --all: that each sealed object is here, has its length, and opens with its key. With --all "
        "every byte is read and checked, which takes about a second for each gigabyte. An image that is in an archive "
        "and not here counts apart. Ends with 76 if anything is damaged or missing.",
        examples=["appliance verify", "appliance verify --all --json"],
    )
    parser.add_argument("--all", action="store_true", help="read and check every byte")
    add_json(parser)


def verify(arguments: Arguments) -> int:
    """Check the objects and print what is wrong with them."""
    from appliance.lifecycle import verification
    from appliance.lifecycle.verification import Depth

    with opened_box() as box:
        depth = Depth.EVERY_BYTE if arguments.all else Depth.OPENED
        found = verification.verify(box, depth, actor=actor(), tell=_progress)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    findings = [
        {"object_id": each.object_id, "problem": str(each.kind), "words": each.words}
        for each in found.findings
    ]
    how = "read in full" if arguments.all else "opened"
    if arguments.json:
        as_json(findings)
    else:
        elsewhere = f" {found.away} more are in an archive, and not on this box." if found.away else ""
        as_table(COLUMNS, findings, empty=f"{found.checked} objects {how}: all are whole.{elsewhere}")
    if not findings:
        return 0
    counts = ", ".join(
        f"{count} {what}" for what, count in Counter(each["problem"] for each in findings).items()
    )
    raise Corrupt(
        f"of {found.checked} objects {how}, {counts}",
        hint="stop, keep the disk as it is, and bring the damaged ones back from a replica",
    )


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {total}", end="", file=sys.stderr, flush=True)
