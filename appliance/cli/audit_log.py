"""``appliance audit``: proof that the log of who did what is whole, the log itself, and the reports made of it."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import local_time
from appliance.cli.arguments import Arguments, Parser, Verbs, WrongCommand, add_json, whole_number
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import now, opened_box, record
from appliance.errors import Corrupt, OperatorNeeded

if TYPE_CHECKING:
    from appliance.audit import Finding
    from appliance.catalog import Reading
    from appliance.catalog.audit_search import Wanted

COLUMNS = {"row": "ROW", "flaw": "KIND", "words": "WHAT"}
ACTS = {"action": "ACTION", "outcome": "OUTCOME", "count": "TIMES"}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    log = verbs.add(
        "audit",
        "the log of who did what: prove that it is whole, take it out, make reports",
        examples=[
            "appliance audit verify",
            "appliance audit export --since 2026-01-01 >audit.json",
            "appliance audit verify --file audit.json",
            "appliance audit export --csv >audit.csv",
            "appliance audit report --year 2026",
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
    verify.add_argument("--file", type=Path, metavar="F", help="check an export in JSON instead of the log")
    add_json(verify)
    export = own.add(
        "export",
        "print the log, the oldest row first",
        act=export_audit,
        about="One JSON document, a row on each line with its chain value, which 'audit verify --file' checks; or CSV "
        "for a spreadsheet. It names people and devices: keep it like a patient file.",
    )
    form = export.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="CSV instead of JSON")
    form.add_argument("--lines", action="store_true", help="one JSON object a line instead of one document")
    _add_filters(export)
    report = own.add(
        "report",
        "count who did what: for a study's patient, for a person, or for a year",
        act=report_audit,
        about="Counts by kind, act, person and recipient, with what was refused or failed. The console makes the same "
        "as a page to print and as PDF.",
    )
    report.add_argument("--year", type=whole_number(2000, 9000), metavar="Y", help="the yearly report")
    _add_filters(report)
    add_json(report)


def _add_filters(parser: Parser) -> None:
    parser.add_argument(
        "--actor", default="", metavar="A", help="only what this person, machine or process did"
    )
    parser.add_argument("--study", default="", metavar="UID", help="only what concerns this study's patient")
    parser.add_argument(
        "--since", default="", metavar="DAY", help="only from this day on, such as 2026-03-01"
    )
    parser.add_argument("--until", default="", metavar="DAY", help="only up to the end of this day")


def _wanted(conn: Reading, arguments: Arguments) -> Wanted:
    from appliance.catalog import studies
    from appliance.catalog.audit_search import Wanted
    from appliance.cli.studies import chosen_study

    mine: tuple[str, ...] | None = None
    listed: tuple[int, ...] = ()
    if arguments.study:
        chosen = chosen_study(conn, arguments.study)
        own = studies.of_same_patient(conn, chosen.id)
        mine, listed = tuple(each.study_instance_uid for each in own), tuple(each.id for each in own)
    return Wanted(
        actor=arguments.actor,
        studies=mine,
        listed=listed,
        since_utc=_midnight(arguments.since),
        until_utc=_midnight(arguments.until, days=1),
    )


def _midnight(text: str, *, days: int = 0) -> datetime | None:
    """The beginning of that day in the machine's own time zone, or of one some days later."""
    if not text:
        return None
    try:
        return local_time.midnight(date.fromisoformat(text) + timedelta(days=days))
    except (ValueError, OverflowError):
        raise WrongCommand(
            "that is not a date", hint="write it as year-month-day, such as 2026-03-01"
        ) from None


def verify_audit(arguments: Arguments) -> int:
    """Check the chain, or an export; print what is wrong, or a witness to keep elsewhere."""
    from appliance import anchor, audit

    with opened_box() as box:
        if arguments.file is not None:
            findings = _of_file(arguments.file, box.audit_key)
            whole = f"Nothing in {arguments.file} was changed."
        else:
            kept = audit.Witness.parse(arguments.witness) if arguments.witness else anchor.read(box)
            with box.catalog.reading() as conn:
                findings = audit.verify(conn, box.audit_key, kept)
                witness = audit.witness(conn)
            whole = f"All {witness.count} rows are whole.\nWitness to keep elsewhere: {witness}"
        with box.catalog.transaction() as tx:
            outcome = audit.Outcome.FAILED if findings else audit.Outcome.DONE
            subject = "export" if arguments.file is not None else "audit"
            record(tx, box, "audit:verify", subject, {"findings": len(findings)}, outcome=outcome)
    rows = [{"row": each.row, "flaw": str(each.flaw), "words": each.words} for each in findings]
    if arguments.json:
        as_json(rows)
    else:
        as_table(COLUMNS, rows, empty=whole)
    if rows:
        raise Corrupt(
            f"the audit log has been altered in {len(rows)} places",
            hint="keep the disk as it is, and tell the person in charge of privacy",
        )
    return 0


def _of_file(path: Path, key: bytes) -> list[Finding]:
    from appliance.audit.exports import verify_lines

    try:
        with path.open(encoding="utf-8") as lines:
            return list(verify_lines(key, lines))
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorNeeded(f"{path} cannot be read", hint="check its name and permissions") from error


def export_audit(arguments: Arguments) -> int:
    """Print every row as it comes, so that a long log needs no memory."""
    from appliance.audit.exports import csv_lines, json_document, json_lines
    from appliance.catalog import audit_search

    with opened_box() as box:
        with box.catalog.reading() as conn:
            wanted = _wanted(conn, arguments)
        with box.catalog.transaction() as tx:
            record(tx, box, "audit:export", "audit", {"as": "csv" if arguments.csv else "json"})
        with box.catalog.reading() as conn:
            rows = audit_search.oldest_first(conn, wanted)
            form = csv_lines if arguments.csv else json_lines if arguments.lines else json_document
            for line in form(rows):
                sys.stdout.write(line.replace("\r\n", "\n"))
    return 0


def report_audit(arguments: Arguments) -> int:
    """Print the counts."""
    from dataclasses import replace

    from appliance.audit import reports

    hour = now()
    with opened_box() as box:
        with box.catalog.reading() as conn:
            wanted = _wanted(conn, arguments)
            if arguments.year:
                wanted = replace(
                    wanted,
                    since_utc=local_time.midnight(date(arguments.year, 1, 1)),
                    until_utc=local_time.midnight(date(arguments.year + 1, 1, 1)),
                )
            made = reports.of(conn, wanted, hour)
        with box.catalog.transaction() as tx:
            subject = f"year:{arguments.year}" if arguments.year else "audit"
            study = wanted.studies[0] if wanted.studies else ""
            record(
                tx, box, "audit:report", subject, {"as": "json" if arguments.json else "table"}, study=study
            )
    document = reports.as_document(made)
    if arguments.json:
        print(json.dumps(document, ensure_ascii=False, indent=1))
        return 0
    print(
        f"{made.all_rows} rows: "
        + ", ".join(f"{count} {kind}" for kind, count in made.kinds.items())
        + f"; {made.refusals} refused, {made.failures} failed, {made.break_glass} emergency accesses.\n"
    )
    rows = [{"action": word, "outcome": outcome, "count": count} for word, outcome, count in made.words]
    as_table(ACTS, rows, empty="Nothing was recorded in that period.")
    return 0
