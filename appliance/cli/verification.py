"""``appliance verify``: every object that the catalog knows is here, and opens to what was stored."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import now, opened_box, record
from appliance.errors import ApplianceError, Corrupt, Unknown
from appliance.model import KeyId, ObjectId

if TYPE_CHECKING:
    from appliance.box import Box

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
    from appliance import audit
    from appliance.catalog import instances

    findings: list[dict[str, str]] = []
    checked = away = 0
    with opened_box() as box:
        with box.catalog.reading() as conn:
            recorded = list(instances.all_objects(conn))
        for object_id, key_id, sealed_bytes in recorded:
            finding = _finding(box, object_id, key_id, sealed_bytes, whole=arguments.all)
            if finding and finding[0] == "missing" and _is_in_an_archive(box, object_id):
                away += 1
                continue
            checked += 1
            if finding:
                findings.append({"object_id": object_id, "problem": finding[0], "words": finding[1]})
            if checked % 100 == 0 and sys.stderr.isatty():
                print(f"\r{checked} of {len(recorded)}", end="", file=sys.stderr, flush=True)
        if arguments.all:
            _keep_outcome(box, checked, len(findings))
        with box.catalog.transaction() as tx:
            outcome = audit.Outcome.FAILED if findings else audit.Outcome.DONE
            details = {"checked": checked, "damaged": len(findings), "every_byte": arguments.all}
            record(tx, box, "store:verify", "objects", details, outcome=outcome)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    how = "read in full" if arguments.all else "opened"
    if arguments.json:
        as_json(findings)
    else:
        elsewhere = f" {away} more are in an archive, and not on this box." if away else ""
        as_table(COLUMNS, findings, empty=f"{checked} objects {how}: all are whole.{elsewhere}")
    if not findings:
        return 0
    counts = ", ".join(
        f"{count} {what}" for what, count in Counter(each["problem"] for each in findings).items()
    )
    raise Corrupt(
        f"of {checked} objects {how}, {counts}",
        hint="stop, keep the disk as it is, and bring the damaged ones back from a replica",
    )


def _keep_outcome(box: Box, checked: int, damaged: int) -> None:
    """Let status and dashboard know, until the next full check."""
    from appliance.catalog import settings
    from appliance.health import VERIFICATION

    hour = now()
    with box.catalog.transaction() as tx:
        outcome = {"at_utc": hour.isoformat(), "checked": checked, "damaged": damaged}
        settings.put(tx, VERIFICATION, outcome, hour)


def _is_in_an_archive(box: Box, object_id: ObjectId) -> bool:
    """After a restore images come home by and by: until then an archive that has a receipt for one is where it is."""
    from appliance.replication import recall

    with box.catalog.reading() as conn:
        return bool(recall.holders(conn, object_id))


def _finding(
    box: Box, object_id: ObjectId, key_id: KeyId, sealed_bytes: int, *, whole: bool
) -> tuple[str, str] | None:
    """What is wrong with an object as (kind, words); None if nothing."""
    from appliance.store.envelope import plain_size

    try:
        with box.open_object(object_id, key_id) as reader:
            if reader.size != plain_size(sealed_bytes):
                return "corrupt", "its length is not the recorded one"
            if whole:
                reader.verify()
            else:
                reader.read(1)
    except Unknown:
        return "missing", "it is not on this box"
    except Corrupt as error:
        return "corrupt", error.message
    except ApplianceError as error:
        return "unreadable", error.message
    return None
