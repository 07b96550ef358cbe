"""The short form of R1: two dozen kills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.campaigns import kill_ledger


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_dozen_kills_lose_nothing_acknowledged(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kill_ledger, "KILLS_OF_A_BOX", 15)
    outcome = kill_ledger.run_boxes(tmp_path, (free_port(), free_port()), kills=24, seed=1)
    assert outcome.kills.total() == 24
    assert outcome.acknowledged > 24
    print(outcome)
