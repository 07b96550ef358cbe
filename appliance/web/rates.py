"""How often one account may ask for what costs much, carries much away, or reaches others.

Chosen: a table of endpoints, counted by account over all its sessions, and over all its tokens apart, so that a
program that asks too often doesn't stop the person whose it is, and gains nothing by making itself more tokens; in the memory of the console; far
above the busiest day, so that nobody at work ever meets it, and low enough that a program with somebody's session is
slowed from everything in a minute to everything in days, which the audit and its reader then have. Because: what is
only audited is noticed when it is over. Rejected: a limit for every page (a viewer asks for a hundred pictures while one
scrolls), limits by address (a clinic is often one address), and counting in the catalog (a write for each read).

What anybody may ask who has not signed in has limits of its own: `appliance.identity.limits`, `console.questions`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from flask import g, request
from werkzeug.exceptions import TooManyRequests

from appliance.web import access
from appliance.web.console import console


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `most` times in `seconds`."""

    name: str
    most: int
    seconds: int


LISTS = Rate("lists", 600, 60)
PICTURES = Rate("pictures", 6000, 60)
EXPORTS = Rate("exports", 60, 600)
REACHING = Rate("reaching", 60, 600)
"""What makes the box call or write to somebody: tests of connections, links and invitations."""
PASSWORDS = Rate("passwords", 20, 600)
"""What is slow on purpose: each takes a core for a good part of a second."""

RATES: Mapping[str, Rate] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "api.get_study",
                "api.get_tier_plan",
                "api.list_audit",
                "api.list_deliveries",
                "api.list_delivery_events",
                "api.list_instances",
                "api.list_series",
                "api.list_studies",
                "api.return_study",
                "api.search_studies",
                "audit.listing",
                "deliveries.listing",
                "deliveries.timeline",
                "studies.search",
                "studies.study",
                "tiers.plan",
            ),
            LISTS,
        ),
        **dict.fromkeys(("images.image", "images.thumbnail"), PICTURES),
        **dict.fromkeys(
            (
                "api.export_configuration",
                "api.get_plan",
                "api.send_ticket",
                "audit.export",
                "audit.report",
                "backups.certificate",
                "retention.export",
                "support.make_file",
                "support.send_file",
                "support.take_file",
                "settings.export",
                "setup.recovery_sheet",
                "setup.report_paper",
            ),
            EXPORTS,
        ),
        **dict.fromkeys(
            (
                "channels.try_hook",
                "channels.try_mail",
                "api.drill_backup",
                "api.echo_device",
                "api.invite_user",
                "api.list_backups",
                "api.evict_studies",
                "api.make_backup",
                "api.make_user_link",
                "api.move_tiers",
                "api.return_everything",
                "api.test_destination",
                "api.test_webhook",
                "api.trust_server",
                "api.verify_everything",
                "api.choose_disk_pin",
                "api.show_disk_key",
                "api.hide_disk_key",
                "api.remove_disk_pin",
                "api.replace_root_key",
                "backups.held",
                "backups.make",
                "backups.try_out",
                "backups.verify",
                "destinations.test",
                "disk_pin.choose",
                "disk_pin.show_key",
                "disk_pin.hide_key",
                "disk_pin.remove",
                "devices.echo",
                "server_key.server_key",
                "server_key.trust",
                "setup.call_machine",
                "setup.invite",
                "setup.new_root",
                "setup.run_trial",
                "setup.try_copy",
                "tiers.bring_back",
                "tiers.evict",
                "tiers.move",
                "trying.load",
                "users.invite",
                "users.link",
            ),
            REACHING,
        ),
        "me.change_password": PASSWORDS,
    }
)
"""By endpoint; what is not here is cheap, or bounded by what it does."""


def check() -> None:
    """Raise `TooManyRequests`, which says when to come back, once an account or its tokens have asked too often; the audit is told."""
    rate = RATES.get(request.endpoint or "")
    if rate is None or (g.session is None and g.bearer is None):
        return
    asks, console_ = access.person(), console()
    who = str(asks.id) if g.bearer is None else f"tokens of {asks.id}"
    left = console_.paces[rate.name].wait(who)
    if left <= 0:
        return
    console_.record_once(
        console_.refused, ("rate", who, rate.name), "access:pace", request.endpoint or "", asks.login
    )
    raise TooManyRequests(retry_after=max(1, math.ceil(left)))
