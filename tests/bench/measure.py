"""One measurement: n senders, each its own process and association, against one receiver."""

import multiprocessing
import os
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from .material import Kind
from .receivers import CALLING_AE, Receiver, catalogued
from .wire import Encoded, PeerFailed, Sender

SAMPLE_SECONDS = 0.1
POLL_SECONDS = 0.005
SETTLED_WITHIN_SECONDS = 300
QUIET_SECONDS = 0.4
QUIET_SHARE = 0.05
START_WITHIN_SECONDS = 60


@dataclass(frozen=True)
class Column:
    """A column of the table: what is sent, how often, by how many senders at a time."""

    key: str
    title: str
    kind: Kind
    per_sender: int
    senders: int
    in_megabytes: bool


@dataclass(frozen=True)
class Measured:
    """What one measurement found; times in seconds, from the first byte to the last answer."""

    column: str
    receiver: str
    instances: int
    size_bytes: int
    wall_seconds: float
    cpu_seconds: float
    sender_cpu_seconds: float
    peak_rss_bytes: int
    settled_seconds: float | None

    @property
    def instances_per_second(self) -> float:
        return self.instances / self.wall_seconds

    @property
    def megabytes_per_second(self) -> float:
        return self.size_bytes / self.wall_seconds / 1e6


@dataclass(frozen=True)
class _Sent:
    started: float
    ended: float
    cpu_seconds: float
    failure: str = ""


def measure(column: Column, receiver: Receiver, chance: random.Random) -> Measured:
    """Send the column's instances, all new, and measure until the receiver is quiet again.

    Raises:
        PeerFailed: An instance was not answered 0000, or the receiver's catalog does not show them all in time.
    """
    batches = [column.kind.series(column.per_sender, chance) for _ in range(column.senders)]
    before = _catalogued_now(receiver) if receiver.settles else 0
    os.sync()
    context = multiprocessing.get_context("fork")  # so that 308 MB of pixels need not be copied to the sender
    gate = context.Barrier(column.senders + 1)
    answers: Queue[_Sent] = context.Queue()
    senders = [context.Process(target=_send, args=(receiver, batch, gate, answers)) for batch in batches]
    for sender in senders:
        sender.start()
    cpu_before = receiver.cpu_seconds()
    try:
        gate.wait(START_WITHIN_SECONDS)
    except threading.BrokenBarrierError as error:
        raise PeerFailed(f"{receiver.name}, {column.title}: {answers.get().failure}") from error
    sent, peak_rss = _watch(receiver, answers, len(senders))
    for sender in senders:
        sender.join()
    failures = [s.failure for s in sent if s.failure]
    if failures:
        raise PeerFailed(f"{receiver.name}, {column.title}: {failures[0]}")
    started, ended = min(s.started for s in sent), max(s.ended for s in sent)
    count = sum(len(batch) for batch in batches)
    settled = None
    if receiver.settles:
        with catalogued(receiver) as shown:
            _wait_until(lambda: shown() >= before + count, receiver)
            settled = time.monotonic() - started
    return Measured(
        column=column.key,
        receiver=receiver.name,
        instances=count,
        size_bytes=sum(instance.size_bytes for batch in batches for instance in batch),
        wall_seconds=ended - started,
        cpu_seconds=_cpu_when_quiet(receiver) - cpu_before,
        sender_cpu_seconds=sum(s.cpu_seconds for s in sent),
        peak_rss_bytes=peak_rss,
        settled_seconds=settled,
    )


def _send(receiver: Receiver, batch: list[Encoded], gate: Barrier, answers: "Queue[_Sent]") -> None:
    """The sender's process: associate, wait for the others, send, tell."""
    started = time.monotonic()
    failure = ""
    try:
        classes = sorted({instance.sop_class_uid for instance in batch})
        with Sender(receiver.port, classes, called=receiver.called_ae, calling=CALLING_AE) as sender:
            gate.wait(START_WITHIN_SECONDS)
            started = time.monotonic()
            cpu_before = time.process_time()
            for instance in batch:
                status = sender.store(instance)
                if status:
                    failure = f"answered {status:04X}"
                    break
            ended, cpu = time.monotonic(), time.process_time() - cpu_before
            sender.release()
            answers.put(_Sent(started, ended, cpu, failure))
    except (OSError, PeerFailed) as error:
        answers.put(_Sent(started, time.monotonic(), 0.0, str(error)))
        gate.abort()


def _watch(receiver: Receiver, answers: "Queue[_Sent]", count: int) -> tuple[list[_Sent], int]:
    """Collect what the senders tell, sampling the receiver's memory meanwhile."""
    sent: list[_Sent] = []
    peak = receiver.rss_bytes()
    while len(sent) < count:
        try:
            sent.append(answers.get(timeout=SAMPLE_SECONDS))
        except queue.Empty:
            pass
        peak = max(peak, receiver.rss_bytes())
    return sent, peak


def _catalogued_now(receiver: Receiver) -> int:
    with catalogued(receiver) as shown:  # closed again before the senders are forked
        return shown()


def _wait_until(condition: Callable[[], bool], receiver: Receiver) -> None:
    deadline = time.monotonic() + SETTLED_WITHIN_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise PeerFailed(f"{receiver.name} acknowledged more than its catalog shows")
        time.sleep(POLL_SECONDS)


def _cpu_when_quiet(receiver: Receiver) -> float:
    """CPU seconds once the receiver uses next to none."""
    deadline = time.monotonic() + SETTLED_WITHIN_SECONDS
    last = receiver.cpu_seconds()
    while time.monotonic() < deadline:
        time.sleep(QUIET_SECONDS)
        now = receiver.cpu_seconds()
        if now - last <= QUIET_SECONDS * QUIET_SHARE:
            return now
        last = now
    return last
