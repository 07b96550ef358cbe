"""``appliance token``: what programs on the network show to the interface for machines."""

from __future__ import annotations

from appliance.cli.arguments import Arguments, Verbs, add_json, whole_number
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import actor, now, opened_box, record

COLUMNS = {
    "id": "ID",
    "name": "NAME",
    "login": "OF",
    "scopes": "MAY",
    "state": "STATE",
    "expires_utc": "UNTIL",
    "last_used_utc": "LAST USED",
    "last_address": "FROM",
}
LONGEST_DAYS = 366  # as in `appliance.identity.tokens`; help must not load what tokens are kept with


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    token = verbs.add(
        "token",
        "tokens by which programs use the interface for machines",
        examples=[
            'appliance token add marie --name "night report" --scope health:view --days 90',
            "appliance token list",
            "appliance token remove 3",
        ],
    )
    own = Verbs(token)
    add = own.add(
        "add",
        "make a token, and print it",
        act=add_token,
        about="The token is printed only now. It acts in the name of a person, and may do no more than that person.",
    )
    add.add_argument("login", metavar="LOGIN", help="in whose name")
    add.add_argument("--name", required=True, metavar="N", help="which program will use it")
    add.add_argument(
        "--scope",
        required=True,
        action="append",
        metavar="S",
        help="a permission it has; give as few as it needs",
    )
    add.add_argument(
        "--days",
        type=whole_number(1, LONGEST_DAYS),
        default=90,
        metavar="D",
        help="how long it is good (default 90)",
    )
    add_json(add)
    add_json(own.add("list", "show the tokens; nothing that opens anything", act=list_tokens))
    remove = own.add(
        "remove", "take a token back; it opens nothing from the next request on", act=remove_token
    )
    remove.add_argument("id", type=whole_number(1, 2**63 - 1), metavar="ID", help="which, from the list")


def add_token(arguments: Arguments) -> int:
    """Make one token."""
    from appliance.cli.people import known_person
    from appliance.identity import tokens

    hour = now()
    with opened_box() as box, box.catalog.transaction() as tx:
        person = known_person(tx, arguments.login)
        text, made = tokens.make(
            tx, person, name=arguments.name, scopes=arguments.scope, days=arguments.days, now=hour
        )
        record(tx, box, "token:add", f"token:{made.id}", {"of": person.login, "scopes": list(made.scopes)})
    if arguments.json:
        as_json({"id": made.id, "token": text, "expires_utc": made.expires_utc})
    else:
        print(text)
    return 0


def list_tokens(arguments: Arguments) -> int:
    """Print all tokens, those that are over too."""
    from appliance.catalog import api_tokens
    from appliance.identity import tokens

    hour = now()
    with opened_box() as box, box.catalog.reading() as conn:
        found = api_tokens.tokens(conn)
    rows = [
        {key: getattr(each, key) for key in COLUMNS if key not in ("scopes", "state")}
        | {
            "scopes": list(each.scopes) if arguments.json else " ".join(each.scopes),
            "state": "good" if tokens.is_good(each, hour) else "removed" if each.revoked_utc else "over",
        }
        for each in found
    ]
    if arguments.json:
        as_json(rows)
    else:
        as_table(COLUMNS, rows, empty="There is no token: 'appliance token add' makes one.")
    return 0


def remove_token(arguments: Arguments) -> int:
    """Take one token back."""
    from appliance.identity import tokens

    with opened_box() as box, box.catalog.transaction() as tx:
        gone = tokens.revoke(tx, arguments.id, by=actor(), now=now())
        for each in gone:
            record(tx, box, "token:remove", f"token:{each.id}", {"of": each.login})
    for each in gone:
        print(f"Token {each.id} ({each.name}) opens nothing any more.")
    return 0
