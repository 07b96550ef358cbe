"""The box and whoever asks: its health, its audit, one's own account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from flask import g

from appliance import audit, health
from appliance.identity.permissions import Permission
from appliance.web import access, forms, security
from appliance.web.api.operation import operation
from appliance.web.api.shape import After, Limit, Next, Shape
from appliance.web.console import console, now


@dataclass(frozen=True, slots=True)
class HealthProblem:
    """Something that a person should know of, and how to mend it."""

    code: str
    words: str
    fix: str
    severity: str
    subject: str


@dataclass(frozen=True, slots=True)
class Health:
    """The box at this moment. Figures are null when the catalog does not answer."""

    ready: Annotated[bool, Shape("Images can be received, kept and delivered.")]
    at_utc: datetime
    version: str
    problems: tuple[HealthProblem, ...]
    studies: int | None
    instances: int | None
    bytes: int | None
    free_bytes: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the audit. `details` is canonical JSON as text, `chain` is hexadecimal."""

    id: int
    at_utc: str
    actor: str
    action: str
    subject: str
    details: str
    chain: str


@dataclass(frozen=True, slots=True)
class Entries:
    """A page of the audit, the latest first."""

    items: tuple[Entry, ...]
    next: Next


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which rows."""

    limit: Limit = 100
    after: After = None


@dataclass(frozen=True, slots=True)
class Me:
    """Whoever asks. `csrf` is what a browser's session sends as X-CSRF-Token; null for a token."""

    login: str
    name: str
    role: str
    permissions: tuple[str, ...]
    csrf: str | None


@operation("GET", "/health", Permission.VIEW_HEALTH, gives=Health)
def get_health() -> Health:
    """Get the judgement of the box: problems first, each with its fix."""
    found = health.status(console().box, now())
    return Health(
        ready=found.ready,
        at_utc=found.at_utc,
        version=found.version,
        problems=tuple(
            HealthProblem(each.code, each.words, each.fix, str(each.severity), each.subject)
            for each in found.problems
        ),
        studies=found.studies,
        instances=found.instances,
        bytes=found.bytes,
        free_bytes=found.free_bytes,
    )


@operation("GET", "/audit", Permission.READ_AUDIT, gives=Entries, asks=AuditQuery)
def list_audit(query: AuditQuery) -> Entries:
    """List who did what, the latest first. Reading it is in it too."""
    with console().box.catalog.reading() as conn:
        rows: list[dict[str, Any]] = audit.recent(conn, limit=query.limit + 1, before=query.after)
    shown = rows[: query.limit]
    with console().box.catalog.transaction() as tx:
        console().record(tx, "audit:view", "api", forms.actor(), {"rows": len(shown)})
    return Entries(
        tuple(Entry(**{name: row[name] for name in Entry.__slots__}) for row in shown),
        int(shown[-1]["id"]) if len(rows) > query.limit else None,
    )


@operation("GET", "/me", Permission.USE_CONSOLE, gives=Me)
def get_me() -> Me:
    """Get one's own account and what it may do."""
    person = access.person()
    return Me(
        login=person.login,
        name=person.name,
        role=person.role,
        permissions=tuple(sorted(str(each) for each in access.permissions())),
        csrf=security.csrf_token() if g.session is not None else None,
    )


OPERATIONS = (get_health, list_audit, get_me)
