"""``appliance setting``: what an operator chooses, its history, and the whole configuration as a document.

The value of a secret is read from standard input or a file, never from an argument.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.cli.arguments import Arguments, Verbs, WrongCommand, add_json, whole_number
from appliance.cli.listing import as_json, as_table, safe
from appliance.cli.session import actor, now, opened_box, read_secret, record
from appliance.errors import OperatorNeeded, Refused

if TYPE_CHECKING:
    from appliance.catalog import Reading
    from appliance.configuration import Plan

COLUMNS = {"key": "SETTING", "value": "VALUE", "kind": "KIND", "state": "STATE"}
CHANGES = {
    "id": "CHANGE",
    "at_utc": "AT",
    "actor": "BY",
    "key": "SETTING",
    "old": "BEFORE",
    "new": "AFTER",
    "undoes": "UNDOES",
}
DIFFERENCES = {"kind": "WHAT", "subject": "NAME", "before": "BEFORE", "after": "AFTER"}
HIDDEN = "(secret)"


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    setting = verbs.add(
        "setting",
        "what you choose: the clinic, sessions, mail, access; with history and undo",
        about="What is needed before the box can start (ports, folders) is in the environment or the file of "
        "APPLIANCE_CONFIG instead.",
        examples=[
            "appliance setting list mail",
            "appliance setting set sessions.idle_minutes 15",
            "appliance setting set mail.password <password.txt",
            "appliance setting export >configuration.json",
        ],
    )
    own = Verbs(setting)
    listing = own.add("list", "show the settings; secrets only as given or not", act=list_settings)
    listing.add_argument("section", nargs="?", metavar="SECTION", help="only this section, such as mail")
    add_json(listing)
    one = own.add("get", "print the value of one setting", act=get_setting)
    one.add_argument("key", metavar="KEY", help="the setting, such as clinic.name")
    add_json(one)
    put = own.add(
        "set",
        "give a setting a value",
        act=set_setting,
        about="Without VALUE it is read from --file, or as one line from standard input; that of a secret always "
        "is. A list is written with commas, yes and no as words.",
    )
    put.add_argument("key", metavar="KEY", help="the setting, such as clinic.name")
    put.add_argument("value", nargs="?", metavar="VALUE", help="the value; never that of a secret")
    put.add_argument("--file", type=Path, metavar="F", help="a file with the value")
    own.add("reset", "give a setting its default back, or forget a secret", act=reset_setting).add_argument(
        "key", metavar="KEY", help="the setting"
    )
    changes = own.add("history", "show what was changed, by whom and when", act=show_history)
    changes.add_argument("key", nargs="?", metavar="KEY", help="only of this setting")
    changes.add_argument(
        "--limit", type=whole_number(1, 10_000), default=50, metavar="N", help="so many (default 50)"
    )
    add_json(changes)
    own.add("undo", "take a change back", act=undo_change).add_argument(
        "change", type=whole_number(1, 2**62), metavar="CHANGE", help="its number in the history"
    )
    own.add(
        "export",
        "print the configuration as JSON: settings, devices, destinations, rules; no secrets",
        act=export_configuration,
    )
    bring = own.add(
        "import",
        "show what a configuration would change; with --apply, change it",
        act=import_configuration,
        about="All or nothing; nothing is ever removed. Destinations whose secret is not on this box arrive paused.",
    )
    bring.add_argument("file", metavar="FILE", help="what 'export' printed; - reads standard input")
    bring.add_argument("--apply", action="store_true", help="do it, instead of only showing it")
    add_json(bring)


def list_settings(arguments: Arguments) -> int:
    """Print the settings, of one section or of all."""
    from appliance import settings

    with opened_box() as box, box.catalog.reading() as conn:
        if arguments.section:
            settings.get_section(conn, arguments.section)  # says so if there is none
        rows = [
            _row(conn, key)
            for key, each in settings.SETTINGS.items()
            if arguments.section in (None, each.section)
        ]
    if arguments.json:
        as_json(rows)
    else:
        as_table(COLUMNS, [row | {"value": _short(row["value"])} for row in rows], empty="There is none.")
    return 0


def get_setting(arguments: Arguments) -> int:
    """Print one value; of a secret, whether it was given."""
    with opened_box() as box, box.catalog.reading() as conn:
        row = _row(conn, arguments.key)
    if arguments.json:
        as_json(row)
    elif row["kind"] == "secret":
        print(row["state"])
    else:
        from appliance import settings

        print(_safe_lines(settings.setting(arguments.key).kind.write(row["value"])))
    return 0


def set_setting(arguments: Arguments) -> int:
    """Change one setting."""
    from appliance import settings

    chosen = settings.setting(arguments.key)
    if chosen.is_secret:
        if arguments.value is not None:
            raise WrongCommand(
                "a secret is never an argument: others see those",
                hint="send it to standard input as one line",
            )
        typed = read_secret(arguments.key, file=arguments.file, confirm=True)
    elif arguments.value is not None:
        typed = arguments.value
    elif arguments.file is not None:
        typed = _text_of(arguments.file)
    else:
        typed = sys.stdin.readline().rstrip("\r\n")
    value = chosen.kind.read(typed)
    with opened_box() as box, box.catalog.transaction() as tx:
        done = settings.change(
            tx, box.audit_key, {chosen.key: value}, actor=actor(), now=now(), root=box.root
        )
    print(f"{chosen.key} is changed." if done else f"{chosen.key} is so already.")
    return 0


def reset_setting(arguments: Arguments) -> int:
    """Go back to the default of one setting."""
    from appliance import settings

    with opened_box() as box, box.catalog.transaction() as tx:
        done = settings.change(tx, box.audit_key, {arguments.key: None}, actor=actor(), now=now())
    print(f"{arguments.key} is at its default again." if done else f"{arguments.key} is at its default.")
    return 0


def show_history(arguments: Arguments) -> int:
    """Print the changes, the latest first."""
    from appliance import settings

    with opened_box() as box, box.catalog.reading() as conn:
        rows = [asdict(each) for each in settings.history(conn, key=arguments.key, limit=arguments.limit)]
    for row in rows:
        if row["key"] in settings.SETTINGS and settings.SETTINGS[row["key"]].is_secret:
            row["old"] = row["new"] = HIDDEN
    if arguments.json:
        as_json(rows)
    else:
        shown = [row | {side: _short(row[side]) for side in ("old", "new")} for row in rows]
        as_table(CHANGES, shown, empty="Nothing was changed yet.")
    return 0


def undo_change(arguments: Arguments) -> int:
    """Take one change back."""
    from appliance import settings

    with opened_box() as box, box.catalog.transaction() as tx:
        done = settings.undo(tx, box.audit_key, arguments.change, actor=actor(), now=now())
    print(f"{done.key} is as before change {arguments.change}; this is change {done.id}.")
    return 0


def export_configuration(_: Arguments) -> int:
    """Print the configuration."""
    from appliance import configuration

    with opened_box() as box:
        with box.catalog.reading() as conn:
            document = configuration.export(conn)
        with box.catalog.transaction() as tx:
            record(tx, box, "configuration:export", "box")
    as_json(document)
    return 0


def import_configuration(arguments: Arguments) -> int:
    """Show what a configuration would change, or change it."""
    from appliance import configuration

    text = sys.stdin.read() if arguments.file == "-" else _text_of(Path(arguments.file))
    document = configuration.read(text)
    with opened_box() as box:
        if arguments.apply:
            with box.catalog.transaction() as tx:
                found = configuration.apply(tx, box, document, actor=actor(), now=now())
        else:
            with box.catalog.reading() as conn:
                found = configuration.plan(conn, box, document)
    if arguments.json:
        as_json({"applied": bool(arguments.apply), **asdict(found)})
    else:
        _print_plan(found, bool(arguments.apply))
    return 0


def _print_plan(found: Plan, applied: bool) -> None:
    as_table(
        DIFFERENCES,
        [
            asdict(each) | {"before": _short(each.before), "after": _short(each.after)}
            for each in found.differences
        ],
        empty="Everything is so already.",
    )
    if found.secrets:
        print(
            "\nType these again, they are in no configuration: " + ", ".join(map(safe, found.secrets)) + "."
        )
    if found.differences:
        print("\nDone." if applied else "\nNothing was changed; --apply does it.")


def _row(conn: Reading, key: str) -> dict[str, Any]:
    from appliance import settings

    chosen, given = settings.setting(key), settings.is_set(conn, key)
    return {
        "key": key,
        "value": None if chosen.is_secret else settings.get(conn, key),
        "kind": chosen.kind.name,
        "state": ("given" if given else "not given") if chosen.is_secret else "set" if given else "default",
    }


def _short(value: Any) -> Any:
    text = value.replace("\n", " ") if isinstance(value, str) else value
    return f"{text[:57]}…" if isinstance(text, str) and len(text) > 58 else text


def _safe_lines(text: str) -> str:
    """`text` for the terminal, line by line."""
    return "\n".join(safe(line) for line in text.split("\n"))


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"{path} is not text in UTF-8", hint="choose another file") from error
    except OSError as error:
        raise OperatorNeeded(f"{path} cannot be read", hint="check its name and permissions") from error
