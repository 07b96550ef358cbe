"""``appliance tiers``: what is on this disk and what is in archives only, what may leave, and bringing it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, as_table, safe, size
from appliance.cli.session import actor, now, opened_box, record
from appliance.errors import OperatorNeeded, Transient

if TYPE_CHECKING:
    from appliance.lifecycle.prices import Price

COLUMNS = {"study": "STUDY", "images": "IMAGES", "bytes": "BYTES", "touched_utc": "LAST TOUCHED"}
PRICE_COLUMNS = {
    "class": "CLASS",
    "tier": "TIER",
    "keep": "GB A MONTH",
    "read": "GB READ",
    "wait": "WAIT",
    "bulk": "GB IN BULK",
    "bulk_wait": "WAIT",
    "least": "PAID AT LEAST",
}
COST_COLUMNS = {
    "bucket": "BUCKET",
    "STANDARD": "HOT",
    "STANDARD_IA": "WARM",
    "GLACIER_IR": "COLD",
    "DEEP_ARCHIVE": "DEEP",
    "a_month": "A MONTH",
    "reading_all": "ALL HOME ONCE",
}
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
            "appliance tiers costs",
            "appliance setting set tiers.eviction when-needed",
            "appliance tiers evict",
            "appliance setting set tiers.retrieval bulk",
            "appliance tiers return 1.2.840.1",
        ],
    )
    own = Verbs(tiers)
    add_json(own.add("list", "show how much is here and how much is away", act=list_tiers))
    add_json(own.add("plan", "show which studies would leave now, and what keeps the others", act=show_plan))
    costs = own.add(
        "costs",
        "estimate what the images in the cloud cost, by class of storage",
        act=show_costs,
        about="Reckoned from what was said of each study, by the days that the clinic chose (settings tiers.warm_days, tiers.cold_days and "
        "tiers.deep_days), and from list prices, "
        "which change: an estimate, not a bill. The rules that move images are printed by 'appliance destination policy'.",
        examples=["appliance tiers costs", "appliance tiers costs --json"],
    )
    add_json(costs)
    own.add(
        "move",
        "tell the buckets now how far away each study may lie",
        act=move_now,
        about="The box does so by itself, by and by. What nobody has opened for the days that the clinic chose gets a tag in its bucket, "
        "by which the bucket's own rules move it; what is held, owed, doubted or wanted stays hot.",
        examples=["appliance setting set tiers.cold_days 365", "appliance tiers move"],
    )
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


def show_costs(arguments: Arguments) -> int:
    """Print what lies in which class, and what that costs."""
    from appliance.lifecycle import prices, storage
    from appliance.replication import recall

    with opened_box() as box, box.catalog.reading() as conn:
        ages, found, how = storage.ages(conn), storage.buckets(conn), recall.retrieval(conn)
    if arguments.json:
        as_json(
            {
                "estimate": {
                    "currency": prices.CURRENCY,
                    "region": prices.REGION,
                    "as_of": prices.AS_OF,
                    "source": prices.SOURCE,
                },
                "warm_days": ages.warm_days,
                "cold_days": ages.cold_days,
                "deep_days": ages.deep_days,
                "retrieval": how,
                "prices": [
                    {
                        "class": each.storage.name,
                        "tier": each.storage.tier,
                        "keep_gb_month": each.keep,
                        "read_gb": each.read,
                        "wait_hours": each.storage.wait_hours,
                        "bulk_gb": each.bulk,
                        "bulk_hours": each.storage.bulk_hours,
                        "least_days": each.storage.least_days,
                    }
                    for each in prices.PRICES
                ],
                "buckets": [
                    {
                        "name": each.name,
                        "bytes": each.bytes_by_class,
                        "a_month": round(each.a_month, 2),
                        "reading_all": round(each.reading_all, 2),
                    }
                    for each in found
                ],
            }
        )
        return 0
    as_table(PRICE_COLUMNS, [_priced(each) for each in prices.PRICES], empty="")
    print(
        f"\nPrices of {prices.REGION} in {prices.CURRENCY}, of about {prices.AS_OF} and not checked since: only for comparing."
    )
    print(f"Today's: {prices.SOURCE}")
    print(f"What lies in deep archive is fetched by the {how} way (setting tiers.retrieval).")
    rows = [
        {
            "bucket": each.name,
            **{
                name: size(each.bytes_by_class.get(name, 0))
                for name in ("STANDARD", "STANDARD_IA", "GLACIER_IR", "DEEP_ARCHIVE")
            },
            "a_month": f"{each.a_month:.2f}",
            "reading_all": f"{each.reading_all:.2f}",
        }
        for each in found
    ]
    print("Estimate, by what was said of each study:")
    as_table(COST_COLUMNS, rows, empty="No image goes to a bucket.")
    return 0


def _priced(price: Price) -> dict[str, object]:
    return {
        "class": price.storage.name,
        "tier": str(price.storage.tier),
        "keep": f"{price.keep:.4f}",
        "read": f"{price.read:.3f}",
        "wait": f"{price.storage.wait_hours} h" if price.storage.wait_hours else "none",
        "bulk": "" if price.bulk is None else f"{price.bulk:.3f}",
        "bulk_wait": f"{price.storage.bulk_hours} h" if price.storage.bulk_hours else "",
        "least": f"{price.storage.least_days} days" if price.storage.least_days else "none",
    }


def move_now(arguments: Arguments) -> int:  # noqa: ARG001
    """Say of every study how far away it may lie."""
    from appliance.lifecycle import eviction, tagging

    with opened_box() as box:
        with box.catalog.reading() as conn:
            eviction.refuse_obstacle(conn, now(), "nothing moves in the cloud now")
        done = tagging.run_through(box, now, tagging.Around(actor=actor(), asks_again=True))
    for name, each in done.troubles.items():
        print(f"{safe(name)}: {each.message}" + (f" ({each.hint})" if each.hint else ""))
    print(f"Studies of which something else was said: {done.studies}.")
    if not done.troubles:
        return 0
    return (
        OperatorNeeded.exit_code if all(each.at for each in done.troubles.values()) else Transient.exit_code
    )


def evict_now(arguments: Arguments) -> int:  # noqa: ARG001
    """Let leave what the clinic's choice says."""
    from appliance.lifecycle import eviction

    with opened_box() as box:
        with box.catalog.reading() as conn:
            eviction.refuse_idle(conn, now())
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
        if arguments.all:
            with box.catalog.reading() as conn:
                returning.refuse_without_room(box, conn)
        else:
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
