"""``appliance rule``: what is owed to which destination."""

from __future__ import annotations

from appliance.cli.arguments import Arguments, Verbs, add_json, whole_number
from appliance.cli.listing import as_json, as_table
from appliance.cli.session import opened_box, record
from appliance.errors import Unknown
from appliance.model import Rule, ae_title

COLUMNS = {
    "id": "RULE",
    "destination": "TO",
    "device": "FROM DEVICE",
    "modality": "MODALITY",
    "priority": "PRIORITY",
}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    rule = verbs.add(
        "rule",
        "which images go to which destination",
        about="A rule without --device and --modality sends everything. Rules act on what arrives after them.",
        examples=[
            "appliance rule add --to cloud",
            "appliance rule add --to orthodontist --modality PX --priority 5",
            "appliance rule list",
        ],
    )
    own = Verbs(rule)
    add_json(own.add("list", "show the rules", act=list_rules))
    add = own.add("add", "send images to a destination from now on", act=add_rule)
    add.add_argument("--to", required=True, metavar="NAME", help="the destination's name")
    add.add_argument("--device", metavar="D", help="only from the machine with this AE title")
    add.add_argument("--modality", metavar="M", help="only this modality: PX, IO, DX, CT, …")
    add.add_argument(
        "--priority",
        type=whole_number(-1000, 1000),
        default=0,
        metavar="N",
        help="a higher number leaves first (default 0)",
    )
    remove = own.add("remove", "stop a rule; what is owed already is still delivered", act=remove_rule)
    remove.add_argument("rule", type=whole_number(1, 2**62), metavar="RULE", help="its number in the list")


def list_rules(arguments: Arguments) -> int:
    """Print the rules."""
    from appliance.catalog import rules

    with opened_box() as box, box.catalog.reading() as conn:
        rows = [
            {
                "id": rule.id,
                "destination": rule.destination,
                "device": rule.device,
                "modality": rule.modality,
                "priority": rule.priority,
            }
            for rule in rules.rules(conn)
        ]
    if arguments.json:
        as_json(rows)
    else:
        shown = [
            row | {"device": row["device"] or "any", "modality": row["modality"] or "any"} for row in rows
        ]
        as_table(COLUMNS, shown, empty="Nothing is sent anywhere yet: see 'appliance rule add --help'.")
    return 0


def add_rule(arguments: Arguments) -> int:
    """Add one rule."""
    from appliance.catalog import destinations, rules

    with opened_box() as box, box.catalog.transaction() as tx:
        to = destinations.destination(tx, arguments.to)
        if to is None:
            raise Unknown(
                f"there is no destination '{arguments.to}'", hint="see 'appliance destination list'"
            )
        rule = Rule(
            destination_id=to.id,
            destination=to.name,
            takes=to.takes,
            device=ae_title(arguments.device) if arguments.device else None,
            modality=arguments.modality.strip().upper() if arguments.modality else None,
            priority=arguments.priority,
        )
        rules.add_rule(tx, rule)
        record(
            tx,
            box,
            "rule:add",
            to.name,
            {"device": rule.device, "modality": rule.modality, "priority": rule.priority},
        )
    print(f"{rule.modality or 'Everything'} from {rule.device or 'any machine'} now goes to {to.name}.")
    return 0


def remove_rule(arguments: Arguments) -> int:
    """Remove one rule."""
    from appliance.catalog import rules

    with opened_box() as box, box.catalog.transaction() as tx:
        found = [rule for rule in rules.rules(tx) if rule.id == arguments.rule]
        if not found:
            raise Unknown(f"there is no rule {arguments.rule}", hint="see 'appliance rule list'")
        rules.remove_rule(tx, arguments.rule)
        record(tx, box, "rule:remove", found[0].destination, {"rule": arguments.rule})
    print(
        f"Rule {arguments.rule} to {found[0].destination} is gone; what it owed already is still delivered."
    )
    return 0
