"""``appliance setting``: everything that the console can set, and nothing of a secret."""

import json
from pathlib import Path

from appliance.settings import SETTINGS
from tests.cli.conftest import Say

SECRET = "a-secret-that-nobody-may-see"


def test_every_setting_is_listed_and_can_be_read(say: Say) -> None:
    assert [row["key"] for row in say("setting", "list", "--json").rows] == list(SETTINGS)
    for key in SETTINGS:
        assert say("setting", "get", key).code == 0
    assert {row["key"] for row in say("setting", "list", "mail", "--json").rows} == {
        key for key in SETTINGS if key.startswith("mail.")
    }


def test_a_setting_is_changed_seen_undone_and_reset(say: Say) -> None:
    assert say("setting", "set", "clinic.name", "Émard").code == 0
    assert say("setting", "get", "clinic.name").out == "Émard\n"
    assert "so already" in say("setting", "set", "clinic.name", "Émard").out
    assert say("setting", "set", "access.allowed_addresses", typed="192.168.1.0/24, 10.0.0.1\n").code == 0
    assert say("setting", "get", "access.allowed_addresses", "--json").rows["value"] == [
        "192.168.1.0/24",
        "10.0.0.1",
    ]
    first = say("setting", "history", "clinic.name", "--json").rows[0]
    assert (first["old"], first["new"]) == (None, "Émard")
    assert say("setting", "undo", first["id"]).code == 0
    assert say("setting", "get", "clinic.name", "--json").rows["state"] == "default"
    assert say("setting", "reset", "access.allowed_addresses").code == 0
    assert [row["action"] for row in say("audit", "export").rows].count("setting:change") == 4


def test_a_secret_comes_from_standard_input_and_is_never_shown(say: Say, tmp_path: Path) -> None:
    refused = say("setting", "set", "mail.password", SECRET)
    assert refused.code == 64
    assert SECRET not in refused.err
    assert say("setting", "set", "mail.password", typed=SECRET + "\n").code == 0
    outputs = [
        say(*words)
        for words in (
            ("setting", "get", "mail.password"),
            ("setting", "list"),
            ("setting", "list", "--json"),
            ("setting", "history"),
            ("setting", "history", "--json"),
            ("setting", "export"),
            ("audit", "export"),
        )
    ]
    assert all(outcome.code == 0 for outcome in outputs)
    assert not any(SECRET in outcome.out for outcome in outputs)
    assert outputs[0].out == "given\n"


def test_mistakes_are_one_line_with_the_remedy(say: Say) -> None:
    for words, code, hint in (
        (("setting", "get", "clinic.nam"), 66, "did you mean clinic.name?"),
        (("setting", "set", "mail.port", "0"), 65, "1 to 65535"),
        (("setting", "set", "sessions.idle_minutes", "721"), 65, "1 to 720"),
        (("setting", "list", "mial"), 66, "list the settings"),
        (("setting", "undo", "77"), 66, "history"),
        (("setting", "import", "/nowhere.json"), 78, "permissions"),
    ):
        outcome = say(*words)
        assert outcome.code == code, words
        assert hint in outcome.err
        assert outcome.err.count("\n") == 1


def test_a_configuration_is_shown_before_it_is_imported(say: Say, tmp_path: Path) -> None:
    say("device", "add", "--ae-title", "PANO1", "--address", "192.168.1.40")
    say("setting", "set", "clinic.name", "Émard")
    document = tmp_path / "configuration.json"
    document.write_text(say("setting", "export").out, "utf-8")
    edited = json.loads(document.read_text("utf-8"))
    edited["settings"]["clinic.name"] = "Autre"
    edited["destinations"] = [
        {
            "name": "cloud",
            "kind": "s3",
            "options": {"bucket": "b", "region": "ca-west-1", "access_key_id": "AK"},
        }
    ]
    document.write_text(json.dumps(edited), "utf-8")
    shown = say("setting", "import", document)
    assert "--apply" in shown.out
    assert say("setting", "get", "clinic.name").out == "Émard\n"
    applied = say("setting", "import", document, "--apply", "--json").rows
    assert applied["applied"] is True
    assert applied["secrets"] == ["destination cloud"]
    assert say("setting", "get", "clinic.name").out == "Autre\n"
    assert say("destination", "list", "--json").rows[0]["paused"] is True
    assert say("destination", "secret", "cloud", typed=SECRET + "\n").code == 0
    assert say("destination", "list", "--json").rows[0]["paused"] is False
    assert "so already" in say("setting", "import", document).out
    assert SECRET not in say("audit", "export").out
