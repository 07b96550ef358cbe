"""Random histories of a clinic against a model in plain dictionaries: what was acknowledged is reachable, what was destroyed is not.

One history is the life of one study: a list of steps (receive, send again, correct, hold, release, ask for its destruction, withdraw,
evict, recall, rot, rot in an archive), drawn from a seed. Many lives share one world, whose box and disks go through steps of their own
between them (deliver, back up, let years pass, carry out, burn down and restore, bring home, rotate keys, scrub, unplug, lose a disk in the middle
of it); all is carried out by the real modules in one process on two disks. The model knows what each step means in a line or two.
After every step of a study the box is held to the model for that study, after every step of the whole box and at the end for all of them:

- each image that was acknowledged and not destroyed opens byte for byte, here or from an archive that the box names as its holder;
- where two people have decided to keep a study without whoever it is of, each of its images is there once more, in a new study, with
  the same pixels and without a name or a UID of theirs, and from then on it is an image like any other;
- a disk that is away, or goes in the middle of a step, gives no receipt and no backup, and what it is owed waits for it;
- what was destroyed has no row and no key; once its certificate says that an archive is done, nothing there opens it any more,
  neither a manifest nor any backup, under any paper that was ever printed; and once all certificates are complete, every archive is that
  the box knew when it was destroyed, or when a fire had cut that and the box came back from an archive that knew of it;
- what is held, was withdrawn, or has changed since it was approved is not destroyed;
- what is held, asked for, owed, doubted, rotten here or not whole in as many archives as are asked for does not leave this disk, and
  what has left comes back;
- the totals are the rows, and the chain of the audit holds.

What a fire takes (never delivered anywhere) is lost, also where it comes in the middle of a delivery (then all that the disk has whole by its bytes
comes home, if the restored catalog has a row for it, whether from a backup or a manifest), and a study that an archive brings back which was away when it was destroyed is
in *limbo*: there the model asks for nothing but that no other bytes are shown.

Hundreds of lives in a world cost little more than one, because a delivery, a backup, a restore and a look at the audit are for all of
them. What it costs is independence: lives of one world share its years, its fires and its rotations, whose order is drawn once a
world; so the number of worlds is told beside that of histories. Every life is short or long, early or late, by its own dice.

A violation is shrunk to the fewest lives and steps and printed; ``python -m tests.campaigns reachability --seed S --histories N``
repeats it, where S is the seed that it tells, and N the lives of a world.
"""

from __future__ import annotations

import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.campaigns.clinic_checks import check, check_study, check_to_the_bottom
from tests.campaigns.clinic_places import prepare_template
from tests.campaigns.clinic_world import World
from tests.unrested import nobody_rests

T = TypeVar("T")

OF_A_STUDY: dict[str, int] = {
    "receive": 24,
    "again": 5,
    "correct": 3,
    "hold": 4,
    "release": 8,
    "ask": 18,
    "withdraw": 3,
    "evict": 10,
    "recall": 6,
    "rot": 3,
    "rot_archive": 3,
}
"""Each step of one study with its weight; what cannot be done in the state that it meets is passed over."""

OF_THE_BOX: dict[str, int] = {
    "deliver": 20,
    "back_up": 10,
    "years": 14,
    "carry_out": 16,
    "burn": 4,
    "burn_without_backups": 1,
    "burn_midway": 3,
    "home": 8,
    "rotate_paper": 1,
    "rotate_root": 1,
    "scrub": 5,
    "unplug": 3,
    "plug": 6,
    "outage": 4,
}
"""Each step of the whole box with its weight."""

LIVES = 250
"""How many studies live in one world."""

SHORTEST, LONGEST = 4, 16
FEWEST, MOST = 40, 80
"""Of the steps of one study, and of the whole box in the time of a world, however many live in it."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is done, to which study (-1: to the whole box), and numbers from which it chooses how: so it means something in any state."""

    name: str
    study: int
    one: int
    two: int

    def __str__(self) -> str:
        return f"{self.name}({self.study}, {self.one}, {self.two})"


class Violation(AssertionError):
    """A promise was broken: the history that breaks it, as short as it could be made."""

    def __init__(self, seed: int, lives: int, steps: Sequence[Step], reason: str) -> None:
        told = "\n  ".join(str(each) for each in steps)
        super().__init__(f"seed {seed}, a world of {lives}: {reason}\n  {told}")


