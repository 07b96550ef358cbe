"""``appliance pin``: the PIN that the box's own disk asks for at each start, if the clinic wants one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json
from appliance.cli.session import actor, now, opened_box, read_secret

if TYPE_CHECKING:
    from appliance.audit import Entry

SAYS = {
    "none": "The disk opens by itself on this machine, without a PIN.",
    "wanted": "The disk asks for a PIN at each start.",
    "unfinished": "The last change was cut: what opened the disk before still does. Choose the PIN again, or take it away.",
}
ENDS = {
    "running": "A change is under way.",
    "done": "What was asked for is done.",
    "key": "Nothing was changed: what was typed is not the disk's recovery key.",
    "chip": "Nothing was changed for certain: the TPM2 or the disk did not take it. Try again.",
    "refused": "Nothing was changed: the system did not take what was asked.",
}


def add_to(verbs: Verbs) -> None:
    """Add the noun with its own verbs."""
    pin = verbs.add(
        "pin",
        "the PIN that the disk of the box's own image asks for at each start",
        about="By itself the disk opens on this machine for whoever switches it on. With a PIN a stolen box stays shut, too; but after a "
        "power failure or an update somebody must be at the box with a keyboard. A forgotten PIN is no end: the disk's recovery key "
        "opens. A machine that was provisioned has no such disk, and says so.",
        examples=["appliance pin status", "appliance pin choose", "appliance pin remove"],
    )
    own = Verbs(pin)
    add_json(own.add("status", "say whether the disk asks for a PIN", act=show_status))
    own.add(
        "choose",
        "let the disk ask for a PIN, or for another one",
        act=choose,
        about="Reads the disk's recovery key and the PIN, 6 to 12 digits, from the keyboard or as two lines of standard input.",
    )
    own.add("remove", "let the disk open without a PIN again", act=remove)
    own.add(
        "show-key",
        "show the disk's recovery key on the box's screen for ten minutes",
        act=show_key,
        about="For a clinic whose paper with that key is lost: it stands on the box's own screen, and nowhere else.",
    )
    own.add("hide-key", "take the disk's recovery key off the screen", act=hide_key)


def show_status(arguments: Arguments) -> int:
    """Print what the system says of the disk."""
    from appliance import disk_pin

    found = disk_pin.seen()
    if arguments.json:
        as_json(
            {
                "state": str(found.state) if found else None,
                "latest": str(found.ended) if found and found.ended else None,
            }
        )
        return 0
    if found is None:
        print("This machine has no disk that could ask for a PIN: the box's own image has one.")
        return 0
    print(SAYS[found.state])
    if found.ended:
        print(ENDS[found.ended])
    return 0


def choose(arguments: Arguments) -> int:
    """Ask for a PIN."""
    del arguments
    from appliance import disk_pin

    key = read_secret("Recovery key of the disk")
    typed = read_secret("PIN", confirm=True)
    with opened_box() as box:
        disk_pin.choose(box, _entry("pin:choose"), typed, key, now())
    print("Asked for: 'appliance pin status' says when it is done.")
    return 0


def remove(arguments: Arguments) -> int:
    """Ask for none."""
    del arguments
    from appliance import disk_pin

    with opened_box() as box:
        disk_pin.remove(box, _entry("pin:remove"), now())
    print("Asked for: 'appliance pin status' says when it is done.")
    return 0


def show_key(arguments: Arguments) -> int:
    """Let the screen show the key for a while."""
    del arguments
    from appliance import disk_key

    with opened_box() as box:
        until = disk_key.show(box, _entry("disk:show-key"), now())
    print(f"The box's screen shows it until {until:%H:%M:%S} UTC.")
    return 0


def hide_key(arguments: Arguments) -> int:
    """Take it off again."""
    del arguments
    from appliance import disk_key

    with opened_box() as box:
        disk_key.hide(box, _entry("disk:hide-key"), now())
    print("The screen does not show it.")
    return 0


def _entry(action: str) -> Entry:
    from appliance import audit, disk_pin

    return audit.Entry(action, disk_pin.SUBJECT, actor(), actor_kind=audit.ActorKind.PERSON)
