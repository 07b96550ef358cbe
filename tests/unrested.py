"""Duties that go on where the processors are busy: a machine that tests keep busy would let each rest seven times as long as it worked.

How they rest on a box is held by `tests/test_pace.py`. Processes that tests start rest as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliance import pace

AS_ON_A_BOX = pace.LONGEST_REST_SECONDS


@contextmanager
def nobody_rests() -> Iterator[None]:
    """Within, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "LONGEST_REST_SECONDS", 0.0)
        yield


@contextmanager
def rested() -> Iterator[None]:
    """Within, rests are as on a box."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "LONGEST_REST_SECONDS", AS_ON_A_BOX)
        yield
