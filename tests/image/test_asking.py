"""`tests.image.asking` with a machine that is made up: one that starts when it is asked to, and some that don't, or not only then."""

from __future__ import annotations

from typing import cast

import pytest

from tests.image import asking
from tests.image.machine import Machine
from tests.image.updates import STARTED, TAKE

WANTED = "0.1.1"


class Pretended:
    """A box that starts again when its owner asks for it; or `by` itself; or again and again, since it `leaves` what asked for it."""

    def __init__(self, *, by_itself: bool = False, leaves: bool = False, deaf: bool = False) -> None:
        self.by_itself, self.leaves, self.deaf = by_itself, leaves, deaf
        self.starts, self.took = 1, False

    def inside(self, command: str, *, check: bool = True) -> str:
        if command == TAKE:
            self.took = True
        if command.startswith("systemctl start update-restart.service"):
            self.starts += self.by_itself
        waits = f" appliance_{WANTED}+3-0.efi" if self.took else ""
        for word, said in {
            "date +%H": "09\n",
            "appliance update restart": "no version waits for a restart",
            "EFI/Linux": f"appliance_0.1.0.efi{waits}",
            STARTED: WANTED if self.starts > 1 else "0.1.0",
            "restart-asked": "/restart-asked" if self.leaves else "No such file or directory",
            "audit export": "1\n",
            "is-system-running": "running",
        }.items():
            if word in command:
                return said
        return ""

    def post(self, path: str, *, on: str) -> str:
        assert (path, on) == ("/updates/restart", "/updates")
        self.starts += not self.deaf
        return ""

    def boot(self) -> str:
        return str(self.starts)

    def wait_until(self, command: str, *_: float) -> None:
        """It is so at once."""

    def wait_for_restart(self, boot: str) -> None:
        assert str(self.starts) != boot, "the same start"


def walk(box: Pretended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "becomes_owner", lambda machine: machine)
    asking.starts_at_once(cast(Machine, box), WANTED)


def test_a_box_that_starts_when_it_is_asked_to_keeps_every_promise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    walk(Pretended(), monkeypatch)
    told = capsys.readouterr().out
    assert "BROKEN" not in told
    assert "its hours are 21:00-22:00" in told


def test_one_that_starts_by_itself_or_keeps_what_asked_for_it_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for box, said in (
        (Pretended(by_itself=True), "what the timer starts does not start it"),
        (Pretended(leaves=True), "what asked for it is gone"),
    ):
        with pytest.raises(SystemExit):
            walk(box, monkeypatch)
        assert said in capsys.readouterr().out.splitlines()[-1]


def test_one_that_does_nothing_is_waited_for_no_longer_than_a_start_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(AssertionError, match="the same start"):
        walk(Pretended(deaf=True), monkeypatch)
