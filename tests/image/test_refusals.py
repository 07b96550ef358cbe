"""`tests.image.updates.refused` with a machine that is made up: one that refuses, and some of which nothing can be started for another reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.image import updates
from tests.image.machine import Machine
from tests.image.serving import Shop

SAYS = {"stranger": "refused", "expired": "refused", "unsigned": "refused", "altered": "unfinished"}


class Pretended:
    """A box that takes nothing, and says of each look what `of` makes of the folder's name; nothing, where that is empty."""

    def __init__(self, offers: Shop, of: Callable[[str], str]) -> None:
        self.offers, self.of = offers, of
        self.said = "1000 refused\n"

    def inside(self, command: str, *, check: bool = True) -> str:
        if command == updates.FORGET:
            self.said = ""
        if command.startswith(updates.TAKE):
            word = self.of(self.offers.folder.name)
            self.said = f"2000 {word}\n" if word else self.said
        return self.said if command == updates.SAID else ""


def walk(of: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def tempered() -> Iterator[Path]:
        yield tmp_path

    monkeypatch.setattr(updates, "tempered", tempered)
    offers = Shop()
    updates.refused(cast(Machine, Pretended(offers, of)), offers)


def test_a_box_that_refuses_each_keeps_the_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    walk(lambda name: SAYS[name], tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert said.count("the box says so: refused") == 3
    assert said.count("the box says so: unfinished") == 1


@pytest.mark.parametrize("name", SAYS)
@pytest.mark.parametrize("instead", ["unreachable", "held", "no-address", ""])
def test_a_look_that_never_came_to_a_judgement_is_no_refusal(
    name: str, instead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty: nothing was said of this look, and what stands there is of the one before."""
    with pytest.raises(SystemExit):
        walk(lambda asked: instead if asked == name else SAYS[asked], tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["stranger", "expired", "unsigned"])
def test_what_is_signed_and_could_not_be_taken_is_no_refusal(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        walk(lambda asked: "unfinished" if asked == name else SAYS[asked], tmp_path, monkeypatch)
