"""Sending a link to the person it is for: by letter, if the box can write letters and the login is an address."""

from __future__ import annotations

from appliance import settings
from appliance.catalog import Reading, Transaction
from appliance.identity import MadeLink
from appliance.notify import mail
from appliance.notify.preferences import is_mail_address
from appliance.web.console import now


def can_send(conn: Reading, login: str = "") -> bool:
    """Whether letters can be written, and to `login`, if one is given."""
    return bool(settings.get(conn, "mail.host")) and (not login or is_mail_address(login))


def send(tx: Transaction, link: MadeLink, console: str) -> bool:
    """Put the letter with `link` into the outbox, in the language of its reader; False if there is nowhere to send it.

    The letter is kept in the outbox, sealed like all of the catalog, until it has gone or the link is over.
    """
    if not can_send(tx, link.person.login):
        return False
    mail.enqueue(
        tx,
        to=link.person.login,
        letter="password-reset" if link.person.password_set else "invitation",
        language=link.person.language,
        now=now(),
        link=link.address(console),
        expires_utc=link.expires_utc,
    )
    return True
