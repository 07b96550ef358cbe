"""Who may do what: one table, read by every route, by the navigation and by the help page.

Chosen: a permission is what a person at the counter would ask ("may she export?"), not a route or a verb; roles are
fixed sets of them. Because: a clinic can read eight columns and agree to them, and an auditor can check them against
what is enforced. Rejected: permissions ticked person by person, which nobody reviews and which drift; roles that inherit
from one another, where a line added to one silently changes others.

By default is the least (P-39.1 s.9.1): what a role does not list, it may not do. How much of the patients somebody sees
is made of three permissions, each of which widens the one before: `VIEW_STUDIES` (studies granted to that person),
`IDENTIFY_PATIENTS` (with names and numbers), `ALL_STUDIES` (granted or not).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from appliance.identity.roles import Role


class Permission(StrEnum):
    """One thing that a person, or a token made by that person, may do. The words are kept in tokens: never rename one."""

    USE_CONSOLE = "console:use"
    """Sign in, look after one's own account, read the help. Everybody who has an account."""

    VIEW_STUDIES = "studies:view"
    """List, search and open studies and their images: those granted, unless `ALL_STUDIES`."""
    IDENTIFY_PATIENTS = "patients:identify"
    """See whose studies they are. Without it every study is shown under a pseudonym."""
    ALL_STUDIES = "studies:all"
    """See every study, without a grant for each."""
    GRANT_STUDIES = "studies:grant"
    """Show a study to somebody who doesn't see all, and take that back."""
    BREAK_GLASS = "studies:break-glass"
    """Open, in an emergency and with a reason, what is otherwise closed to the role; owners and privacy officers are told."""
    EXPORT_STUDIES = "studies:export"
    """Take images or lists of studies out of the box."""
    UPLOAD_STUDIES = "studies:upload"
    """Bring images in from files."""

    MANAGE_RETENTION = "retention:manage"
    """See until when studies are kept and which are due, put them on hold and release them, set the clinic's figures."""
    DESTROY_STUDIES = "studies:destroy"
    """Ask for studies to be destroyed, or approve what another person has asked for."""

    VIEW_DELIVERIES = "deliveries:view"
    """See what is owed to destinations, and the receipts."""
    ACT_ON_DELIVERIES = "deliveries:act"
    """Retry, pause, resume or cancel a delivery; test, pause or resume a destination."""
    VIEW_DEVICES = "devices:view"
    """See the machines that may send, and those seen at the door."""
    MANAGE_DEVICES = "devices:manage"
    """Admit, change, test and remove machines."""
    VIEW_DESTINATIONS = "destinations:view"
    """See where images go, and by which rules."""
    MANAGE_DESTINATIONS = "destinations:manage"
    """Add, change and remove destinations: where patients' images may go."""
    MANAGE_RULES = "rules:manage"
    """Say what goes to which destination."""

    VIEW_HEALTH = "health:view"
    """See how the box does: problems, figures, performance, alerts."""
    VIEW_SETTINGS = "settings:view"
    """Read the settings and their history; never a secret."""
    CHANGE_SETTINGS = "settings:change"
    """Change settings, undo changes, import a configuration."""
    MANAGE_KEYS = "keys:manage"
    """Show and check the recovery key, replace the root key."""
    MANAGE_BACKUPS = "backups:manage"
    """Run, check and restore backups."""
    READ_PLAN = "plan:read"
    """Read and print the disaster recovery plan: where the box, its copies and its keys are, and whom to call."""
    ADMIT_SUPPORT = "support:admit"
    """Let the vendor's support in, for a reason and for a time, and put it out."""

    VIEW_USERS = "users:view"
    """See who has an account, what they may do, and which studies they were granted."""
    RESET_USERS = "users:reset"
    """Give somebody a link to choose a new password; end sessions."""
    MANAGE_USERS = "users:manage"
    """Invite, change, deactivate and reactivate people; change roles."""

    READ_AUDIT = "audit:read"
    """Read who did what, and the reports made of it."""
    EXPORT_AUDIT = "audit:export"
    """Take the audit out of the box."""
    RECORD_INCIDENTS = "incidents:record"
    """Keep the register of confidentiality incidents (P-39.1 s.3.8)."""


