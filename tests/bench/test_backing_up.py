"""The bench of backups measures what it says: images that are all there, beside backups that were made."""

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from . import backing_up
from .backing_up import SLICES, Pair, add_place, backups, column, missed, pair, table
from .measure import Measured
from .receivers import appliance
from .wire import PeerFailed

ALONE = Measured("tiny4", "appliance", 1000, 20_000_000, 2.0, 1.0, 1.0, 1, 2.0)


def test_the_table_tells_each_round_and_judges_the_median() -> None:
    slower = [replace(ALONE, wall_seconds=seconds) for seconds in (2.1, 2.0, 4.0)]
    said = table([Pair(ALONE, each, 3) for each in slower])
    assert "| 1 | 500 | 476 | 3 | 95% |" in said
    assert "keeps 95% (median)" in said and "is met" in said
    assert missed([Pair(ALONE, each, 3) for each in slower]) == ""
    assert "beside slices of the scrub, per s" in table([Pair(ALONE, ALONE, 3)], SLICES)
    late = [Pair(ALONE, slower[2], 3)]
    assert "is missed" in table(late)
    assert missed(late) == "goal missed: reception keeps 50% beside backups, not 90%"


def test_a_goal_that_is_missed_is_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = ALONE

    def measured(*_: object) -> Pair:
        return Pair(ALONE, beside, 3)

    monkeypatch.setattr(backing_up, "pair", measured)
    monkeypatch.setattr(backing_up, "measure", lambda *_: ALONE)
    monkeypatch.setattr(backing_up, "add_place", lambda *_: None)
    monkeypatch.setattr(backing_up, "appliance", lambda _: SimpleNamespace(stop=lambda: None))
    asked = ["--folder", str(tmp_path), "--rounds", "1"]
    assert backing_up.main(asked) == 0
    beside = replace(ALONE, wall_seconds=4.0)
    assert backing_up.main(asked) == 1
    assert "goal missed: reception keeps 50%" in capsys.readouterr().err


@pytest.mark.slow
def test_a_round_sends_all_images_beside_backups_that_are_made(tmp_path: Path) -> None:
    receiver = appliance(tmp_path)
    try:
        with pytest.raises(PeerFailed, match="none of the backups"), backups(receiver.environment):
            pass  # there is no place for one yet
        add_place(receiver, tmp_path)
        found = pair(receiver, column(5), random.Random(1), 1)
        read = pair(receiver, column(5), random.Random(2), 1, SLICES)
    finally:
        receiver.stop()
    assert (found.alone.instances, found.beside.instances) == (20, 20)
    assert read.beside.instances == 20
    assert read.backups > 0
    assert list((tmp_path / "folder" / "snapshots").glob("*/index"))
