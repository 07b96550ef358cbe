"""``appliance guard``: the ransomware guard: whether it holds, holding, and letting everything go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, as_table, shown
from appliance.cli.session import actor, now, opened_box

if TYPE_CHECKING:
    from appliance.catalog.freezes import Freeze

COLUMNS = {"id": "NO", "why": "WHY", "begun_utc": "SINCE", "begun_by": "BY", "released_utc": "RELEASED"}

WORDS = {
    "vanished": "Many stored images are gone from this box at once.",
    "altered": "Many stored images are no longer what was written.",
    "reported": "Many stored images were found damaged in a day.",
    "by-hand": "A person wanted it.",
}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    guard = verbs.add(
        "guard",
        "the ransomware guard: stops all that overwrites or removes when much is lost at once",
        about="Every few minutes the box counts its stored images. When many are gone or altered at once, it overwrites and "
        "removes nothing any more, here and in the archives, until a person releases it. Images are received and shown as before.\n"
        "What to do first: unplug the computers that look strange from the network, leave the box on, call support. Release the "
        "guard only when the cause is known; damaged images are mended from the archives, or the box is restored from one.",
        examples=[
            "appliance guard show",
            'appliance guard freeze --reason "strange messages on the computers"',
            'appliance guard release --reason "the disk was replaced and restored"',
        ],
    )
    own = Verbs(guard)
    show = own.add(
        "show", "say whether the guard holds, since when and why, and how it was before", act=show_guard
    )
    add_json(show)
    freeze = own.add("freeze", "let nothing be overwritten or removed from now on", act=freeze_box)
    freeze.add_argument("--reason", required=True, metavar="TEXT", help="what was seen")
    release = own.add("release", "let everything go on", act=release_guard)
    release.add_argument("--reason", required=True, metavar="TEXT", help="what the cause was")


def show_guard(arguments: Arguments) -> int:
    """Print what the guard says."""
    from appliance.catalog import freezes

    with opened_box() as box, box.catalog.reading() as reading:
        current, past = freezes.in_force(reading), freezes.latest(reading)
    if arguments.json:
        as_json({"holds": current is not None, "freezes": [_row(each) for each in past]})
        return 0
    if current is None:
        print("The guard does not hold: everything goes its way.")
    else:
        print(
            f"The guard holds since {current.begun_utc:%Y-%m-%d %H:%M} UTC: nothing is overwritten or removed."
        )
        print(f"  {WORDS[current.why]}{' ' + shown(current.reason) if current.reason else ''}")
        for name, count in current.evidence.items():
            print(f"  {name}: {count}")
        print("Release it only when the cause is known: 'appliance guard --help' says what to do first.")
    if past:
        print()
        as_table(COLUMNS, [_row(each) for each in past], empty="")
    return 0


def freeze_box(arguments: Arguments) -> int:
    """Hold everything that overwrites or removes."""
    from appliance.lifecycle import freezing
    from appliance.lifecycle.acting import Act

    with opened_box() as box, box.catalog.transaction() as tx:
        freezing.freeze(tx, Act(actor(), now(), box.audit_key), reason=arguments.reason)
    print("Nothing is overwritten or removed until the guard is released.")
    return 0


def release_guard(arguments: Arguments) -> int:
    """Let everything go on."""
    from appliance.lifecycle import freezing
    from appliance.lifecycle.acting import Act

    with opened_box() as box, box.catalog.transaction() as tx:
        freezing.release(tx, Act(actor(), now(), box.audit_key), reason=arguments.reason)
    print("The guard is released: what waited goes on.")
    return 0


def _row(each: Freeze) -> dict[str, object]:
    return {
        "id": each.id,
        "why": str(each.why),
        "evidence": dict(each.evidence),
        "reason": each.reason,
        "begun_by": each.begun_by,
        "begun_utc": each.begun_utc,
        "released_by": each.released_by,
        "released_utc": each.released_utc,
        "release_reason": each.release_reason,
    }
