"""``appliance retention``: what is due and by which law, the clinic's own periods, and the requests to destroy.

A request is asked and approved in the console only, where each of two people proves who it is; one shell would be both.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

from appliance.cli.arguments import Arguments, Verbs, add_json, whole_number
from appliance.cli.listing import as_json, as_table, person_name, safe
from appliance.cli.listing import date as shown_date
from appliance.cli.session import actor, now, opened_box, record

if TYPE_CHECKING:
    from appliance.catalog.destructions import DestructionRequest
    from appliance.lifecycle.due_list import DueLine
    from appliance.lifecycle.laws import OwnFigure

DUE = {
    "study": "STUDY",
    "patient": "PATIENT",
    "patient_id": "PATIENT ID",
    "date": "DATE",
    "due_since": "DUE SINCE",
    "rule": "RULE",
    "state": "KEPT BACK",
}
RULES = {
    "rule": "RULE",
    "record_type": "RECORDS",
    "starts": "COUNTED FROM",
    "years": "YEARS",
    "basis": "RESTS ON",
    "source": "SOURCE",
    "verified": "VERIFIED",
}
HISTORY = {
    "at_utc": "AT",
    "by": "BY",
    "record_type": "RECORDS",
    "starts": "COUNTED FROM",
    "years": "YEARS",
    "reason": "REASON",
}
VISITS = {
    "id": "VISIT",
    "day": "SEEN ON",
    "entered_by": "BY",
    "entered_utc": "ENTERED",
    "withdrawn_utc": "WITHDRAWN",
    "withdraw_reason": "WHY",
}
REQUESTS = {
    "id": "REQUEST",
    "state": "STATE",
    "studies": "STUDIES",
    "asked_by": "ASKED BY",
    "asked_utc": "ASKED",
    "approved_by": "APPROVED BY",
    "expires_utc": "UNTIL",
}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    retention = verbs.add(
        "retention",
        "how long studies must be kept, and which are due",
        about="Nothing is destroyed from here: two people decide about a list in the console.",
        examples=[
            "appliance retention simulate",
            "appliance retention simulate --at 2027-12-31 --json",
            "appliance retention rules",
            "appliance retention visit --patient 1042 --date 2026-03-01",
            'appliance retention set medical last-entry 15 --reason "our policy of 2026"',
        ],
    )
    own = Verbs(retention)
    simulate = own.add(
        "simulate",
        "list the studies that no rule keeps on a day",
        act=list_due,
        about="If nobody comes back until then. Held studies are listed and marked; they stay.",
    )
    simulate.add_argument(
        "--at", type=_day, metavar="DATE", help="as of this day, such as 2027-12-31 (default: today)"
    )
    add_json(simulate)
    simulate.add_argument("--csv", action="store_true", help="print a table for a spreadsheet")
    add_json(own.add("rules", "show the rules that hold, each with its source", act=list_rules))
    choose = own.add("set", "keep records longer than the law asks for", act=set_figure)
    _add_what(choose)
    choose.add_argument("years", type=whole_number(1, 1000), metavar="YEARS", help="for how long")
    choose.add_argument(
        "--reason",
        required=True,
        metavar="TEXT",
        help="who decided it, or where it stands; certificates show it",
    )
    unset = own.add("unset", "take the clinic's own period back", act=unset_figure)
    _add_what(unset)
    unset.add_argument("--reason", required=True, metavar="TEXT", help="why")
    add_json(own.add("history", "show how the clinic's own periods changed", act=list_history))
    add_json(own.add("requests", "show the requests to destroy studies", act=list_requests))
    visit = own.add(
        "visit",
        "enter when a patient was last seen",
        act=enter_visit,
        about="The years are counted from the last entry in the record, and the box knows only images and what is entered here.",
    )
    _add_whose(visit)
    visit.add_argument("--date", type=_day, required=True, metavar="DATE", help="the day, such as 2026-03-01")
    seen = own.add("visits", "show when a patient was seen, as it was entered", act=list_visits)
    _add_whose(seen)
    add_json(seen)
    unvisit = own.add("withdraw-visit", "take an entry back that was wrong", act=withdraw_visit)
    unvisit.add_argument("visit", type=whole_number(1, 2**62), metavar="VISIT", help="its number in the list")
    unvisit.add_argument("--reason", required=True, metavar="TEXT", help="what was wrong")
    own.add(
        "trust-clock",
        "say that the clock of the box is right, after it was set",
        act=trust_clock,
        about="Compare it with another clock first: while it is in doubt, nothing is due.",
    )
    looked = own.add(
        "look-again",
        "say that holds, periods and province were looked at, after a restore",
        act=look_again,
        about="Place again first, by your papers, what is held: until somebody has looked, nothing is destroyed.",
    )
    looked.add_argument(
        "--province",
        default="",
        metavar="CODE",
        help="the clinic's province, such as QC: where no backup came back",
    )


def _add_whose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--patient", required=True, metavar="ID", help="the patient ID, as the images have it"
    )
    parser.add_argument("--issuer", metavar="NAME", help="who gave that number, if several have")


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("records", choices=("dental", "medical", "mammography"), help="the kind of record")
    parser.add_argument("starts", choices=("last-entry", "majority"), help="from when the years are counted")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a day, such as 2027-12-31") from None


def list_due(arguments: Arguments) -> int:
    """Print what is due on a day."""
    from appliance.catalog import studies
    from appliance.lifecycle import due_list, memory, retention

    with opened_box() as box:
        with box.catalog.reading() as conn:
            clock = retention.clock_of(conn, now())
            due = due_list.every(conn, arguments.at or clock.today)
            found = list(due_list.lines(conn, due, studies.study_by_id))
            is_current = retention.is_current(conn)
            forgotten = memory.gap(conn) is not None
        with box.catalog.transaction() as tx:
            word = "retention:export" if arguments.csv else "retention:list"
            seen = {"rows": len(found), "studies": [each.study for each in found]}
            record(tx, box, word, "command line", seen)
    if arguments.csv:
        sys.stdout.writelines(due_list.csv_lines(found))
    elif arguments.json:
        as_json([asdict(each) | {"modalities": each.modalities.split("\\")} for each in found])
    else:
        as_table(DUE, [_due(each) for each in found], empty="Nothing is due on that day.")
    if not is_current:
        print(
            "Not everything is worked out yet: the jobs of the box are at it.",
            file=sys.stderr,
        )
    if clock.doubt is not None:
        print(
            f"The clock of the box is in doubt ({clock.doubt}): nothing can be asked for until somebody has looked.",
            file=sys.stderr,
        )
    if forgotten:
        print(
            "The box was restored: nothing can be asked for until somebody has looked at what is held (retention look-again).",
            file=sys.stderr,
        )
    return 0


def list_rules(arguments: Arguments) -> int:
    """Print the rules."""
    from appliance.catalog import retention_rules
    from appliance.lifecycle import retention

    with opened_box() as box, box.catalog.reading() as conn:
        book, province = retention.book_of(conn), retention.province_of(conn)
        own = retention_rules.own(conn)
    rows: list[dict[str, Any]] = [
        {
            "rule": rule.id,
            "record_type": str(rule.record_type),
            "starts": str(rule.starts),
            "years": rule.years,
            "basis": str(rule.basis),
            "source": rule.source,
            "verified": None if rule.verified is None else rule.verified.isoformat(),
        }
        for rule in book.rules
    ]
    if arguments.json:
        as_json(rows)
    else:
        shown = [row | {"verified": row["verified"] or "to be confirmed"} for row in rows]
        unknown = (
            "It is not known in which province the clinic is: say so with retention look-again --province."
        )
        none = "No rule of this province is known: give the clinic's own."
        as_table(RULES, shown, empty=none if province else unknown)
    for each in own if province else ():
        if note := _note(province, each):
            print(note, file=sys.stderr)
    return 0


def _note(province: str, own: OwnFigure) -> str:
    """What has become of a figure in another province than the one for which it was given; empty where it counts as it did."""
    from appliance.lifecycle import laws

    figure = f"The clinic's own {own.years} years for {own.record_type} records from {own.starts}"
    least, law = laws.least_years(province, own.record_type, own.starts)
    if own.years < least:
        source = f" ({law.source})" if law is not None else ""
        return f"{figure} do not count in {province}: at least {least} years{source}."
    if own.province == province:
        return ""
    given = f"were given for {own.province}" if own.province else "were given for nobody knows which province"
    return (
        f"{figure} {given}: they only lengthen, and make nothing due. Look up what holds in {province}, "
        "and give them again (retention set)."
    )


def set_figure(arguments: Arguments) -> int:
    """Give the clinic a period of its own."""
    _choose(arguments, arguments.years)
    print(f"{arguments.records} records are kept {arguments.years} years from {arguments.starts} at least.")
    return 0


def unset_figure(arguments: Arguments) -> int:
    """Take it back."""
    _choose(arguments, None)
    print("The clinic's own period is taken back: the law and good practice hold.")
    return 0


def _choose(arguments: Arguments, years: int | None) -> None:
    from appliance.lifecycle import retention
    from appliance.lifecycle.acting import Act
    from appliance.lifecycle.policy import RecordType, Starts

    with opened_box() as box, box.catalog.transaction() as tx:
        act = Act(actor(), now(), box.audit_key)
        kind, starts = RecordType(arguments.records), Starts(arguments.starts)
        retention.choose(tx, act, kind, starts, years, reason=arguments.reason)


def list_history(arguments: Arguments) -> int:
    """Print the changes."""
    from appliance.catalog import retention_rules

    with opened_box() as box, box.catalog.reading() as conn:
        rows = [
            {
                "at_utc": each.at_utc,
                "by": each.by,
                "record_type": str(each.record_type),
                "starts": str(each.starts),
                "years": each.years,
                "reason": each.reason,
            }
            for each in retention_rules.history(conn)
        ]
    if arguments.json:
        as_json(rows)
    else:
        as_table(HISTORY, rows, empty="The clinic has never had a period of its own.")
    return 0


def list_requests(arguments: Arguments) -> int:
    """Print the requests."""
    from appliance.catalog import destructions
    from appliance.lifecycle import unsettled
    from appliance.lifecycle.request import State

    with opened_box() as box, box.catalog.reading() as conn:
        rows = [
            _request(each) | {"waits": each.state is State.APPROVED and unsettled.is_waiting(conn, each.id)}
            for each in destructions.latest(conn)
        ]
    if arguments.json:
        as_json(rows)
    else:
        as_table(REQUESTS, rows, empty="Nobody has asked for anything to be destroyed.")
    for row in rows:
        if row["waits"]:
            print(
                f"Request {row['id']} waits: the disk does not give back whose an image is that is set aside. It may be of any study, "
                "so nothing is destroyed. Call support.",
                file=sys.stderr,
            )
    return 0


def enter_visit(arguments: Arguments) -> int:
    """Enter a visit."""
    from appliance.lifecycle import visits
    from appliance.lifecycle.acting import Act

    with opened_box() as box, box.catalog.transaction() as tx:
        study = visits.a_study_of(tx, arguments.patient, arguments.issuer)
        entered = visits.enter(tx, Act(actor(), now(), box.audit_key), study=study, day=arguments.date)
    print(f"Visit {entered.id}: the years are counted from {entered.day} at the earliest.")
    return 0


def list_visits(arguments: Arguments) -> int:
    """Print the visits of a patient."""
    from appliance.catalog import visits as rows
    from appliance.lifecycle import visits

    with opened_box() as box, box.catalog.transaction() as tx:
        study = visits.a_study_of(tx, arguments.patient, arguments.issuer)
        found = [asdict(each) | {"day": each.day.isoformat()} for each in rows.of_study(tx, study)]
        record(tx, box, "visit:list", "command line", {"rows": len(found), "studies": [study]})
    if arguments.json:
        as_json(found)
    else:
        as_table(VISITS, found, empty="No visit of that patient was entered.")
    return 0


def withdraw_visit(arguments: Arguments) -> int:
    """Take a visit back."""
    from appliance.lifecycle import visits
    from appliance.lifecycle.acting import Act

    with opened_box() as box, box.catalog.transaction() as tx:
        act = Act(actor(), now(), box.audit_key)
        withdrawn = visits.withdraw(tx, act, arguments.visit, reason=arguments.reason)
    print(f"Visit {withdrawn.id} is withdrawn; what is still known decides.")
    return 0


def trust_clock(arguments: Arguments) -> int:
    """Believe the clock again."""
    del arguments
    from appliance.lifecycle import retention
    from appliance.lifecycle.acting import Act

    with opened_box() as box, box.catalog.transaction() as tx:
        moment = now()
        retention.trust_clock(tx, Act(actor(), moment, box.audit_key))
    print("The clock is believed.")
    return 0


def look_again(arguments: Arguments) -> int:
    """Say that somebody has looked at what a restored box can't know."""
    from appliance.lifecycle import memory
    from appliance.lifecycle.acting import Act

    with opened_box() as box, box.catalog.transaction() as tx:
        memory.look_again(tx, Act(actor(), now(), box.audit_key), arguments.province)
    print("Studies may be destroyed again, by two people as always.")
    return 0


def _due(line: DueLine) -> dict[str, object]:
    return {
        "study": line.study,
        "patient": safe(person_name(line.patient_name)),
        "patient_id": line.patient_id,
        "date": shown_date(line.study_date),
        "due_since": line.due_since,
        "rule": line.rule,
        "state": line.state,
    }


def _request(request: DestructionRequest) -> dict[str, object]:
    return {
        "id": request.id,
        "state": str(request.state),
        "method": str(request.method),
        "studies": len(request.study_ids),
        "asked_for": len(request.decisions),
        "asked_by": request.asked_by,
        "asked_utc": request.asked_utc,
        "approved_by": request.approved_by,
        "approved_utc": request.approved_utc,
        "expires_utc": request.expires_utc,
        "ended_utc": request.ended_utc,
    }
