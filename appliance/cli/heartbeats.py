"""``appliance heartbeat``: what is told to whoever looks after the box, agreeing to it, and forbidding it again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, shown
from appliance.cli.session import actor, now, opened_box, record
from appliance.errors import Refused


def add_to(verbs: Verbs) -> None:
    """Add the noun with its own verbs."""
    heartbeat = verbs.add(
        "heartbeat",
        "how the box does, told to whoever looks after it; off until agreed to",
        about="A heartbeat says which versions run, what is wrong by its kind, and how many of what as a rough range; nothing "
        "of a patient, a person or the clinic. None is sent before somebody of the clinic has looked at it and agreed. It goes "
        "out, signed by this box, to the address in the settings (heartbeat.*); nothing comes in.",
        examples=[
            "appliance setting set heartbeat.address https://fleet.example.ca/heartbeats",
            "appliance heartbeat show",
            "appliance heartbeat agree",
            "appliance heartbeat withdraw",
        ],
    )
    own = Verbs(heartbeat)
    own.add("show", "print the very document that would be sent now", act=show_document)
    add_json(own.add("status", "say who agreed, and what came of it", act=show_status))
    own.add(
        "wanted",
        "print the version that the vendor has named to this box, if the clinic agrees to that",
        act=show_wanted,
        about="Prints nothing where none is named, and 'none' where the clinic has agreed to terms that were changed since: then no "
        "version is taken until somebody agrees again, or withdraws.",
    )
    agreeing = own.add(
        "agree",
        "let heartbeats be sent",
        act=agree,
        about="Where somebody has agreed already and this version could say more, it prints what, and takes --more for an agreement to that.",
    )
    agreeing.add_argument(
        "--more", action="store_true", help="agree to what a newer version could say beyond that, too"
    )
    own.add("withdraw", "forbid heartbeats, from this moment on", act=withdraw)
    own.add("send", "send one now", act=send)


def show_document(arguments: Arguments) -> int:
    """Print the document, and apart from it what it leaves out."""
    del arguments
    from appliance.fleet import consent, heartbeat, pulse

    with opened_box() as box:
        print(heartbeat.text_of(pulse.document(box, now())), end="")
        with box.catalog.reading() as conn:
            more = consent.more(conn)
    if more:
        print(_beyond(more), file=sys.stderr)
    return 0


def show_status(arguments: Arguments) -> int:
    """Print what holds."""
    from appliance.fleet import consent, heartbeat, pulse, taking

    with opened_box() as box, box.catalog.transaction() as tx:
        address, given, standing = consent.address(tx), consent.given(tx), consent.standing(tx)
        state, key = pulse.state(tx), consent.public(consent.key_of(tx, box, now()))
        wanted, more = taking.standing(tx), consent.more(tx)
    if arguments.json:
        as_json(
            {
                "sends": standing is not None,
                "address": address,
                "agreed_by": given.by if given else None,
                "agreed_utc": given.agreed_utc if given else None,
                "taken_utc": state.taken_utc,
                "failures": state.failures,
                "trouble": str(state.trouble),
                "wanted_number": wanted.number,
                "wanted_software": wanted.software,
                "wanted_came": str(wanted.came),
                "wanted_until_utc": wanted.until_utc or None,
                "more": more,
                "box": heartbeat.name_of(key),
                "key": key,
            }
        )
        return 0
    if standing is not None:
        print(
            f"Heartbeats go to {address}: {shown(standing.by)} agreed on {standing.agreed_utc:%Y-%m-%d %H:%M} UTC."
        )
        print(
            f"Last taken: {state.taken_utc:%Y-%m-%d %H:%M} UTC." if state.taken_utc else "None was taken yet."
        )
    elif given is not None:
        print(
            "Where they go, how, or who may answer and for what, was changed since somebody agreed: nothing is sent until somebody agrees again."
        )
    else:
        print("Nobody has agreed to heartbeats: none is sent.")
    if standing is not None and state.failures:
        print(f"Not taken since, in a row: {state.failures}. It is tried again.")
    if more:
        print(_beyond(more))
    if wanted.came == "refused":
        print("What the vendor wanted last was refused; the log says why.")
    elif wanted.number:
        said = f", and version {wanted.software}" if wanted.software else ""
        print(f"Taken of what the vendor wants: number {wanted.number}{said}.")
    print(f"This box is called {heartbeat.name_of(key)} there; its public key, for the vendor:\n{key}")
    return 0


def show_wanted(arguments: Arguments) -> int:
    """Print the version alone, or nothing: the image's updater reads it."""
    del arguments
    from appliance.fleet import taking

    with opened_box() as box, box.catalog.reading() as conn:
        if version := taking.held_to(conn):
            print(version)
    return 0


def agree(arguments: Arguments) -> int:
    """Agree to what `show` prints; to more than was agreed to before only where that was asked for by its name."""
    from appliance.fleet import consent

    with opened_box() as box, box.catalog.transaction() as tx:
        if (more := consent.more(tx)) and not arguments.more:
            words = "; ".join(f"{name}: {', '.join(each)}" for name, each in more.items())
            hint = "agree to that too, or leave it as it is: appliance heartbeat agree --more"
            raise Refused(f"somebody has agreed, and this version could say more ({words})", hint=hint)
        made = consent.agree(tx, consent.terms(tx), actor(), now())
        record(tx, box, "heartbeat:agree", "heartbeat", {"to": consent.address(tx), "terms": made.terms})
        address, endpoint, authority = consent.address(tx), consent.endpoint(tx), consent.authority(tx)
    at = f" at {endpoint}" if endpoint else ""
    print(f"Heartbeats go to {address}{at}. Forbid them: appliance heartbeat withdraw")
    if authority:
        print(f"Who has this key may answer them: {authority}")
    return 0


def _beyond(more: Mapping[str, Sequence[str]]) -> str:
    """What heartbeats could say and don't, by field."""
    lines = [f"  {name}: {', '.join(words)}" for name, words in more.items()]
    return "\n".join(["This version could say more, which is left out until somebody agrees to it:", *lines])


def withdraw(arguments: Arguments) -> int:
    """Forbid heartbeats."""
    del arguments
    from appliance.fleet import consent

    with opened_box() as box, box.catalog.transaction() as tx:
        if consent.withdraw(tx):
            record(tx, box, "heartbeat:withdraw", "heartbeat")
    print("No heartbeat is sent.")
    return 0


def send(arguments: Arguments) -> int:
    """Send a heartbeat now."""
    del arguments
    from appliance.fleet import pulse

    with opened_box() as box:
        pulse.send(box, now())
    print("The heartbeat was taken.")
    return 0
