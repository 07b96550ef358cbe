"""``appliance disk``: what takes the room, for how long it will last, and what can be freed without losing anything."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, size
from appliance.cli.session import now, opened_box

if TYPE_CHECKING:
    from appliance.health.room import Leaving, Room

LOOKS_SECONDS: Final = 10.0
"""For how long studies are looked at before a person is answered."""

WORDS = {
    "images": "images, sealed",
    "index": "index (catalog)",
    "intake": "intake logs, of a fixed size",
    "backups": "backups on their way to an archive",
    "restoring": "a restore that is not finished",
    "others": "system, logs and other programs",
}
LEVELS = {
    "enough": "There is enough room.",
    "low": "The room is low: images are still received, and before long they are refused.",
    "refusing": "Images are refused, and machines keep them and try again; everything else works. Reception resumes by itself "
    "once there is room.",
}


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    disk = verbs.add(
        "disk",
        "what takes the room on the data disk, how long it lasts, and what can be freed safely",
        act=show_disk,
        about="Looks at every file, which takes a while on a large box. Nothing is freed by it.",
        examples=["appliance disk", "appliance disk --json"],
    )
    add_json(disk)


def show_disk(arguments: Arguments) -> int:
    """Print what takes the room."""
    from appliance import health
    from appliance.health import room

    with opened_box() as box:
        facts, until = health.gather(box, now()), time.monotonic() + LOOKS_SECONDS
        found = room.measure(box, facts, now(), keep_going=lambda: time.monotonic() < until)
    if arguments.json:
        as_json(asdict(found) | {"level": found.level, "takes": dict(found.takes)})
        return 0
    print(f"{size(found.free_bytes)} of {size(found.total_bytes)} are free. {LEVELS[found.level]}")
    print(f"Low below {size(found.low_bytes)}, refused below {size(found.refuse_bytes)}.")
    if found.forecast.days_left:
        print(f"As it fills now, days until images are refused: {found.forecast.days_left}.")
    print("\nWhat takes the room:")
    for kind, count in found.takes:
        if count:
            print(f"  {size(count):>10}  {WORDS[kind]}")
    print("\nWhat can be done, the safest first:")
    for each in ways(found):
        print(f"  - {each}")
    return 0


def ways(found: Room) -> list[str]:
    """How room is made without losing anything, as far as this box has something to free."""
    said = ["add a disk, or a larger one: nothing has to be decided"]
    if dict(found.takes)["others"] > found.total_bytes // 5:
        said.append("remove what is not of this box: large logs of the system, downloads, other programs")
    said.append(_leave(found.leaving))
    said.append(
        "destroy what has been kept long enough: 'appliance retention simulate' lists it, and two people decide"
    )
    return [
        *said,
        "never delete files below the data folder by hand: it is loss, and the ransomware guard holds everything",
    ]


def _leave(found: Leaving) -> str:
    """Which images could leave this disk, and what it takes."""
    if not found.images:
        looked = "" if found.is_all else "of the studies that were looked at "
        return (
            f"{looked}no image may leave this disk: an archive in the cloud has to have it, it has to be here for {found.keep_days} days,"
            " and nothing else may keep it ('appliance tiers plan' says what does)"
        )
    count = f"{'' if found.is_all else 'at least '}{found.images} ({size(found.bytes)})"
    return f"images that an archive in the cloud has, and nothing keeps here, could leave this disk: {count}; {_when(found)}"


def _when(found: Leaving) -> str:
    if found.choice == "off":
        return (
            "they stay until the clinic chooses otherwise: 'appliance setting set tiers.eviction when-needed'"
        )
    if found.obstacle:
        return f"none may now: {found.obstacle}"
    if found.choice == "when-needed":
        return f"the box lets them where less than {found.low_percent}% of the disk is free"
    return "the box lets them, by and by"
