"""The short form of R7: thirty bit flips in everything that is kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.campaigns import flips, reachability


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_flipped_bits_are_found_and_never_shown(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=reachability.scratch(tmp_path)) as worlds:
        outcome = flips.run(Path(worlds), flips=30, seed=3)
    assert outcome.flips.total() == 30
    assert {each.split()[0] for each in outcome.flips} == set(flips.KINDS)
    print(outcome)
