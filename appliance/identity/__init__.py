"""Who is at the console: the claim of a new box, users and their passwords, signing in, sessions.

Functions take a transaction or a reading and the moment, and never commit: the workflow that calls them writes the
audit row of the same act in the same transaction.
"""

from appliance.identity.claim import ClaimClosed, Owner, WrongCode, claim_code, redeem
from appliance.identity.passwords import check_password, hash_password
from appliance.identity.people import add_user, normal_login, reset_password
from appliance.identity.roles import Role
from appliance.identity.sessions import (
    IDLE,
    LIFETIME,
    end_expired,
    find_session,
    open_session,
    session_is_live,
)
from appliance.identity.signing_in import Accepted, Rejected, TooMany, accept, examine, reject

__all__ = [
    "IDLE",
    "LIFETIME",
    "Accepted",
    "ClaimClosed",
    "Owner",
    "Rejected",
    "Role",
    "TooMany",
    "WrongCode",
    "accept",
    "add_user",
    "check_password",
    "claim_code",
    "end_expired",
    "examine",
    "find_session",
    "hash_password",
    "normal_login",
    "open_session",
    "redeem",
    "reject",
    "reset_password",
    "session_is_live",
]
