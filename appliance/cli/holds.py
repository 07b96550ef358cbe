"""``appliance hold``: keeping studies whatever the rules say, and letting them go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Verbs, add_json, whole_number
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import actor, now, opened_box, record

if TYPE_CHECKING:
    from appliance.catalog.holds import Hold

COLUMNS = {
    "id": "HOLD",
    "kind": "KIND",
    "on": "ON",
    "reason": "REASON",
    "placed_by": "BY",
    "placed_utc": "SINCE",
    "released_utc": "RELEASED",
}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    hold = verbs.add(
        "hold",
        "keep studies of a claim, an inquiry or a request for access",
        about="What is held is never due and is never destroyed. A hold on a patient falls on what is yet to come, too.",
        examples=[
            'appliance hold add 1.2.840.1 --reason "claim 2026-114"',
            'appliance hold add 1.2.840.1 --patient --kind access --reason "asked to see the file"',
            "appliance hold list",
            'appliance hold release 3 --reason "judgment of 3 May"',
        ],
    )
    own = Verbs(hold)
    add = own.add("add", "hold a study, or its patient", act=add_hold)
    add.add_argument("study", metavar="STUDY", help="its UID, or words that only one study matches")
    add.add_argument(
        "--kind",
        choices=("legal", "access"),
        default="legal",
        help="legal (default), or access: somebody asked to see what is kept",
    )
    add.add_argument(
        "--patient", action="store_true", help="hold the whole patient, with what is yet to come"
    )
    add.add_argument("--reason", required=True, metavar="TEXT", help="why, with the number of the file")
    listed = own.add("list", "show what is held", act=list_holds)
    listed.add_argument("--all", action="store_true", help="those that were released, too")
    add_json(listed)
    release = own.add("release", "let go", act=release_hold)
    release.add_argument("hold", type=whole_number(1, 2**62), metavar="HOLD", help="its number in the list")
    release.add_argument("--reason", required=True, metavar="TEXT", help="why it is over")


def add_hold(arguments: Arguments) -> int:
    """Hold a study or a patient."""
    from appliance.catalog.holds import HoldKind
    from appliance.cli.studies import chosen_study
    from appliance.lifecycle import holds
    from appliance.lifecycle.acting import Act

    with opened_box() as box, box.catalog.transaction() as tx:
        study = chosen_study(tx, arguments.study)
        placed = holds.place(
            tx,
            Act(actor(), now(), box.audit_key),
            kind=HoldKind(arguments.kind),
            study=study.id,
            whole_patient=arguments.patient,
            reason=arguments.reason,
        )
    print(f"Hold {placed.id}: {_on(placed)} is kept until it is released.")
    return 0


def list_holds(arguments: Arguments) -> int:
    """Print the holds."""
    from appliance.catalog import holds

    with opened_box() as box, box.catalog.transaction() as tx:
        found = holds.listed(tx, released=arguments.all)
        seen = {"rows": len(found), "studies": holds.studies_named(tx, found)}
        record(tx, box, "hold:list", "command line", seen)
    if arguments.json:
        as_json([_row(each) for each in found])
    else:
        as_table(COLUMNS, [_row(each) | {"on": _on(each)} for each in found], empty="Nothing is held.")
    return 0


def release_hold(arguments: Arguments) -> int:
    """Release one."""
    from appliance.lifecycle import holds
    from appliance.lifecycle.acting import Act

    with opened_box() as box, box.catalog.transaction() as tx:
        released = holds.release(
            tx, Act(actor(), now(), box.audit_key), arguments.hold, reason=arguments.reason
        )
    print(f"Hold {released.id} is released; the rules decide again about {_on(released)}.")
    return 0


def _on(hold: Hold) -> str:
    return f"patient {hold.patient}" if hold.study is None else f"study {hold.study}"


def _row(hold: Hold) -> dict[str, object]:
    return {
        "id": hold.id,
        "kind": str(hold.kind),
        "study": hold.study,
        "patient": hold.patient,
        "reason": hold.reason,
        "placed_by": hold.placed_by,
        "placed_utc": hold.placed_utc,
        "released_by": hold.released_by,
        "released_utc": hold.released_utc,
        "release_reason": hold.release_reason,
    }
