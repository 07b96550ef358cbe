"""``appliance update``: new versions of the box's own image."""

from __future__ import annotations

from appliance.cli.arguments import Arguments, Verbs, whole_number
from appliance.cli.session import now, opened_box
from appliance.errors import Transient

WHY = {
    "receiving": "images are being received",
    "delivering": "images are being delivered",
    "clock": "the clock of the box is in doubt",
}


def add_to(verbs: Verbs) -> None:
    """Add the noun with its own verbs."""
    update = verbs.add(
        "update",
        "new versions of the box's own image",
        about="A new version is fetched at night, or comes on a stick, waits beside the one that runs, and starts at night, while no "
        "image comes or goes. A provisioned Debian is updated with its playbook, and has none of this.",
        examples=["appliance update may-restart"],
    )
    own = Verbs(update)
    ask = own.add(
        "may-restart",
        "say whether the box may start again now; the image's night asks it",
        act=ask_restart,
        about="Ends with 0 if it may, and with 75 and the reason while images come or go or the clock is in doubt. A week of "
        "nights is waited for these, another for a machine that is sending; then it may in any case.",
    )
    ask.add_argument(
        "--put-off",
        type=whole_number(0, 1_000_000),
        default=0,
        metavar="N",
        help="how often it was put off before",
    )


def ask_restart(arguments: Arguments) -> int:
    """Say nothing if it may; raise `Transient` with the reason while it may not."""
    from appliance.updates import machine, night

    with opened_box() as box, box.catalog.reading() as conn:
        found = night.hold(machine.doing(conn, now()), arguments.put_off)
    if found is not None:
        raise Transient(
            f"{WHY[found]}: the box does not start again now", hint="it is tried again in ten minutes"
        )
    return 0
