"""``appliance webhook``: where notices are posted to, for chat, SMS gateways and other systems.

The address of a chat's webhook is a secret in itself, so it is read from standard input, as every secret is.
"""

from __future__ import annotations

from pathlib import Path

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, as_table, safe
from appliance.cli.session import now, opened_box, read_secret, record
from appliance.settings.registry import LANGUAGES

COLUMNS = {
    "name": "NAME",
    "host": "WHERE",
    "format": "FORM",
    "hears": "HEARS OF",
    "least": "FROM",
    "language": "LANGUAGE",
    "state": "STATE",
    "last_success_utc": "LAST ARRIVED",
}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    webhook = verbs.add(
        "webhook",
        "where notices are posted to: chat, SMS, other systems",
        about="What is posted is signed and names no patient. The secret that a receiver checks signatures with is "
        "shown once, when the webhook is added.",
        examples=[
            "appliance webhook add chat --format slack --language fr <address.txt",
            "appliance webhook add gateway --format sms --to +15145550123 --least critical --on-lan <address.txt",
            "appliance webhook add vendor --hears tickets <address.txt",
            "appliance webhook test chat",
        ],
    )
    own = Verbs(webhook)
    add_json(own.add("list", "show the webhooks; neither addresses nor secrets", act=list_webhooks))
    add = own.add(
        "add",
        "post notices to an address from now on; shows the secret once",
        act=add_webhook,
        about="The address is read from standard input, or from --url-file.",
    )
    add.add_argument("name", metavar="NAME", help="what to call it")
    add.add_argument(
        "--format", choices=("json", "slack", "teams", "sms"), default="json", help="default json"
    )
    add.add_argument(
        "--hears",
        choices=("notices", "tickets"),
        default="notices",
        help="notices, or tickets to support and nothing else (default notices)",
    )
    add.add_argument(
        "--least",
        choices=("information", "warning", "critical"),
        default="warning",
        help="the least severity it hears of (default warning)",
    )
    add.add_argument(
        "--language", choices=LANGUAGES, default="", help="of what is posted (default: the clinic's)"
    )
    add.add_argument("--to", default="", metavar="NUMBER", help="the telephone number, for sms")
    add.add_argument("--on-lan", action="store_true", help="it is a system inside the clinic's network")
    add.add_argument("--ca-file", type=Path, metavar="F", help="the certificate of its authority, in PEM")
    add.add_argument(
        "--url-file", type=Path, metavar="F", help="a file with the address, readable by you only"
    )
    add_json(add)
    for name, summary, act in (
        ("remove", "post there no more", remove_webhook),
        ("test", "post a test now, and say what is wrong", try_webhook),
    ):
        own.add(name, summary, act=act).add_argument("name", metavar="NAME", help="the webhook's name")


def list_webhooks(arguments: Arguments) -> int:
    """Print the webhooks."""
    from appliance.catalog import webhooks

    with opened_box() as box, box.catalog.reading() as conn:
        rows = [
            {
                "name": each.name,
                "host": each.host,
                "format": each.format,
                "hears": each.options.get("hears", "notices"),
                "least": each.options.get("least"),
                "language": each.options.get("language"),
                "on_lan": each.on_lan,
                "state": each.breaker.reason or "on",
                "last_success_utc": each.last_success_utc,
            }
            for each in webhooks.webhooks(conn)
        ]
    if arguments.json:
        as_json(rows)
    else:
        as_table(COLUMNS, rows, empty="There is no webhook yet: see 'appliance webhook add --help'.")
    return 0


def add_webhook(arguments: Arguments) -> int:
    """Add one, and show its secret."""
    from appliance.errors import OperatorNeeded
    from appliance.notify import hooks

    url = read_secret("Address", file=arguments.url_file).strip()
    try:
        ca = arguments.ca_file.read_text("ascii") if arguments.ca_file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorNeeded(
            f"the certificate {arguments.ca_file} cannot be read", hint="check its name and permissions"
        ) from error
    with opened_box() as box, box.catalog.transaction() as tx:
        hook = hooks.add(
            tx,
            name=arguments.name,
            url=url,
            now=now(),
            format=arguments.format,
            language=arguments.language,
            least=arguments.least,
            to=arguments.to,
            ca=ca,
            on_lan=arguments.on_lan,
            hears=arguments.hears,
        )
        record(tx, box, "webhook:add", hook.name, hooks.details(hook))
    if arguments.json:
        as_json({"name": hook.name, "secret": hook.secret})
    else:
        print(
            f"{safe(hook.name)} is added. Give its receiver this secret; it is not shown again:\n{hook.secret}"
        )
    return 0


def remove_webhook(arguments: Arguments) -> int:
    """Remove one."""
    from appliance.notify import hooks

    with opened_box() as box, box.catalog.transaction() as tx:
        cancelled = hooks.remove(tx, arguments.name, now())
        record(tx, box, "webhook:remove", arguments.name, {"cancelled": cancelled})
    print(f"{safe(arguments.name)} is removed; {cancelled} messages that waited for it are cancelled.")
    return 0


def try_webhook(arguments: Arguments) -> int:
    """Post a test to one."""
    from appliance import settings
    from appliance.catalog import webhooks
    from appliance.notify import hooks

    with opened_box() as box:
        with box.catalog.transaction() as tx:
            hook = webhooks.by_name(tx, arguments.name)
            clinic = settings.get(tx, "clinic.name")
            record(tx, box, "webhook:test", hook.name)
        status = hooks.try_out(hook, clinic, now())
    print(f"{safe(hook.name)} answered with status {status}.")
    return 0
