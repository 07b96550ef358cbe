"""What the help promises about security is what the code does: each number and word of it, in both languages."""

import ast
import re
import resource

import pytest

from appliance import cli, settings
from appliance.configuration import MOST_CHARACTERS as MOST_CONFIGURATION
from appliance.identity import claim, limits, links, passwords, tokens
from appliance.imaging import child
from appliance.settings import SETTINGS
from appliance.web import application, rates
from tests.security import source

both = pytest.mark.parametrize("language", source.LANGUAGES)


def minutes(delta) -> int:
    return int(delta.total_seconds()) // 60


@both
def test_limits_of_guessing(language: str) -> None:
    window = minutes(limits.WINDOW)
    assert limits.FACTOR_WINDOW.days == 1
    assert source.numbers("security", "guessing", language) == [
        limits.HERE, window, limits.LOGIN, window, limits.ADDRESS, window, limits.FACTORS,
    ]  # fmt: skip


@both
def test_rules_of_passwords(language: str) -> None:
    assert source.numbers("security", "passwords", language) == [
        passwords.LEAST_CHARACTERS, passwords.MOST_CHARACTERS, 30_000, passwords.LEAST_GUESSES,
    ]  # fmt: skip
    assert source.codes("security", "passwords", language) == list(passwords.CONTEXT)


@both
def test_ways_in(language: str) -> None:
    assert source.numbers("security", "ways", language) == [
        links.INVITATION.days, int(links.RESET.total_seconds()) // 3600, claim.TRIES, 8 * tokens._RANDOM_BYTES,
        tokens.LONGEST_DAYS,
    ]  # fmt: skip
    assert source.section("security", "ways", language).count("<dt>") == 6


@both
def test_limits_of_sessions(language: str) -> None:
    said = source.numbers("security", "sessions", language)
    assert said[:3] == [
        SETTINGS["sessions.idle_minutes"].default,
        SETTINGS["sessions.absolute_hours"].default,
        SETTINGS["sessions.concurrent"].default,
    ]
    assert "NIST SP 800-63B" in source.section("security", "sessions", language)
    longest = SETTINGS["sessions.idle_minutes"].kind
    assert isinstance(longest, settings.kinds.Span)
    assert longest.most == 60 * said[-1]


@both
def test_what_may_be_sent(language: str) -> None:
    assert source.numbers("security", "files", language)[0] == MOST_CONFIGURATION
    said = source.numbers("security", "limits", language)
    of = [rates.LISTS, rates.EXPORTS, rates.PICTURES, rates.REACHING]
    assert [each for each in said if each in {rate.most for rate in of}] == [rate.most for rate in of]
    assert {rate.seconds for rate in of} == {60, 600}
    assert application.MOST_FORM_BYTES // 1024 in said
    assert tokens.MOST_TOKENS in said


@both
def test_each_class_of_data_says_how_it_is_protected_and_what_is_accepted_says_why(language: str) -> None:
    for name, least in (("classes", 4), ("accepted", 4), ("keys", 8)):
        text = source.section("protection", name, language)
        assert text.count("<dt>") == text.count("<dd>") >= least
    assert "ML-KEM" in source.section("protection", "plan", language)
    assert "NIST SP 800-57" in source.section("protection", "keys", language)


def test_no_process_of_the_box_ever_writes_its_memory_to_the_disk() -> None:
    assert cli.main(["no-such-verb"]) == 64
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)


def test_children_that_draw_can_write_no_file_and_leave_no_dump() -> None:
    names = {
        each.attr for each in ast.walk(source.modules()["imaging/child"]) if isinstance(each, ast.Attribute)
    }
    assert {"RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_AS"} <= names
    assert child.MEMORY_BYTES > 0


CONTROLS = {  # for each class of data, the tests that show that it is protected as the help says
    "1": (
        "tests/store/test_keys.py::test_key_files_are_private_and_hold_no_root_key",
        "tests/settings/test_changing.py::test_a_secret_is_sealed_and_nowhere_else",
        "tests/identity/test_second_factors.py::test_the_secret_lies_sealed_and_bound_to_its_person",
    ),
    "2": (
        "tests/ingest/test_accept.py::test_no_clear_byte_is_on_the_disk",
        "tests/catalog/test_database.py::test_no_clear_text_anywhere_in_the_folder",
        "tests/web/test_sight.py::test_a_referrer_learns_nothing_of_a_study_that_was_not_granted",
        "tests/web/test_web_walks.py::test_no_page_with_a_patient_is_stored",
        "tests/audit/test_everywhere.py::test_no_patient_is_named_anywhere_in_the_audit",
        "tests/web/test_security.py::test_no_address_names_a_person_or_a_uid",
    ),
    "3": (
        "tests/identity/test_accounts.py::test_who_is_deactivated_is_out_at_once_and_is_never_deleted",
        "tests/web/test_access.py::test_each_role_opens_what_the_table_says_and_nothing_else",
    ),
    "4": ("tests/web/test_security.py::test_metrics_are_for_this_machine_or_the_bearer_of_the_token",),
}


@both
def test_each_class_of_data_has_tests_of_its_protection(language: str) -> None:
    classes = re.findall(r"<dt>(\d) · ", source.section("protection", "classes", language))
    assert classes == list(CONTROLS)
    for tests in CONTROLS.values():
        for each in tests:
            path, _, name = each.partition("::")
            assert re.search(rf"^def {name}\(", (source.ROOT / path).read_text("utf-8"), re.MULTILINE), each
