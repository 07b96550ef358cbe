"""``appliance user``: who may sign in at the console.

The first account, the owner's, is made in the console with the claim code; this verb is for the ones after it, and
for the day on which everybody has forgotten a password.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Parser, Verbs, WrongCommand, add_json, nearest
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import now, opened_box, read_secret, record

if TYPE_CHECKING:
    from appliance import identity

COLUMNS = {
    "login": "LOGIN",
    "name": "NAME",
    "role": "ROLE",
    "active": "ACTIVE",
    "last_sign_in_utc": "LAST SIGN-IN",
}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    user = verbs.add(
        "user",
        "the people who may sign in at the console",
        examples=[
            'appliance user add marie --name "Marie Tremblay" --language fr',
            "appliance user reset marie",
            "appliance user list",
        ],
    )
    own = Verbs(user)
    add_json(own.add("list", "show the people", act=list_people))
    add = own.add(
        "add",
        "give a person an account",
        act=add_person,
        about="The password is asked for, or read from standard input.",
    )
    add.add_argument("login", metavar="LOGIN", help="what the person types to sign in")
    add.add_argument("--name", required=True, metavar="N", help="the name as colleagues know it")
    add.add_argument("--role", default="owner", metavar="R", help="what the person may do (default owner)")
    add.add_argument(
        "--language", choices=("en", "fr"), default="en", help="the language of the console (default en)"
    )
    _add_secret_file(add)
    reset = own.add(
        "reset",
        "give a person a new password, and end the sessions that are open",
        act=reset_person,
        about="The password is asked for, or read from standard input.",
    )
    reset.add_argument("login", metavar="LOGIN", help="whose password")
    _add_secret_file(reset)


def _add_secret_file(parser: Parser) -> None:
    parser.add_argument(
        "--secret-file", type=Path, metavar="F", help="a file with the password, readable by you only"
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


def add_person(arguments: Arguments) -> int:
    """Add one person."""
    from appliance import identity

    role = _role(arguments.role)
    password = read_secret("Password", file=arguments.secret_file, confirm=True)
    hour = now()
    with opened_box() as box, box.catalog.transaction() as tx:
        person = identity.add_user(
            tx,
            login=arguments.login,
            name=arguments.name,
            role=role,
            password=password,
            language=arguments.language,
            now=hour,
        )
        record(tx, box, "user:add", f"user:{person.login}", {"role": arguments.role})
    print(f"{person.login} may now sign in.")
    return 0


def reset_person(arguments: Arguments) -> int:
    """Replace one password."""
    from appliance import identity

    password = read_secret("New password", file=arguments.secret_file, confirm=True)
    with opened_box() as box, box.catalog.transaction() as tx:
        person = identity.reset_password(tx, arguments.login, password, now())
        record(tx, box, "user:reset", f"user:{person.login}")
    print(f"{person.login} has a new password; open sessions have ended.")
    return 0


def _role(text: str) -> identity.Role:
    from appliance import identity

    try:
        return identity.Role(text)
    except ValueError:
        raise WrongCommand(f"there is no role '{text}'", hint=nearest(text, identity.Role)) from None
