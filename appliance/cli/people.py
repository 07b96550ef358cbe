"""``appliance user``: who may sign in at the console.

The first account, the owner's, is made in the console with the claim code; this verb is for the ones after it, and
for the day on which everybody has forgotten a password. Nobody is deleted: the audit refers to people. Whoever uses it
never learns a password: it prints links, and a password known to two people would make the audit name the wrong one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Parser, Verbs, WrongCommand, add_json, nearest
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import actor, now, opened_box, record
from appliance.errors import Unknown

if TYPE_CHECKING:
    from appliance import identity
    from appliance.box import Box
    from appliance.catalog import Reading
    from appliance.catalog.people import Person

COLUMNS = {
    "login": "LOGIN",
    "name": "NAME",
    "role": "ROLE",
    "state": "STATE",
    "last_sign_in_utc": "LAST SIGN-IN",
}

SESSION_COLUMNS = {
    "browser": "BROWSER",
    "system": "SYSTEM",
    "address": "ADDRESS",
    "created_utc": "SIGNED IN",
    "seen_utc": "LAST USED",
    "proof": "WITH",
}

ROLES = "owner, privacy_officer, practitioner, assistant, technician, referrer, student or vendor_support"
"""Written out, because help must not load what the roles are kept with; a test compares them."""


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    user = verbs.add(
        "user",
        "the people who may sign in at the console",
        examples=[
            'appliance user invite marie --name "Marie Tremblay" --role practitioner --language fr',
            "appliance user change marie --role owner",
            "appliance user reset marie",
            "appliance user list",
        ],
    )
    own = Verbs(user)
    add_json(own.add("list", "show the people", act=list_people))
    show = own.add("show", "show one person and what the role includes", act=show_person)
    show.add_argument("login", metavar="LOGIN", help="whom")
    add_json(show)
    invite = own.add(
        "invite",
        "give a person an account, and print the link to choose a password",
        act=invite_person,
        about="The link works once, for seven days, and is printed only now: hand it over yourself.",
    )
    _add_account(invite)
    change = own.add("change", "change a login, a name, a role or a language", act=change_person)
    change.add_argument("login", metavar="LOGIN", help="whose account")
    change.add_argument("--new-login", metavar="L", help="what the person types to sign in from now on")
    change.add_argument("--name", metavar="N", help="the name as colleagues know it")
    change.add_argument("--role", metavar="R", help="what the person may do, from the next click on")
    change.add_argument("--language", choices=("en", "fr", "es", "zh"), help="the language of the console")
    for verb, said, act in (
        ("deactivate", "keep a person out, from now on", deactivate_person),
        ("reactivate", "let a person in again", reactivate_person),
        ("end-sessions", "sign a person out everywhere", end_sessions),
        (
            "remove-second-factor",
            "let a person who has lost it sign in with the password, and set another one up",
            remove_second_factor,
        ),
    ):
        own.add(verb, said, act=act).add_argument("login", metavar="LOGIN", help="whom")
    sessions = own.add("sessions", "show where a person is signed in", act=list_sessions)
    sessions.add_argument("login", metavar="LOGIN", help="whose sessions")
    add_json(sessions)
    reset = own.add(
        "reset",
        "print a link by which a person chooses a new password",
        act=reset_person,
        about="The link works once, for a day. The old password and the sessions end when it is used.",
    )
    reset.add_argument("login", metavar="LOGIN", help="whose password")


def _add_account(parser: Parser) -> None:
    parser.add_argument("login", metavar="LOGIN", help="what the person types to sign in")
    parser.add_argument("--name", required=True, metavar="N", help="the name as colleagues know it")
    parser.add_argument("--role", required=True, metavar="R", help=f"what the person may do: {ROLES}")
    parser.add_argument(
        "--language",
        choices=("en", "fr", "es", "zh"),
        default="en",
        help="the language of the console (default en)",
    )


def list_people(arguments: Arguments) -> int:
    """Print the people; nothing of their passwords."""
    from appliance.catalog import people

    with opened_box() as box, box.catalog.reading() as conn:
        rows = [{key: getattr(person, key) for key in COLUMNS} for person in people.people(conn)]
    if arguments.json:
        as_json(rows)
    else:
        as_table(COLUMNS, rows, empty="Nobody has an account yet: claim the box in the console first.")
    return 0


def show_person(arguments: Arguments) -> int:
    """Print one person."""
    from appliance.identity.permissions import permissions_of

    with opened_box() as box, box.catalog.reading() as conn:
        person = known_person(conn, arguments.login)
    row = {key: getattr(person, key) for key in (*COLUMNS, "language", "created_utc")}
    row["may"] = sorted(permissions_of(person.role))
    if arguments.json:
        as_json(row)
    else:
        shown = [
            {"what": key, "is": " ".join(value) if key == "may" else value} for key, value in row.items()
        ]
        as_table({"what": "WHAT", "is": "IS"}, shown, empty="")
    return 0


def invite_person(arguments: Arguments) -> int:
    """Add one person who has yet to choose a password."""
    from appliance import identity

    role, hour = _role(arguments.role), now()
    with opened_box() as box, box.catalog.transaction() as tx:
        link = identity.invite(
            tx,
            login=arguments.login,
            name=arguments.name,
            role=role,
            language=arguments.language,
            by=actor(),
            now=hour,
        )
        record(tx, box, "user:invite", f"user:{link.person.login}", {"role": role.value})
        address = link.address(_console_address(box))
    print(address)
    return 0


def change_person(arguments: Arguments) -> int:
    """Change what was given, and leave the rest."""
    from appliance import identity

    role = None if arguments.role is None else _role(arguments.role)
    with opened_box() as box, box.catalog.transaction() as tx:
        person = known_person(tx, arguments.login)
        differs = identity.change_account(
            tx,
            person.id,
            login=arguments.new_login or person.login,
            name=arguments.name or person.name,
            role=role or identity.Role(person.role),
            language=arguments.language or person.language,
            now=now(),
        )
        if differs:
            record(tx, box, "user:change", f"user:{person.login}", differs)
    for field, (before, after) in differs.items():
        print(f"{field}: {before} → {after}")
    if not differs:
        print("nothing changed")
    return 0


def deactivate_person(arguments: Arguments) -> int:
    """Keep one person out."""
    from appliance import identity

    with opened_box() as box, box.catalog.transaction() as tx:
        person = identity.deactivate(tx, known_person(tx, arguments.login).id, now())
        record(tx, box, "user:deactivate", f"user:{person.login}")
    print(f"{person.login} may no longer sign in; open sessions have ended.")
    return 0


def reactivate_person(arguments: Arguments) -> int:
    """Let one person in again."""
    from appliance import identity

    with opened_box() as box, box.catalog.transaction() as tx:
        person = identity.reactivate(tx, known_person(tx, arguments.login).id, now())
        record(tx, box, "user:reactivate", f"user:{person.login}")
    print(f"{person.login} may sign in again.")
    return 0


def end_sessions(arguments: Arguments) -> int:
    """End the sessions of one person."""
    from appliance.catalog import people

    with opened_box() as box, box.catalog.transaction() as tx:
        person = known_person(tx, arguments.login)
        ended = people.end_sessions_of(tx, person.id)
        record(tx, box, "user:end-sessions", f"user:{person.login}", {"sessions": ended})
    print(f"{ended} session{'' if ended == 1 else 's'} of {person.login} ended")
    return 0


def list_sessions(arguments: Arguments) -> int:
    """Print where one person is signed in; nothing that opens a session."""
    from appliance import identity
    from appliance.identity import browsers

    with opened_box() as box, box.catalog.reading() as conn:
        live = identity.live_sessions(conn, known_person(conn, arguments.login).id, now())
    rows = [
        {
            "browser": browsers.named(each.agent).browser,
            "system": browsers.named(each.agent).system,
            "address": each.address,
            "created_utc": each.created_utc,
            "seen_utc": each.seen_utc,
            "proof": each.proof,
        }
        for each in live
    ]
    if arguments.json:
        as_json(rows)
    else:
        as_table(SESSION_COLUMNS, rows, empty=f"{arguments.login} is signed in nowhere.")
    return 0


def remove_second_factor(arguments: Arguments) -> int:
    """Take codes, passkeys and recovery codes of one person, and end the sessions."""
    from appliance.catalog import half_open, people, second_factors

    with opened_box() as box, box.catalog.transaction() as tx:
        person = known_person(tx, arguments.login)
        codes = second_factors.remove_one_time_secret(tx, person.id)
        passkeys = second_factors.remove_passkeys(tx, person.id)
        second_factors.remove_recovery_codes(tx, person.id)
        people.end_sessions_of(tx, person.id)
        half_open.remove_of(tx, person.id)
        details = {"codes": codes, "passkeys": passkeys}
        record(tx, box, "user:second-factor-remove", f"user:{person.login}", details)
    if codes or passkeys:
        print(f"{person.login} has no second factor any more; open sessions have ended.")
    else:
        print(f"{person.login} had no second factor; open sessions have ended.")
    return 0


def reset_person(arguments: Arguments) -> int:
    """Let one person choose a new password."""
    from appliance import identity

    with opened_box() as box, box.catalog.transaction() as tx:
        link = identity.make_link(tx, known_person(tx, arguments.login).id, by=actor(), now=now())
        record(tx, box, "user:link", f"user:{link.person.login}")
        address = link.address(_console_address(box))
    print(address)
    return 0


def known_person(conn: Reading, login: str) -> Person:
    """The person of that login. Raises `Unknown`."""
    from appliance import identity
    from appliance.catalog import people

    found = people.person(conn, identity.normal_login(login))
    if found is None:
        raise Unknown("there is no user with that login", hint="appliance user list")
    return found


def _console_address(box: Box) -> str:
    """Where a browser finds the console, as far as this machine knows."""
    import ipaddress
    import socket

    web = box.config.web
    here = ipaddress.ip_address(web.bind).is_loopback
    return f"http://{'localhost' if here else socket.gethostname()}:{web.port}"


def _role(text: str) -> identity.Role:
    from appliance import identity

    try:
        return identity.Role(text)
    except ValueError:
        raise WrongCommand(f"there is no role '{text}'", hint=nearest(text, identity.Role)) from None
