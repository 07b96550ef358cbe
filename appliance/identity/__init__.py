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
from appliance.identity.claim import ClaimClosed, Owner, Proved, WrongCode, claim_code, prove, redeem
from appliance.identity.granting import grant_study, needs_grants, who_needs_grants
from appliance.identity.links import MadeLink, invite, link_holder, make_link, redeem_link
from appliance.identity.passwords import check_password, hash_password
from appliance.identity.people import add_user, normal_login
from appliance.identity.roles import Role
from appliance.identity.sessions import (
    digest,
    end_expired,
    end_surplus,
    ends_utc,
    find_session,
    find_within,
    last_end_utc,
    limits_of,
    live_sessions,
    open_session,
    renew,
    session_limits,
)
from appliance.identity.signing_in import (
    Accepted,
    Due,
    Rejected,
    TooMany,
    accept,
    enter,
    examine,
    finish,
    reject,
    reject_factor,
)
from appliance.identity.stages import Proof, Stage

__all__ = [
    "Accepted",
    "ClaimClosed",
    "Due",
    "MadeLink",
    "Owner",
    "Proof",
    "Proved",
    "Rejected",
    "Role",
    "Stage",
    "TooMany",
    "WrongCode",
    "accept",
    "add_user",
    "change_account",
    "check_may_reset",
    "check_password",
    "claim_code",
    "deactivate",
    "digest",
    "end_expired",
    "end_surplus",
    "ends_utc",
    "enter",
    "examine",
    "find_session",
    "find_within",
    "finish",
    "grant_study",
    "hash_password",
    "invite",
    "known_person",
    "last_end_utc",
    "limits_of",
    "link_holder",
    "live_sessions",
    "make_link",
    "needs_grants",
    "normal_login",
    "open_session",
    "prove",
    "reactivate",
    "redeem",
    "redeem_link",
    "reject",
    "reject_factor",
    "renew",
    "session_limits",
    "who_needs_grants",
]
