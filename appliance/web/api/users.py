"""Users, their links, and the studies granted to them. A link is in the answer that made it and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from flask import request

from appliance import identity
from appliance.catalog import grants, people, sight
from appliance.catalog.grants import Grant as KeptGrant
from appliance.catalog.people import Person
from appliance.errors import Refused
from appliance.identity import MadeLink, Role
from appliance.identity.permissions import Permission
from appliance.web import access, forms, invitations
from appliance.web.api.operation import operation, unchanged
from appliance.web.api.shape import MOST, Row, Shape
from appliance.web.console import console, now
from appliance.web.language import Languages


class AccountState(StrEnum):
    """How an account stands."""

    INVITED = "invited"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"


Login = Annotated[
    str,
    Shape(
        "What the person types to sign in; never given to somebody else.",
        example="mtremblay",
        shortest=2,
        longest=80,
        pattern=r"^[a-z0-9][a-z0-9._@+-]+$",
    ),
]
Name = Annotated[str, Shape("As colleagues know it.", example="Marie Tremblay", shortest=1, longest=100)]
Language = Annotated[str, Shape("Of the console and of letters.", example="fr", shortest=2, longest=8)]


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who has, or had, an account; nobody is deleted, because the audit refers to people."""

    id: Row
    login: str
    name: str
    role: Role
    state: AccountState
    language: str
    created_utc: datetime
    last_sign_in_utc: datetime | None


@dataclass(frozen=True, slots=True)
class Users:
    """Everybody who has, or had, an account, by login."""

    items: tuple[User, ...]


@dataclass(frozen=True, slots=True)
class NewUser:
    """Somebody to invite."""

    login: Login
    name: Name
    role: Role
    language: Language = "en"
    mail: Annotated[bool, Shape("Also send the link to the login, if it is a mail address.")] = False


@dataclass(frozen=True, slots=True)
class UserChange:
    """What is true of a user from now on; a role holds from the next request of every open session."""

    login: Login
    name: Name
    role: Role
    language: Language


@dataclass(frozen=True, slots=True)
class Link:
    """A link with which its user chooses a password, once."""

    user: User
    address: Annotated[str, Shape("To hand over. It is not shown again.")]
    expires_utc: datetime
    mailed: Annotated[bool, Shape("It was handed to the mail server's queue.")]


@dataclass(frozen=True, slots=True)
class LinkQuery:
    """How the link reaches its user."""

    mail: Annotated[bool, Shape("Also send it to the login, if it is a mail address.")] = False


@dataclass(frozen=True, slots=True)
class StudyGrant:
    """A study shown to a user who doesn't see them all."""

    id: Row
    study: Row
    user: Row
    by: Annotated[str, Shape("Whose login granted it.")]
    reason: str
    made_utc: datetime
    expires_utc: datetime
    revoked_utc: datetime | None
    holds: Annotated[bool, Shape("It is neither over nor taken back.")]


@dataclass(frozen=True, slots=True)
class StudyGrants:
    """The grants of a user, the latest first; those that are over are kept."""

    items: tuple[StudyGrant, ...]


@dataclass(frozen=True, slots=True)
class NewGrant:
    """To whom a study is to be shown, and why."""

    user: Annotated[int, Shape("A referrer or a student.", example=3, least=1, most=MOST)]
    reason: Annotated[str, Shape("In a few words.", example="second opinion on 36", shortest=3, longest=200)]
    days: Annotated[int, Shape("For how long.", example=31, least=1, most=366)] = 31


@operation("GET", "/users", Permission.VIEW_USERS, gives=Users)
def list_users() -> Users:
    """List everybody who has, or had, an account."""
    with console().box.catalog.reading() as conn:
        return Users(tuple(_user(person) for person in people.people(conn)))


@operation("GET", "/users/{user_id}", Permission.VIEW_USERS, gives=User, is_tagged=True)
def get_user(user_id: int) -> User:
    """Get one user."""
    with console().box.catalog.reading() as conn:
        return _user(identity.known_person(conn, user_id))


@operation("POST", "/users", Permission.MANAGE_USERS, gives=Link, takes=NewUser, status=201, is_careful=True)
def invite_user(body: NewUser) -> Link:
    """Invite somebody. Answers with the link to hand over, which goes by mail as well if that is asked and set up."""
    with console().box.catalog.transaction() as tx:
        made = identity.invite(
            tx,
            login=body.login,
            name=body.name,
            role=body.role,
            language=_offered(body.language),
            by=forms.actor(),
            now=now(),
        )
        sent = body.mail and invitations.send(tx, made, request.host_url)
        details = {"role": made.person.role, "mail": sent}
        console().record(tx, "user:invite", f"user:{made.person.login}", forms.actor(), details)
    return _link(made, sent)


@operation(
    "PUT",
    "/users/{user_id}",
    Permission.MANAGE_USERS,
    gives=User,
    takes=UserChange,
    is_tagged=True,
    is_guarded=True,
    is_careful=True,
)
def change_user(user_id: int, body: UserChange) -> User:
    """Change a user. The last owner who can sign in stays one."""
    with console().box.catalog.transaction() as tx:
        before = identity.known_person(tx, user_id)
        unchanged(_user(before))
        differs = identity.change_account(
            tx,
            user_id,
            login=body.login,
            name=body.name,
            role=body.role,
            language=_offered(body.language),
            now=now(),
        )
        if differs:
            console().record(tx, "user:change", f"user:{before.login}", forms.actor(), differs)
        return _user(identity.known_person(tx, user_id))


