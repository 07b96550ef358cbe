"""What people were told, and where it is posted, at the command line."""

from pathlib import Path

import pytest

from tests.cli.conftest import Say
from tests.notify.receiver import receiver


def test_a_webhook_is_added_with_a_secret_shown_once_tried_and_removed(say: Say, tmp_path: Path) -> None:
    with receiver() as found:
        address = found.url(path="/hook?token=geheim")
        added = say("webhook", "add", "chat", "--on-lan", "--json", typed=f"{address}\n")
        assert added.code == 0, added.err
        secret = added.rows["secret"]
        assert secret.startswith("whsec_")
        listed = say("webhook", "list", "--json")
        assert [(row["name"], row["host"]) for row in listed.rows] == [("chat", "127.0.0.1")]
        assert say("webhook", "test", "chat").code == 0
        assert len(found.bodies) == 1
        found.answers = [404]
        failed = say("webhook", "test", "chat")
        assert failed.code == 78
        assert "status 404" in failed.err
    assert say("webhook", "remove", "chat").code == 0
    assert say("webhook", "list", "--json").rows == []
    journal = say("audit", "export").out
    for hidden in (secret, "geheim"):
        assert hidden not in listed.out + journal + failed.err
    assert [row["action"] for row in say("audit", "export").rows if row["action"].startswith("webhook")] == [
        "webhook:add",
        "webhook:test",
        "webhook:test",
        "webhook:remove",
    ]


def test_an_address_inside_is_refused_without_the_mark(say: Say) -> None:
    with receiver() as found:
        assert say("webhook", "add", "chat", typed=f"{found.url()}\n").code == 65
        assert say("webhook", "add", "chat", typed=f"{found.url('https')}\n").code == 0
        tried = say("webhook", "test", "chat")
        assert tried.code == 78
        assert "on the LAN" in tried.err
        assert found.bodies == []


def test_a_test_notice_is_listed(say: Say) -> None:
    assert say("notify", "list").out == "Nothing to tell.\n"
    assert say("notify", "test").code == 0
    (row,) = say("notify", "list", "--json").rows
    assert (row["kind"], row["title"], row["state"]) == ("test", "This is a test", "event")
    assert say("notify", "list", "--standing", "--json").rows == []
    assert say("notify", "messages", "--json").rows == []


@pytest.mark.parametrize("address", ["marie@example.ca", "marie"])
def test_a_test_letter_says_what_is_missing(say: Say, address: str) -> None:
    said = say("notify", "test", "--mail", address)
    assert said.code == 78
    assert "no mail server" in said.err
