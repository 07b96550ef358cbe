"""``appliance disk``: what takes the room, for how long it will last, and what can be freed without losing anything."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, size
from appliance.cli.session import now, opened_box

if TYPE_CHECKING:
    from appliance.health.room import Room

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
        found = room.measure(box, health.gather(box, now()))
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
    if found.archived:
        said.append(
            f"images that are in an archive too, so that their files could leave this disk: {found.archived}"
            f" ({size(found.archived_bytes)})"
        )
    else:
        said.append(
            "no image is in an archive yet: none may leave this disk ('appliance destination add' makes one)"
        )
    said.append(
        "destroy what has been kept long enough: 'appliance retention simulate' lists it, and two people decide"
    )
    return [
        *said,
        "never delete files below the data folder by hand: it is loss, and the ransomware guard holds everything",
    ]
