"""``appliance update``: new versions of the box's own image."""

from __future__ import annotations

from dataclasses import asdict
from enum import IntEnum

from appliance.cli.arguments import Arguments, Verbs, add_json, whole_number
from appliance.cli.listing import as_json, as_table, size
from appliance.cli.session import now, opened_box, record

WHY = {
    "pin": "the disk asks for a PIN at each start",
    "receiving": "images are being received",
    "delivering": "images are being delivered",
    "clock": "the clock of the box is in doubt",
}

LOOKED = {
    "none": "nothing newer is offered",
    "taken": "a version was taken",
    "refused": "what is offered is not signed by the vendor, and nothing was taken",
    "unreachable": "no list of versions could be had at its address",
    "unfinished": "nothing was refused, and nothing could be taken",
    "held": "the box takes none: it has the version that is wanted of it, or nobody agreed to changed terms",
    "no-address": "no address of updates came with this version, so it looks nowhere",
}


class Answer(IntEnum):
    """What ``may-restart`` ends with. Nothing else of the command line ends so: an appliance that fails is not one that answers."""

    MAY = 0
    OUTSIDE = 80
    """It is not one of the hours that were chosen."""
    IN_USE = 81
    """The box is in use, or its clock in doubt: the version was put off once more."""
    PERSON = 82
    """For as long as it takes somebody to come."""


def add_to(verbs: Verbs) -> None:
    """Add the noun with its own verbs."""
    update = verbs.add(
        "update",
        "new versions of the box's own image",
        about="A new version is fetched at night, or comes on a stick, waits beside the one that runs, and starts in the hours that the "
        "settings updates.window and updates.days say, while no image comes or goes. A provisioned Debian is updated with its playbook, and has none of this.",
        examples=["appliance update status", "appliance update history", "appliance update restart"],
    )
    own = Verbs(update)
    add_json(
        own.add(
            "status", "say which version runs, which waits, and what its start waits for", act=show_status
        )
    )
    add_json(own.add("history", "list what became of each version", act=show_history))
    own.add(
        "restart",
        "start the version that waits now, and not in its hours",
        act=restart,
        about="The machine starts again within seconds. Refused while images are being received or a version is "
        "fetched, and where none waits.",
    )
    ask = own.add(
        "may-restart",
        "say whether the box may start again now; the image asks it",
        act=ask_restart,
        about="Ends with 0 if it may, with 80 outside the hours that were chosen, with 81 and the reason while images come or go or "
        "the clock is in doubt, and with 82 where a disk that asks for a PIN at each start waits for a person. "
        "A week of tries is waited for what 81 says, another for a machine that is sending; then it may.",
    )
    ask.add_argument(
        "--put-off",
        type=whole_number(0, 1_000_000),
        default=0,
        metavar="N",
        help="how often it was put off before",
    )


def show_status(arguments: Arguments) -> int:
    """Print the versions."""
    from appliance import settings
    from appliance.health import gathering
    from appliance.updates import machine, night, noting
    from appliance.updates.night import Hold

    running, seen, fetch = gathering.running_version(), noting.seen(), noting.fetching(now())
    with opened_box() as box, box.catalog.reading() as conn:
        hold = machine.doing(conn, now()).hold
        looked = noting.looked(conn)
        hours, days = (settings.get(conn, f"updates.{name}") for name in ("window", "days"))
    waiting = seen.waiting if seen else ()
    if arguments.json:
        as_json(
            {
                "running": running or None,
                "waiting": waiting[0] if waiting else None,
                "left": list(seen.left) if seen else [],
                "chosen": seen.chosen or None if seen else None,
                "held": str(hold) if waiting and hold else None,
                "window": hours,
                "days": list(days),
                "looked_utc": looked.at_utc.isoformat() if looked and looked.at_utc else None,
                "looked_came": looked.came if looked else None,
                "fetching_since_utc": fetch.since_utc.isoformat() if fetch else None,
                "fetching_version": fetch.version if fetch else None,
                "fetching_percent": fetch.percent if fetch else None,
                "fetching_size_bytes": fetch.size_bytes if fetch else None,
            }
        )
        return 0
    if not running:
        print("This system is no image: its versions come by the playbook.")
        return 0
    print(f"Version {running} runs.")
    if seen is None:
        print("Which others there are is not known: the image says so in the first minutes after a start.")
    if fetch and fetch.size_bytes:
        far = f"{fetch.percent}% of {size(fetch.size_bytes)}"
        print(f"Version {fetch.version} is being fetched since {fetch.since_utc:%H:%M} UTC: {far}.")
    elif fetch:
        print(f"Another is being looked for and fetched since {fetch.since_utc:%H:%M} UTC.")
    if looked and looked.at_utc and looked.came:
        print(f"The last look for another was at {looked.at_utc:%Y-%m-%d %H:%M} UTC: {LOOKED[looked.came]}.")
    if seen and seen.chosen:
        print(
            f"Version {seen.chosen} was chosen at the machine for every start: no newer one starts before that is undone there."
        )
    for version in waiting:
        if hold is Hold.PIN:
            print(f"Version {version} waits for a person: the disk asks for a PIN at each start.")
            continue
        on = "" if len(days) == len(night.DAYS) else f" ({', '.join(days)})"
        print(f"Version {version} waits: it starts by itself within {hours}{on}.")
        if hold:
            print(f"At this moment it would wait, because {WHY[hold]}.")
    for version in seen.left if seen else ():
        print(f"Version {version} was tried and left again.")
    return 0


def show_history(arguments: Arguments) -> int:
    """Print what became of each version, the latest first."""
    from appliance.updates import noting

    with opened_box() as box, box.catalog.reading() as conn:
        found = noting.history(conn)
    if arguments.json:
        as_json([asdict(each) for each in found])
        return 0
    columns = {"version": "VERSION", "outcome": "OUTCOME", "since_utc": "SINCE", "came_utc": "CAME"}
    as_table(columns, [asdict(each) for each in found], empty="No version of an image was noted here.")
    return 0


def restart(arguments: Arguments) -> int:
    """Ask for the restart."""
    del arguments
    from appliance.updates import restarting

    with opened_box() as box:
        with box.catalog.transaction() as tx:
            version = restarting.check(tx, now())
            record(tx, box, "update:restart", version)
        restarting.ask(box)
    print(f"The machine starts again, with version {version}.")
    return 0


def ask_restart(arguments: Arguments) -> int:
    """Say why it may not, if it may not; the exit code is an `Answer`."""
    from appliance import local_time
    from appliance.updates import machine, night
    from appliance.updates.night import Hold

    with opened_box() as box, box.catalog.reading() as conn:
        window = machine.window(conn)
        is_open = window.is_open(local_time.here(now()))
        found = night.hold(machine.doing(conn, now()), arguments.put_off, window)
    if found is Hold.PIN:
        print(f"{WHY[found]}: a version waits for a person")
        return Answer.PERSON
    if not is_open:
        print("no version starts by itself at this hour: see the settings updates.window and updates.days")
        return Answer.OUTSIDE
    if found is not None:
        print(f"{WHY[found]}: the box does not start again now, and it is tried again in ten minutes")
        return Answer.IN_USE
    return Answer.MAY
