"""The table of who may do what, written down a second time as a clinic would: a column a role, a row a question."""

import pytest

from appliance.identity.permissions import TABLE, Permission, permissions_of
from appliance.identity.roles import Role

# o owner, p privacy officer, d dentist or physician, a assistant, t technician, r referrer, s student, v vendor
COLUMNS = {
    "o": Role.OWNER,
    "p": Role.PRIVACY_OFFICER,
    "d": Role.PRACTITIONER,
    "a": Role.ASSISTANT,
    "t": Role.TECHNICIAN,
    "r": Role.REFERRER,
    "s": Role.STUDENT,
    "v": Role.VENDOR_SUPPORT,
}
ROWS = {
    "console:use":         "opdatrsv",
    "studies:view":        "opdatrs-",
    "patients:identify":   "opdatr--",
    "studies:all":         "opdat---",
    "studies:grant":       "opd-----",
    "studies:break-glass": "o----r--",
    "studies:export":      "opd-----",
    "studies:upload":      "o-dat---",
    "retention:manage":    "op------",
    "studies:destroy":     "op------",
    "deliveries:view":     "opdat--v",
    "deliveries:act":      "o-d-t---",
    "devices:view":        "o-d-t--v",
    "devices:manage":      "o---t---",
    "destinations:view":   "op--t--v",
    "destinations:manage": "o-------",
    "rules:manage":        "o-------",
    "health:view":         "opdat--v",
    "settings:view":       "op-----v",
    "settings:change":     "o-------",
    "keys:manage":         "o-------",
    "backups:manage":      "o-------",
    "plan:read":           "op------",
    "support:admit":       "op------",
    "users:view":          "op------",
    "users:reset":         "op------",
    "users:manage":        "o-------",
    "audit:read":          "op------",
    "audit:export":        "op------",
    "incidents:record":    "op------",
}  # fmt: skip


def test_the_table_is_this_one() -> None:
    assert set(ROWS) == set(Permission)
    for word, marks in ROWS.items():
        assert len(marks) == len(Role)
        may = {role for role in Role if Permission(word) in TABLE[role]}
        assert may == {COLUMNS[mark] for mark in marks if mark != "-"}, word


def test_every_role_has_its_row_and_can_at_least_look_after_its_own_account() -> None:
    assert set(TABLE) == set(Role)
    assert all(Permission.USE_CONSOLE in granted for granted in TABLE.values())


def test_support_and_students_never_learn_whose_study_it_is() -> None:
    for role in (Role.VENDOR_SUPPORT, Role.STUDENT):
        assert not TABLE[role] & {
            Permission.IDENTIFY_PATIENTS,
            Permission.ALL_STUDIES,
            Permission.EXPORT_STUDIES,
        }
    assert Permission.VIEW_STUDIES not in TABLE[Role.VENDOR_SUPPORT]


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (Permission.ALL_STUDIES, Permission.VIEW_STUDIES),
        (Permission.IDENTIFY_PATIENTS, Permission.VIEW_STUDIES),
        (Permission.EXPORT_STUDIES, Permission.IDENTIFY_PATIENTS),
        (Permission.GRANT_STUDIES, Permission.ALL_STUDIES),
        (Permission.MANAGE_RETENTION, Permission.ALL_STUDIES),
        (Permission.DESTROY_STUDIES, Permission.MANAGE_RETENTION),
        (Permission.DESTROY_STUDIES, Permission.IDENTIFY_PATIENTS),
        (Permission.ACT_ON_DELIVERIES, Permission.VIEW_DELIVERIES),
        (Permission.MANAGE_DEVICES, Permission.VIEW_DEVICES),
        (Permission.MANAGE_DESTINATIONS, Permission.VIEW_DESTINATIONS),
        (Permission.CHANGE_SETTINGS, Permission.VIEW_SETTINGS),
        (Permission.MANAGE_USERS, Permission.RESET_USERS),
        (Permission.RESET_USERS, Permission.VIEW_USERS),
        (Permission.EXPORT_AUDIT, Permission.READ_AUDIT),
    ],
)
def test_nobody_may_do_to_a_thing_what_they_may_not_see(wide: Permission, narrow: Permission) -> None:
    for role, granted in TABLE.items():
        assert wide not in granted or narrow in granted, role


def test_a_word_that_is_no_role_may_do_nothing() -> None:
    for word in ("", "admin", "OWNER", "owner "):
        assert permissions_of(word) == frozenset()