_P = Permission

TABLE: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        # Everything, because somebody must be able to, and every use of it is in the audit.
        Role.OWNER: frozenset(Permission),
        # Answers patients' requests and incidents, oversees access, says what is kept and what is destroyed, never alone;
        # changes neither images, machines nor the box.
        Role.PRIVACY_OFFICER: frozenset(
            {
                _P.USE_CONSOLE,
                _P.VIEW_STUDIES, _P.IDENTIFY_PATIENTS, _P.ALL_STUDIES, _P.GRANT_STUDIES, _P.EXPORT_STUDIES,
                _P.MANAGE_RETENTION, _P.DESTROY_STUDIES,
                _P.VIEW_DELIVERIES, _P.VIEW_DESTINATIONS, _P.VIEW_HEALTH, _P.VIEW_SETTINGS,
                _P.VIEW_USERS, _P.RESET_USERS, _P.ADMIT_SUPPORT, _P.READ_PLAN,
                _P.READ_AUDIT, _P.EXPORT_AUDIT, _P.RECORD_INCIDENTS,
            }
        ),
        # Treats: sees every patient, sends images on, shows a study to a colleague elsewhere.
        Role.PRACTITIONER: frozenset(
            {
                _P.USE_CONSOLE,
                _P.VIEW_STUDIES, _P.IDENTIFY_PATIENTS, _P.ALL_STUDIES, _P.GRANT_STUDIES, _P.EXPORT_STUDIES,
                _P.UPLOAD_STUDIES,
                _P.VIEW_DELIVERIES, _P.ACT_ON_DELIVERIES, _P.VIEW_DEVICES, _P.VIEW_HEALTH,
            }
        ),
        # Prepares and files: sees every patient, brings images in, takes none out.
        Role.ASSISTANT: frozenset(
            {
                _P.USE_CONSOLE,
                _P.VIEW_STUDIES, _P.IDENTIFY_PATIENTS, _P.ALL_STUDIES, _P.UPLOAD_STUDIES,
                _P.VIEW_DELIVERIES, _P.VIEW_HEALTH,
            }
        ),
        # Takes the images and checks them, so sees whose they are; keeps machines and deliveries going.
        Role.TECHNICIAN: frozenset(
            {
                _P.USE_CONSOLE,
                _P.VIEW_STUDIES, _P.IDENTIFY_PATIENTS, _P.ALL_STUDIES, _P.UPLOAD_STUDIES,
                _P.VIEW_DELIVERIES, _P.ACT_ON_DELIVERIES, _P.VIEW_DEVICES, _P.MANAGE_DEVICES,
                _P.VIEW_DESTINATIONS, _P.VIEW_HEALTH,
            }
        ),
        # Sees the studies of a patient in common, once they are granted.
        Role.REFERRER: frozenset(
            {_P.USE_CONSOLE, _P.VIEW_STUDIES, _P.IDENTIFY_PATIENTS, _P.BREAK_GLASS}
        ),
        # Learns from the studies that were chosen, never from whose they are.
        Role.STUDENT: frozenset({_P.USE_CONSOLE, _P.VIEW_STUDIES}),
        # Mends the box; not one patient, and nothing that would show one.
        Role.VENDOR_SUPPORT: frozenset(
            {
                _P.USE_CONSOLE,
                _P.VIEW_DELIVERIES, _P.VIEW_DEVICES, _P.VIEW_DESTINATIONS, _P.VIEW_HEALTH, _P.VIEW_SETTINGS,
            }
        ),
    }
)  # fmt: skip
"""What each role may do."""


def permissions_of(role: str) -> frozenset[Permission]:
    """What somebody of the role `role`, as the catalog has it, may do. A word that is no role may do nothing."""
    return _BY_WORD.get(role, frozenset())


_BY_WORD: Mapping[str, frozenset[Permission]] = {role.value: granted for role, granted in TABLE.items()}
