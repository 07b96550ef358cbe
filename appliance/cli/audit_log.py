"""``appliance audit``: proof that the log of who did what is whole, and the log itself."""

from __future__ import annotations

import csv
import json
import sys

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import opened_box, record
from appliance.errors import Corrupt

COLUMNS = {"row": "ROW", "flaw": "KIND", "words": "WHAT"}
FIELDS = (
    "id",
    "at_utc",
    "actor",
    "actor_kind",
    "address",
    "action",
    "subject",
    "study",
    "outcome",
    "details",
    "format",
    "chain",
)


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    log = verbs.add(
        "audit",
        "the log of who did what: prove that it is whole, or take it out",
        examples=[
            "appliance audit verify",
            "appliance audit export >audit.json",
            "appliance audit export --csv >audit.csv",
        ],
    )
    own = Verbs(log)
    verify = own.add(
        "verify",
        "find any row that was changed, removed, moved or added",
        act=verify_audit,
        about="Checks the chain from its first row to its last, and against a witness: the one that this box keeps "
        "beside its catalog, or one that you kept elsewhere. Ends with 76 if anything is wrong.",
    )
    verify.add_argument(
        "--witness",
        metavar="W",
        help="what 'appliance audit verify' printed at an earlier time, kept elsewhere",
    )
    add_json(verify)
    export = own.add(
        "export",
        "print the whole log, the oldest row first",
        act=export_audit,
        about="One JSON document, or CSV for a spreadsheet. It names people and devices: keep it like a patient file.",
    )
    export.add_argument("--csv", action="store_true", help="CSV instead of JSON")


def verify_audit(arguments: Arguments) -> int:
    """Check the chain; print what is wrong, or a witness to keep elsewhere."""
    from appliance import anchor, audit

    with opened_box() as box:
        kept = audit.Witness.parse(arguments.witness) if arguments.witness else anchor.read(box)
        with box.catalog.reading() as conn:
            findings = audit.verify(conn, box.audit_key, kept)
            witness = audit.witness(conn)
        with box.catalog.transaction() as tx:
            outcome = audit.Outcome.FAILED if findings else audit.Outcome.DONE
            record(tx, box, "audit:verify", "audit", {"findings": len(findings)}, outcome=outcome)
    rows = [{"row": each.row, "flaw": str(each.flaw), "words": each.words} for each in findings]
    if arguments.json:
        as_json(rows)
    else:
        as_table(
            COLUMNS, rows, empty=f"All {witness.count} rows are whole.\nWitness to keep elsewhere: {witness}"
        )
    if rows:
        raise Corrupt(
            f"the audit log has been altered in {len(rows)} places",
            hint="keep the disk as it is, and tell the person in charge of privacy",
        )
    return 0


def export_audit(arguments: Arguments) -> int:
    """Print every row as it comes, so that a long log needs no memory."""
    from appliance import audit

    with opened_box() as box:
        with box.catalog.transaction() as tx:
            record(tx, box, "audit:export", "audit")
        with box.catalog.reading() as conn:
            if arguments.csv:
                table = csv.DictWriter(sys.stdout, FIELDS, lineterminator="\n")
                table.writeheader()
                for row in audit.export(conn):
                    table.writerow({name: _inert(row[name]) for name in FIELDS})
                return 0
            separator = "[\n"
            for row in audit.export(conn):
                sys.stdout.write(separator + json.dumps(row | {"details": json.loads(row["details"])}))
                separator = ",\n"
            sys.stdout.write("\n]\n" if separator != "[\n" else "[]\n")
    return 0


def _inert(value: object) -> object:
    """Text that a spreadsheet takes for text: a caller's AE title may begin like a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