@operation(
    "POST",
    "/users/{user_id}/deactivate",
    Permission.MANAGE_USERS,
    gives=User,
    refuses=(422,),
    is_careful=True,
)
def deactivate_user(user_id: int) -> User:
    """Keep a user out from now on, and end the sessions that are open."""
    with console().box.catalog.transaction() as tx:
        person = identity.deactivate(tx, user_id, now())
        console().record(tx, "user:deactivate", f"user:{person.login}", forms.actor())
        return _user(identity.known_person(tx, user_id))


@operation("POST", "/users/{user_id}/reactivate", Permission.MANAGE_USERS, gives=User, is_careful=True)
def reactivate_user(user_id: int) -> User:
    """Let a user in again, with the password of before."""
    with console().box.catalog.transaction() as tx:
        person = identity.reactivate(tx, user_id, now())
        console().record(tx, "user:reactivate", f"user:{person.login}", forms.actor())
        return _user(identity.known_person(tx, user_id))


@operation(
    "POST",
    "/users/{user_id}/link",
    Permission.RESET_USERS,
    gives=Link,
    asks=LinkQuery,
    status=201,
    refuses=(422,),
    is_careful=True,
)
def make_user_link(user_id: int, query: LinkQuery) -> Link:
    """Make a link to choose a password by, in place of any before. For an owner, only an owner can."""
    with console().box.catalog.transaction() as tx:
        identity.check_may_reset(access.permissions(), identity.known_person(tx, user_id).role)
        made = identity.make_link(tx, user_id, by=forms.actor(), now=now())
        sent = query.mail and invitations.send(tx, made, request.host_url)
        console().record(tx, "user:link", f"user:{made.person.login}", forms.actor(), {"mail": sent})
    return _link(made, sent)


@operation("POST", "/users/{user_id}/end-sessions", Permission.RESET_USERS, gives=User)
def end_user_sessions(user_id: int) -> User:
    """Sign a user out everywhere."""
    with console().box.catalog.transaction() as tx:
        person = identity.known_person(tx, user_id)
        ended = people.end_sessions_of(tx, user_id)
        console().record(tx, "user:end-sessions", f"user:{person.login}", forms.actor(), {"sessions": ended})
        return _user(person)


@operation("GET", "/users/{user_id}/grants", Permission.VIEW_USERS, gives=StudyGrants)
def list_user_grants(user_id: int) -> StudyGrants:
    """List the studies that are and were granted to a user."""
    with console().box.catalog.reading() as conn:
        identity.known_person(conn, user_id)
        return StudyGrants(tuple(_grant(each) for each in grants.of_user(conn, user_id)))


@operation(
    "POST",
    "/studies/{study_id}/grants",
    Permission.GRANT_STUDIES,
    gives=StudyGrant,
    takes=NewGrant,
    status=201,
)
def grant_study(study_id: int, body: NewGrant) -> StudyGrant:
    """Show a study to a user, in place of a grant that holds for the same two."""
    moment = now()
    access.check_study(study_id)
    with console().box.catalog.transaction() as tx:
        made = identity.grant_study(
            tx,
            study_id,
            body.user,
            by=forms.actor(),
            reason=body.reason,
            expires_utc=moment + timedelta(days=body.days),
            now=moment,
        )
        details = {"grant": made.id, "person": made.login, "until": made.expires_utc.isoformat()}
        uid = sight.uid_for_audit(tx, study_id)
        console().record(tx, "study:grant", f"study:{study_id}", forms.actor(), details, study=uid)
    return _grant(made)


@operation("DELETE", "/grants/{grant_id}", Permission.GRANT_STUDIES, gives=StudyGrant)
def revoke_grant(grant_id: int) -> StudyGrant:
    """Take a grant back, at once."""
    with console().box.catalog.transaction() as tx:
        taken = grants.revoke(tx, grant_id, by=forms.actor(), now=now())
        details = {"grant": taken.id, "person": taken.login}
        uid = sight.uid_for_audit(tx, taken.study)
        console().record(tx, "study:revoke", f"study:{taken.study}", forms.actor(), details, study=uid)
        return _grant(grants.grant(tx, grant_id))


OPERATIONS = (
    list_users,
    get_user,
    invite_user,
    change_user,
    deactivate_user,
    reactivate_user,
    make_user_link,
    end_user_sessions,
    list_user_grants,
    grant_study,
    revoke_grant,
)


def _offered(language: str) -> str:
    if language not in {manner.code for manner in Languages.offered()}:
        raise Refused("the console does not speak that language", hint="use en, fr, es or zh")
    return language


def _user(person: Person) -> User:
    return User(
        id=person.id,
        login=person.login,
        name=person.name,
        role=Role(person.role),
        state=AccountState(person.state),
        language=person.language,
        created_utc=person.created_utc,
        last_sign_in_utc=person.last_sign_in_utc,
    )


def _link(made: MadeLink, sent: bool) -> Link:
    return Link(_user(made.person), made.address(request.host_url), made.expires_utc, sent)


def _grant(made: KeptGrant) -> StudyGrant:
    return StudyGrant(
        id=made.id,
        study=made.study,
        user=made.user,
        by=made.by,
        reason=made.reason,
        made_utc=made.made_utc,
        expires_utc=made.expires_utc,
        revoked_utc=made.revoked_utc,
        holds=made.holds(now()),
    )
