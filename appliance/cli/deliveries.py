"""``appliance deliveries``: what is owed, how it stands, the proof, and a person's say in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Parser, Verbs, add_json, whole_number
from appliance.cli.listing import as_json, as_table, shown
from appliance.cli.session import now, opened_box, record
from appliance.errors import Unknown
from appliance.model import DeliveryId, Uid
from appliance.replication.delivery import State

if TYPE_CHECKING:
    from appliance.box import Box
    from appliance.catalog.deliveries import DeliveryRow

COLUMNS = {
    "id": "DELIVERY",
    "destination": "TO",
    "state": "STATE",
    "attempts": "TRIES",
    "next_attempt_utc": "NEXT TRY",
    "reason": "WHY",
    "changed_utc": "SINCE",
}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs; without one it lists."""
    parser = verbs.add(
        "deliveries",
        "what is owed to the destinations, and the proof that it arrived",
        act=list_deliveries,
        about="PENDING waits its turn, SENDING is under way, WAITING failed and is tried again by itself, "
        "CONFIRMED has a receipt, FAILED was refused by the receiver and needs a person.",
        examples=[
            "appliance deliveries --state WAITING",
            "appliance deliveries show 17",
            "appliance deliveries retry --destination cloud",
        ],
    )
    _add_filters(parser)
    own = Verbs(parser, required=False)
    _add_filters(own.add("list", "list them, the newest first", act=list_deliveries), again=True)
    show = own.add("show", "everything about one delivery: its steps and its receipt", act=show_delivery)
    show.add_argument("delivery", type=_number, metavar="DELIVERY", help="its number in the list")
    add_json(show, again=True)
    for name, summary in (
        ("retry", "try now what waits, failed or was cancelled"),
        ("pause", "hold deliveries back"),
        ("resume", "let paused deliveries go on"),
        ("cancel", "give deliveries up: they are no longer owed"),
    ):
        _add_choice(own.add(name, summary, act=_decision(name)))


_number = whole_number(1, 2**62)


def _add_filters(parser: Parser, *, again: bool = False) -> None:
    import argparse

    unset = argparse.SUPPRESS if again else None
    parser.add_argument(
        "--state", choices=[each.value for each in State], default=unset, help="only those in this state"
    )
    parser.add_argument("--destination", metavar="NAME", default=unset, help="only those to this destination")
    parser.add_argument("--study", metavar="UID", default=unset, help="only those of this study")
    parser.add_argument(
        "--limit", type=_number, metavar="N", default=unset, help="at most so many (default: all)"
    )
    add_json(parser, again=again)


def _add_choice(parser: Parser) -> None:
    import argparse

    parser.add_argument(
        "deliveries", nargs="*", type=_number, metavar="DELIVERY", help="numbers from the list"
    )
    parser.add_argument(
        "--destination",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="instead of numbers: all of this destination that can be",
    )


def list_deliveries(arguments: Arguments) -> int:
    """Print the deliveries that match."""
    from appliance.catalog import deliveries, destinations

    with opened_box() as box, box.catalog.reading() as conn:
        if arguments.destination and destinations.destination(conn, arguments.destination) is None:
            raise Unknown(
                f"there is no destination '{arguments.destination}'", hint="see 'appliance destination list'"
            )
        rows = deliveries.list_deliveries(
            conn,
            state=State(arguments.state) if arguments.state else None,
            destination=arguments.destination,
            study=Uid(arguments.study) if arguments.study else None,
            limit=arguments.limit,
        )
        _seen(box, "deliveries", len(rows))
    if arguments.json:
        as_json([_row(row) for row in rows])
    else:
        as_table(
            COLUMNS,
            [{key: getattr(row, key) for key in COLUMNS} for row in rows],
            empty="Nothing is owed that matches." if arguments.state else "Nothing has been owed yet.",
        )
    return 0


def show_delivery(arguments: Arguments) -> int:
    """Print one delivery with its timeline."""
    from appliance.catalog import deliveries

    with opened_box() as box, box.catalog.reading() as conn:
        row = deliveries.delivery(conn, DeliveryId(arguments.delivery))
        _seen(box, f"delivery:{row.id}", 1)
        steps = deliveries.events(conn, row.id)
    timeline = [
        {"at_utc": step.at_utc, "event": step.event, "state": step.state.value, "note": step.note}
        for step in steps
    ]
    if arguments.json:
        as_json(_row(row) | {"reason": row.reason, "events": timeline})
        return 0
    print(f"Delivery {row.id} to {shown(row.destination)}: {row.state}, tried {row.attempts} times")
    if row.reason:
        print(f"Why: {shown(row.reason)}")
    if row.receipt:
        print("Receipt:")
        for key, value in row.receipt.items():
            print(f"  {shown(key)}: {shown(value)}")
    print()
    columns = {"at_utc": "WHEN", "event": "STEP", "state": "STATE", "note": "NOTE"}
    as_table(columns, timeline, empty="")
    return 0


def _decision(what: str) -> Callable[[Arguments], int]:
    def act(arguments: Arguments) -> int:
        return _decide(arguments, what)

    return act


def _decide(arguments: Arguments, what: str) -> int:
    """Apply a person's decision to the deliveries chosen, all in one transaction or none."""
    from appliance.catalog import deliveries
    from appliance.cli.arguments import WrongCommand
    from appliance.replication.delivery import Event, states_before

    if bool(arguments.deliveries) == bool(arguments.destination):
        raise WrongCommand(
            f"say which deliveries to {what}",
            hint="give their numbers, or --destination NAME for all of one place",
        )
    change = {
        "retry": deliveries.retry,
        "pause": deliveries.pause,
        "resume": deliveries.resume,
        "cancel": deliveries.cancel,
    }[what]
    hour = now()
    with opened_box() as box, box.catalog.transaction() as tx:
        chosen = [DeliveryId(number) for number in arguments.deliveries]
        if arguments.destination:
            # A cancellation was somebody's decision: only its number takes it back.
            able = [state for state in states_before(Event(what)) if state is not State.CANCELLED]
            chosen = [
                row.id
                for state in able
                for row in deliveries.list_deliveries(tx, state=state, destination=arguments.destination)
            ]
        for each in chosen:
            change(tx, each, hour)
            study = deliveries.delivery(tx, each).study_instance_uid
            record(tx, box, f"delivery:{what}", f"delivery:{each}", study=study)
    print(f"{len(chosen)} deliveries: {what}.")
    return 0


def _seen(box: Box, subject: str, rows: int) -> None:
    """A delivery names a study, so who looked at deliveries is in the audit too."""
    with box.catalog.transaction() as tx:
        record(tx, box, "delivery:list", subject, {"rows": rows})


def _row(row: DeliveryRow) -> dict[str, object]:
    return {
        "id": row.id,
        "destination": row.destination,
        "state": row.state.value,
        "study_instance_uid": row.study_instance_uid,
        "sop_instance_uid": row.sop_instance_uid,
        "attempts": row.attempts,
        "next_attempt_utc": row.next_attempt_utc,
        "receipt": row.receipt,
    }
