"""A clinic whose line to its bucket is bad while it backs up, destroys, lets images leave, brings them back, and comes back itself.

Each operation is done once over a line that is well, to learn its requests. Then it is done anew from the same beginning for each
request and each way in which that can go wrong (`FAULTS`): cut or reset in the middle of what is sent or answered, an answer that is
lost, that is short, that is an error after a 200, that somebody else gives; 404 for a while of what was just written. What raises must
raise one of our errors; then the line is well again, and `tests.campaigns.cuts` holds the clinic to what it promises after a power
cut: nothing half done counts, nothing is lost, nothing is done twice, and what was interrupted goes on to its end.

Beside that, days on which one request in twenty is lost, or everything meets a storm of 503, or every body is slow. What is done is
tried again, as the box's own jobs do, until it is done.

Real servers answer: moto here, Ceph's gateway in `tests/replication/test_gateway.py`.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest

from appliance.backup import homecoming, making, repeating, restoring, snapshot
from appliance.box import Box
from appliance.catalog import settings, tombstones
from appliance.config import CourierConfig
from appliance.errors import ApplianceError
from appliance.lifecycle import purging, returning, rotation
from appliance.replication.batch import Counts, Errand, Held, Surroundings
from appliance.replication.lane import Lane
from tests.backup.conftest import as_sent, contents
from tests.backup.test_restoring import bring_home
from tests.campaigns import cuts
from tests.campaigns.cuts import DOOMED, KEEP, KEPT, OPERATIONS, Place, place_in, prepared, put_back
from tests.campaigns.remote_places import Bucket
from tests.lifecycle.purge import LATER
from tests.replication.cloud import Fault, Request
from tests.replication.depot import Clock

ASKING: Final = (
    Fault.HANG_UP,
    Fault.CUT_ANSWER,
    Fault.RESET_ANSWER,
    Fault.SHORT_ANSWER,
    Fault.UNAVAILABLE,
    Fault.PAGE,
    Fault.ABSENT_PAGE,
    Fault.NO_BUCKET,
)
"""What becomes of a GET."""
LISTING: Final = (
    Fault.HANG_UP,
    Fault.CUT_ANSWER,
    Fault.SHORT_ANSWER,
    Fault.UNAVAILABLE,
    Fault.ERROR_IN_200,
    Fault.PAGE,
    Fault.NO_BUCKET,
)
"""What becomes of a page of a list."""
WRITING: Final = (
    Fault.HANG_UP,
    Fault.CUT,
    Fault.RESET,
    Fault.LOSE_ANSWER,
    Fault.UNAVAILABLE,
    Fault.ERROR_IN_200,
    Fault.FORBIDDEN,
    Fault.PAGE,
)
"""What becomes of a PUT."""
LOST: Final = (
    Fault.HANG_UP,
    Fault.CUT,
    Fault.RESET,
    Fault.CUT_ANSWER,
    Fault.RESET_ANSWER,
    Fault.LOSE_ANSWER,
)
STORM_REQUESTS: Final = 12
SLOW_BYTES_PER_SECOND: Final = 4_000_000.0
MOST_ATTEMPTS: Final = 60
PIECE_BYTES: Final = 8 << 10
"""Of a backup on days of bad weather: it has some hundred pieces then, as that of a large box has."""
DAY: Final = ("snapshot", "evict", "recall", "restore", "homecoming", "purge")
_DAYS: Final = count(1)
"""Of the courier's clock, which never goes back from one attempt to the next."""
Weather = Callable[[Request], Fault | None]


# --- what is done ----------------------------------------------------------------------------------------------------


def _back_up(place: Place) -> None:
    box = place.box()
    try:
        making.back_up(box, place_in(box), datetime.now(UTC), actor="tests", keep=KEEP)
    finally:
        box.close()


