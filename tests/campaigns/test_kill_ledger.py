"""The short form of R1: two hundred kills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.campaigns import kill_ledger


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_hundred_kills_lose_nothing_acknowledged(tmp_path: Path, free_port: Callable[[], int]) -> None:
    outcome = kill_ledger.run(tmp_path, free_port(), kills=200, seed=1)
    assert outcome.kills.total() == 200
    assert outcome.acknowledged > 200
    print(outcome)
