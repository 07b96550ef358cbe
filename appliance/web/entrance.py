"""What happens whenever somebody has come in, by whichever way: said in one place, so that no way forgets a part."""

from __future__ import annotations

from flask import g, request

from appliance import identity
from appliance.catalog import Transaction, people, second_factors
from appliance.catalog.people import Person
from appliance.identity import Proof, browsers, limits, policy, recovery_codes
from appliance.web import security
from appliance.web.console import VISITOR, Notice, console, now
from appliance.web.language import Words


def arrived(tx: Transaction, cookie: str, person: Person, proof: Proof) -> None:
    """Record the sign-in that made `cookie`; end the session that this browser had, and those that are too many."""
    session = identity.digest(cookie)
    if g.session is not None:
        people.end_session(tx, g.session.id)
    details = {"address": security.address(), "proof": proof.value}
    console().record(tx, "user:login", person.login, person.login, details)
    for ended in identity.end_surplus(tx, person.id, now(), keep=session):
        console().record(
            tx, "session:end", person.login, person.login, {"address": ended.address, "why": "limit"}
        )
        text = g.words("session.ended_hint", device=device_words(g.words, ended.agent), address=ended.address)
        console().notices.add(session, Notice("wait", g.words("session.ended_for_this"), text))
    left = second_factors.recovery_codes_left(tx, person.id)
    if left <= recovery_codes.FEW and policy.has_second_factor(tx, person.id):
        notice = Notice("wait", g.words("factor.few_codes", n=left), g.words("factor.few_codes_hint"))
        console().notices.add(session, notice)


def failed(tx: Transaction, login: str, actor: str = VISITOR) -> None:
    """After a failure that was counted: say in the audit if it was the one that shuts the account for a while.

    `actor` is who failed, where somebody is signed in already.
    """
    person = people.person(tx, login)
    if person is not None and limits.is_shut(tx, login, security.address(), now()):
        console().record(tx, "user:lock", person.login, actor)


def device_words(words: Words, agent: str) -> str:
    """A browser as its owner would name it: "Firefox on Windows"."""
    found = browsers.named(agent)
    if found.browser and found.system:
        return words("session.device", browser=found.browser, system=found.system)
    return found.browser or found.system or words("session.device_unknown")


def sign_in_cookie() -> str:
    """The cookie of a sign-in that this browser has begun, or nothing."""
    return request.cookies.get(security.cookie_name(security.SIGN_IN_COOKIE), "")
