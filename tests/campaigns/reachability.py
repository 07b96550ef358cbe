"""Random histories of a clinic against a model in plain dictionaries: what was acknowledged is reachable, what was destroyed is not.

One history is a list of steps (receive, send again, correct, deliver, back up, hold, release, let years pass, ask, withdraw, carry
out, burn down and restore, bring home, rotate keys, rot, scrub, unplug), drawn from a seed and carried out by the real modules in one
process on two disks. The model knows what each step means in a line or two, and after every step the box is held to it:

- each image that was acknowledged and not destroyed opens byte for byte, here or from an archive that the box names as its holder;
- what was destroyed has no row and no key; once its certificate says that an archive is done, nothing there opens it any more,
  neither a manifest nor any backup, under any paper that was ever printed;
- what is held, was withdrawn, or has changed since it was approved is not destroyed;
- the totals are the rows, and the chain of the audit holds.

What a fire takes (never delivered anywhere) is lost, and a study that an archive brings back which was away when it was destroyed is
in *limbo*: there the model asks for nothing but that no other bytes are shown.

A violation is shrunk to the fewest steps and printed; ``python -m tests.campaigns reachability --seed S --histories 1`` repeats it.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.campaigns.clinic_checks import check, check_to_the_bottom
from tests.campaigns.clinic_places import prepare_template
from tests.campaigns.clinic_world import NothingLeft, World

STEPS: dict[str, int] = {
    "receive": 24,
    "again": 5,
    "correct": 4,
    "deliver": 16,
    "back_up": 7,
    "hold": 6,
    "release": 7,
    "years": 3,
    "ask": 12,
    "withdraw": 4,
    "carry_out": 12,
    "burn": 3,
    "burn_without_backups": 1,
    "home": 4,
    "rotate_paper": 1,
    "rotate_root": 1,
    "rot": 4,
    "rot_archive": 3,
    "scrub": 5,
    "unplug": 2,
    "plug": 4,
}
"""Each step with its weight; what cannot be done in the state that it meets is passed over."""

SHORTEST, LONGEST = 8, 32


@dataclass(frozen=True, slots=True)
class Step:
    """What is done, and numbers from which it chooses what to do it to: so a step means something in any state."""

    name: str
    one: int
    two: int

    def __str__(self) -> str:
        return f"{self.name}({self.one}, {self.two})"


class Violation(AssertionError):
    """A promise was broken: the history that breaks it, as short as it could be made."""

    def __init__(self, seed: int, steps: Sequence[Step], reason: str) -> None:
        super().__init__(f"seed {seed}: {reason}\n  " + "\n  ".join(str(each) for each in steps))


@dataclass(frozen=True)
class Outcome:
    """Figures of a campaign that found nothing wrong."""

    histories: int
    done: Counter[str]
    seconds: float

    def __str__(self) -> str:
        did = ", ".join(f"{name} {count}" for name, count in sorted(self.done.items()))
        rate = 60 * self.histories / max(self.seconds, 1e-9)
        return f"{self.histories} histories in {self.seconds:.0f} s ({rate:.0f} a minute), 0 violations; done: {did}"


def history(seed: int) -> tuple[Step, ...]:
    """The history of one seed."""
    dice = random.Random(f"history {seed}")
    names, weights = list(STEPS), list(STEPS.values())
    drawn = dice.choices(names, weights, k=dice.randint(SHORTEST, LONGEST))
    return tuple(Step(name, dice.randrange(1 << 16), dice.randrange(1 << 16)) for name in drawn)


def run(
    folder: Path,
    *,
    histories: int,
    seed: int,
    seconds: float = float("inf"),
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Live through `histories`, or as many as `seconds` allow. Raises `Violation` at the first broken promise."""
    began, done, lived = time.monotonic(), Counter[str](), 0
    prepare_template(folder)
    for number in range(seed, seed + histories):
        if time.monotonic() - began > seconds:
            break
        steps = history(number)
        if (reason := _live(folder, steps, done)) is not None:
            shortest = _shrunk(folder, steps)
            raise Violation(number, shortest, _live(folder, shortest, Counter()) or reason)
        lived += 1
        if lived % 100 == 0:
            report(f"{lived} histories, {done.total()} steps, {time.monotonic() - began:.0f} s")
    return Outcome(lived, done, time.monotonic() - began)


def _live(folder: Path, steps: Sequence[Step], done: Counter[str]) -> str | None:
    """Carry `steps` out in a new world; what promise was broken, None if none was."""
    world = World(folder)
    try:
        for step in steps:
            try:
                if world.take(step.name, step.one, step.two):
                    done[step.name] += 1
                check(world)
            except NothingLeft:
                return None
            except Exception as error:  # noqa: BLE001 - whatever the product raises where it should not is a finding
                return f"{step}: {type(error).__name__}: {error}"
        try:
            check_to_the_bottom(world)
        except Exception as error:  # noqa: BLE001
            return f"at the end: {type(error).__name__}: {error}"
    finally:
        done.update(world.notes)
        world.close()
    return None


def _shrunk(folder: Path, steps: Sequence[Step]) -> tuple[Step, ...]:
    """The fewest of `steps` that still break a promise: a prefix, without each step that isn't needed."""
    left = list(steps)
    for candidate in _without_one(left):
        if _live(folder, candidate, Counter()) is not None:
            left[:] = candidate
    return tuple(left)


def _without_one(left: list[Step]) -> Iterator[list[Step]]:
    """`left`, which may become shorter meanwhile, without its tail, then without each step, from the end."""
    size = len(left) // 2
    while size:
        at = len(left)
        while at > 0:
            at = min(at, len(left)) - size
            if at >= 0:
                yield left[:at] + left[at + size :]
        size //= 2


def scratch(within: Path) -> Path:
    """A folder for worlds, in memory where there is one: what is tested here is meaning, and not whether a disk keeps it."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 1 << 30 else within
