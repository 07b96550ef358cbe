"""``appliance key``: the recovery key, which opens everything when this machine is gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Verbs
from appliance.cli.session import actor, now, opened_box, read_secret, record
from appliance.config import load_config

if TYPE_CHECKING:
    from appliance.box import Box


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    key = verbs.add(
        "key",
        "the keys: show the recovery key once, check what was written down, change them",
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
    root = own.add(
        "rotate-root",
        "replace the key above all others, while everything works",
        act=rotate_root,
        about="For when somebody may have both an old paper and a copy of a backup. Reads the recovery key from the "
        "keyboard, standard input or a file; the same paper opens the new root key. If the paper was seen, run 'key "
        "rotate' and 'key check-recovery' first. Older backups still open with this paper, and with the paper of their "
        "day. Interrupted, it is gone on with by itself.",
        examples=["appliance key rotate-root", "appliance key rotate-root --recovery-key-file paper.txt"],
    )
    anew = own.add(
        "reseal",
        "let this machine open the box again, after its hardware or firmware changed",
        act=reseal,
        about="For when the appliance says that the root key was sealed by another machine, or that its machine seal is "
        "missing. Reads the recovery key. Nothing is lost, no image changes, and the paper stays as it is.",
        examples=["appliance key reseal", "appliance key reseal --recovery-key-file paper.txt"],
    )
    for each in (root, anew):
        each.add_argument(
            "--recovery-key-file",
            type=Path,
            metavar="FILE",
            help="a file with the recovery key, instead of the keyboard or standard input",
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


def rotate_root(arguments: Arguments) -> int:
    """Replace the root key, and move everything under the new one."""
    from appliance import audit
    from appliance.lifecycle import rotation

    typed = read_secret("Recovery key", file=arguments.recovery_key_file)
    with opened_box() as box:
        entry = audit.Entry("key:rotate-root", "root key", actor(), actor_kind=audit.ActorKind.PERSON)
        generation = rotation.rotate(box, typed, entry, now())
        print(f"The box has root key {generation}. The same paper opens it, and every backup made so far.")
        moved = rotation.finish(box, now())
    print(f"Done: {moved.study_keys} study keys and the index lie under it. No image was encrypted again.")
    return 0


def reseal(arguments: Arguments) -> int:
    """Seal the root key to this machine anew."""
    from appliance.store import keys

    typed = read_secret("Recovery key", file=arguments.recovery_key_file)
    folder = load_config(os.environ).data.absolute() / "keys"
    keys.reseal(folder, typed)
    with opened_box() as box:
        with box.catalog.transaction() as tx:
            record(tx, box, "key:reseal", "root key")
        print(f"Sealed to this machine ({keys.machine_seal(folder).describe()}). The appliance can start.")
    return 0


def _record(box: Box, action: str) -> None:
    with box.catalog.transaction() as tx:
        record(tx, box, action, "recovery key")
