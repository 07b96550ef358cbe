"""Devices, destinations, rules, people and keys, as a clinic tech sets them up."""

import os
from pathlib import Path

import pytest

from appliance.box import open_box
from appliance.catalog import people
from appliance.cli.people import ROLES
from appliance.config import load_config
from appliance.identity import Role
from appliance.identity.passwords import verify_password
from tests.cli.conftest import PASSWORD, Outcome, Say, account

SECRET = "a-secret-that-nobody-may-see"


def audited(say: Say) -> list[str]:
    return [row["action"] for row in say("audit", "export").rows]


# --- devices ---------------------------------------------------------------------------------------------------------


def test_a_device_is_added_listed_and_removed(say: Say) -> None:
    added = say(
        "device",
        "add",
        "--ae-title",
        " PANO1 ",
        "--address",
        "192.168.1.40",
        "--name",
        "Room 2",
        "--port",
        104,
    )
    assert added.code == 0, added.err
    assert say("device", "list", "--json").rows == [
        {"ae_title": "PANO1", "address": "192.168.1.40", "port": 104, "name": "Room 2", "state": "admitted"}
    ]
    assert "PANO1" in say("device", "list").out
    assert say("device", "remove", "PANO1").code == 0
    assert say("device", "list", "--json").rows == []
    assert audited(say)[:2] == ["device:add", "device:remove"]


@pytest.mark.parametrize(
    ("address", "kept"), [("::ffff:10.0.0.7", "10.0.0.7"), ("FE80::1", "fe80::1"), (" 10.0.0.7 ", "10.0.0.7")]
)
def test_an_address_is_kept_as_the_receiving_side_sees_it(say: Say, address: str, kept: str) -> None:
    say("device", "add", "--ae-title", "A", "--address", address)
    assert [row["address"] for row in say("device", "list", "--json").rows] == [kept]


@pytest.mark.parametrize("words", [("A" * 17, "10.0.0.1"), ("", "10.0.0.1"), ("PANO", "pano.local")])
def test_a_device_that_could_never_match_is_refused(say: Say, words: tuple[str, str]) -> None:
    outcome = say("device", "add", "--ae-title", words[0], "--address", words[1])
    assert outcome.code == 65
    assert " — " in outcome.err
    assert say("device", "list", "--json").rows == []


def test_two_devices_of_one_title_are_told_apart_by_address(say: Say) -> None:
    for address in ("10.0.0.1", "10.0.0.2"):
        say("device", "add", "--ae-title", "TWIN", "--address", address)
    assert say("device", "remove", "TWIN").code == 65
    assert say("device", "remove", "TWIN", "--address", "10.0.0.2").code == 0
    assert [row["address"] for row in say("device", "list", "--json").rows] == ["10.0.0.1"]


def test_an_unknown_device_is_66(say: Say) -> None:
    assert say("device", "remove", "NOBODY").code == 66


def test_an_echo_without_a_port_asks_for_it(say: Say) -> None:
    say("device", "add", "--ae-title", "PANO1", "--address", "127.0.0.1")
    outcome = say("device", "echo", "PANO1")
    assert outcome.code == 78
    assert "--port" in outcome.err


# --- destinations and rules ------------------------------------------------------------------------------------------


def add_cloud(say: Say, *more: object, typed: str = SECRET + "\n") -> Outcome:
    return say(
        *("destination", "add", "s3", "cloud", "--bucket", "clinic", "--region", "ca-central-1"),
        *("--access-key-id", "AKTEST", *more),
        typed=typed,
    )


def test_a_secret_comes_from_standard_input_and_is_never_shown(say: Say) -> None:
    outcome = add_cloud(say)
    assert outcome.code == 0, outcome.err
    (row,) = say("destination", "list", "--json").rows
    assert row == {
        "name": "cloud",
        "kind": "s3",
        "takes": "ciphertext",
        "options": {"bucket": "clinic", "region": "ca-central-1", "access_key_id": "AKTEST"},
        "paused": False,
    }
    shown = [outcome.out, outcome.err, say("destination", "list").out, say("audit", "export").out]
    assert not any(SECRET in text for text in shown)


def test_a_secret_comes_from_a_file_that_others_cannot_read(say: Say, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o644)
    assert add_cloud(say, "--secret-file", file, typed="").code == 78
    file.chmod(0o600)
    assert add_cloud(say, "--secret-file", file, typed="").code == 0