def _restore(place: Place) -> None:
    assert isinstance(place.remote, Bucket)
    place.remote.look()
    newest = snapshot.names_in([*place.remote.held])[0]
    restored = restoring.restore(
        cuts.config(place.root / "after"),
        place.archive(),
        place.settings,
        place.paper,
        tell=lambda *_: None,
        actor="tests",
    )
    assert restored.snapshot is not None and restored.snapshot.name == newest, "an older backup was taken"
    assert (restored.damaged_snapshots, restored.rebuilt.damaged) == (0, 0), "what is whole counts as damaged"


def _come_home(place: Place) -> None:
    box = place.box("after")
    try:
        homecoming.bringing_home(box, datetime.now(UTC), keep_going=lambda: True)
    finally:
        box.close()


def _after_homecoming(place: Place) -> None:
    box = place.box("after")
    try:
        bring_home(box)
        assert contents(box) == as_sent(*KEPT, *DOOMED)
        with box.catalog.reading() as conn:
            assert homecoming.missing(conn) == 0, "an image that is whole counts as missing"
            assert settings.get(conn, homecoming.LAST)["home"]
    finally:
        box.close()


def _evict(place: Place) -> None:
    box = place.box()
    try:
        cuts.trust_clock(box)
        cuts.leave(box)
    finally:
        box.close()


def _recall(place: Place) -> None:
    box = place.box()
    try:
        returning.bring_back(box, datetime.now(UTC))
    finally:
        box.close()


def _purge(place: Place) -> None:
    box = place.box()
    try:
        for _ in range(3):
            purging.carry_out(box, LATER)
            _deliver(box)
        with box.catalog.reading() as conn:
            open_ = tombstones.certificates(conn, unfinished=True)
            reasons = [each.reason for found in open_ for each in tombstones.places(conn, found.id)]
    finally:
        box.close()
    if open_:
        raise _Waits("; ".join(filter(None, reasons)) or "an archive has not been told yet")


class _Waits(ApplianceError):
    """What the page of a destruction says while it is not done: the job goes on without an error."""


def _rotate(place: Place) -> None:
    box = place.box()
    try:
        if box.root.generation == 1:
            rotation.rotate(box, str(place.paper), cuts.ENTRY, datetime.now(UTC))
        rotation.finish(box, datetime.now(UTC))
        _deliver(box)
    finally:
        box.close()


def _deliver(box: Box) -> None:
    """What the courier does at a destination that may fail: it rests, tests the connection, and goes on, by a clock that runs."""
    clock = Clock(datetime.now(UTC) + timedelta(days=next(_DAYS)))
    box = replace(box, config=replace(box.config, courier=CourierConfig(workers_per_destination=0)))
    lane = Lane(Errand(box, place_in(box), Surroundings(now=clock.now, jitter=lambda: 0.5), Held(), Counts()))
    for _ in range(6):
        clock.forward(700)
        while lane.one_batch():
            pass
        lane.keep_documents()


@dataclass(frozen=True)
class Attempt:
    """What a job tries once, what must hold in the end, and what is done before."""

    do: Callable[[Place], None]
    check: Callable[[Place], None]
    ready: Callable[[Place], None] = lambda _: None


ATTEMPTS: Final[Mapping[str, Attempt]] = MappingProxyType(
    {
        "snapshot": Attempt(_back_up, OPERATIONS["snapshot"].check, ready=cuts.open_and_trust),
        "restore": Attempt(_restore, OPERATIONS["restore"].check),
        "homecoming": Attempt(_come_home, _after_homecoming, ready=OPERATIONS["restore"].do),
        "evict": Attempt(_evict, OPERATIONS["evict"].check),
        "recall": Attempt(_recall, OPERATIONS["recall"].check, ready=OPERATIONS["evict"].do),
        "purge": Attempt(_purge, OPERATIONS["purge"].check),
        "rotate": Attempt(_rotate, OPERATIONS["rotate"].check),
    }
)


# --- the weathers ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """A request, the how manieth of its kind it is (some are sent at once, in no order), and what becomes of it."""

    request: str
    number: int
    fault: Fault

    def __str__(self) -> str:
        return f"{self.request} ({self.number}): {self.fault.name}"