@dataclass(frozen=True)
class Outcome:
    """Figures of a campaign that found nothing wrong."""

    histories: int
    worlds: int
    done: Counter[str]
    seconds: float

    def __str__(self) -> str:
        did = ", ".join(f"{name} {count}" for name, count in sorted(self.done.items()))
        rate = 60 * self.histories / max(self.seconds, 1e-9)
        return (
            f"{self.histories} histories in {self.worlds} worlds in {self.seconds:.0f} s ({rate:.0f} a minute),"
            f" 0 violations; done: {did}"
        )


def world_of(seed: int, lives: int) -> tuple[Step, ...]:
    """All that happens in the world of one seed, in its order: the lives of its studies, each within a part of the world's time."""
    dice = random.Random(f"world {seed}")
    timed: list[tuple[float, Step]] = []
    for study in range(lives):
        begins, ends = sorted((dice.random(), dice.random()))
        drawn = dice.choices([*OF_A_STUDY], [*OF_A_STUDY.values()], k=dice.randint(SHORTEST, LONGEST) - 1)
        moments = sorted(dice.uniform(begins, ends) for _ in range(len(drawn) + 1))
        timed += zip(moments, (_step(dice, name, study) for name in ("receive", *drawn)), strict=True)
    for name in dice.choices([*OF_THE_BOX], [*OF_THE_BOX.values()], k=dice.randint(FEWEST, MOST)):
        timed.append((dice.random(), _step(dice, name, -1)))
    return tuple(step for _, step in sorted(timed, key=lambda each: each[0]))


def _step(dice: random.Random, name: str, study: int) -> Step:
    return Step(name, study, dice.randrange(1 << 16), dice.randrange(1 << 16))


def run(
    folder: Path,
    *,
    histories: int,
    seed: int,
    seconds: float = float("inf"),
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Live through `histories`, or as many as `seconds` allow: a world that has begun is lived through to its end.

    Raises `Violation` at the first broken promise.
    """
    began, done, lived, worlds = time.monotonic(), Counter[str](), 0, 0
    prepare_template(folder)
    while lived < histories and time.monotonic() - began <= seconds:
        lives = min(LIVES, histories - lived)
        steps = world_of(seed + worlds, lives)
        with nobody_rests():
            reason = _live(folder, steps, done)
        if reason is not None:
            report(f"seed {seed + worlds}, a world of {lives}: {reason}; looking for the shortest history")
            shortest = _shrunk(folder, steps, _kind(reason))
            raise Violation(seed + worlds, lives, shortest, _live(folder, shortest, Counter()) or reason)
        lived, worlds = lived + lives, worlds + 1
        report(f"{lived} histories, {worlds} worlds, {done.total()} steps, {time.monotonic() - began:.0f} s")
    return Outcome(lived, worlds, done, time.monotonic() - began)


def _live(folder: Path, steps: Sequence[Step], done: Counter[str]) -> str | None:
    """Carry `steps` out in a new world; what promise was broken, None if none was."""
    world = World(folder)
    try:
        for step in steps:
            try:
                if not world.take(step.name, step.study, step.one, step.two):
                    continue
                done[step.name] += 1
                if step.study < 0:
                    check(world)
                else:
                    check_study(world, step.study)
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


def _kind(reason: str | None) -> str:
    """A broken promise without what differs each time: a shorter history of another kind is another finding."""
    return re.sub(r"[0-9a-f]{8,}|[0-9]+", "…", (reason or "").partition(": ")[2])


def _shrunk(folder: Path, steps: Sequence[Step], kind: str) -> tuple[Step, ...]:
    """The fewest of `steps` that still break the promise so: without each life, then each step, that isn't needed."""

    def is_broken(candidate: Sequence[Step]) -> bool:
        return _kind(_live(folder, candidate, Counter())) == kind

    lives = sorted({each.study for each in steps} - {-1})
    for fewer in _without_some(lives):
        if is_broken([each for each in steps if each.study in {-1, *fewer}]):
            lives[:] = fewer
    left = [each for each in steps if each.study in {-1, *lives}]
    for candidate in _without_some(left):
        if is_broken(candidate):
            left[:] = candidate
    return tuple(left)


def _without_some(left: list[T]) -> Iterator[list[T]]:
    """`left`, which may become shorter meanwhile, without its later half, then without each part and each one of it, from the end."""
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
