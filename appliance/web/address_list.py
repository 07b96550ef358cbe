"""The list of addresses that may open the console, held against every request, and against whoever changes it."""

from __future__ import annotations

from collections.abc import Sequence

from flask import request
from werkzeug.exceptions import Forbidden

from appliance import settings
from appliance.catalog import Reading
from appliance.errors import Refused
from appliance.identity import addresses
from appliance.settings import NotAccepted
from appliance.web.console import VISITOR, console

SETTING = "access.allowed_addresses"


def check(allowed: Sequence[str]) -> None:
    """Raise `Forbidden` for an address that is not in the list, and say so in the audit, once a minute for each.

    What is told to machines without asking who they are (`/health/live`) is told to these only, too.
    """
    address = request.remote_addr or ""
    if addresses.is_allowed(allowed, address):
        return
    what = ("address", address)
    console().record_once(console().refused, what, "access:address", "console", VISITOR)
    raise Forbidden


def keep_a_way_in(conn: Reading) -> None:
    """Refuse what has just been changed in `conn`, if whoever changes it would be shut out by it.

    Raises `NotAccepted`: let nothing commit.
    """
    if not addresses.is_allowed(settings.get(conn, SETTING), request.remote_addr or ""):
        raise NotAccepted(
            {
                SETTING: Refused(
                    "the address of this computer is not in the list",
                    hint="add it, or change the list at the box itself",
                )
            }
        )