def test_a_missing_secret_is_refused(say: Say) -> None:
    assert add_cloud(say, typed="").code == 65
    assert say("destination", "list", "--json").rows == []


def test_a_secret_that_is_no_text_is_refused_without_being_shown(say: Say) -> None:
    done = say(
        *(
            "destination",
            "add",
            "s3",
            "cloud",
            "--bucket",
            "b",
            "--access-key-id",
            "AKIA",
            "--region",
            "ca-central-1",
        ),
        typed="quatre lapins\udcff sur une horloge\n",
    )
    assert done.code == 65
    assert "not text" in done.err
    assert "lapins" not in done.err


def test_no_option_takes_a_secret() -> None:
    from appliance.cli.command import parser
    from tests.cli.test_arguments import every_parser

    options = {name for each in every_parser(parser()) for name in each._option_string_actions}
    assert not {name for name in options if any(word in name for word in ("password", "secret", "key"))} - {
        "--secret-file",
        "--access-key-id",
        "--key-file",
        "--recovery-key-file",
        "--with-key",  # takes no value: the box makes one
    }


@pytest.mark.parametrize("more", [[], ["--endpoint-url", "https://s3.example.com"]])
def test_a_region_outside_canada_is_refused_with_the_reason(say: Say, more: list[str]) -> None:
    outcome = say(
        *(
            "destination",
            "add",
            "s3",
            "cloud",
            "--bucket",
            "b",
            "--region",
            "us-east-1",
            "--access-key-id",
            "A",
            *more,
        ),
        typed=SECRET,
    )
    assert outcome.code == 65
    assert "Canad" in outcome.err
    assert say("destination", "list", "--json").rows == []


def test_a_rule_names_its_destination(say: Say, tmp_path: Path) -> None:
    assert say("rule", "add", "--to", "nowhere").code == 66
    assert say("destination", "add", "folder", "hand-over", "--path", tmp_path).code == 0
    added = say("rule", "add", "--to", "hand-over", "--modality", "px", "--device", "PANO1", "--priority", 5)
    assert added.code == 0, added.err
    (row,) = say("rule", "list", "--json").rows
    assert row["destination"] == "hand-over"
    assert (row["modality"], row["device"], row["priority"]) == ("PX", "PANO1", 5)
    assert "hand-over" in say("rule", "list").out
    assert say("rule", "remove", row["id"]).code == 0
    assert say("rule", "remove", row["id"]).code == 66


def test_a_destination_is_paused_resumed_tried_and_removed(say: Say, tmp_path: Path) -> None:
    say("destination", "add", "folder", "hand-over", "--path", tmp_path)
    assert say("destination", "add", "folder", "hand-over", "--path", tmp_path).code == 65
    assert say("destination", "test", "hand-over").code == 0
    assert say("destination", "pause", "hand-over").code == 0
    assert "paused" in say("destination", "list").out
    assert say("destination", "resume", "hand-over").code == 0
    assert say("destination", "remove", "hand-over").code == 0
    assert say("destination", "list", "--json").rows == []
    assert say("destination", "pause", "hand-over").code == 66
    assert audited(say) == [
        *(
            "destination:add",
            "destination:test",
            "destination:pause",
            "destination:resume",
            "destination:remove",
        ),
        "audit:export",
    ]


# --- people ----------------------------------------------------------------------------------------------------------


def test_nobody_chooses_a_password_for_somebody_else(say: Say) -> None:
    account(say, "marie", role="owner")
    link = say("user", "reset", "marie", typed="une autre phrase de passe\n")
    assert link.code == 0
    assert "/welcome#" in link.out
    box = open_box(load_config(os.environ))
    with box.catalog.reading() as conn:
        marie = people.person(conn, "marie")
        assert marie is not None
        assert verify_password(people.password_hash(conn, marie.id), PASSWORD)  # until she has used the link
    box.close()
    assert say("user", "reset", "nobody").code == 66
    assert say("user", "add", "luc", "--name", "Luc", "--role", "owner", typed=PASSWORD).code == 64
    assert say("user", "reset", "marie", "--secret-file", "secret.txt").code == 64


def test_the_help_names_every_role() -> None:
    assert set(ROLES.replace(" or ", ", ").split(", ")) == set(Role)


