"""People who choose a password as people do: by a link."""

from datetime import datetime

from appliance import identity
from appliance.catalog import Transaction, people
from appliance.catalog.people import Person


def choose_password(tx: Transaction, login: str, password: str, now: datetime) -> Person:
    """Let the person of that login choose a password by a link that is made for it."""
    found = people.person(tx, login)
    assert found is not None
    link = identity.make_link(tx, found.id, by="tests", now=now)
    identity.check_password(password, login=found.login, name=found.name)
    return identity.redeem_link(tx, link.token, identity.hash_password(password), now)
