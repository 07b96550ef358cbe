"""``appliance status``: whether the box is ready, and what to do where it isn't."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from appliance.cli.arguments import Arguments, Verbs, add_json
from appliance.cli.listing import as_json, as_table, shown, size
from appliance.cli.session import now
from appliance.config import load_config
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from appliance.health import Status


def add_to(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add(
        "status",
        "say whether the box is ready, and what is wrong where it is not",
        act=show_status,
        about="Problems come first, each with its fix. Ends with 0 if the question could be answered, ready or not.",
        examples=["appliance status", "appliance status --json"],
    )
    add_json(parser)


def show_status(arguments: Arguments) -> int:
    """Print the health of the box; one that can't even be opened is a status too, and its error the exit code."""
    from appliance import health
    from appliance.box import open_box

    config = load_config(os.environ)
    code = 0
    try:
        box = open_box(config)
    except ApplianceError as error:
        status, code = health.closed(error, now()), error.exit_code
    else:
        try:
            status = health.status(box, now())
        finally:
            box.close()
    if arguments.json:
        problems = [asdict(each) | {"blocks": each.blocks} for each in status.problems]
        as_json(asdict(status) | {"problems": problems})
    else:
        _print(status)
    return code


def _print(status: Status) -> None:
    print("Ready." if status.ready else "Not ready.")
    for problem in status.problems:
        print(f"  {'!' if problem.blocks else '-'} {shown(problem.words)}\n      {shown(problem.fix)}")
    if status.instances is not None:
        print(f"\nKept: {status.studies} studies, {status.instances} images, {size(status.bytes or 0)}.")
    if status.free_bytes is not None:
        print(f"Free: {size(status.free_bytes)}.")
    if status.queues:
        print()
        columns = {
            "destination": "DESTINATION",
            "waiting": "WAITING",
            "confirmed": "CONFIRMED",
            "failed": "FAILED",
            "oldest_utc": "OLDEST WAITING",
            "state": "STATE",
        }
        as_table(columns, [asdict(queue) for queue in status.queues], empty="")
