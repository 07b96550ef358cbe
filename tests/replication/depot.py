"""A destination in memory that honours the protocol and fails when told to; and a courier that runs in a thread."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from appliance import audit
from appliance.box import Box
from appliance.catalog import deliveries, destinations, rules
from appliance.catalog.deliveries import DeliveryRow
from appliance.errors import Transient
from appliance.model import DestinationId, DestinationSettings, ObjectId, Rule, Takes
from appliance.replication import courier
from appliance.replication.batch import Counts, Errand, Held, Surroundings
from appliance.replication.delivery import State
from appliance.replication.destinations import Parcel, Receipt, Session
from appliance.replication.lane import Lane

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    at: datetime = NOW

    def now(self) -> datetime:
        self.at += timedelta(microseconds=10)  # two moments are never the same
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Depot:
    """What arrives is kept; `trouble` is asked before each send and may raise."""

    takes: Takes = "dicom"
    down: bool = False
    trouble: Callable[[Parcel], None] = lambda _: None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    arrived: Counter[ObjectId] = field(default_factory=Counter)
    asked: list[tuple[datetime, ObjectId]] = field(default_factory=list)
    checks: list[datetime] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)
    order: list[Parcel] = field(default_factory=list)

    def check(self) -> str:
        self.checks.append(self.now())
        if self.down:
            raise Transient("the depot is closed")
        return "The depot is open."

    @contextmanager
    def open(self, parcels: Sequence[Parcel]) -> Iterator[Session]:
        yield self

    def send(self, parcel: Parcel) -> Receipt:
        self.asked.append((self.now(), parcel.object_id))
        if self.down:
            raise Transient("the depot is closed")
        self.trouble(parcel)
        with parcel.open() as file:
            while file.read(1 << 20):
                pass
        self.arrived[parcel.object_id] += 1
        self.order.append(parcel)
        return {"at_utc": self.now().isoformat(), "status": "0000"}

    def put_document(self, key: str, data: bytes) -> None:
        if self.down:
            raise Transient("the depot is closed")
        self.documents[key] = data


SETTINGS = DestinationSettings("depot", "folder", "dicom", {"path": "/nowhere"})


def owe_everything_to(box: Box, settings: DestinationSettings = SETTINGS) -> DestinationId:
    """A destination, and the rule that everything goes there."""
    with box.catalog.transaction() as tx:
        number = destinations.add(tx, settings)
        rules.add_rule(tx, Rule(number, settings.name, settings.takes))
    return number


@contextmanager
def delivering(box: Box, depot: Depot | None = None, around: Surroundings | None = None) -> Iterator[None]:
    """A courier at work on `box`; with a depot, every destination is that one."""
    around = around or Surroundings(poll_seconds=0.02)
    if depot is not None:
        around = replace(around, build=lambda _settings, _box: depot)
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            courier.run(box, stop, around)
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(90)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def lane_by_hand(box: Box, depot: Depot, clock: Clock) -> Lane:
    """A lane without threads: the test says when it works, and what time it is."""
    by_hand = replace(
        box, config=replace(box.config, courier=replace(box.config.courier, workers_per_destination=0))
    )
    with box.catalog.reading() as conn:
        (settings,) = destinations.destinations(conn)
    around = Surroundings(now=clock.now, jitter=lambda: 0.0, build=lambda _settings, _box: depot)
    return Lane(Errand(by_hand, settings, around, Held(), Counts()))


def rows(box: Box) -> list[DeliveryRow]:
    with box.catalog.reading() as conn:
        return sorted(deliveries.list_deliveries(conn), key=lambda row: row.id)


def states(box: Box) -> Counter[State]:
    return Counter(row.state for row in rows(box))


def audited(box: Box) -> Counter[str]:
    """How often each action stands in the audit, which must be whole."""
    with box.catalog.reading() as conn:
        assert audit.verify(conn, box.audit_key) == []
        return Counter(row["action"] for row in audit.export(conn))
