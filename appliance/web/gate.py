"""What every request is judged by, read once at its beginning: what the clinic has decided, and whose cookie it shows.

Chose one reading of two statements for all checks, so that they agree on one moment, and a picture is not asked about
ten times. Nothing is kept beyond the request: what is changed holds from the next one on. Rejected: to remember settings
or sessions between requests, however shortly: whoever was shut out would still be in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from appliance import identity, local_time, settings
from appliance.catalog import Catalog
from appliance.catalog.people import WebSession
from appliance.identity.sessions import LIMITS, SessionLimits
from appliance.web.address_list import SETTING as ADDRESSES

LANGUAGE = "language.default"


@dataclass(frozen=True, slots=True)
class Gate:
    """What holds for one request. `addresses` are those that may open the console, `language` the clinic's."""

    addresses: tuple[str, ...]
    language: str
    limits: SessionLimits
    session: WebSession | None


def read(catalog: Catalog, cookie: str, now: datetime) -> Gate:
    """The gate before whoever shows `cookie`, which may be empty; and what hours are shown by, from now on."""
    with catalog.reading() as conn:
        chosen = settings.get_several(conn, (ADDRESSES, LANGUAGE, local_time.SETTING, *LIMITS))
        limits = identity.limits_of(chosen)
        session = identity.find_within(conn, cookie, limits, now) if cookie else None
    local_time.follow(str(chosen[local_time.SETTING]))
    return Gate(tuple(chosen[ADDRESSES]), str(chosen[LANGUAGE]), limits, session)
