"""``appliance grant``: which studies a referrer or a student may see.

The reason is read from standard input, because people write names into it: arguments are seen by every account of the
machine and stay in the shell's history.
"""

from __future__ import annotations

from datetime import timedelta

from appliance.cli.arguments import Arguments, Verbs, add_json, whole_number
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import actor, now, opened_box, read_line, record

COLUMNS = {
    "id": "ID",
    "login": "WHO",
    "study": "STUDY",
    "state": "STATE",
    "until_utc": "UNTIL",
    "by": "BY",
}
LONGEST_DAYS = 366  # as in `appliance.identity.granting`; help must not load the catalog


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    grant = verbs.add(
        "grant",
        "which studies a referrer or a student may see",
        examples=[
            "appliance grant add drroy 1.2.840.1 --days 31 <reason.txt",
            "appliance grant list --login drroy",
            "appliance grant remove 3",
        ],
    )
    own = Verbs(grant)
    add = own.add(
        "add",
        "show a study to a person, for a time",
        act=add_grant,
        about="The reason is asked for, or read from standard input. A grant that the two have already is replaced.",
    )
    add.add_argument("login", metavar="LOGIN", help="a referrer or a student")
    add.add_argument("study", metavar="STUDY", help="the study's UID, or words that find only it")
    add.add_argument(
        "--days",
        type=whole_number(1, LONGEST_DAYS),
        default=31,
        metavar="D",
        help="for how long (default 31)",
    )
    listing = own.add("list", "show the grants, those that are over too", act=list_grants)
    listing.add_argument("--login", metavar="L", help="only those of this person")
    add_json(listing)
    remove = own.add("remove", "take a grant back, at once", act=remove_grant)
    remove.add_argument("id", type=whole_number(1, 2**63 - 1), metavar="ID", help="which, from the list")


def add_grant(arguments: Arguments) -> int:
    """Make one grant."""
    from appliance import identity
    from appliance.cli.people import known_person
    from appliance.cli.studies import chosen_study

    hour = now()
    with opened_box() as box:
        with box.catalog.reading() as conn:
            person, study = known_person(conn, arguments.login), chosen_study(conn, arguments.study)
        reason = read_line("Reason")
        with box.catalog.transaction() as tx:
            made = identity.grant_study(
                tx,
                study.id,
                person.id,
                by=actor(),
                reason=reason,
                expires_utc=hour + timedelta(days=arguments.days),
                now=hour,
            )
            details = {"grant": made.id, "person": made.login, "until": made.expires_utc.isoformat()}
            record(tx, box, "study:grant", f"study:{study.id}", details, study=study.study_instance_uid)
    print(f"{made.login} may see the study until {made.expires_utc:%Y-%m-%d %H:%M} UTC.")
    return 0


def list_grants(arguments: Arguments) -> int:
    """Print the grants; neither whose studies they are nor why, which a terminal need not show."""
    from appliance.catalog import grants, people
    from appliance.cli.people import known_person

    hour = now()
    with opened_box() as box, box.catalog.reading() as conn:
        whose = [known_person(conn, arguments.login)] if arguments.login else people.people(conn)
        found = [each for person in whose for each in grants.of_user(conn, person.id)]
    rows = [
        {
            "id": each.id,
            "login": each.login,
            "study": each.study,
            "state": "holds" if each.holds(hour) else "removed" if each.revoked_utc else "over",
            "until_utc": each.revoked_utc or each.expires_utc,
            "by": each.by,
        }
        for each in found
    ]
    if arguments.json:
        as_json(rows)
    else:
        as_table(COLUMNS, rows, empty="Nothing is granted: 'appliance grant add' shows somebody a study.")
    return 0


def remove_grant(arguments: Arguments) -> int:
    """Take one grant back."""
    from appliance.catalog import grants
    from appliance.catalog.sight import uid_for_audit

    with opened_box() as box, box.catalog.transaction() as tx:
        taken = grants.revoke(tx, arguments.id, by=actor(), now=now())
        details = {"grant": taken.id, "person": taken.login}
        uid = uid_for_audit(tx, taken.study)
        record(tx, box, "study:revoke", f"study:{taken.study}", details, study=uid)
    print(f"{taken.login} sees the study by this grant no more.")
    return 0
