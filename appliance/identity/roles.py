"""The roles a user may have. What each may do becomes one readable table with the first route that differs by role."""

from enum import StrEnum


class Role(StrEnum):
    """Today everybody who can sign in is an owner; the other roles come with the table of permissions."""

    OWNER = "owner"