@dataclass(frozen=True)
class Outcome:
    """Figures of a campaign that found nothing wrong."""

    operation: str
    requests: int
    faults: Counter[str]
    seconds: float

    def __str__(self) -> str:
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        return f"{self.operation}: {self.requests} requests, {self.faults.total()} faults, all overcome in {self.seconds:.0f} s: {told}"


def run(
    bucket: Bucket,
    folder: Path,
    *,
    operation: str,
    most: int = 0,
    seed: int = 1,
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Every fault at every request of `operation`, or `most` drawn by `seed`.

    Raises AssertionError at the first promise that is broken.
    """
    began = time.monotonic()
    world = _World(bucket, folder, ATTEMPTS[operation])
    troubles = world.troubles()
    requests = len({(each.request, each.number) for each in troubles})
    report(f"{operation}: {requests} requests, {len(troubles)} troubles")
    if most and len(troubles) > most:
        troubles = sorted(random.Random(seed).sample(troubles, most), key=str)
    met: Counter[str] = Counter()
    for each in troubles:
        world.suffer(each)
        met[each.fault.name] += 1
    return Outcome(operation, requests, met, time.monotonic() - began)


def losing(bucket: Bucket, folder: Path, *, seed: int = 1) -> Outcome:
    """A day on which one request in twenty is lost, in one of the ways. The backup is made at the first attempt: each leaves pieces there."""
    dice, met = random.Random(seed), Counter[str]()

    def fault(_: Request) -> Fault | None:
        if dice.random() >= 0.05:
            return None
        lost = dice.choice(LOST)
        met[lost.name] += 1
        return lost

    return _day(bucket, folder, "one request in twenty is lost", lambda: fault, met, at_once={"snapshot"})


def storm(bucket: Bucket, folder: Path) -> Outcome:
    """A day on which a storm of 503 begins with the third request of everything that is done."""
    met: Counter[str] = Counter()

    def begun() -> Weather:
        chosen = _at(range(2, 2 + STORM_REQUESTS), Fault.UNAVAILABLE)

        def fault(request: Request) -> Fault | None:
            if (found := chosen(request)) is not None:
                met[found.name] += 1
            return found

        return fault

    return _day(bucket, folder, "a storm of 503", begun, met)


def slow(bucket: Bucket, folder: Path) -> Outcome:
    """A day on which every body and every answer takes its time, and all is done at the first attempt."""
    bucket.line.bytes_per_second = SLOW_BYTES_PER_SECOND
    try:
        return _day(bucket, folder, "a slow line", lambda: lambda _: None, Counter(), attempts=1)
    finally:
        bucket.line.bytes_per_second = 0.0


def _day(
    bucket: Bucket,
    folder: Path,
    name: str,
    weather: Callable[[], Weather],
    met: Counter[str],
    *,
    attempts: int = MOST_ATTEMPTS,
    at_once: Collection[str] = (),
) -> Outcome:
    """All that a clinic does, one after the other, in a weather that begins anew with each; each is held to its promises in between."""
    began, line = time.monotonic(), bucket.line
    place = prepared(folder / "clinic", bucket)
    cuts.open_and_trust(place)
    before = len(line.requests)
    for each in DAY:
        attempt = ATTEMPTS[each]
        if each == "purge":  # by a clock of years later, at which nothing else would be done
            (folder / "nothing").mkdir()
            bucket.become(folder / "nothing")
            place = prepared(folder / "another clinic", bucket)
        line.fault = weather()
        allowed = 1 if each in at_once else attempts
        with _many_pieces():
            if not any(_is_done(attempt, place, f"{each}, {name}") for _ in range(allowed)):
                raise AssertionError(f"{each}, {name}: it is not done in {allowed} attempts")
        line.fault = lambda _: None
        if each != "evict":  # whose check brings all of it back
            _hold(attempt, place, f"{each}, {name}")
    return Outcome(name, len(line.requests) - before, met, time.monotonic() - began)


@contextmanager
def _many_pieces() -> Iterator[None]:
    """Backups of many pieces, and no long pauses between tries."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(snapshot, "PIECE_BYTES", PIECE_BYTES)
        patched.setattr(repeating, "PAUSES_SECONDS", (0.1,) * len(repeating.PAUSES_SECONDS))
        yield


def _is_done(attempt: Attempt, place: Place, trouble: str) -> bool:
    """Whether an attempt did it; what is raised is one of our errors, says something, and names no object."""
    try:
        attempt.do(place)
    except ApplianceError as error:
        assert error.message, trouble
        for name in ("objects/", "manifests/", "snapshots/", "http://"):
            assert name not in str(error), f"{trouble}: {error}"
        return False
    except Exception as error:
        raise AssertionError(f"{trouble}: {type(error).__name__}: {error}") from error
    return True


def _hold(attempt: Attempt, place: Place, trouble: str) -> None:
    """Hold the clinic to what it promises, over a line that is well."""
    try:
        attempt.check(place)
    except BaseException as error:
        raise AssertionError(f"{trouble}: {type(error).__name__}: {error}") from error


class _World:
    """A clinic as it is before the operation, to which everything is put back each time."""

    def __init__(self, bucket: Bucket, folder: Path, attempt: Attempt) -> None:
        self._bucket, self._line, self._attempt = bucket, bucket.line, attempt
        self._place = prepared(folder / "clinic", bucket)
        attempt.ready(self._place)
        bucket.look()
        self._before = folder / "before"
        self._place.root.rename(self._before)
        bucket.lay(self._before / cuts.REMOTE)
        self._place.root.mkdir()

    def troubles(self) -> list[Trouble]:
        """What can go wrong, by the requests of a run in which nothing does."""
        self._begin()
        seen: list[Request] = []

        def note(request: Request) -> None:
            seen.append(request)

        self._line.fault = note
        self._attempt.do(self._place)
        self._line.fault = lambda _: None
        _hold(self._attempt, self._place, "nothing at all")
        found: list[Trouble] = []
        written: set[str] = set()
        numbers: Counter[str] = Counter()
        for request in seen:
            key, words = self._bucket.key_of(request), self._words(request)
            if request.method == "PUT":
                written.add(key)
            faults: Sequence[Fault] = WRITING if request.method == "PUT" else ASKING if key else LISTING
            if request.method == "GET" and key in written:
                faults = (*faults, Fault.NOT_THERE)
            found += [Trouble(words, numbers[words], each) for each in faults]
            numbers[words] += 1
        return found

    def suffer(self, trouble: Trouble) -> None:
        """The operation while one request goes wrong, in that way; a 404 lasts for three of its kind."""
        self._begin()
        lasting = 3 if trouble.fault is Fault.NOT_THERE else 1
        chosen = _at(range(trouble.number, trouble.number + lasting), trouble.fault)
        self._line.fault = lambda asked: chosen(asked) if self._words(asked) == trouble.request else None
        try:
            _is_done(self._attempt, self._place, str(trouble))
        finally:
            self._line.fault = lambda _: None
        _hold(self._attempt, self._place, str(trouble))

    def _words(self, request: Request) -> str:
        """What tells requests of one run from those of the next: names of backups are new each time."""
        key = self._bucket.key_of(request)
        if key.startswith("snapshots/") and key.split("/")[1] not in self._place.backups:
            key = "the new backup's " + key.rpartition("/")[2]
        return f"{request.method} {key or request.query}"

    def _begin(self) -> None:
        put_back(self._place, self._before)


def _at(numbers: range, fault: Fault) -> Weather:
    """That fault for the requests of these numbers."""
    asked = -1

    def chosen(_: Request) -> Fault | None:
        nonlocal asked
        asked += 1
        return fault if asked in numbers else None

    return chosen
