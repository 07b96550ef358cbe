"""Users: the rules of a login and a name, adding one."""

from __future__ import annotations

import re
from datetime import datetime

from appliance.catalog import people
from appliance.catalog.database import Transaction
from appliance.catalog.people import Person
from appliance.errors import Refused
from appliance.identity.passwords import check_password, hash_password
from appliance.identity.roles import Role

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@+-]{1,79}")


def normal_login(text: str) -> str:
    """`text` as a login: outer spaces removed, lower case. Raises `Refused`."""
    login = text.strip().lower()
    if not _LOGIN.fullmatch(login):
        raise Refused(
            "that is not a login",
            hint="use 2 to 80 letters without accents, digits, dots, dashes, or an e-mail address",
            field="login",
        )
    return login


def normal_name(text: str) -> str:
    """`text` as a person's name: single spaces. Raises `Refused`."""
    name = " ".join(text.split())
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise Refused(
            "the name is missing or too long", hint="give the name as colleagues know it", field="name"
        )
    return name


def add_user(
    tx: Transaction, *, login: str, name: str, role: Role, password: str, language: str, now: datetime
) -> Person:
    """Record a user. Raises `Refused` for a login, name or password that won't do."""
    login = normal_login(login)
    name = normal_name(name)
    check_password(password, login=login, name=name)
    return people.add(
        tx,
        login=login,
        name=name,
        role=role.value,
        password_hash=hash_password(password),
        language=language,
        now=now,
    )