def test_an_invitation_is_printed_once_and_is_in_no_record(say: Say) -> None:
    invited = say("user", "invite", "luc", "--name", "Luc Roy", "--role", "assistant")
    assert invited.code == 0, invited.err
    address, token = invited.out.strip().split("#")
    assert address == "http://localhost:8080/welcome"
    assert len(token) == 43
    shown = say("user", "show", "luc", "--json").rows
    assert (shown["state"], shown["role"]) == ("invited", "assistant")
    assert "studies:view" in shown["may"]
    assert "studies:export" not in shown["may"]
    again = say("user", "reset", "luc").out.strip()
    assert again.startswith(address)
    for secret in (token, again.split("#")[1]):
        assert secret not in say("audit", "export").out
    assert say("user", "invite", "luc", "--name", "Another", "--role", "assistant").code == 65
    assert say("user", "invite", "eve", "--name", "Eve", "--role", "asistant").code == 64


def test_an_account_is_changed_closed_and_opened_again(say: Say) -> None:
    for login, role in (("marie", "owner"), ("luc", "assistant")):
        account(say, login, role=role)
    changed = say("user", "change", "luc", "--role", "technician", "--new-login", "luc.roy")
    assert changed.out == "login: luc → luc.roy\nrole: assistant → technician\n"
    assert say("user", "change", "luc.roy").out == "nothing changed\n"
    assert say("user", "deactivate", "luc.roy").code == 0
    assert {row["login"]: row["state"] for row in say("user", "list", "--json").rows} == {
        "luc.roy": "deactivated",
        "marie": "active",
    }
    assert say("user", "reset", "luc.roy").code == 65
    assert say("user", "reactivate", "luc.roy").code == 0
    assert "0 sessions" in say("user", "end-sessions", "luc.roy").out
    assert say("user", "show", "luc").code == 66


def test_the_last_owner_can_be_taken_away_by_nobody(say: Say) -> None:
    account(say, "marie", role="owner")
    assert say("user", "invite", "luc", "--name", "Luc", "--role", "owner").code == 0
    for attempt in (("deactivate", "marie"), ("change", "marie", "--role", "student")):
        refused = say("user", *attempt)
        assert refused.code == 65
        assert "last owner" in refused.err
    audited = say("audit", "export").out
    assert "user:deactivate" not in audited
    assert "user:change" not in audited


# --- keys ------------------------------------------------------------------------------------------------------------


def test_the_recovery_key_is_shown_until_it_is_checked(say: Say) -> None:
    shown = say("key", "show-recovery")
    assert shown.code == 0
    key = shown.out.strip()
    assert say("key", "show-recovery").out.strip() == key
    assert "recovery-key" in {problem["code"] for problem in say("status", "--json").rows["problems"]}
    assert say("key", "check-recovery", typed=key.lower() + "\n").code == 0
    assert say("key", "show-recovery").code == 78
    assert "recovery-key" not in {problem["code"] for problem in say("status", "--json").rows["problems"]}
    assert key not in say("audit", "export").out


def test_a_mistyped_recovery_key_is_refused_and_told_from_a_wrong_one(say: Say, tmp_path: Path) -> None:
    key = say("key", "show-recovery").out.strip()
    swapped = key[1] + key[0] + key[2:] if key[0] != key[1] else ("2" if key[0] != "2" else "3") + key[1:]
    mistyped = say("key", "check-recovery", typed=swapped + "\n")
    assert mistyped.code == 65
    assert key not in mistyped.err
    assert say("key", "check-recovery").code == 65


def test_a_new_recovery_key_replaces_the_old_one(say: Say) -> None:
    old = say("key", "show-recovery").out.strip()
    say("key", "check-recovery", typed=old)
    new = say("key", "rotate").out.strip()
    assert new != old
    assert say("key", "check-recovery", typed=new).code == 0
    assert say("key", "check-recovery", typed=old).code == 65


def test_a_vault_is_marked_when_it_is_added_and_missed_when_it_is_pulled_out(
    say: Say, tmp_path: Path
) -> None:
    disk = tmp_path / "usb"
    disk.mkdir()
    assert say("destination", "add", "vault", "usb", "--path", disk).code == 0
    assert (disk / ".clinicbox-vault").exists()
    assert say("destination", "test", "usb").code == 0
    disk.rename(tmp_path / "pulled out")
    disk.mkdir()
    tried = say("destination", "test", "usb")
    assert (tried.code, "is not there" in tried.err) == (75, True)
    assert say("destination", "add", "vault", "other", "--path", tmp_path / "nowhere").code == 75
