"""``appliance notify``: what people were told, and whether they can be."""

from __future__ import annotations

from appliance.cli.arguments import Arguments, Parser, Verbs, add_json, whole_number
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import actor, now, opened_box, record

COLUMNS = {
    "id": "NOTICE",
    "raised_utc": "RAISED",
    "severity": "SEVERITY",
    "title": "WHAT",
    "state": "STATE",
    "acknowledged_by": "ACKNOWLEDGED BY",
}
MESSAGE_COLUMNS = {
    "id": "MESSAGE",
    "created_utc": "MADE",
    "channel": "BY",
    "to": "TO",
    "subject": "WHAT",
    "state": "STATE",
    "attempts": "TRIES",
    "reason": "ANSWER",
}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    notify = verbs.add(
        "notify",
        "what people were told of, and whether they can be told",
        examples=[
            "appliance notify list --standing",
            "appliance notify messages",
            "appliance notify test --mail marie@example.ca",
        ],
    )
    own = Verbs(notify)
    listing = own.add("list", "show the notices, the newest first", act=list_notices)
    listing.add_argument("--standing", action="store_true", help="only those whose trouble stands")
    _add_limit(listing)
    add_json(listing)
    messages = own.add(
        "messages", "show the letters and webhook messages, the newest first", act=list_messages
    )
    _add_limit(messages)
    add_json(messages)
    test = own.add(
        "test",
        "tell a test notice to the owners, or send a letter now",
        act=try_out,
        about="Without --mail, a test notice rings the bell of the owners and goes to every webhook that hears of "
        "information. With --mail, a letter is handed to the mail server at once, and what it answers is shown.",
    )
    test.add_argument(
        "--mail", metavar="ADDRESS", help="hand a letter for this address to the mail server now"
    )


def list_notices(arguments: Arguments) -> int:
    """Print the notices."""
    from appliance.catalog import notices
    from appliance.catalog.notices import Wanted
    from appliance.notify.kinds import OF_ACCOUNTS
    from appliance.notify.texts import title

    wanted = Wanted(state="standing" if arguments.standing else "")
    with opened_box() as box, box.catalog.reading() as conn:
        rows = [
            {
                "id": each.id,
                "raised_utc": each.raised_utc,
                "severity": each.severity,
                "kind": each.kind,
                "subject": each.subject,
                "title": title("en", each.kind, each.subject),
                "state": each.state.lower(),
                "over_utc": each.over_utc,
                "acknowledged_utc": each.acknowledged_utc,
                "acknowledged_by": each.acknowledged_name,
            }
            for each in notices.history(
                conn, 0, wanted, everything=True, limit=arguments.limit, personal=OF_ACCOUNTS
            )
        ]
    if arguments.json:
        as_json(rows)
    else:
        as_table(COLUMNS, rows, empty="Nothing to tell.")
    return 0


def list_messages(arguments: Arguments) -> int:
    """Print the messages; nothing of what they say."""
    from appliance.catalog import outbox, webhooks
    from appliance.notify.kinds import Channel

    with opened_box() as box, box.catalog.reading() as conn:
        names = {str(each.id): each.name for each in webhooks.webhooks(conn)}
        rows = [
            {
                "id": each.id,
                "created_utc": each.created_utc,
                "channel": each.channel,
                "to": each.address if each.channel == Channel.MAIL else names.get(each.address, each.address),
                "subject": each.subject,
                "state": each.state.lower(),
                "attempts": each.attempts,
                "next_attempt_utc": each.next_attempt_utc,
                "reason": each.reason,
            }
            for each in outbox.messages(conn, limit=arguments.limit)
        ]
    if arguments.json:
        as_json(rows)
    else:
        as_table(MESSAGE_COLUMNS, rows, empty="No message has left the box yet.")
    return 0


def try_out(arguments: Arguments) -> int:
    """Raise a test notice, or send a letter now."""
    from appliance.notify import mail
    from appliance.notify.telling import tell

    with opened_box() as box:
        if arguments.mail is None:
            with box.catalog.transaction() as tx:
                tell(tx, "test", words="this is a test", fix="nothing needs to be done", now=now())
                record(tx, box, "notice:test", actor())
            print("A test notice was raised; 'appliance notify messages' shows what was sent.")
            return 0
        with box.catalog.transaction() as tx:
            record(tx, box, "mail:test", arguments.mail)
        answer = mail.try_out(
            box.catalog, box.root, arguments.mail, "en", now(), lambda step: print(f"  {step}")
        )
        print(f"The mail server took the letter: {answer}")
    return 0


def _add_limit(parser: Parser) -> None:
    parser.add_argument(
        "--limit", type=whole_number(1, 10_000), default=100, metavar="N", help="how many (default 100)"
    )
