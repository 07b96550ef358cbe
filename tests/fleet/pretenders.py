"""Boxes of a fleet without a process, a catalog or a disk: their keys, what they say, and what they do with what is wanted of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event, Lock, Thread
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.errors import Refused
from appliance.fleet import board, heartbeat, wanted
from appliance.fleet.board import Board
from appliance.fleet.heartbeat import Machine
from appliance.health.problem import Problem, Severity
from tests.fleet.test_heartbeat import facts

Manner = Literal["does", "leaves", "puts-off", "refuses", "silent"]
ILL = Problem("process-stopped", "", "", Severity.BLOCKS)


@dataclass
class Pretender:
    """A box. It `does` what is wanted; takes a version and `leaves` it again, or `puts-off` its start; `refuses` all; or is `silent`."""

    manner: Manner = "does"
    software: str = "0.1.0"
    is_ill: bool = False
    left: tuple[str, ...] = ()
    taken: tuple[int, str] = (0, "nothing")
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    said_utc: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    @property
    def key(self) -> str:
        return self.private.public_key().public_bytes_raw().hex()

    @property
    def name(self) -> str:
        return heartbeat.name_of(self.key)

    def say(self, there: Board, now: datetime) -> None:
        """Say how it does; two are never of the same second."""
        self.said_utc = max(now.replace(microsecond=0), self.said_utc + timedelta(seconds=1))
        document = heartbeat.say(
            facts(at_utc=self.said_utc, left_versions=self.left),
            (ILL,) if self.is_ill else (),
            Machine("debian 13", "none", "6.12.48-1"),
            key=self.key,
            software=self.software,
            support="closed",
            wanted=self.taken,
        )
        there.write(f"{board.BOXES}{self.name}{board.SUFFIX}", heartbeat.signed(document, self.private))

    def beat(self, there: Board, authority: Ed25519PublicKey, now: datetime) -> None:
        """Say how it does, and do what is wanted of it."""
        if self.manner == "silent":
            return
        self.say(there, now)
        data = there.read(f"{board.WANTED}{self.name}{board.SUFFIX}")
        if not data:
            return
        order = wanted.opened(data, authority)
        if order.number > self.taken[0]:
            try:
                if self.manner == "refuses":
                    raise Refused("as it is told to")
                wanted.admit(order, box=self.name, after=self.taken[0], running=self.software, now=now)
            except Refused:
                self.taken = (self.taken[0], "refused")
                return
            self.taken = (order.number, "taken")
            if order.software and self.manner == "leaves":
                self.left = (*self.left, order.software)
        if order.software and self.manner == "does":
            self.software = wanted.later(order.software, self.software)


@contextmanager
def living(boxes: list[Pretender], there: Board, authority: Ed25519PublicKey, turn: Lock) -> Iterator[None]:
    """They live, a heartbeat a second. Whoever holds the `turn` holds them up."""
    is_over = Event()

    def live() -> None:
        while not is_over.wait(1.0):
            with turn:
                for each in boxes:
                    each.beat(there, authority, datetime.now(UTC))

    thread = Thread(target=live, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
