"""``appliance guard``: a person holds everything, sees that it is held, and lets it go on with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.cli.command import main

Say = Callable[..., str]


@pytest.fixture
def say(data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """What a command prints; it must succeed unless `fails`."""
    monkeypatch.setenv("APPLIANCE_DATA", str(data_dir))

    def said(*words: str, fails: bool = False) -> str:
        code = main(list(words))
        out = capsys.readouterr()
        assert (code != 0) == fails, out
        return out.err if fails else out.out

    return said


def test_a_person_holds_everything_and_lets_it_go_on(say: Say) -> None:
    assert "does not hold" in say("guard", "show")
    say("guard", "freeze", "--reason", "strange messages on two computers")
    assert "holds already" in say("guard", "freeze", "--reason", "again", fails=True)
    shown = say("guard", "show")
    assert "The guard holds since" in shown
    assert "strange messages on two computers" in shown
    assert json.loads(say("guard", "show", "--json"))["holds"] is True
    assert "reason" in say("guard", "release", "--reason", " ", fails=True)
    say("guard", "release", "--reason", "it was a joke of the nephew")
    told = json.loads(say("guard", "show", "--json"))
    assert told["holds"] is False
    assert told["freezes"][0]["release_reason"] == "it was a joke of the nephew"


def test_the_status_says_that_the_guard_holds(say: Say) -> None:
    say("guard", "freeze", "--reason", "strange messages on two computers")
    codes = [each["code"] for each in json.loads(say("status", "--json"))["problems"]]
    assert "guard-by-hand" in codes
