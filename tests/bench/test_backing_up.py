"""The bench of backups measures what it says: images that are all there, beside backups that were made."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from .backing_up import Pair, add_place, backups, column, pair, table
from .measure import Measured
from .receivers import appliance
from .wire import PeerFailed

ALONE = Measured("tiny4", "appliance", 1000, 20_000_000, 2.0, 1.0, 1.0, 1, 2.0)


def test_the_table_tells_each_round_and_judges_the_median() -> None:
    slower = [replace(ALONE, wall_seconds=seconds) for seconds in (2.1, 2.0, 4.0)]
    said = table([Pair(ALONE, each, 3) for each in slower])
    assert "| 1 | 500 | 476 | 3 | 95% |" in said
    assert "keeps 95% (median)" in said and "is met" in said
    assert "is missed" in table([Pair(ALONE, slower[2], 3)])


@pytest.mark.slow
def test_a_round_sends_all_images_beside_backups_that_are_made(tmp_path: Path) -> None:
    receiver = appliance(tmp_path)
    try:
        with pytest.raises(PeerFailed, match="no backup was made"), backups(receiver.environment):
            pass  # there is no place for one yet
        add_place(receiver, tmp_path)
        found = pair(receiver, column(5), random.Random(1), 1)
    finally:
        receiver.stop()
    assert (found.alone.instances, found.beside.instances) == (20, 20)
    assert list((tmp_path / "folder" / "snapshots").glob("*/index"))
