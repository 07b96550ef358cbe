"""What the other side of a destination does wrong: an answer of its own, because a 503 would say that this box is busy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from appliance.errors import OperatorNeeded, Refused, Transient


@contextmanager
def of_the_other_side() -> Iterator[None]:
    """What does not answer, or somebody has to mend there, is told as `Refused` (422), with its cause and remedy."""
    try:
        yield
    except (Transient, OperatorNeeded) as error:
        raise Refused(error.message, hint=error.hint) from error
