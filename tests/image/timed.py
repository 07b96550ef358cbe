"""How long it took until a box served again, against what is promised of hardware: figures, and what they are of the promise.

A machine here is emulated, and takes many times as long as a box: nothing is judged by these figures. They are said beside what is promised,
so that who runs the same on hardware, or twice on one machine, can compare.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

READY_SECONDS = 120.0
"""A box serves again so long after a cut of its power, at most."""

ROLLED_BACK_SECONDS = 300.0
"""And so long after the first start of a version that fails its own check, by the version before."""


def distribution(seconds: Sequence[float], promised_seconds: float) -> list[str]:
    """Lines that say how long it took, and how many times what is promised that is; none where nothing was timed."""
    if not seconds:
        return []
    ordered = sorted(seconds)
    middle, most = statistics.median(ordered), ordered[-1]
    nearly_all = ordered[math.ceil(0.95 * len(ordered)) - 1]
    within = sum(each < promised_seconds for each in ordered)
    of_promised = f"median × {middle / promised_seconds:.2f}, max × {most / promised_seconds:.2f}"
    return [
        f"ready after a cut, emulated: min {ordered[0]:.0f} s, median {middle:.0f} s, 95 % within {nearly_all:.0f} s, max {most:.0f} s",
        f"of the {promised_seconds:.0f} s that are promised of a box: {of_promised}; {within} of {len(ordered)} within them",
    ]


CHECK_SECONDS, CHECK_SECONDS_HERE = 60.0, 360.0
"""What the check of a start has on a box (`boot-check.service`), and in the version that is to fail on a machine here (`make_test_updates`)."""


@dataclass(frozen=True)
class RollBack:
    """How a box came back from a version that failed."""

    starts: int
    """Of that version, as the journal has them."""

    seconds: float
    """From its first start until the version before served again. A start counts from its kernel's first word in the journal: what the
    firmware and the loader take before the first of them is in no figure."""

    each: tuple[float, ...]
    """Of these, what every start of that version took until the next began, and then what the one before took until it served."""

    @property
    def given(self) -> float:
        """What its check was given here, and would not be on a box."""
        return self.starts * (CHECK_SECONDS_HERE - CHECK_SECONDS)

    def told(self, promised_seconds: float = ROLLED_BACK_SECONDS) -> str:
        """For a line."""
        parts = ", ".join(f"{each:.0f}" for each in self.each)
        return (
            f"{self.seconds:.0f} s after its first start of {self.starts} ({parts} s), emulated: "
            f"× {self.seconds / promised_seconds:.2f} of the {promised_seconds:.0f} s that are promised of a box. "
            f"{self.given:.0f} s of it are the patience that its check has here alone; all the rest went at the speed of an emulated machine"
        )

    def record(self, file: Path, version: str, at: datetime) -> None:
        """Add a line to `file`, for who compares this run with another."""
        figures = asdict(self) | {"given": self.given, "version": version, "at_utc": at.isoformat()}
        with file.open("a") as lines:
            lines.write(json.dumps(figures) + "\n")


def rolled_back(boots: str, before: str, serving: str) -> RollBack:
    """What the journal of a box says that has returned to its version.

    Args:
        boots: What ``journalctl --list-boots -o json`` prints.
        before: The number of the start that chose the version which failed, as the kernel writes it.
        serving: When the units that serve became active in the start that runs, a line each (``systemctl show --timestamp=unix``).

    Raises:
        ValueError: There is no start between, a unit does not serve, or the times are none.
    """
    starts = sorted(json.loads(boots), key=lambda each: int(each["first_entry"]))
    numbers = [str(each["boot_id"]) for each in starts]
    at = numbers.index(before.replace("-", ""))
    tried = starts[at + 1 : -1]
    if not tried:
        raise ValueError("the journal has no start of the version that failed")
    lines = serving.split()
    if not lines or not all(each.startswith("@") for each in lines):
        raise ValueError(f"it does not serve: {serving!r}")
    served = max(float(each.removeprefix("@")) for each in lines)
    began = [int(start["first_entry"]) / 1e6 for start in starts[at + 1 :]]
    seconds = served - began[0]
    if seconds <= 0:
        raise ValueError(f"it served {-seconds:.0f} s before that version was started")
    return RollBack(len(tried), seconds, tuple(after - one for one, after in pairwise([*began, served])))
