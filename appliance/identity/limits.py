"""How often a proof may fail, whichever it is: passwords, codes, passkeys and confirmations are counted together.

Over a quarter of an hour: five failures of one login from one address, so that a colleague across the room is not
locked out by a stranger's guesses; twenty of one login from anywhere; forty from one address. Beside that, twenty
second factors of one login in a day: of a million codes three are valid at a time, so whoever has the password needs
thirty years for an even chance. Failures live in the catalog, so a restart forgives nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from appliance.catalog import Reading, people

WINDOW = timedelta(minutes=15)
HERE, LOGIN, ADDRESS = 5, 20, 40
FACTOR_WINDOW = timedelta(days=1)
FACTORS = 20


def wait_until(conn: Reading, login: str, address: str, now: datetime) -> datetime | None:
    """Until when nothing is examined for this login from this address; None if it may be tried now.

    Only failures near the present count, in either direction: what a clock that was wrong left in a far future is not.
    """
    near = (now - WINDOW, now + WINDOW)
    everybody = (people.nth_failure(conn, ADDRESS, near, address=address), WINDOW)
    return free_again([*_of_login(conn, login, address, now), everybody])


def is_shut(conn: Reading, login: str, address: str, now: datetime) -> bool:
    """Whether nothing is examined for this login from this address for its own failures, whoever else failed there."""
    return free_again(_of_login(conn, login, address, now)) is not None


def _of_login(
    conn: Reading, login: str, address: str, now: datetime
) -> list[tuple[datetime | None, timedelta]]:
    near = (now - WINDOW, now + WINDOW)
    today = (now - FACTOR_WINDOW, now + FACTOR_WINDOW)
    return [
        (people.nth_failure(conn, HERE, near, login=login, address=address), WINDOW),
        (people.nth_failure(conn, LOGIN, near, login=login), WINDOW),
        (people.nth_failure(conn, FACTORS, today, login=login, kind=people.FACTOR), FACTOR_WINDOW),
    ]


def free_again(filling: Iterable[tuple[datetime | None, timedelta]]) -> datetime | None:
    """When the last of the limits lets go: each is given by the oldest failure that fills it, and its window."""
    return max((moment + window for moment, window in filling if moment is not None), default=None)
