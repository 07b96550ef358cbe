"""Who is at the console: the claim of a new box, users, their roles, links and passwords, signing in, sessions.

Functions take a transaction or a reading and the moment, and never commit: the workflow that calls them writes the
audit row of the same act in the same transaction.
"""

from appliance.identity.accounts import (
    change_account,
    check_may_reset,
    deactivate,
    known_person,
    reactivate,
)
from appliance.identity.claim import ClaimClosed, Owner, WrongCode, claim_code, redeem
from appliance.identity.links import MadeLink, invite, link_holder, make_link, redeem_link
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
    "MadeLink",
    "Owner",
    "Rejected",
    "Role",
    "TooMany",
    "WrongCode",
    "accept",
    "add_user",
    "change_account",
    "check_may_reset",
    "check_password",
    "claim_code",
    "deactivate",
    "end_expired",
    "examine",
    "find_session",
    "hash_password",
    "invite",
    "known_person",
    "link_holder",
    "make_link",
    "normal_login",
    "open_session",
    "reactivate",
    "redeem",
    "redeem_link",
    "reject",
    "reset_password",
    "session_is_live",
]
