"""``appliance key``: the recovery key, which opens everything when this machine is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Verbs
from appliance.cli.session import opened_box, read_secret, record

if TYPE_CHECKING:
    from appliance.box import Box


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    key = verbs.add(
        "key",
        "the recovery key: show it once, check what was written down, change it",
        about="With the recovery key and the cloud copies, a blank box becomes this one. Without it, a lost "
        "machine is lost for good. It is shown until it has been checked, and never again after that.",
        examples=["appliance key show-recovery", "appliance key check-recovery"],
    )
    own = Verbs(key)
    own.add(
        "show-recovery",
        "show the recovery key, until it has been checked once",
        act=show_recovery,
        about="Write it down or print it, keep it outside the clinic's computers, then run 'key check-recovery'.",
    )
    own.add(
        "check-recovery",
        "type the recovery key back: proves that what was written down is right",
        act=check_recovery,
        about="Reads the key from the keyboard or from standard input. A mistyped group is named.",
    )
    own.add(
        "rotate",
        "make a new recovery key, for when the paper may have been seen",
        act=rotate,
        about="For when the paper may have been seen or lost. Prints the new key: write it down, then run "
        "'key check-recovery', which ends the old one. No image is encrypted again, so it takes a moment.",
    )


def show_recovery(arguments: Arguments) -> int:
    """Print the recovery key."""
    del arguments
    from appliance.health import keys_folder
    from appliance.store import keys

    with opened_box() as box:
        recovery = keys.show_recovery(keys_folder(box), box.root)
        _record(box, "key:show")
    print(recovery)
    return 0


def check_recovery(arguments: Arguments) -> int:
    """Compare what a person wrote down with the key."""
    del arguments
    from appliance.health import keys_folder
    from appliance.store import keys

    typed = read_secret("Recovery key")
    with opened_box() as box:
        keys.check_recovery(keys_folder(box), box.root, typed)
        _record(box, "key:check")
    print("Right: that is this box's recovery key. It will not be shown again; keep the paper safe.")
    return 0


def rotate(arguments: Arguments) -> int:
    """Replace the recovery key."""
    del arguments
    from appliance.health import keys_folder
    from appliance.store import keys

    with opened_box() as box:
        recovery = keys.rotate(keys_folder(box), box.root)
        _record(box, "key:rotate")
    print(recovery)
    return 0


def _record(box: Box, action: str) -> None:
    with box.catalog.transaction() as tx:
        record(tx, box, action, "recovery key")
