"""The bench of restores measures what it says: everything has come back, or there is no figure."""

from pathlib import Path

import pytest

from .restoring import WAYS, Restored, filled, plot, restored, table
from .wire import PeerFailed


def test_the_table_has_the_medians_of_each_size_and_the_plot_a_bar() -> None:
    found = [
        Restored(studies, way, service, 4.0)
        for studies, service in ((100, 1.0), (100, 3.0), (100, 2.0), (1000, 20.0))
        for way in WAYS
    ]
    assert "| 100 | 2.0 s | 2.0 s | 4.0 s | 50 |" in table(found)
    assert "| 1000 | 20.0 s | 20.0 s | 4.0 s | 500 |" in table(found)
    bars = [line.count("█") for line in plot(found).splitlines()[1:]]
    assert bars == [5, 5, 50, 50]


@pytest.mark.slow
def test_a_restore_is_measured_only_if_all_has_come_back(tmp_path: Path) -> None:
    place, paper = filled(tmp_path, 3)
    for way in WAYS:
        found = restored(tmp_path, place, paper, 3, way)
        assert (found.studies, found.way) == (3, way)
        assert found.service_seconds > 0 < found.home_seconds
    with pytest.raises(PeerFailed, match="of 4 studies 3 came back"):
        restored(tmp_path, place, paper, 4, "backup")
