"""``appliance tiers``: what is on this disk and what is in archives only, what may leave, and bringing it back."""

from __future__ import annotations

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import actor, now, opened_box, record
from appliance.errors import Refused

COLUMNS = {"study": "STUDY", "images": "IMAGES", "bytes": "BYTES", "touched_utc": "LAST TOUCHED"}
FIGURES = {"figure": "FIGURE", "value": "VALUE"}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    tiers = verbs.add(
        "tiers",
        "what is here, what is in archives only, and what may leave this disk",
        about="Images leave this disk only if the clinic chooses so (setting tiers.eviction), and only after archives have "
        "shown every one of them whole. They come back when somebody opens them.",
        examples=[
            "appliance tiers list",
            "appliance tiers plan --json",
            "appliance setting set tiers.eviction when-needed",
            "appliance tiers evict",
            "appliance tiers return 1.2.840.1",
        ],
    )
    own = Verbs(tiers)
    add_json(own.add("list", "show how much is here and how much is away", act=list_tiers))
    add_json(own.add("plan", "show which studies would leave now, and what keeps the others", act=show_plan))
    own.add("evict", "make room now, as the clinic has chosen", act=evict_now)
    back = own.add("return", "bring images back to this disk", act=bring_back)
    which = back.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "study", nargs="?", metavar="STUDY", help="its UID, or words that only one study matches"
    )
    which.add_argument("--all", action="store_true", help="everything that is away")


def list_tiers(arguments: Arguments) -> int:
    """Print how much is where."""
    from dataclasses import asdict

    from appliance.catalog import evictions
    from appliance.lifecycle import eviction

    with opened_box() as box, box.catalog.reading() as conn:
        found = {
            "choice": str(eviction.choices(conn).eviction),
            "obstacle": eviction.obstacle(conn, now()),
            **asdict(evictions.tally(conn)),
        }
        space = box.guard.space()
    found |= {"disk_bytes": space.total_bytes, "free_bytes": space.free_bytes}
    if arguments.json:
        as_json(found)
    else:
        as_table(FIGURES, [{"figure": name, "value": value} for name, value in found.items()], empty="")
    return 0


def show_plan(arguments: Arguments) -> int:
    """Print what would leave now."""
    from appliance.lifecycle import eviction

    with opened_box() as box:
        plan = eviction.planned(box, now())
        rows: list[dict[str, object]] = [
            {
                "study": each.id,
                "images": each.here,
                "bytes": each.here_bytes,
                "touched_utc": each.touched_utc,
            }
            for each in plan.leaving
        ]
        with box.catalog.transaction() as tx:
            seen = {"rows": len(rows), "studies": [each.id for each in plan.leaving[:1000]]}
            record(tx, box, "tiers:list", "command line", seen)
    if arguments.json:
        as_json(
            {
                "wanted_bytes": plan.wanted_bytes,
                "leaving_bytes": plan.leaving_bytes,
                "pinned": {str(pin): count for pin, count in plan.pinned.items()},
                "leaving": rows,
            }
        )
    else:
        as_table(COLUMNS, rows, empty="Nothing would leave this disk now.")
        for pin, count in plan.pinned.items():
            if count:
                print(f"Kept here because {_BECAUSE[pin]}: {count}")
    return 0


def evict_now(arguments: Arguments) -> int:  # noqa: ARG001
    """Let leave what the clinic's choice says."""
    from appliance.lifecycle import eviction
    from appliance.lifecycle.tiers import Eviction

    with opened_box() as box:
        with box.catalog.reading() as conn:
            standing, why = eviction.choices(conn), eviction.obstacle(conn, now())
        if standing.eviction is Eviction.OFF:
            raise Refused(
                "the clinic has chosen that images stay on this disk",
                hint="choose otherwise with 'appliance setting set tiers.eviction'",
            )
        if why:
            raise Refused(f"nothing may leave this disk now: {why}", hint="try again when that is over")
        done = eviction.evict(box, now, eviction.Around(actor=actor()))
    print(f"Studies that left: {done.studies}; images: {done.images}; bytes: {done.bytes}.")
    if done.kept:
        print(f"Studies that stay after all, because no archive showed them whole: {done.kept}.")
    return 0


def bring_back(arguments: Arguments) -> int:
    """Recall what is away."""
    from appliance.cli.studies import chosen_study
    from appliance.lifecycle import returning

    with opened_box() as box:
        study = None
        if not arguments.all:
            with box.catalog.transaction() as tx:
                study = chosen_study(tx, arguments.study).id
        came = returning.bring_back(box, now(), study, actor=actor())
    print(f"Images that are back: {came}.")
    return 0


_BECAUSE = {
    "recent": "an image came lately",
    "used": "somebody opened them lately",
    "newest": "they are among the patient's latest",
    "held": "they are held",
    "destruction": "their destruction is asked for",
    "owed": "an image is not yet where it is owed",
    "doubted": "a person has to look at them first",
    "copies": "too few archives have all of them",
}
